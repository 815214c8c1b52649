//! Where a request comes from: what proxies in front of us say of it, and what services are told
//! (`Forwarded`, RFC 7239, and the `X-Forwarded-…` that came before it).

use super::send::written;
use crate::base::net::canonical;
use crate::exchange::Exchange;
use crate::exchange::fields::Field;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::Result;
use std::net::{IpAddr, SocketAddr};

/// The addresses a request passed.
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What tells of the way a request came; believed from trusted proxies alone.
const TOLD: [HeaderName; 7] = [
    FOR,
    PROTO,
    X_HOST,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
    FORWARDED,
];

/// The client behind trusted proxies: the rightmost address that is not one of theirs; what stands
/// left of it anyone may have written. Where both kinds of header are in use and do not agree, one
/// of them came from the client: then nobody is believed.
pub fn client(headers: &HeaderMap, peer: IpAddr, snapshot: &Snapshot) -> IpAddr {
    let old = snapshot.forwarded.x_forwarded && headers.contains_key(FOR);
    let new = snapshot.forwarded.forwarded && headers.contains_key(FORWARDED);
    let by_old = || behind(headers, &FOR, x_forwarded_for, peer, snapshot);
    let by_new = || behind(headers, &FORWARDED, forwarded_for, peer, snapshot);
    match (old, new) {
        (true, true) => Some(by_old()).filter(|c| *c == by_new()).unwrap_or(peer),
        (true, false) => by_old(),
        (false, true) => by_new(),
        (false, false) => peer,
    }
}

/// Goes from hop to hop, from the right, for as long as each is a trusted proxy.
fn behind(
    headers: &HeaderMap,
    name: &HeaderName,
    hops: fn(&str) -> Vec<Option<IpAddr>>,
    peer: IpAddr,
    snapshot: &Snapshot,
) -> IpAddr {
    let mut client = peer;
    for value in headers.get_all(name).iter().rev() {
        for hop in hops(value.to_str().unwrap_or_default()).into_iter().rev() {
            let Some(hop) = hop else { return client };
            client = canonical(hop);
            if !snapshot.trusted_proxies.contains(client) {
                return client;
            }
        }
    }
    client
}

/// The hops of an `X-Forwarded-For`; nothing for one that is no address.
fn x_forwarded_for(value: &str) -> Vec<Option<IpAddr>> {
    value.split(',').map(|hop| address(hop.trim())).collect()
}

/// The hops of a `Forwarded` (RFC 7239 §4); nothing for one that hides its address, or names none.
fn forwarded_for(value: &str) -> Vec<Option<IpAddr>> {
    let hops = split(value, b',').map(|hop| {
        let mut found = None;
        for pair in split(hop, b';').filter(|pair| !pair.trim().is_empty()) {
            let (name, node) = pair.split_once('=')?;
            if name.trim().eq_ignore_ascii_case("for") && found.replace(node.trim()).is_some() {
                return None;
            }
        }
        let node = found?;
        let quoted = node.strip_prefix('"').and_then(|n| n.strip_suffix('"'));
        address(quoted.unwrap_or(node))
    });
    hops.collect()
}

/// Splits where the byte stands outside of quotes. Quotes that do not end leave a part that is no
/// address.
fn split(text: &str, at: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => (),
        }
        !quoted && c == char::from(at)
    })
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let plain = bare.unwrap_or(text).parse().ok();
    plain.or_else(|| text.parse().ok().map(|a: SocketAddr| a.ip()))
}

/// Tells the service where the request comes from: appended to what a trusted proxy said, else
/// instead of what the client said.
///
/// # Errors
/// A value cannot be written into a header.
pub fn tell(request: &mut Parts, exchange: &Exchange, snapshot: &Snapshot) -> Result<()> {
    let told = exchange.fields.has(Field::Origin);
    if told && !exchange.trusted_peer {
        for name in &TOLD {
            request.headers.remove(name);
        }
    }
    let told = told && exchange.trusted_peer;
    let hop = Hop {
        peer: canonical(exchange.conn.peer.ip()),
        proto: if exchange.conn.is_tls() {
            "https"
        } else {
            "http"
        },
        host: host(request),
    };
    let headers = &mut request.headers;
    if snapshot.forwarded.x_forwarded {
        let peer = exchange.conn.peer_field();
        if told {
            append_old(headers, &hop, peer)?;
        } else {
            headers.insert(FOR, peer);
            headers.insert(PROTO, HeaderValue::from_static(hop.proto));
            if let Some(host) = &hop.host {
                headers.insert(X_HOST, host.clone());
            }
        }
    }
    if snapshot.forwarded.forwarded {
        let told = append(headers, &FORWARDED, new(&hop))?;
        headers.insert(FORWARDED, told);
    }
    Ok(())
}

/// The way from the peer to us.
struct Hop {
    peer: IpAddr,
    proto: &'static str,
    /// What it asked for, as it was written.
    host: Option<HeaderValue>,
}

fn host(request: &Parts) -> Option<HeaderValue> {
    let named = request.headers.get(HOST).cloned();
    named.or_else(|| {
        let authority = request.uri.authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    })
}

/// Adds to what a trusted proxy has said.
fn append_old(headers: &mut HeaderMap, hop: &Hop, peer: HeaderValue) -> Result<()> {
    let hops = if headers.contains_key(FOR) {
        append(headers, &FOR, hop.peer.to_string())?
    } else {
        peer
    };
    headers.insert(FOR, hops);
    if !headers.contains_key(PROTO) {
        headers.insert(PROTO, HeaderValue::from_static(hop.proto));
    }
    if let (Some(host), false) = (&hop.host, headers.contains_key(X_HOST)) {
        headers.insert(X_HOST, host.clone());
    }
    Ok(())
}

/// One element of `Forwarded`: an IPv6 address and a host with a port stand in quotes (RFC 7239
/// §4, §6).
fn new(hop: &Hop) -> String {
    let mut told = match hop.peer {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    };
    // A host that has come so far holds no quote.
    if let Some(host) = hop.host.as_ref().and_then(|h| h.to_str().ok()) {
        let quote = if host.contains([':', '[']) { "\"" } else { "" };
        told.extend([";host=", quote, host, quote]);
    }
    told.extend([";proto=", hop.proto]);
    told
}

/// One more member of a list (RFC 9110 §5.3).
fn append(headers: &HeaderMap, name: &HeaderName, member: String) -> Result<HeaderValue> {
    let list = match joined(headers, name) {
        Some(before) => format!("{before}, {member}"),
        None => member,
    };
    written(HeaderValue::from_maybe_shared(Bytes::from(list)))
}

/// All values of a field as one list (RFC 9110 §5.3).
pub fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values = headers.get_all(name).iter();
    let texts: Vec<&str> = values.filter_map(|v| v.to_str().ok()).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_usual_form() {
        let v4: IpAddr = [192, 0, 2, 1].into();
        assert_eq!(address("192.0.2.1"), Some(v4));
        assert_eq!(address("192.0.2.1:4711"), Some(v4));
        let v6: Option<IpAddr> = "2001:db8::1".parse().ok();
        for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711"] {
            assert_eq!(address(text), v6, "{text}");
        }
        for text in ["", "unknown", "_hidden", "192.0.2", "192.0.2.1,"] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_hops_of_a_forwarded() {
        let v4: Option<IpAddr> = Some([192, 0, 2, 1].into());
        let v6: Option<IpAddr> = "2001:db8::1".parse().ok();
        for (value, hops) in [
            ("for=192.0.2.1", vec![v4]),
            ("For=192.0.2.1;proto=http;by=203.0.113.43", vec![v4]),
            ("proto=http; for=\"192.0.2.1:80\"", vec![v4]),
            ("for=\"[2001:db8::1]:4711\", for=192.0.2.1", vec![v6, v4]),
            (
                "for=192.0.2.1;host=\"a,b;c\\\"\",for=unknown",
                vec![v4, None],
            ),
            ("for=_hidden, for=192.0.2.1", vec![None, v4]),
            ("for=192.0.2.1; ;proto=http;", vec![v4]),
            ("proto=http", vec![None]),
            ("192.0.2.1", vec![None]),
            ("for=192.0.2.1;for=192.0.2.1", vec![None]),
            ("for=\"192.0.2.1, for=192.0.2.1", vec![None]),
            ("", vec![None]),
        ] {
            assert_eq!(forwarded_for(value), hops, "{value}");
        }
    }

    #[test]
    fn an_element_quotes_what_must_be() {
        let element = |peer: &str, host: Option<&'static str>| {
            new(&Hop {
                peer: peer.parse().expect("an address"),
                proto: "https",
                host: host.map(HeaderValue::from_static),
            })
        };
        let plain = element("192.0.2.1", Some("a.example"));
        assert_eq!(plain, "for=192.0.2.1;host=a.example;proto=https");
        let quoted = element("2001:db8::1", Some("a.example:8443"));
        let want = "for=\"[2001:db8::1]\";host=\"a.example:8443\";proto=https";
        assert_eq!(quoted, want);
        assert_eq!(element("192.0.2.1", None), "for=192.0.2.1;proto=https");
    }
}
