//! The process as a whole: threads, stopping, the admin port, the access log, the flood limit.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::decode::{Decode, Spanned, Value};
use super::decoder::Decoder;
use super::error::{Place, message};
use super::fields::{conf, default, optional, required, words};
use super::spelling::nearest;
use super::value::Name;
use super::yaml::Node;
use crate::base::secret::Secret;
use crate::base::units::{Rate, Span};

conf! {
    /// How the process runs.
    pub struct ServerConf {
        /// Threads that accept and proxy, 1 to 256. Default: the number of CPUs.
        workers: Option<Spanned<u32>> = optional().range("1", "256");
        /// The form of refusals. Default `problem`.
        errors: Spanned<ErrorFormConf> = default("problem");
        /// Which headers tell backends where a request came from. Default `x_forwarded`.
        forwarded: Spanned<ForwardedConf> = default("x_forwarded");
        /// Our name in `Via` (RFC 9110 §7.6.3); a request that bears it has been here and is refused.
        /// Default: `tollgate-` and digits of this process alone.
        via: Option<Spanned<Name>> = optional();
        /// Whether the config file is looked at every second, and taken up again once it has changed.
        /// Files that it names are not looked at. Default false.
        watch: Spanned<bool> = default("false");
        /// How it stops.
        drain: DrainConf = default("{}");
    }
}

words! {
    /// Which headers tell backends where a request came from.
    pub enum ForwardedConf {
        /// `X-Forwarded-For`, `-Proto`, `-Host`.
        XForwarded = "x_forwarded",
        /// `Forwarded` (RFC 7239).
        Forwarded = "forwarded",
        /// All of them.
        Both = "both",
    }
}

words! {
    /// The form of refusals.
    pub enum ErrorFormConf {
        /// Problem details in JSON (RFC 9457).
        Problem = "problem",
        /// A short JSON object: `{"error": …}`.
        Plain = "plain",
    }
}

conf! {
    /// What happens at SIGTERM: `/ready` fails, `notice` passes, nothing more is accepted, idle
    /// connections get `idle` for one more request, requests in flight get `max` to finish.
    pub struct DrainConf {
        /// How long to go on accepting so that load balancers notice, 0s to 10m. Default 0s.
        notice: Spanned<Span> = default("0s").range("0s", "10m");
        /// How long an idle connection may still send one more request, 0s to 5m, and no longer than
        /// `max`. Default 5s.
        idle: Spanned<Span> = default("5s").range("0s", "5m");
        /// How long requests in flight may take to finish, 0s to 1h. Then WebSockets are closed with
        /// code 1001 and the rest is cut off. Default 30s.
        max: Spanned<Span> = default("30s").range("0s", "1h");
    }
}

conf! {
    /// The operator's own way in.
    pub struct AdminConf {
        /// A loopback address and port, or `unix:` and the path of a socket.
        address: Spanned<AdminAddress> = required("an address such as `127.0.0.1:9901` or `unix:/run/tollgate/admin.sock`");
        /// What a request that changes something must bear, at least 16 bytes. Left out: nothing
        /// can be changed this way.
        token: Option<Spanned<Secret>> = optional();
    }
}

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address; loopback only.
    Tcp(SocketAddr),
    /// A Unix socket; an absolute path.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Value for AdminAddress {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.starts_with('/') {
                return Ok(Self::Unix(path.into()));
            }
            return Err(message!(
                "is not a socket's path (found `{text}`, want `unix:` and a path that starts with `/`)"
            ));
        }
        let address: SocketAddr = Value::parse(text)?;
        if address.ip().is_loopback() {
            return Ok(Self::Tcp(address));
        }
        Err(message!(
            "is open to other machines (found `{text}`, want a loopback address such as `127.0.0.1:9901`, or `unix:` and a path)"
        ))
    }

    fn stand_in() -> Self {
        Self::Unix(PathBuf::new())
    }
}

conf! {
    /// The access log: one line of JSON a request.
    pub struct LogConf {
        /// `stdout`, `off`, or the path of a file from the config's folder. Default `stdout`.
        access: Spanned<AccessLog> = default("stdout");
        /// Lines held while the writer is slow, 64 to 1048576; further ones are dropped and
        /// counted. Default 8192.
        buffer: Spanned<u32> = default("8192").range("64", "1048576");
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// A file that is appended to.
    File(PathBuf),
}

impl Decode for AccessLog {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = d.text(node)?;
        match text.as_str() {
            "stdout" => Some(Self::Stdout),
            "off" => Some(Self::Off),
            path if path.contains('/') && !path.contains(char::is_control) => {
                Some(Self::File(d.path(path)))
            }
            word => {
                let near = nearest(word, ["stdout", "off"].into_iter());
                let hint = near.map_or_else(String::new, |w| format!(", did you mean `{w}`?"));
                d.fault(node, message!("is no place to log to{hint} (found `{word}`, want `stdout`, `off` or a file such as `./access.log`, with a `/` in it)"));
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self::Off
    }
}

conf! {
    /// A limit by client address (IPv4 /32, IPv6 /64) that stands in front of everything else.
    pub struct FloodConf {
        /// Requests an address may send, a window of 1s to 31d.
        rate: Spanned<Rate> = required("a rate such as `1000/10s`");
        /// Clients expected within a window, 1000 to 10000000; sizes the estimate. Default 100000.
        expected_clients: Spanned<u64> = default("100000").range("1000", "10000000");
    }
}
