//! What services are told of a connection over TLS: its scheme, who is behind a balancer, and the
//! client's certificate.

use super::support::pki::{Authority, Trust};
use super::support::*;

/// A gateway over TLS, with more keys of the listener and of its TLS.
fn gateway(origin: &Origin, authority: &Authority, listener: &str, tls: &str) -> Gateway {
    let leaf = authority.server(&["api.example.com"]);
    let yaml = format!(
        "listeners:\n\
         - name: public\n\
         \x20 address: \"127.0.0.1:0\"\n\
         \x20 tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] {tls} }}\n\
         \x20 {listener}\n\
         {}",
        open_config(origin)
    );
    let ca = authority.pem();
    let files = [
        ("a.pem", &*leaf.cert),
        ("a.key", &*leaf.key),
        ("ca.pem", &*ca),
    ];
    Gateway::with_files(&yaml, &files)
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let (origin, authority) = (Origin::start(), Authority::new("ca"));
    let proxied = "proxy_protocol: { networks: [127.0.0.0/8], timeout: 300ms }";
    let gateway = gateway(&origin, &authority, proxied, "");
    let client = Trust::all().only(&authority).alpn(&["http/1.1"]).client();
    let header = b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n";
    let behind = |before: &[u8]| {
        Client::secure_behind(gateway.address(), before, &client, "api.example.com")
    };
    let mut conn = behind(header).expect("TLS");
    assert_eq!(conn.ask(&Req::get("/")).status, 200);
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert!(behind(b"").is_err(), "without one there is no connection");
    assert_eq!(origin.begun(), 1);
}

#[test]
fn a_clients_certificate_is_handed_on_where_asked_and_never_believed_from_a_header() {
    let (origin, authority) = (Origin::start(), Authority::new("ca"));
    let ask = |forward: bool| {
        let tls =
            format!(", client_certificates: {{ mode: optional, ca: ca.pem, forward: {forward} }}");
        gateway(&origin, &authority, "", &tls)
    };
    let trust = || Trust::all().only(&authority).alpn(&["http/1.1"]);
    let with = trust().present(&authority.client("alice")).client();
    let without = trust().client();
    let forged = Req::get("/")
        .header("Client-Cert", ":Zm9yZ2Vk:")
        .header("Client-Cert-Chain", ":Zm9yZ2Vk:");
    for (forward, config, told) in [
        (true, &with, true),
        (true, &without, false),
        (false, &with, false),
    ] {
        let gateway = ask(forward);
        let conn = Client::secure(gateway.address(), config, "api.example.com");
        assert_eq!(conn.expect("TLS").ask(&forged).status, 200);
        let seen = origin.last();
        let field = seen.header("client-cert");
        assert_eq!(field.is_some(), told, "{forward} {field:?}");
        // RFC 9440 §2.1: the certificate as a byte sequence.
        let good = |f: &str| f.starts_with(":MII") && f.ends_with(':');
        assert!(field.is_none_or(good), "{field:?}");
        assert_eq!(seen.header("client-cert-chain"), None);
    }
}
