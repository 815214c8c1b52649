//! Listeners with TLS: requests over it, certificates that change under them, clients that dawdle.

use super::support::pki::{Authority, Leaf, Trust};
use super::support::*;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A gateway with one certificate.
fn gateway(origin: &Origin, leaf: &Leaf, settings: &str) -> Gateway {
    let yaml = format!(
        "listeners:\n\
         - name: public\n\
         \x20 address: \"127.0.0.1:0\"\n\
         \x20 tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] {settings} }}\n\
         {}",
        open_config(origin)
    );
    Gateway::with_files(&yaml, &[("a.pem", &leaf.cert), ("a.key", &leaf.key)])
}

fn start(settings: &str) -> (Origin, Gateway, Authority, Leaf) {
    let (origin, authority) = (Origin::start(), Authority::new("ca"));
    let leaf = authority.server(&["api.example.com"]);
    let gateway = gateway(&origin, &leaf, settings);
    (origin, gateway, authority, leaf)
}

#[track_caller]
fn connect(gateway: &Gateway, config: &Arc<ClientConfig>) -> Client {
    Client::secure(gateway.address(), config, "api.example.com").expect("TLS")
}

fn handshakes(labels: &str) -> String {
    format!("tollgate_tls_handshakes_total{{listener=\"public\",{labels}}}")
}

fn failures(cause: &str) -> String {
    format!("tollgate_tls_handshake_failures_total{{cause=\"{cause}\",listener=\"public\"}}")
}

#[test]
fn requests_are_answered_over_tls_and_the_end_is_said() {
    let (_origin, gateway, authority, _) = start("");
    for trust in [Trust::all().tls12(), Trust::all().tls13()] {
        let client = trust.only(&authority).alpn(&["http/1.1"]).client();
        let mut conn = connect(&gateway, &client);
        assert_eq!(conn.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        for n in 0..3 {
            assert_eq!(conn.ask(&Req::get(&format!("/{n}"))).status, 200);
        }
        let last = Req::get("/last").header("Connection", "close");
        assert_eq!(conn.ask(&last).status, 200);
        conn.ends();
    }
    assert_eq!(
        gateway.metric(&handshakes("resumed=\"false\",version=\"1.2\"")),
        1
    );
    assert_eq!(
        gateway.metric(&handshakes("resumed=\"false\",version=\"1.3\"")),
        1
    );
}

#[test]
fn a_large_answer_and_a_large_body_come_whole() {
    let (origin, gateway, authority, _) = start("");
    let body = vec![b'x'; 900_000];
    origin.script(|_| Act::ok(vec![b'y'; 3_000_000]));
    let mut conn = connect(&gateway, &Trust::all().only(&authority).client());
    let answer = conn.ask(&Req::post("/", body.clone()));
    assert_eq!(answer.body.len(), 3_000_000);
    assert!(answer.body.iter().all(|b| *b == b'y'));
    assert_eq!(origin.seen()[0].body, body);
}

#[test]
fn a_session_goes_on_at_any_worker() {
    let (_origin, gateway, authority, _) = start("");
    let client = Trust::all().only(&authority).client();
    for n in 0..20 {
        let mut conn = connect(&gateway, &client);
        assert_eq!(conn.ask(&Req::get("/")).status, 200);
        let kind = conn.tls().handshake_kind().unwrap();
        assert_eq!(kind == HandshakeKind::Resumed, n > 0, "{n}");
    }
    assert_eq!(
        gateway.metric(&handshakes("resumed=\"true\",version=\"1.3\"")),
        19
    );
}

#[test]
fn a_changed_certificate_is_noticed_and_open_connections_go_on() {
    let (_origin, gateway, authority, old) = start("");
    let trust = Trust::all().only(&authority);
    let mut open = connect(&gateway, &trust.clone().client());
    assert_eq!(open.tls().peer_certificates().unwrap()[0], old.der);
    let new = authority.server(&["api.example.com"]);
    new.write(gateway.dir(), "a");
    eventually("the new certificate", || {
        let conn = connect(&gateway, &trust.clone().client());
        conn.tls().peer_certificates().unwrap()[0] == new.der
    });
    assert_eq!(open.ask(&Req::get("/")).status, 200);
    let ok = "tollgate_certificate_reloads_total{listener=\"public\",result=\"ok\"}";
    assert_eq!(gateway.metric(ok), 1);
}

#[test]
fn a_broken_certificate_is_told_and_the_old_one_serves_on() {
    let (_origin, gateway, authority, old) = start("");
    std::fs::write(gateway.dir().join("a.pem"), "oops").unwrap();
    let failed = "tollgate_certificate_reloads_total{listener=\"public\",result=\"failed\"}";
    gateway.counts(failed, 1);
    assert_eq!(
        gateway.reload_certificates(),
        ["listener public: certificates: 0 changed, 0 as before, 1 not usable"]
    );
    assert_eq!(gateway.metric(failed), 2, "who asks is told again");
    let conn = connect(&gateway, &Trust::all().only(&authority).client());
    assert_eq!(conn.tls().peer_certificates().unwrap()[0], old.der);
}

#[test]
fn a_slow_handshake_is_ended() {
    let (_origin, gateway, ..) = start(", handshake_timeout: 300ms");
    let watch = Stopwatch::start();
    let mut silent = TcpStream::connect(gateway.address()).unwrap();
    let mut halfway = TcpStream::connect(gateway.address()).unwrap();
    halfway.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    for stream in [&mut silent, &mut halfway] {
        stream.set_read_timeout(Some(patience())).unwrap();
        assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0);
    }
    watch.shows(290, 5000);
    gateway.counts(&failures("timeout"), 2);
    eventually("no connection left", || {
        gateway.metric("tollgate_connections{listener=\"public\"}") == 0
    });
}

#[test]
fn plain_http_gets_no_answer_from_a_tls_listener() {
    let (origin, gateway, ..) = start("");
    let mut plain = gateway.connect();
    plain.try_send(Req::get("/").bytes());
    let mut came = Vec::new();
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.write_all(&Req::get("/").bytes()).unwrap();
    let _ = stream.read_to_end(&mut came);
    assert!(!came.starts_with(b"HTTP/"), "{came:?}");
    assert!(origin.seen().is_empty());
    gateway.counts(&failures("protocol"), 2);
}

#[test]
fn old_versions_are_not_spoken() {
    let (_origin, gateway, ..) = start("");
    // A ClientHello of TLS 1.1, cut after what matters.
    let hello = [
        &[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2][..],
        &[7; 32],
        &[0, 0, 2, 0xc0, 0x13, 1, 0],
    ];
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.write_all(&hello.concat()).unwrap();
    let mut came = Vec::new();
    let _ = stream.read_to_end(&mut came);
    // An alert, fatal, protocol_version.
    assert_eq!(came.get(5..), Some(&[2, 70][..]), "{came:?}");
    gateway.counts(&failures("no_shared_version"), 1);
    let mut modern = connect(&gateway, &Trust::all().client());
    assert_eq!(
        modern.tls().protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(modern.ask(&Req::get("/")).status, 200);
}

#[test]
fn a_misdirected_request_is_refused_where_asked() {
    let (_origin, gateway, authority, _) = start(", strict_host: true");
    let mut conn = connect(&gateway, &Trust::all().only(&authority).client());
    assert_eq!(conn.ask(&Req::get("/")).status, 200);
    assert_eq!(
        conn.ask(&Req::get("/").host("API.example.com:443")).status,
        200
    );
    let wrong = conn.ask(&Req::get("/").host("other.example.com"));
    assert_eq!(wrong.is(), (421, "misdirected".to_owned()));
    assert_eq!(
        conn.ask(&Req::get("/")).status,
        200,
        "the connection goes on"
    );
}

/// Everything under one roof: certificates change while clients come, go and stay.
#[test]
fn certificates_change_under_load_without_a_failure() {
    let (_origin, gateway, authority, _) = start("");
    let pool: Vec<Leaf> = (0..4)
        .map(|_| authority.server(&["api.example.com"]))
        .collect();
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for staying in [true, false, false] {
            let (gateway, stop, done) = (&gateway, &stop, &done);
            let trust = Trust::all().only(&authority);
            scope.spawn(move || {
                let lasting = connect(gateway, &trust.clone().client());
                let mut lasting = Some(lasting).filter(|_| staying);
                while !stop.load(Relaxed) {
                    let fresh = || connect(gateway, &trust.clone().client());
                    let mut one = None;
                    let conn = match &mut lasting {
                        Some(conn) => conn,
                        None => one.insert(fresh()),
                    };
                    assert_eq!(conn.ask(&Req::get("/")).status, 200);
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        for n in 0..100 {
            let before = done.load(Relaxed);
            pool[n % pool.len()].write(gateway.dir(), "a");
            let _ = gateway.reload_certificates();
            eventually("an answer", || done.load(Relaxed) > before);
        }
        stop.store(true, Relaxed);
    });
    let text = gateway.metrics();
    let failed = text
        .lines()
        .filter(|l| l.starts_with("tollgate_tls_handshake_failures_total") && !l.ends_with(" 0"));
    assert_eq!(failed.collect::<Vec<_>>(), [""; 0]);
    let ok = "tollgate_certificate_reloads_total{listener=\"public\",result=\"ok\"}";
    assert_eq!(gateway.metric(ok), 100);
}
