//! TLS of long ago: what targets are offered, and what is not good enough to send anything over.

use super::support::backend::{Authority, Certificate};
use super::support::*;
use pingora::tls::pkey::PKey;
use pingora::tls::ssl::{SslAcceptor, SslMethod, SslVersion};
use pingora::tls::x509::X509;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

fn gateway(target: &str, ca: &Authority) -> Gateway {
    let tls = "tls: { server_name: users.test, ca: ca.pem }";
    let yaml = format!(
        "upstreams: [{{ name: up, targets: [\"{target}\"], {tls}, retries: 0 }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    );
    Gateway::with_files(&yaml, &[("ca.pem", ca.pem())])
}

/// A server of another library that speaks this version alone, with these ciphers; what it read after
/// the handshake comes over the channel.
fn outdated(
    certificate: &Certificate,
    version: SslVersion,
    ciphers: &str,
) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("an address").to_string();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).expect("an acceptor");
    acceptor.set_min_proto_version(Some(version)).unwrap();
    acceptor.set_max_proto_version(Some(version)).unwrap();
    acceptor.set_cipher_list(ciphers).unwrap();
    let own = X509::from_pem(certificate.pem.as_bytes()).unwrap();
    let key = PKey::private_key_from_pem(certificate.key_pem.as_bytes()).unwrap();
    acceptor.set_certificate(&own).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let (send, read) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(mut stream) = acceptor.accept(stream) {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                let _ = send.send(all);
            }
        }
    });
    (address, read)
}

#[test]
fn nothing_is_sent_over_tls_that_is_out_of_date() {
    let ca = Authority::new("internal");
    let key = include_str!("../keys/test-rsa-a.key.pem");
    let certificate = ca.certify_key(&["users.test"], key);
    for (version, ciphers, told) in [
        (SslVersion::TLS1, "ALL", "TLSv1 with ECDHE-RSA-AES128-SHA"),
        (
            SslVersion::TLS1_1,
            "ALL",
            "TLSv1.1 with ECDHE-RSA-AES128-SHA",
        ),
        (
            SslVersion::TLS1_2,
            "AES128-GCM-SHA256",
            "TLSv1.2 with AES128-GCM-SHA256",
        ),
        (
            SslVersion::TLS1_2,
            "DES-CBC3-SHA",
            "TLSv1.2 with DES-CBC3-SHA",
        ),
    ] {
        let (target, read) = outdated(&certificate, version, ciphers);
        let gateway = gateway(&target, &ca);
        let answer = gateway.ask(&Req::post("/", "secret"));
        assert_eq!(answer.is(), (502, "upstream_tls_failed".into()), "{told}");
        let sent = read.recv_timeout(patience());
        assert!(sent.expect("a handshake that ended well").is_empty());
        eventually(told, || {
            let lines = stderr::lines();
            let ours = |l: &&String| l.contains(&target) && l.contains(told);
            lines.iter().find(ours).is_some()
        });
    }
}

/// The lists of two-byte numbers in a ClientHello (RFC 8446 §4.1.2).
struct Hello {
    ciphers: Vec<u16>,
    versions: Vec<u16>,
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

fn list(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2);
    // What is sprinkled in against ossification says nothing (RFC 8701).
    let meant = pairs.map(|p| u16::from_be_bytes([p[0], p[1]]));
    meant.filter(|n| n & 0x0f0f != 0x0a0a).collect()
}

fn hello(mut stream: TcpStream) -> Hello {
    let mut head = [0; 5];
    stream.read_exact(&mut head).expect("a record");
    let mut record = vec![0; number(&head[3..])];
    stream.read_exact(&mut record).expect("all of it");
    // Type and length, version, random; then lists with their lengths before them.
    let mut rest = &record[4 + 2 + 32..];
    let mut next = |width: usize| {
        let (length, after) = rest.split_at(width);
        let (body, after) = after.split_at(number(length));
        rest = after;
        body.to_vec()
    };
    let (_session, ciphers, _compression) = (next(1), next(2), next(1));
    let extensions = next(2);
    let mut versions = Vec::new();
    let mut rest = &extensions[..];
    while let [a, b, c, d, after @ ..] = rest {
        let (body, after) = after.split_at(number(&[*c, *d]));
        if number(&[*a, *b]) == 43 {
            versions = list(&body[1..]);
        }
        rest = after;
    }
    Hello {
        ciphers: list(&ciphers),
        versions,
    }
}

/// Pingora offers old versions and old ciphers, and has no setting for it. What is agreed on is
/// judged afterwards (above); should the offer ever become shorter, so may that judgement.
#[test]
fn this_is_what_a_target_is_offered() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let target = listener.local_addr().unwrap().to_string();
    let offered = std::thread::spawn(move || hello(listener.accept().expect("one").0));
    let ca = Authority::new("internal");
    let gateway = gateway(&target, &ca);
    assert_eq!(gateway.get("/").is(), (502, "upstream_tls_failed".into()));
    let offered = offered.join().expect("a ClientHello");
    assert_eq!(offered.versions, [0x0304, 0x0303, 0x0302, 0x0301]);
    let (tls13, ecdhe) = (
        [0x1301, 0x1302, 0x1303],
        [0xc02b, 0xc02c, 0xc02f, 0xc030, 0xc013],
    );
    let no_secrecy = [0x009c, 0x009d, 0x002f, 0x0035, 0x000a];
    let want = [&tls13[..], &ecdhe, &no_secrecy].concat();
    assert_eq!(offered.ciphers, want);
}
