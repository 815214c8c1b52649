//! What becomes of a WebSocket once it is open: how much passes, what ends it but a drain, what is given back. With
//! `TOLLGATE_LONG` set the numbers are those of a release.

use super::support::pki::{Authority, Leaf, Trust};
use super::support::websocket::*;
use super::support::*;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

const OPEN: &str = "tollgate_connections{listener=\"public\"}";
const IN_FLIGHT: &str = "tollgate_upstream_requests_in_flight{upstream=\"up\"}";

/// Waits until nothing is held any more for any tunnel.
#[track_caller]
fn given_back(gateway: &Gateway, origin: &Origin) {
    eventually("the service's connections are closed", || {
        origin.open_connections() == 0
    });
    gateway.counts(OPEN, 0);
    gateway.counts(IN_FLIGHT, 0);
}

/// A service in haste: it answers in one packet with its first frame, before the request was read if
/// `early`, and then sends back what comes.
fn hasty(early: bool, leaf: Option<&Leaf>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("binds");
    let address = listener.local_addr().expect("an address");
    let config = leaf.map(Leaf::server);
    thread::spawn(move || {
        // As long as the process lives.
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            thread::spawn(move || match config {
                None => hurry(stream, early),
                Some(config) => {
                    let tls = rustls::ServerConnection::new(config).expect("a server");
                    hurry(rustls::StreamOwned::new(tls, stream), early)
                }
            });
        }
    });
    address
}

fn hurry(mut stream: impl Read + Write, early: bool) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    let answer = [answer.as_bytes(), b"\x81\x05hello"].concat();
    if early {
        stream.write_all(&answer)?;
        stream.flush()?;
    }
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !early {
        stream.write_all(&answer)?;
    }
    let mut part = [0; 16 * 1024];
    loop {
        stream.flush()?;
        match stream.read(&mut part)? {
            0 => return Ok(()),
            n => stream.write_all(&part[..n])?,
        }
    }
}

/// One handshake with a service in haste: the frame that came with the switch, and some more bytes
/// there and back.
fn one(mut client: Client) -> Result<(), String> {
    client.send(handshake("/").bytes());
    let answer = client.try_read().map_err(|e| format!("{e:?}"))?;
    if answer.status != 101 {
        return Err(format!("{}", answer.status));
    }
    let (mut frame, mut back) = ([0; 7], vec![0; 40_000]);
    let more = vec![b'm'; back.len()];
    let text = |e: io::Error| e.to_string();
    client.read_exact(&mut frame).map_err(text)?;
    client.write_all(&more).map_err(text)?;
    client.read_exact(&mut back).map_err(text)?;
    let right = frame == *b"\x81\x05hello" && back == more;
    right.then_some(()).ok_or_else(|| format!("{frame:?}"))
}

// https://github.com/cloudflare/pingora/issues/946
#[test]
fn r946_a_switch_that_comes_at_once_keeps_its_tunnel() {
    let each = if long() { 5000 } else { 250 };
    for early in [false, true] {
        let address = hasty(early, None);
        let gateway = Gateway::start(&format!(
            "log: {{ access: off }}\n\
             upstreams: [{{ name: up, targets: [\"{address}\"], circuit_breaker: off, retries: 0 }}]\n\
             routes: [{{ name: ws, match: {{ path: / }}, auth: none, websocket: {{}}, to: up }}]\n"
        ));
        let lost = (0..each).filter_map(|_| one(gateway.connect()).err());
        let lost: Vec<String> = lost.collect();
        assert_eq!(
            lost.len(),
            0,
            "of {each}, early {early}: {:?}",
            lost.first()
        );
        gateway.counts(OPEN, 0);
        gateway.counts(IN_FLIGHT, 0);
    }
}

#[test]
fn over_tls_at_both_ends() {
    let each = if long() { 1000 } else { 25 };
    let authority = Authority::new("ca");
    let ours = authority.server(&["api.example.com"]);
    let theirs = authority.server(&["chat.test"]);
    let client = Trust::all().only(&authority).alpn(&["http/1.1"]).client();
    for early in [false, true] {
        let address = hasty(early, Some(&theirs));
        let config = format!(
            "listeners: [{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] }} }}]\n\
             upstreams: [{{ name: up, targets: [\"{address}\"], protocol: auto, tls: {{ server_name: chat.test, ca: ca.pem }}, retries: 0 }}]\n\
             routes: [{{ name: ws, match: {{ path: / }}, auth: none, websocket: {{}}, to: up }}]\n"
        );
        let files = [
            ("a.pem", &*ours.cert),
            ("a.key", &*ours.key),
            ("ca.pem", &*authority.pem()),
        ];
        let gateway = Gateway::with_files(&config, &files);
        for n in 0..each {
            let client = Client::secure(gateway.address(), &client, "api.example.com");
            assert_eq!(one(client.expect("TLS")), Ok(()), "{n}, early {early}");
        }
        gateway.counts(OPEN, 0);
        gateway.counts(IN_FLIGHT, 0);
    }
}

#[test]
fn large_messages_pass_whole() {
    let size = if long() { 64 } else { 4 } * 1024 * 1024;
    let origin = serving(echo);
    let route = "max_body: 1KiB, websocket: {}";
    let gateway = Gateway::start(&config_of(&origin, "retries: 0", route));
    let mut socket = Socket::open(&gateway);
    let mut state = 1u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(size)
    .collect();
    let message = Message::binary(bytes);
    assert!(socket.ask(message.clone()) == message, "bit by bit");
    drop(socket);
    given_back(&gateway, &origin);
}

#[test]
fn many_at_a_time() {
    let count = if long() { 1000 } else { 100 };
    let origin = serving(echo);
    let gateway = before(&origin);
    let mut sockets: Vec<Socket> = (0..count).map(|_| Socket::open(&gateway)).collect();
    gateway.counts(OPEN, count);
    gateway.counts(IN_FLIGHT, count);
    for round in 0..5 {
        for (n, socket) in sockets.iter_mut().enumerate() {
            let text = Message::text(format!("{round} {n}"));
            socket.web.send(text).expect("sends");
            let ping = Message::Ping(n.to_string().into());
            socket.web.send(ping).expect("sends");
        }
        for (n, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.read(), Message::text(format!("{round} {n}")));
            assert_eq!(socket.read(), Message::Pong(n.to_string().into()));
        }
    }
    drop(sockets);
    given_back(&gateway, &origin);
    eventually("one line each", || gateway.lines().len() as u64 >= count);
    let lines = gateway.lines();
    assert_eq!(lines.len() as u64, count, "and no more");
    let plain = |l: &serde_json::Value| l["status_code"] == 101 && l["reason"].is_null();
    assert!(lines.iter().all(plain));
}

#[test]
fn a_tunnel_without_traffic_ends_at_both_sides() {
    let origin = serving(echo);
    let route = "timeout: 300ms, websocket: { idle_timeout: 1s }";
    let gateway = Gateway::start(&config_of(&origin, "timeouts: { read: 200ms }", route));
    let mut socket = Socket::open(&gateway);
    let began = Stopwatch::start();
    for round in 0..6 {
        thread::sleep(Duration::from_millis(400));
        socket.echoes(&round.to_string());
    }
    assert!(
        began.passed() > Duration::from_secs(2),
        "longer than every other limit"
    );
    let began = Stopwatch::start();
    socket.is_cut();
    began.shows(900, 5000);
    given_back(&gateway, &origin);
    let line = gateway.line(&socket.answer);
    assert_eq!(
        (&line["status_code"], &line["reason"]),
        (&101.into(), &"idle_timeout".into())
    );
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
}

#[test]
fn traffic_in_one_direction_is_traffic() {
    let origin = serving(|socket| {
        for n in 0..5 {
            thread::sleep(Duration::from_millis(400));
            if socket.send(Message::text(n.to_string())).is_err() {
                return;
            }
        }
        while let Ok(Message::Text(text)) = socket.read() {
            if text.as_str() == "end" {
                let _ = socket.send(Message::text("all"));
            }
        }
    });
    let gateway = Gateway::start(&config_of(
        &origin,
        "retries: 0",
        "websocket: { idle_timeout: 1s }",
    ));
    let mut socket = Socket::open(&gateway);
    for n in 0..5 {
        assert_eq!(socket.read(), Message::text(n.to_string()), "down alone");
    }
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(400));
        socket.web.send(Message::text("up alone")).expect("sends");
    }
    assert_eq!(socket.ask(Message::text("end")), Message::text("all"));
}

#[test]
fn the_timeout_bounds_the_wait_for_the_switch() {
    let origin = Origin::scripted(|_| Act::Hang);
    let route = "timeout: 400ms, websocket: { idle_timeout: 1h }";
    let gateway = Gateway::start(&config_of(&origin, "circuit_breaker: off", route));
    let began = Stopwatch::start();
    let answer = gateway.ask(&handshake("/ws"));
    assert_eq!(answer.is(), (504, "upstream_timeout".into()));
    began.shows(390, 5000);
    origin.stop();
    let answer = gateway.ask(&handshake("/ws"));
    assert_eq!(answer.is(), (502, "upstream_connect_failed".into()));
}

#[test]
fn a_client_that_goes_takes_the_service_along() {
    let origin = serving(echo);
    let gateway = before(&origin);
    for way in ["close", "reset"] {
        let mut client = gateway.connect();
        let answer = client.ask(&handshake("/ws"));
        assert_eq!(answer.status, 101);
        if way == "reset" {
            client.reset();
        } else {
            drop(client);
        }
        given_back(&gateway, &origin);
        let line = gateway.line(&answer);
        assert_eq!(line["status_code"], 101);
        let reason = if way == "reset" {
            "client_closed".into()
        } else {
            serde_json::Value::Null
        };
        assert_eq!(line["reason"], reason);
    }
}

#[test]
fn a_service_that_goes_takes_the_client_along() {
    for reset in [false, true] {
        let origin = Origin::scripted(move |seen| {
            let bytes = [switch(seen).as_bytes(), b"\x81\x02by"].concat();
            if reset {
                Act::RawThenReset(bytes)
            } else {
                Act::RawThenClose(bytes)
            }
        });
        let upstream = "retries: 0, circuit_breaker: { consecutive_failures: 2 }";
        let gateway = Gateway::start(&config_of(&origin, upstream, "websocket: {}"));
        for _ in 0..5 {
            let mut client = gateway.connect();
            client.send(handshake("/ws").bytes());
            let answer = match client.try_read() {
                Ok(answer) => answer,
                // A reset that overtakes the answer.
                Err(_) if reset => continue,
                Err(broken) => panic!("{broken:?}"),
            };
            if answer.status == 502 && reset {
                continue;
            }
            assert_eq!(
                answer.status, 101,
                "no breaker opens for tunnels that break"
            );
            let mut came = Vec::new();
            let ended = client.read_to_end(&mut came).is_ok();
            if !reset {
                assert_eq!((ended, &*came), (true, &b"\x81\x02by"[..]));
            }
        }
        given_back(&gateway, &origin);
    }
}

#[test]
fn a_client_that_has_said_all_still_hears_the_answer() {
    let origin = serving(|socket| {
        while let Ok(message) = socket.read() {
            for n in 0..3 {
                thread::sleep(Duration::from_millis(150));
                let _ = socket.send(Message::text(format!("{message} {n}")));
            }
        }
    });
    let gateway = before(&origin);
    let mut socket = Socket::open(&gateway);
    socket.web.send(Message::text("last")).expect("sends");
    socket.web.get_mut().finish();
    for n in 0..3 {
        assert_eq!(socket.read(), Message::text(format!("last {n}")));
    }
    let began = Stopwatch::start();
    socket.is_cut();
    began.shows(1000, 6000);
    given_back(&gateway, &origin);
    assert_eq!(
        gateway.line(&socket.answer)["reason"],
        serde_json::Value::Null
    );
}

#[test]
fn an_open_circuit_takes_no_handshake() {
    let origin = Origin::scripted(|_| Act::status(500));
    let upstream = "retries: 0, circuit_breaker: { consecutive_failures: 2 }";
    let gateway = Gateway::start(&config_of(&origin, upstream, "websocket: {}"));
    for _ in 0..2 {
        assert_eq!(gateway.ask(&handshake("/ws")).status, 500);
    }
    let answer = gateway.ask(&handshake("/ws"));
    assert_eq!(answer.is(), (503, "circuit_open".into()));
    assert_eq!(origin.hits(), 2);
    // A probe is judged by the switch: the circuit closes while the tunnels are still open.
    origin.script(|_| {
        Act::take(|mut stream, _, seen| {
            let _ = stream.write_all(switch(seen).as_bytes());
            while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
        })
    });
    gateway.advance_s(31);
    let sockets: Vec<Socket> = (0..5).map(|_| Socket::open(&gateway)).collect();
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
    drop(sockets);
}
