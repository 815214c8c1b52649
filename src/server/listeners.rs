//! From the listeners of a config to bound sockets and what each of them grants its clients.

use super::reload::Running;
use super::{Inherited, StartFault};
use crate::base::net::{Network, Networks};
use crate::base::units::ByteSize;
use crate::config::listener::{
    Http2Conf, ListenerConf, ProbesConf, ProtocolConf, ProxyProtocolConf, RedirectConf,
    RedirectStatusConf,
};
use crate::config::server::{AdminAddress, AdminConf};
use crate::config::{FileConf, Spanned};
use crate::edge::accept::Socket;
use crate::edge::http2::Http2Limits;
use crate::edge::open::{Entrance, Proxied};
use crate::edge::tls::{Loaded, Tls};
use crate::exchange::admission::Caps;
use crate::exchange::listener::{HeadLimits, Listener, Probes, Redirect, Terms};
use crate::observe::metrics::Metrics;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// A listener: its socket, and how connections come in.
pub(super) struct Door {
    /// The address in the config.
    pub(super) wanted: SocketAddr,
    /// Bound to it; kept here so that a reload can hand it on.
    pub(super) socket: Socket,
    /// How connections come in.
    pub(super) entrance: Arc<Entrance>,
    /// Whether nothing accepts this way yet.
    pub(super) fresh: bool,
    /// The name that the listener on the same socket had before, if there was one.
    pub(super) replaces: Option<Arc<str>>,
}

/// Has every listener ready to be opened. One whose address is served already goes on with its socket.
///
/// # Errors
/// The first that cannot be bound; those bound here are closed again.
pub(super) fn open(
    conf: &FileConf,
    tls: &Loaded,
    metrics: &Metrics,
    running: Option<&Running>,
    inherited: &Inherited,
) -> Result<Vec<Door>, StartFault> {
    let plan = Plan {
        conf,
        tls,
        metrics,
        running,
        inherited,
        trusted: networks(&conf.trusted_proxies),
    };
    conf.listeners.iter().map(|l| plan.door(&l.value)).collect()
}

struct Plan<'a> {
    conf: &'a FileConf,
    tls: &'a Loaded,
    metrics: &'a Metrics,
    running: Option<&'a Running>,
    inherited: &'a Inherited,
    trusted: Networks,
}

impl Plan<'_> {
    fn door(&self, conf: &ListenerConf) -> Result<Door, StartFault> {
        let wanted = conf.address.value;
        let mut doors = self.running.iter().flat_map(|running| &running.doors);
        // Port 0 is another one each time: such a listener is known by its name.
        let old = doors.find(|door| {
            let named = *door.entrance.listener.name == *conf.name.value;
            door.wanted == wanted && (named || wanted.port() != 0)
        });
        let inherited = || self.inherited.listener(&conf.name.value, wanted);
        let socket = match old.map(|old| &old.socket).or_else(inherited) {
            Some(socket) => socket.share(),
            None => Socket::bind(wanted),
        };
        let socket = socket.map_err(|why| StartFault::Bind {
            name: conf.name.value.to_string(),
            address: wanted.to_string(),
            why,
        })?;
        let of = |(name, _): &&(Arc<str>, Arc<Tls>)| **name == *conf.name.value;
        let tls = self
            .tls
            .by_listener
            .iter()
            .find(of)
            .map(|(_, tls)| tls.clone());
        if let Some(old) = old
            && self.is_as_before(conf)
            && old.entrance.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
        {
            return Ok(Door {
                wanted,
                socket,
                entrance: old.entrance.clone(),
                fresh: false,
                replaces: Some(old.entrance.listener.name.clone()),
            });
        }
        let before = old.map(|old| &*old.entrance.listener);
        let entrance = entrance(conf, tls, &self.trusted, self.metrics, before);
        Ok(Door {
            wanted,
            socket,
            entrance: Arc::new(entrance),
            fresh: true,
            replaces: before.map(|listener| listener.name.clone()),
        })
    }

    /// Whether a listener of the same name says the same.
    fn is_as_before(&self, conf: &ListenerConf) -> bool {
        self.running.is_some_and(|running| {
            let mut all = running.conf.listeners.iter().map(|l| &l.value);
            let trusted = running.conf.trusted_proxies == self.conf.trusted_proxies;
            trusted && all.any(|was| was == conf)
        })
    }
}

fn networks(conf: &[Spanned<Network>]) -> Networks {
    Networks(conf.iter().map(|n| n.value).collect())
}

fn entrance(
    conf: &ListenerConf,
    tls: Option<Arc<Tls>>,
    trusted: &Networks,
    metrics: &Metrics,
    before: Option<&Listener>,
) -> Entrance {
    let ListenerConf {
        name,
        address: _,
        protocol,
        // Loaded with those of all listeners.
        tls: _,
        proxy_protocol,
        redirect_to_https,
        max_connections,
        max_connections_per_address,
        max_requests_per_connection,
        header_timeout,
        idle_timeout,
        write_timeout,
        min_body_rate,
        max_header_bytes,
        max_headers,
        max_uri_bytes,
        http2,
        probes,
    } = conf;
    let asks = |what: fn(&Tls) -> bool| tls.as_deref().is_some_and(what);
    let terms = Terms {
        head: HeadLimits {
            bytes: bytes(max_header_bytes.value),
            fields: usize::from(max_headers.value),
            target: bytes(max_uri_bytes.value),
        },
        idle_ms: idle_timeout.value.as_ms(),
        header_ms: header_timeout.value.as_ms(),
        write_ms: write_timeout.value.as_ms(),
        min_body_rate: min_body_rate.value.0,
        max_requests: max_requests_per_connection.value,
        probes: probes.as_ref().map(probes_of),
        redirect: redirect_to_https.as_ref().map(|r| redirect(&r.value)),
        strict_host: asks(Tls::strict_host),
        forward_certificate: asks(Tls::forwards_client_certificate),
    };
    let caps = Caps {
        all: max_connections.value as usize,
        each: max_connections_per_address.value,
        exempt: trusted.clone(),
    };
    let metrics = metrics.listener(&name.value);
    let listener = Listener::new(&name.value, metrics, terms, caps);
    Entrance {
        listener: Arc::new(listener.in_place_of(before)),
        tls,
        proxied: proxy_protocol.as_ref().map(|p| proxied(&p.value)),
        h2c: protocol.value == ProtocolConf::H2c,
        http2: http2_limits(http2),
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn probes_of(conf: &ProbesConf) -> Probes {
    let ProbesConf {
        networks: from,
        metrics,
    } = conf;
    Probes {
        networks: networks(from),
        metrics: metrics.value,
    }
}

fn redirect(conf: &RedirectConf) -> Redirect {
    let RedirectConf { port, status } = conf;
    Redirect {
        port: port.value,
        status: match status.value {
            RedirectStatusConf::S301 => 301,
            RedirectStatusConf::S302 => 302,
            RedirectStatusConf::S307 => 307,
            RedirectStatusConf::S308 => 308,
        },
    }
}

fn proxied(conf: &ProxyProtocolConf) -> Proxied {
    let ProxyProtocolConf {
        networks: from,
        timeout,
    } = conf;
    Proxied {
        networks: networks(from),
        timeout: timeout.value.0,
    }
}

fn http2_limits(conf: &Http2Conf) -> Http2Limits {
    let Http2Conf {
        max_streams,
        stream_window,
        connection_window,
        max_resets,
    } = conf;
    let window = |size: ByteSize| u32::try_from(size.0).unwrap_or(u32::MAX >> 1);
    Http2Limits {
        streams: max_streams.value,
        stream_window: window(stream_window.value),
        connection_window: window(connection_window.value),
        resets: max_resets.value,
    }
}

/// Binds the admin port.
///
/// # Errors
/// It cannot be bound.
pub(super) fn bind_admin(conf: &AdminConf, inherited: &Inherited) -> Result<Socket, StartFault> {
    let address = conf.address.value.to_string();
    let bound = match (inherited.admin(&address), &conf.address.value) {
        (Some(socket), _) => socket.share(),
        (None, AdminAddress::Tcp(address)) => Socket::bind(*address),
        (None, AdminAddress::Unix(path)) => bind_unix(path),
    };
    bound.map_err(|why| StartFault::Bind {
        name: "admin".to_owned(),
        address,
        why,
    })
}

/// Binds a Unix socket that only its owner may use. A file left by a process that is gone is
/// replaced; one that still answers is not.
fn bind_unix(path: &Path) -> io::Result<Socket> {
    use std::os::unix::net::{UnixListener, UnixStream};
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            let why = "there is a file of that name which is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    // Bound beside its place and moved there once it is closed to others, so that there is no
    // moment at which anybody may connect.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(listener))
}
