//! The TLS end of a listener, met by a client of another make (rustls): which certificate it is
//! given, what is agreed on, and what is refused with which alert.

use super::support::pki::{
    Authority, Leaf, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, Trust,
};
use super::support::tls::{End, Met};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion};
use tollgate::exchange::tls::Version;
use tollgate::observe::metrics::HandshakeFault;

/// A listener with a certificate for `a.test` first and one for `*.b.test` and `b.test`.
fn two(settings: &str) -> (End, Leaf, Leaf) {
    let authority = Authority::new("ca");
    let a = authority.server(&["a.test"]);
    let b = authority.server(&["*.b.test", "b.test"]);
    let end = End::new(settings, &[("a", &a), ("b", &b)]);
    (end, a, b)
}

#[test]
fn a_name_gets_its_certificate_and_any_other_the_first() {
    let (end, a, b) = two("");
    let client = Trust::all().client();
    for (name, leaf) in [
        ("a.test", &a),
        ("A.Test", &a),
        ("b.test", &b),
        ("x.b.test", &b),
        ("x.y.b.test", &a),
        ("c.test", &a),
        ("127.0.0.1", &a),
    ] {
        let met = end.meet(&client, name);
        assert_eq!(met.leaf(), leaf.der, "{name}");
        let asked = name.parse::<std::net::IpAddr>().is_err();
        let asked = asked.then(|| name.to_ascii_lowercase());
        assert_eq!(met.info().server_name.as_deref(), asked.as_deref());
    }
}

#[test]
fn who_verifies_finds_the_names_it_asked_for() {
    let authority = Authority::new("ca");
    let leaf = authority.server(&["a.test", "*.b.test", "127.0.0.1"]);
    let end = End::new("", &[("a", &leaf)]);
    let client = Trust::all().only(&authority).client();
    for name in ["a.test", "x.b.test", "127.0.0.1"] {
        let met = end.meet(&client, name);
        assert_eq!(met.leaf(), leaf.der, "{name}");
        assert!(met.info().covers(name), "{name}");
    }
    assert!(end.meet(&client, "b.test").client.is_err());
    let met = end.meet(&client, "a.test");
    for host in ["c.test", "x.y.b.test", "b.test", "127.0.0.2"] {
        assert!(!met.info().covers(host), "{host}");
    }
}

#[test]
fn unknown_names_are_refused_if_so_configured() {
    let (end, a, b) = two("unknown_names: refuse");
    let client = Trust::all().client();
    for name in ["c.test", "x.y.b.test", "test"] {
        let met = end.meet(&client, name);
        assert_eq!(met.fault(), HandshakeFault::UnknownName, "{name}");
        assert_eq!(met.alert(), AlertDescription::UnrecognisedName);
    }
    assert_eq!(end.meet(&client, "x.b.test").leaf(), b.der);
    // No name is not an unknown one: clients of an address send none.
    assert_eq!(end.meet(&client, "127.0.0.1").leaf(), a.der);
    end.counts(
        "tollgate_tls_handshake_failures_total",
        "cause=\"unknown_name\"",
        3,
    );
}

#[test]
fn configured_names_stand_for_those_in_the_certificate() {
    let authority = Authority::new("ca");
    let a = authority.server(&["a.test", "both.test"]);
    let b = authority.server(&["b.test", "both.test"]);
    let entries = "{ cert: a.pem, key: a.key, names: [a.test] }, \
                   { cert: b.pem, key: b.key, names: [b.test, both.test] }";
    let end = End::with_entries("", entries, &[("a", &a), ("b", &b)]);
    let client = Trust::all().client();
    assert_eq!(end.meet(&client, "both.test").leaf(), b.der);
    let met = end.meet(&client, "a.test");
    assert_eq!(met.leaf(), a.der);
    assert!(!met.info().covers("both.test"), "served by the other");
}

/// The same names with a key of each kind.
fn kinds(names: &[&str]) -> (End, [Leaf; 3]) {
    let authority = Authority::new("ca");
    let rsa = authority.server_with(&PKCS_RSA_SHA256, names);
    let p384 = authority.server_with(&PKCS_ECDSA_P384_SHA384, names);
    let ed25519 = authority.server_with(&PKCS_ED25519, names);
    let end = End::new("", &[("rsa", &rsa), ("ed", &ed25519), ("ec", &p384)]);
    (end, [rsa, p384, ed25519])
}

#[test]
fn a_client_gets_the_kind_of_key_that_it_can_verify() {
    let (end, [rsa, p384, ed25519]) = kinds(&["a.test"]);
    for (trust, leaf) in [
        (Trust::all(), &p384),
        (Trust::all().tls12(), &p384),
        (Trust::all().schemes("RSA"), &rsa),
        (Trust::all().schemes("ED25519"), &ed25519),
        (Trust::all().tls12().schemes("ED25519"), &ed25519),
        (Trust::all().tls12().schemes("RSA"), &rsa),
        (Trust::all().tls12().ciphers("ECDHE_RSA"), &rsa),
        (Trust::all().tls12().ciphers("ECDHE_ECDSA"), &p384),
        // A curve that it does not have.
        (Trust::all().schemes("ECDSA_NISTP256"), &rsa),
    ] {
        let client = trust.client();
        for name in ["a.test", "127.0.0.1"] {
            let met = end.meet(&client, name);
            if leaf.der == rsa.der && met.client.is_err() {
                // It knows no RSA either: refused, not given what it cannot verify.
                assert_eq!(met.fault(), HandshakeFault::NoSharedCipher);
                continue;
            }
            assert_eq!(met.leaf(), leaf.der, "{name}");
        }
    }
    let p256_only = Trust::all().schemes("ECDSA_NISTP256").client();
    assert_eq!(
        end.meet(&p256_only, "a.test").alert(),
        AlertDescription::HandshakeFailure
    );
}

#[test]
fn versions_and_ciphers_are_the_modern_ones() {
    let (end, ..) = two("");
    let met = end.meet(&Trust::all().client(), "a.test");
    assert_eq!(met.info().version, Version::Tls13);
    assert_eq!(met.client().version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(met.client().kind, Some(HandshakeKind::Full));
    assert!(
        met.info().cipher.starts_with("TLS_AES_"),
        "{}",
        met.info().cipher
    );
    let met = end.meet(&Trust::all().tls12().client(), "a.test");
    assert_eq!(met.info().version, Version::Tls12);
    let (cipher, agreed) = (met.info().cipher, met.client().cipher.clone());
    assert_eq!(agreed.as_deref(), Some(cipher));
    assert!(cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{cipher}");
    let (end, ..) = two("min_version: \"1.3\"");
    let met = end.meet(&Trust::all().tls12().client(), "a.test");
    assert_eq!(met.fault(), HandshakeFault::NoSharedVersion);
    assert_eq!(met.alert(), AlertDescription::ProtocolVersion);
    assert_eq!(
        end.meet(&Trust::all().client(), "a.test").info().version,
        Version::Tls13
    );
}

#[test]
fn the_client_decides_on_the_group_and_waits_for_no_other() {
    let (end, ..) = two("");
    let all = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];
    for first in all {
        let mut order = vec![first];
        order.extend(all.iter().filter(|g| **g != first));
        for groups in [&order[..], &order[..1]] {
            let client = Trust::all().groups(groups).client();
            let met = end.meet(&client, "a.test");
            assert_eq!(met.client().group.as_deref(), Some(first));
            assert_eq!(
                met.client().kind,
                Some(HandshakeKind::Full),
                "no second try"
            );
        }
    }
}

#[test]
fn the_protocol_is_agreed_on_or_there_is_no_connection() {
    let (end, ..) = two("");
    let (h1_only, ..) = two("http2: false");
    for (end, offered, agreed) in [
        (&end, &["h2", "http/1.1"][..], Ok(Some("h2"))),
        (&end, &["http/1.1", "h2"], Ok(Some("h2"))),
        (&end, &["http/1.1"], Ok(Some("http/1.1"))),
        (&end, &["spdy/3", "http/1.1"], Ok(Some("http/1.1"))),
        (&end, &[], Ok(None)),
        (&end, &["spdy/3"], Err(())),
        (&end, &["http/1.0", "h2c"], Err(())),
        (&h1_only, &["h2", "http/1.1"], Ok(Some("http/1.1"))),
        (&h1_only, &["h2"], Err(())),
    ] {
        let met = end.meet(&Trust::all().alpn(offered).client(), "a.test");
        if let Ok(agreed) = agreed {
            assert_eq!(met.client().alpn.as_deref(), agreed, "{offered:?}");
            assert_eq!(met.info().http2, agreed == Some("h2"), "{offered:?}");
        } else {
            assert_eq!(met.fault(), HandshakeFault::NoAlpn, "{offered:?}");
            assert_eq!(met.alert(), AlertDescription::NoApplicationProtocol);
        }
    }
}

#[test]
fn what_is_no_tls_is_told_from_who_goes_away() {
    let (end, ..) = two("");
    for (sent, cause) in [
        (
            &b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..],
            HandshakeFault::Protocol,
        ),
        (&[0x16, 3, 1, 0, 4, 9, 9, 9, 9], HandshakeFault::Protocol),
        (&[0x16, 3, 1, 0, 4], HandshakeFault::ClientClosed),
        (&[], HandshakeFault::ClientClosed),
    ] {
        assert_eq!(end.send(sent), cause, "{sent:?}");
    }
    let stranger = Trust::all().only(&Authority::new("another")).client();
    let met = end.meet(&stranger, "a.test");
    assert_eq!(met.fault(), HandshakeFault::ClientAlert);
    end.counts(
        "tollgate_tls_handshake_failures_total",
        "cause=\"client_alert\"",
        1,
    );
    end.counts(
        "tollgate_tls_handshake_failures_total",
        "cause=\"client_closed\"",
        2,
    );
}

#[track_caller]
fn resumes(end: &End, client: &std::sync::Arc<rustls::ClientConfig>) -> bool {
    let met: Met = end.meet(client, "a.test");
    let resumed = met.client().kind == Some(HandshakeKind::Resumed);
    assert_eq!(met.info().resumed, resumed, "both sides say the same");
    resumed
}

#[test]
fn sessions_are_taken_up_also_behind_a_new_certificate() {
    let (end, ..) = two("");
    for trust in [Trust::all().tls12(), Trust::all().tls13()] {
        let client = trust.client();
        assert!(!resumes(&end, &client), "the first is whole");
        assert!(resumes(&end, &client));
        Authority::new("ca")
            .server(&["a.test"])
            .write(end.dir(), "a");
        assert_eq!(end.tls.reload().changed, 1);
        assert!(
            resumes(&end, &client),
            "keys of tickets outlive certificates"
        );
    }
    for (labels, count) in [
        ("resumed=\"true\",version=\"1.2\"", 2),
        ("resumed=\"true\",version=\"1.3\"", 2),
        ("resumed=\"false\",version=\"1.3\"", 1),
    ] {
        end.counts("tollgate_tls_handshakes_total", labels, count);
    }
}

#[test]
fn a_session_is_good_for_the_names_it_began_with() {
    let (end, ..) = two("");
    for trust in [Trust::all().tls12(), Trust::all().tls13()] {
        let client = trust.reckless().client();
        for (name, resumed) in [
            ("b.test", false),
            ("x.b.test", true),
            ("a.test", false),
            ("c.test", true),
            ("b.test", false),
        ] {
            let met = end.meet(&client, name);
            let kind = met.client().kind;
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumed, "{name}");
            assert_eq!(met.info().resumed, resumed, "{name}");
        }
    }
}

#[test]
fn no_session_is_taken_up_where_that_is_off_or_at_another_listener() {
    let (off, ..) = two("resumption: false");
    let (end, ..) = two("");
    for trust in [Trust::all().tls12(), Trust::all().tls13()] {
        let client = trust.client();
        assert!(!resumes(&off, &client));
        assert!(!resumes(&off, &client));
        assert!(!resumes(&end, &client));
        assert!(resumes(&end, &client));
        let (other, ..) = two("");
        assert!(!resumes(&other, &client), "keys of its own");
    }
}
