//! What is judged and chosen without a client; handshakes are in `tests/e2e/tls_*.rs`.

use super::certificate::{self, Certificate, Kind};
use super::choose::{self, Abilities, Clash, Hello, Ready, Table};
use super::client::Authorities;
use super::{Wrong, context};
use crate::route::HostPattern;
use pingora::tls::ssl::{SslContext, SslMethod};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use std::sync::Arc;

/// A certificate that signed itself, as PEM, and its key.
fn pair(kind: &'static SignatureAlgorithm, params: &CertificateParams) -> (String, String) {
    let key = if *kind == rcgen::PKCS_ED25519 {
        // Those that rcgen makes are of a form (RFC 5958) that OpenSSL does not write either.
        KeyPair::from_pem(include_str!("../../../tests/keys/test-ed25519.key.pem"))
    } else {
        KeyPair::generate_for(kind)
    };
    let key = key.unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    CertificateParams::new(names).unwrap()
}

fn p256(names: &[&str]) -> (String, String) {
    pair(&rcgen::PKCS_ECDSA_P256_SHA256, &named(names))
}

fn patterns(names: &[&str]) -> Vec<HostPattern> {
    names.iter().map(|n| n.parse().unwrap()).collect()
}

fn judged((cert, key): &(String, String), asked: &[&str]) -> Result<Certificate, Wrong> {
    Certificate::judge(cert, key, &patterns(asked))
}

fn good(pair: &(String, String), asked: &[&str]) -> Certificate {
    judged(pair, asked).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

#[test]
fn a_certificate_serves_its_own_names_unless_told() {
    let pair = p256(&["a.test", "*.B.test", "10.0.0.1", "::1"]);
    let own = good(&pair, &[]);
    let text = |list: &[Box<str>]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&own.names.exact), ["a.test", "10.0.0.1", "[::1]"]);
    assert_eq!(text(&own.names.wildcards), ["b.test"]);
    assert_eq!((own.kind, own.name().as_str()), (Kind::P256, "a.test"));
    assert_eq!(own.warnings(own.not_before), [""; 0]);
    let told = good(&pair, &["x.b.test", "c.test", "*.a.test"]);
    assert_eq!(text(&told.names.exact), ["x.b.test", "c.test"]);
    let warnings = told.warnings(told.not_before).join("\n");
    assert!(!warnings.contains("`x.b.test`"), "{warnings}");
    for unborne in ["`c.test`", "`*.a.test`"] {
        assert!(warnings.contains(unborne), "{warnings}");
    }
}

#[test]
fn each_kind_of_key_is_known_and_weak_ones_are_refused() {
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P384_SHA384, Kind::P384),
        (&rcgen::PKCS_ED25519, Kind::Ed25519),
        (&rcgen::PKCS_RSA_SHA256, Kind::Rsa),
    ] {
        assert_eq!(good(&pair(algorithm, &named(&["a.test"])), &[]).kind, kind);
    }
    let p521 = pair(&rcgen::PKCS_ECDSA_P521_SHA512, &named(&["a.test"]));
    let weak = (
        include_str!("../../../tests/keys/test-rsa-1024.cert.pem").to_owned(),
        include_str!("../../../tests/keys/test-rsa-1024.key.pem").to_owned(),
    );
    for (pair, found) in [(&p521, "another curve"), (&weak, "RSA of 1024 bits")] {
        let want = format!(
            "has a key that is not served (found {found}, want RSA of 2048 bits or more, P-256, P-384 or Ed25519)"
        );
        assert_eq!(judged(pair, &[]).err(), Some(Wrong::Cert(want)));
    }
}

#[test]
fn what_cannot_be_served_is_said_of_the_file_it_stands_in() {
    let (cert, key) = p256(&["a.test"]);
    let (other, other_key) = p256(&["a.test"]);
    let nameless = p256(&[]);
    let cut = format!("{}\n-----END CERTIFICATE-----\n", &cert[..200]);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (cert, key, of_key, says) in [
        ("", &*key, false, "holds no certificate"),
        (&*key, &*key, false, "holds no certificate"),
        (&*cut, &*key, false, "cannot be read"),
        (&*nameless.0, &*nameless.1, false, "bears no name"),
        (&*cert, "", true, "holds no private key"),
        (&*cert, &*other, true, "holds no private key"),
        (&*cert, &*encrypted, true, "is encrypted"),
        (&*cert, &key[..100], true, "cannot be read"),
        (
            &*cert,
            &*other_key,
            true,
            "does not belong to the certificate",
        ),
    ] {
        let wrong = Certificate::judge(cert, key, &[]).err();
        let (text, is_key) = match &wrong {
            Some(Wrong::Cert(text)) => (text, false),
            Some(Wrong::Key(text)) => (text, true),
            None => panic!("is taken, want: {says}"),
        };
        assert!(text.contains(says), "found {text}, want {says}");
        assert_eq!(is_key, of_key, "{text}");
        assert!(
            text.contains("(found ") && text.contains(", want "),
            "{text}"
        );
        let secret = key.lines().nth(1).map(|line| &line[..line.len().min(20)]);
        assert!(secret.is_none_or(|secret| !text.contains(secret)), "{text}");
    }
    assert!(
        good(&nameless, &["a.test"]).names.covers("a.test"),
        "`names` help"
    );
}

#[test]
fn the_order_of_a_chain_is_kept() {
    let (cert, key) = p256(&["a.test"]);
    let (signer, _) = p256(&["signer.test"]);
    let chain = good(&(format!("{cert}{signer}"), key.clone()), &[]).chain;
    assert_eq!(chain.len(), 2);
    let first = chain[0].to_pem().unwrap();
    assert_eq!(
        String::from_utf8(first).unwrap().replace("\r\n", "\n"),
        cert.replace("\r\n", "\n")
    );
    let reversed = judged(&(format!("{signer}{cert}"), key), &[]);
    assert!(
        matches!(reversed, Err(Wrong::Key(_))),
        "the first is the server's own"
    );
}

#[test]
fn the_end_of_a_certificate_is_told_ahead() {
    let day = certificate::DAY_S;
    let end = 100 * day;
    for (now, says) in [
        (0, None),
        (79 * day, None),
        (
            79 * day + 1,
            Some("ends in 20 days (found its end at 1970-04-11T00:00:00Z"),
        ),
        (end, Some("ends in 0 days")),
        (end + 1, Some("has ended")),
    ] {
        let told = certificate::ending(end, now);
        assert_eq!(told.is_some(), says.is_some(), "{now}: {told:?}");
        assert!(told.unwrap_or_default().contains(says.unwrap_or_default()));
    }
    let mut params = named(&["a.test"]);
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2051, 3, 4);
    let early = good(&pair(&rcgen::PKCS_ECDSA_P256_SHA256, &params), &[]);
    assert_eq!(
        (early.not_before, early.not_after),
        (1_767_312_000, 2_561_500_800)
    );
    let told = early.time_warning(early.not_before - 1).unwrap();
    assert!(
        told.contains("not valid yet (found its begin at 2026-01-02T00:00:00Z"),
        "{told}"
    );
    assert_eq!(early.time_warning(early.not_before), None);
}

#[test]
fn times_of_both_forms_are_read() {
    for (text, unix_s) in [
        ("700101000000Z", 0),
        ("491231235959Z", 2_524_607_999),
        ("20500101000000Z", 2_524_608_000),
        ("500101000000Z", 0),
        ("99991231235959Z", 253_402_300_799),
        ("", 0),
        ("nonsense", 0),
        ("260230000000Z", 0),
    ] {
        assert_eq!(certificate::unix_s(text.as_bytes()), unix_s, "{text}");
    }
}

#[test]
fn authorities_are_counted_and_their_first_end_is_known() {
    let (cert, _) = p256(&["ca.test"]);
    let mut params = named(&["ca.test"]);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let (sooner, _) = pair(&rcgen::PKCS_ECDSA_P256_SHA256, &params);
    let both = Authorities::judge(&format!("{cert}{sooner}")).unwrap();
    assert_eq!(
        (both.certificates.len(), both.not_after),
        (2, 1_893_456_000)
    );
    for (pem, says) in [
        (String::new(), "holds no certificate"),
        (cert.repeat(101), "found 101, want at most 100"),
    ] {
        let why = Authorities::judge(&pem).err().unwrap_or_default();
        assert!(why.contains(says), "{why}");
    }
}

fn ready(certificate: Certificate) -> Arc<Ready> {
    Arc::new(Ready {
        certificate: Arc::new(certificate),
        context: SslContext::builder(SslMethod::tls()).unwrap().build(),
    })
}

/// Which of a list is chosen, by its place.
fn chosen(all: &[Arc<Ready>], refuse: bool, name: Option<&str>, knows: Abilities) -> Option<usize> {
    let table = Table::new(all, refuse);
    let found = table.choose(name.map(str::as_bytes), || knows)?;
    all.iter().position(|r| Arc::ptr_eq(r, found))
}

#[test]
fn a_name_is_found_exactly_then_by_wildcard_then_the_first() {
    let lists = [
        &["a.test"][..],
        &["*.b.test", "b.test"],
        &["x.b.test"],
        &["*.x.b.test"],
    ];
    let all: Vec<_> = lists
        .iter()
        .map(|names| ready(good(&p256(names), &[])))
        .collect();
    let none = Abilities::default();
    for (name, place) in [
        ("a.test", Some(0)),
        ("A.TEST", Some(0)),
        ("a.test.", Some(0)),
        ("b.test", Some(1)),
        ("y.b.test", Some(1)),
        ("x.b.test", Some(2)),
        ("y.x.b.test", Some(3)),
        ("y.y.b.test", None),
        ("c.test", None),
        ("a.test:443", None),
        (".b.test", None),
        ("a test", None),
        ("\u{e4}.test", None),
    ] {
        assert_eq!(chosen(&all, true, Some(name), none), place, "{name}");
        assert_eq!(
            chosen(&all, false, Some(name), none),
            place.or(Some(0)),
            "{name}"
        );
    }
    let table = Table::new(&all, true);
    assert!(
        table.choose(Some(&[0xff, 0xfe]), || none).is_none(),
        "no text is no name"
    );
    assert_eq!(
        chosen(&all, true, None, none),
        Some(0),
        "who asks for none gets the first"
    );
}

#[test]
fn of_two_kinds_of_key_the_client_decides() {
    let rsa = ready(good(
        &pair(&rcgen::PKCS_RSA_SHA256, &named(&["a.test", "r.test"])),
        &[],
    ));
    let ecdsa = ready(good(&p256(&["a.test", "e.test"]), &[]));
    let all = [rsa, ecdsa];
    let modern = Abilities::of(hello(&[0x0403, 0x0804], &[23, 29], &[0x0304], &[0x1301]));
    let old = Abilities::of(hello(&[0x0401], &[23], &[], &[0xc02f]));
    for (name, knows, place) in [
        (Some("a.test"), modern, 1),
        (Some("a.test"), old, 0),
        (None, modern, 1),
        (None, old, 0),
        (Some("other.test"), modern, 1),
        (Some("r.test"), modern, 0),
        // There is no other: the library refuses it with the right alert.
        (Some("e.test"), old, 1),
    ] {
        assert_eq!(chosen(&all, false, name, knows), Some(place), "{name:?}");
    }
}

/// Written lists, each behind its length as the extensions have them.
fn hello(signatures: &[u16], groups: &[u16], versions: &[u16], ciphers: &[u16]) -> Hello<'static> {
    let bytes = |list: &[u16]| {
        list.iter()
            .flat_map(|n| n.to_be_bytes())
            .collect::<Vec<_>>()
    };
    let behind = |list: &[u16], length: usize| {
        let body = bytes(list);
        let size = (body.len() as u16).to_be_bytes();
        let all = if list.is_empty() {
            Vec::new()
        } else {
            [&size[2 - length..], &body].concat()
        };
        &*Vec::leak(all)
    };
    Hello {
        signatures: behind(signatures, 2),
        groups: behind(groups, 2),
        versions: behind(versions, 1),
        ciphers: Vec::leak(bytes(ciphers)),
    }
}

#[test]
fn what_a_client_can_verify_is_read_from_its_first_message() {
    const P256: u16 = 0x0403;
    const P384: u16 = 0x0503;
    const ED25519: u16 = 0x0807;
    const RSA: u16 = 0x0401;
    let (ecdsa_cipher, rsa_cipher) = (0xc02b, 0xc02f);
    for (hello, shows) in [
        (
            hello(&[P256, P384, ED25519], &[], &[0x0304], &[0x1301]),
            "p256 p384 ed25519",
        ),
        (hello(&[RSA], &[23, 24], &[0x0304], &[0x1301]), ""),
        (hello(&[P256, P384], &[23], &[], &[ecdsa_cipher]), "p256"),
        (
            hello(&[P256, P384], &[24], &[0x0303], &[ecdsa_cipher]),
            "p384",
        ),
        (
            hello(&[P256, ED25519], &[29], &[], &[ecdsa_cipher]),
            "ed25519",
        ),
        (hello(&[P256, ED25519], &[23], &[], &[rsa_cipher]), ""),
        (hello(&[P256], &[23], &[], &[rsa_cipher, 0xcca9]), "p256"),
        (hello(&[P384], &[23, 24], &[0x0304], &[0x1301]), "p384"),
        (hello(&[], &[23], &[], &[ecdsa_cipher]), ""),
        (Hello::default(), ""),
    ] {
        let knows = Abilities::of(hello);
        let all = [
            (Kind::P256, "p256"),
            (Kind::P384, "p384"),
            (Kind::Ed25519, "ed25519"),
        ];
        let known = all
            .iter()
            .filter(|(kind, _)| knows.verify(*kind))
            .map(|(_, name)| *name);
        assert_eq!(known.collect::<Vec<_>>().join(" "), shows, "{hello:?}");
        assert!(knows.verify(Kind::Rsa));
    }
    // Lists that are cut or too long are read as far as they go.
    for bytes in [&[0][..], &[0, 2], &[0, 9, 4], &[0, 2, 4, 3, 5]] {
        let knows = Abilities::of(Hello {
            signatures: bytes,
            ..Hello::default()
        });
        assert!(!knows.verify(Kind::P256), "{bytes:?}");
    }
}

#[test]
fn two_of_one_kind_cannot_serve_one_name() {
    let of = |names: &[&str]| good(&p256(names), &[]);
    let rsa = good(&pair(&rcgen::PKCS_RSA_SHA256, &named(&["a.test"])), &[]);
    let p384 = good(
        &pair(&rcgen::PKCS_ECDSA_P384_SHA384, &named(&["a.test"])),
        &[],
    );
    let clash = |all: &[&Certificate]| choose::clash(all.iter().copied());
    let (a, wild, b) = (
        of(&["a.test"]),
        of(&["*.test", "c.test"]),
        of(&["b.test", "*.test"]),
    );
    assert_eq!(clash(&[&a, &wild, &rsa]), None);
    let found = |places, name: &str| {
        Some(Clash {
            places,
            name: name.to_owned(),
        })
    };
    assert_eq!(clash(&[&rsa, &wild, &b]), found((1, 2), "*.test"));
    assert_eq!(clash(&[&a, &b, &p384]), found((0, 2), "a.test"));
    let twice = of(&["d.test", "d.test"]);
    assert_eq!(
        clash(&[&twice]),
        None,
        "one certificate may say a name twice"
    );
}

#[test]
fn a_protocol_of_ours_is_found_or_nothing() {
    for (offered, http2, found) in [
        (&b"\x02h2\x08http/1.1"[..], true, Some(&b"h2"[..])),
        (b"\x08http/1.1\x02h2", true, Some(b"h2")),
        (b"\x08http/1.1\x02h2", false, Some(b"http/1.1")),
        (b"\x02h2", false, None),
        (b"\x03h2c\x08http/1.0", true, None),
        (b"\x08http/1", true, None),
        (b"", true, None),
    ] {
        let agreed = context::select_protocol(offered, http2).ok();
        assert_eq!(agreed, found, "{offered:?}");
    }
}
