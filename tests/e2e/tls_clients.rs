//! Certificates of clients: who is let in with which, and what is known of them afterwards.

use super::support::pki::{self, Authority, Leaf, PKCS_ECDSA_P256_SHA256, Trust};
use super::support::tls::End;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, SerialNumber};
use rustls::{AlertDescription, ClientConfig};
use std::sync::Arc;
use std::time::Duration;
use tollgate::base::clock::Clock;
use tollgate::observe::metrics::HandshakeFault;

const DAY: u64 = 86_400;

/// A listener that asks for certificates of an authority.
fn end(mode: &str, authority: &Authority) -> End {
    let leaf = Authority::new("servers").server(&["a.test"]);
    let settings = format!("client_certificates: {{ mode: {mode}, ca: ca.pem }}");
    let entry = "{ cert: a.pem, key: a.key }";
    let ca = authority.pem();
    End::with_files(&settings, entry, &[("a", &leaf)], &[("ca.pem", &ca)])
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A client with a certificate, in each version.
fn clients(leaf: &Leaf) -> [Arc<ClientConfig>; 2] {
    let trust = Trust::all().present(leaf);
    [trust.clone().tls12().client(), trust.tls13().client()]
}

#[track_caller]
fn refused(end: &End, client: &Arc<ClientConfig>, alert: AlertDescription) {
    let met = end.meet(client, "a.test");
    assert_eq!(met.fault(), HandshakeFault::BadClientCertificate);
    assert_eq!(met.alert(), alert);
}

#[test]
fn without_a_certificate_there_is_no_connection_where_one_is_required() {
    let ca = Authority::new("clients");
    let required = end("required", &ca);
    let (tls12, tls13) = (Trust::all().tls12().client(), Trust::all().tls13().client());
    refused(&required, &tls12, AlertDescription::HandshakeFailure);
    refused(&required, &tls13, AlertDescription::CertificateRequired);
    let optional = end("optional", &ca);
    for client in [tls12, tls13] {
        assert_eq!(optional.meet(&client, "a.test").info().client, None);
    }
    let labels = "cause=\"bad_client_certificate\"";
    required.counts("tollgate_tls_handshake_failures_total", labels, 2);
}

#[test]
fn a_bad_certificate_is_refused_also_where_none_is_needed() {
    let ca = Authority::new("clients");
    let now = Clock::system().now().unix_s();
    let issue = |params| ca.sign(&PKCS_ECDSA_P256_SHA256, params);
    let ended = issue(pki::valid(pki::client("late"), now - 2 * DAY, now - DAY));
    let early = issue(pki::valid(pki::client("early"), now + DAY, now + 2 * DAY));
    let mut params = pki::client("server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let wrong_purpose = issue(params);
    let stranger = Authority::new("others").client("stranger");
    let namesake = Authority::new("clients").client("namesake");
    for mode in ["required", "optional"] {
        let end = end(mode, &ca);
        for (leaf, alert) in [
            (&ended, AlertDescription::CertificateExpired),
            (&early, AlertDescription::CertificateExpired),
            (&wrong_purpose, AlertDescription::UnsupportedCertificate),
            (&stranger, AlertDescription::UnknownCA),
            (&namesake, AlertDescription::DecryptError),
        ] {
            for client in clients(leaf) {
                let met = end.meet(&client, "a.test");
                assert_eq!(
                    met.fault(),
                    HandshakeFault::BadClientCertificate,
                    "{alert:?}"
                );
                assert_eq!(met.alert(), alert);
            }
        }
    }
}

#[test]
fn what_a_good_one_says_is_known_also_when_its_session_goes_on() {
    let ca = Authority::new("clients");
    let now = Clock::system().now().unix_s();
    let mut params = pki::valid(pki::client("alice"), now - DAY, now + DAY);
    params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc, 0x01]));
    let leaf = ca.sign(&PKCS_ECDSA_P256_SHA256, params);
    for mode in ["required", "optional"] {
        let end = end(mode, &ca);
        for client in clients(&leaf) {
            for resumed in [false, true] {
                let met = end.meet(&client, "a.test");
                let info = met.info();
                assert_eq!(info.resumed, resumed);
                let known = info.client.as_ref().expect("a certificate");
                let escaped = "CN=alice,O=\\C3\\84rzte\\, \\\"GmbH\\\"";
                assert_eq!(known.subject, escaped);
                assert_eq!(known.issuer, "CN=clients");
                assert_eq!(known.serial, "abc01");
                assert_eq!(known.dns, ["alice.clients.test"]);
                assert_eq!(known.uris, ["spiffe://test/alice"]);
                assert_eq!(known.emails, ["alice@clients.test"]);
                assert_eq!(known.not_after, now + DAY);
                assert_eq!(known.der, leaf.der.as_ref());
                assert_eq!(known.fingerprint, sha256(&leaf.der));
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

#[test]
fn a_session_ends_with_the_certificate_that_began_it() {
    let ca = Authority::new("clients");
    let now = Clock::system().now().unix_s();
    let params = pki::valid(pki::client("alice"), now - DAY, now + 3600);
    let leaf = ca.sign(&PKCS_ECDSA_P256_SHA256, params);
    let end = end("required", &ca);
    for client in clients(&leaf) {
        assert!(!end.meet(&client, "a.test").info().resumed);
        assert!(end.meet(&client, "a.test").info().resumed);
    }
    end.clock.advance(Duration::from_secs(3601));
    for client in clients(&leaf) {
        let met = end.meet(&client, "a.test");
        assert_eq!(met.fault(), HandshakeFault::BadClientCertificate);
    }
}

#[test]
fn no_session_outlives_a_change_of_the_authorities() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let end = end("required", &old);
    let leaf = old.client("alice");
    let [tls12, tls13] = clients(&leaf);
    for client in [&tls12, &tls13] {
        assert!(!end.meet(client, "a.test").info().resumed);
        assert!(end.meet(client, "a.test").info().resumed);
    }
    std::fs::write(end.dir().join("ca.pem"), old.pem() + &new.pem()).unwrap();
    assert_eq!(end.tls.reload().changed, 1);
    for client in [&tls12, &tls13] {
        assert!(!end.meet(client, "a.test").info().resumed, "verified anew");
    }
    let [other, _] = clients(&new.client("bob"));
    assert_eq!(
        end.meet(&other, "a.test")
            .info()
            .client
            .as_ref()
            .unwrap()
            .issuer,
        "CN=new"
    );
    std::fs::write(end.dir().join("ca.pem"), new.pem()).unwrap();
    assert_eq!(end.tls.reload().changed, 1);
    for client in [&tls12, &tls13] {
        refused(&end, client, AlertDescription::UnknownCA);
    }
}

#[test]
fn a_chain_may_have_a_few_links_and_no_more() {
    let root = Authority::new("root");
    let mut signer = root.below("1");
    let mut links = vec![signer.der()];
    let end = end("required", &root);
    for depth in 1..=6 {
        let mut leaf = signer.client("alice");
        leaf.chain = links.clone();
        let [tls12, tls13] = clients(&leaf);
        for client in [tls12, tls13] {
            let met = end.meet(&client, "a.test");
            if depth <= 4 {
                let known = met.info().client.clone().expect("a certificate");
                let sent: Vec<_> = links.iter().map(|link| link.to_vec()).collect();
                assert_eq!(known.chain, sent, "{depth}");
            } else {
                assert_eq!(met.fault(), HandshakeFault::BadClientCertificate, "{depth}");
            }
        }
        signer = signer.below(&(depth + 1).to_string());
        links.insert(0, signer.der());
    }
    // Without its links it leads nowhere.
    let [client, _] = clients(&root.below("x").client("bob"));
    refused(&end, &client, AlertDescription::UnknownCA);
}

#[test]
fn an_authority_that_another_signed_can_be_trusted_alone() {
    let below = Authority::new("root").below("clients");
    let end = end("required", &below);
    let [client, _] = clients(&below.client("alice"));
    assert!(end.meet(&client, "a.test").info().client.is_some());
}

#[test]
fn who_is_no_authority_signs_nothing() {
    let ca = Authority::new("clients");
    let mut params = pki::client("mallory");
    params.is_ca = IsCa::NoCa;
    let mallory = ca.as_signer(params);
    let mut leaf = mallory.client("alice");
    leaf.chain = vec![mallory.der()];
    let end = end("required", &ca);
    for client in clients(&leaf) {
        assert_eq!(
            end.meet(&client, "a.test").fault(),
            HandshakeFault::BadClientCertificate
        );
    }
}
