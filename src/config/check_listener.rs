//! What has to go together in `listeners`: their addresses, what they speak, and their bounds.

use std::net::{IpAddr, SocketAddr};

use super::check::Findings;
use super::decode::Spanned;
use super::error::{Place, message};
use super::file::FileConf;
use super::listener::{Http2Conf, ListenerConf, ProtocolConf};
use super::server::AdminAddress;
use super::tls::{CertificateConf, TlsConf};
use crate::base::net::canonical;

/// Judges all listeners.
pub(super) fn check(conf: &FileConf, f: &mut Findings) {
    addresses(conf, f);
    for listener in &conf.listeners {
        sizes(listener, f);
        windows(&listener.http2, f);
        h2c(listener, f);
        idle_http2(listener, f);
        redirect(listener, f);
        if let Some(tls) = &listener.tls {
            tls.certificates.iter().for_each(|c| names(c, f));
        }
    }
    no_requests(&conf.listeners, f);
    redirects_to_nowhere(&conf.listeners, f);
}

/// No two listeners, nor a listener and the admin port, share an address; port 0 is never shared.
fn addresses(conf: &FileConf, f: &mut Findings) {
    let mut all: Vec<(SocketAddr, &Place)> = Vec::new();
    for listener in &conf.listeners {
        let address = &listener.address;
        all.extend(address.sound().map(|a| (bound(*a), &address.place)));
    }
    if let Some(admin) = &conf.admin
        && let Some(AdminAddress::Tcp(address)) = admin.address.sound()
    {
        all.push((bound(*address), &admin.address.place));
    }
    all.retain(|(address, _)| address.port() != 0);
    f.unlike(all.iter().copied(), |a| format!("`{a}`"));
    for (n, (address, place)) in all.iter().enumerate() {
        let mut earlier = all[..n].iter();
        let clash = earlier.find(|(e, _)| reaches(*e, *address) || reaches(*address, *e));
        if let Some((other, at)) = clash {
            let wide = if reaches(*other, *address) {
                other.ip()
            } else {
                address.ip()
            };
            let all = if wide.is_ipv4() {
                "every IPv4 address"
            } else {
                "every address, IPv4 too"
            };
            let at = at.spot();
            f.fault(place, message!("cannot be listened on beside another (found `{other}` at {at} already and `{wide}` takes {all}, want another port)"));
        }
    }
}

/// An address as the system binds it: IPv4 written as IPv6 is IPv4.
fn bound(address: SocketAddr) -> SocketAddr {
    match canonical(address.ip()) {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether `wide` is a wildcard that takes the other address, too: that of IPv6 takes IPv4 as well.
fn reaches(wide: SocketAddr, other: SocketAddr) -> bool {
    let takes = wide.ip().is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    takes && wide.port() == other.port() && wide != other
}

fn sizes(listener: &ListenerConf, f: &mut Findings) {
    let (uri, header) = (&listener.max_uri_bytes, &listener.max_header_bytes);
    if let (Some(found), Some(most)) = (uri.sound(), header.sound())
        && found > most
    {
        f.fault(&uri.place, message!("is more than the whole header may have (found {found}, want at most `max_header_bytes`, {most})"));
    }
    let (each, all) = (
        &listener.max_connections_per_address,
        &listener.max_connections,
    );
    if let (Some(found), Some(most)) = (each.sound(), all.sound())
        && found > most
    {
        f.fault(&each.place, message!("is more than all addresses may have together (found {found}, want at most `max_connections`, {most})"));
    }
}

fn windows(http2: &Http2Conf, f: &mut Findings) {
    let (stream, all) = (&http2.stream_window, &http2.connection_window);
    if let (Some(least), Some(found)) = (stream.sound(), all.sound())
        && found < least
    {
        f.fault(&all.place, message!("is less than one stream may send (found {found}, want at least `stream_window`, {least})"));
    }
}

fn is_h2c(listener: &ListenerConf) -> bool {
    listener.protocol.sound() == Some(&ProtocolConf::H2c)
}

fn h2c(listener: &ListenerConf, f: &mut Findings) {
    if is_h2c(listener) && listener.tls.is_some() {
        f.fault(&listener.protocol.place, message!("is HTTP/2 without TLS (found `h2c` together with `tls`, want this left out: with `tls`, HTTP/2 is offered anyway)"));
    }
}

/// Limits of HTTP/2 mean nothing where it is never spoken.
fn idle_http2(listener: &ListenerConf, f: &mut Findings) {
    let offered = |tls: &Spanned<TlsConf>| tls.http2.sound() != Some(&false);
    let plain = listener.protocol.sound() == Some(&ProtocolConf::Http);
    if listener.tls.as_ref().map_or(!plain, offered) {
        return;
    }
    let http2 = &listener.http2;
    let keys = [
        (http2.max_streams.is_written(), &http2.max_streams.place),
        (http2.stream_window.is_written(), &http2.stream_window.place),
        (
            http2.connection_window.is_written(),
            &http2.connection_window.place,
        ),
        (http2.max_resets.is_written(), &http2.max_resets.place),
    ];
    for (_, place) in keys.iter().filter(|(written, _)| *written) {
        f.fault(place, message!("has no effect (found a listener that never speaks HTTP/2, want `tls` that offers it, `protocol: h2c`, or this left out)"));
    }
}

/// Clients are sent to https from where nothing else is done.
fn redirect(listener: &ListenerConf, f: &mut Findings) {
    let Some(redirect) = &listener.redirect_to_https else {
        return;
    };
    let others = [
        (listener.tls.is_some(), "tls"),
        (listener.probes.is_some(), "probes"),
        (is_h2c(listener), "protocol: h2c"),
    ];
    for (_, other) in others.into_iter().filter(|(there, _)| *there) {
        f.fault(&redirect.place, message!("does not go with `{other}` (found both, want a listener of plain HTTP that does nothing but redirect)"));
    }
}

/// Each name once in a certificate; whether another may serve it too depends on their keys.
fn names(certificate: &CertificateConf, f: &mut Findings) {
    let names = certificate.names.iter();
    f.listed_once(names.filter_map(|n| Some((n.sound()?, &n.place))));
}

fn no_requests(listeners: &[Spanned<ListenerConf>], f: &mut Findings) {
    let aside = |l: &Spanned<ListenerConf>| l.probes.is_some() || l.redirect_to_https.is_some();
    if let Some(first) = listeners.first()
        && listeners.iter().all(aside)
    {
        f.warn(
            &first.place,
            message!("is for probes or redirects, and so is every listener: no requests are taken"),
        );
    }
}

fn redirects_to_nowhere(listeners: &[Spanned<ListenerConf>], f: &mut Findings) {
    if listeners.iter().any(|l| l.tls.is_some()) {
        return;
    }
    for redirect in listeners
        .iter()
        .filter_map(|l| l.redirect_to_https.as_ref())
    {
        f.warn(&redirect.place, message!("sends clients to https, which no listener here speaks (found none with `tls`, want one, unless TLS ends elsewhere)"));
    }
}
