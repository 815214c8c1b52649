//! WebSocket (RFC 6455): who may ask for it, what is a handshake, what is an answer to one.

use super::support::websocket::*;
use super::support::*;
use std::io::{Read, Write};

#[test]
fn messages_pass_both_ways() {
    let origin = serving(echo);
    let gateway = before(&origin);
    let mut socket = Socket::open(&gateway);
    assert_eq!(socket.answer.header("upgrade"), Some("websocket"));
    assert_eq!(socket.answer.header("connection"), Some("Upgrade"));
    socket.echoes("hello");
    socket.echoes("");
    let binary = Message::binary(vec![0, 1, 255]);
    assert_eq!(socket.ask(binary.clone()), binary);
    let pong = socket.ask(Message::Ping("there?".into()));
    assert_eq!(pong, Message::Pong("there?".into()));
    let id = socket.answer.request_id().to_owned();
    let seen = origin.last();
    assert_eq!(seen.header("connection"), Some("Upgrade"));
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    assert_eq!(seen.header("sec-websocket-key"), Some(KEY));
    assert_eq!(seen.header("x-request-id"), Some(&*id));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(gateway.lines().is_empty(), "told at its end");
    socket.web.close(None).expect("closes");
    assert_eq!(socket.read(), Message::Close(None));
    socket.is_cut();
    let line = gateway.line_where(|l| l["request_id"] == *id);
    assert_eq!(
        (&line["status_code"], &line["reason"]),
        (&101.into(), &serde_json::Value::Null)
    );
    // Frames: 2 bytes each and 4 of mask; "hello", nothing, 3 bytes, "there?", no code.
    assert_eq!(line["bytes_in"], 5 * 6 + 5 + 3 + 6);
    assert_eq!(line["bytes_out"], 5 * 2 + 5 + 3 + 6);
    assert_eq!(line["route"], "ws");
}

#[test]
fn a_close_is_passed_on_with_its_code() {
    let origin = serving(|socket| {
        let Ok(Message::Text(what)) = socket.read() else {
            return echo(socket);
        };
        let code = CloseCode::Restart;
        let reason = format!("no {what}").into();
        let _ = socket.close(Some(CloseFrame { code, reason }));
        echo(socket);
    });
    let gateway = before(&origin);
    let mut socket = Socket::open(&gateway);
    match socket.ask(Message::text("more")) {
        Message::Close(Some(frame)) => {
            assert_eq!(
                (frame.code, &*frame.reason),
                (CloseCode::Restart, "no more")
            );
        }
        other => panic!("{other:?}"),
    }
    let mut socket = Socket::open(&gateway);
    let code = CloseCode::Library(4001);
    let reason = "enough".into();
    let frame = CloseFrame { code, reason };
    socket.web.close(Some(frame.clone())).expect("closes");
    assert_eq!(
        socket.read(),
        Message::Close(Some(frame)),
        "as the service read it"
    );
}

#[test]
fn nobody_passes_without_credentials() {
    let origin = serving(echo);
    let gateway = Gateway::start(&format!(
        "identity: {{ jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], \
         keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: ws, match: {{ path: /ws }}, auth: {{ any: [corp] }}, websocket: {{}}, to: up }}]\n",
        mint::ISSUER
    ));
    let answer = gateway.ask(&handshake("/ws"));
    assert_eq!(answer.is(), (401, "credentials_missing".into()));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(origin.accepted(), 0);
    let claims = mint::claims(gateway.now_s());
    let token = mint::sign(mint::SECRET, "HS256", None, &claims);
    let good = handshake("/ws").bearer(&token);
    Socket::with(gateway.connect(), &good).echoes("hello");
    // A name that the client makes hop-by-hop cannot take ours along.
    let text = String::from_utf8(good.bytes()).expect("ASCII");
    let text = text.replace(
        "Connection: Upgrade",
        "Connection: Upgrade, X-User-ID, X-Hop\r\nX-Hop: 1",
    );
    let mut client = gateway.connect();
    assert_eq!(client.send(text).read().status, 101);
    let seen = origin.last();
    assert_eq!(seen.header("x-user-id"), Some("alice"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-hop"), None);
    assert_eq!(seen.header("connection"), Some("Upgrade"));
}

#[test]
fn handshakes_count_against_limits() {
    let origin = serving(echo);
    let gateway = Gateway::start(&format!(
        "limits: [{{ name: two, key: address, algorithm: sliding_window, rate: 2/1h }}]\n{}",
        config_of(&origin, "retries: 0", "limits: [two], websocket: {}")
    ));
    let first = Socket::open(&gateway);
    assert_eq!(first.answer.number("x-ratelimit-remaining"), 1);
    let bad = gateway.ask(&handshake("/ws").header("Content-Length", "0"));
    assert_eq!(bad.status, 400, "counts as well");
    assert_eq!(
        gateway.ask(&handshake("/ws")).is(),
        (429, "rate_limited".into())
    );
    assert_eq!(origin.hits(), 1);
}

#[test]
fn other_routes_have_none() {
    let origin = Origin::start();
    let gateway = before(&origin);
    let mut client = gateway.connect();
    for _ in 0..2 {
        let answer = client.ask(&handshake("/other"));
        assert_eq!(
            (answer.status, answer.text()),
            (200, "/other"),
            "as if it had not asked"
        );
        let seen = origin.last();
        assert_eq!(
            (seen.header("upgrade"), seen.header("connection")),
            (None, None)
        );
    }
}

#[test]
fn other_upgrades_are_never_passed_on() {
    let origin = Origin::start();
    let gateway = before(&origin);
    let mut client = gateway.connect();
    for upgrade in [
        "h2c",
        "foo",
        "TLS/1.0, HTTP/2.0",
        "web socket",
        "websockets",
        "",
    ] {
        let req = Req::get("/ws/x").header("Connection", "Upgrade, HTTP2-Settings");
        let req = req.header("Upgrade", upgrade).header("HTTP2-Settings", "x");
        let answer = client.ask(&req);
        assert_eq!((answer.status, answer.text()), (200, "/x"), "{upgrade}");
        let seen = origin.last();
        assert_eq!(
            (seen.header("upgrade"), seen.header("connection")),
            (None, None)
        );
        assert_eq!(seen.header("http2-settings"), None);
    }
    assert_eq!(
        client.ask(&Req::post("/ws", "x")).status,
        200,
        "nor are other requests touched"
    );
}

/// A good handshake with something in it changed.
#[track_caller]
fn changed(what: &str, instead: &str) -> String {
    let good = String::from_utf8(handshake("/ws").bytes()).expect("ASCII");
    let text = good.replacen(what, instead, 1);
    assert_ne!(text, good);
    text
}

/// Each of these changes is refused, with this said of it, and ends the connection.
#[track_caller]
fn refused(detail: &str, changes: &[(&str, &str)]) {
    let origin = serving(echo);
    let gateway = before(&origin);
    for (what, instead) in changes {
        let text = changed(what, instead);
        let mut client = gateway.connect();
        let answer = client.send(&text).read();
        assert_eq!(answer.is(), (400, "bad_request".into()), "{text}");
        assert_eq!(answer.json()["detail"], format!("Bad request: {detail}"));
        assert_eq!(answer.header("connection"), Some("close"));
        client.ends();
    }
    assert_eq!(origin.accepted(), 0);
}

const KEY_LINE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

// RFC 6455 §4.1 and §4.2.1.
#[test]
fn a_handshake_without_its_form_is_refused() {
    refused(
        "a WebSocket handshake is a GET",
        &[("GET", "POST"), ("GET", "PUT")],
    );
    let lists = [
        "websocket, h2c",
        "h2c\r\nUpgrade: websocket",
        "websocket/13",
    ];
    let lists = lists.map(|l| format!("Upgrade: {l}"));
    let lists = [0, 1, 2].map(|n| ("Upgrade: websocket", &*lists[n]));
    refused("Upgrade holds more than websocket", &lists);
    let unnamed = [
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade", "Connection: close"),
    ];
    refused("Connection does not name Upgrade", &unnamed);
    let named = [(
        "Connection: Upgrade",
        "Connection: Upgrade, Sec-WebSocket-Key",
    )];
    refused("Connection names a field of the handshake", &named);
    let bodies = [
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 2\r\n\r\nhi",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    let bodies = bodies.map(|b| format!("\r\n{b}"));
    let bodies = [0, 1, 2].map(|n| ("\r\n\r\n", &*bodies[n]));
    refused("a WebSocket handshake has no body", &bodies);
}

// RFC 6455 §4.1: 16 octets, in Base64.
#[test]
fn a_handshake_without_a_key_is_refused() {
    let keys = [
        (KEY_LINE, ""),
        (KEY_LINE, &*KEY_LINE.repeat(2)),
        (KEY, ""),
        (KEY, "SGVsbG8sIHdvcmxkIQ=="),
        (KEY, "dGhlIHNhbXBsZSBub25jZQ"),
        (KEY, "dGhlIHNhbXBsZSBub25j!!=="),
    ];
    refused("Sec-WebSocket-Key is not 16 bytes in Base64", &keys);
}

// RFC 6455 §4.2.2 and §4.4, RFC 9110 §15.5.22.
#[test]
fn another_version_is_told_which_there_is() {
    let origin = serving(echo);
    let gateway = before(&origin);
    for (what, instead) in [
        ("Version: 13", "Version: 8"),
        ("Version: 13", "Version: 13, 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
    ] {
        let answer = gateway.connect().send(changed(what, instead)).read();
        let code = "websocket_version_unsupported".into();
        assert_eq!(answer.is(), (426, code), "{instead}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn spelling_does_not_matter_where_it_must_not() {
    let origin = serving(echo);
    let gateway = before(&origin);
    for (what, instead) in [
        ("Upgrade: websocket", "upgrade: WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, UPGRADE"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade",
        ),
    ] {
        let answer = gateway.connect().send(changed(what, instead)).read();
        assert_eq!(answer.status, 101, "{instead}");
    }
}

#[test]
fn a_switch_that_is_no_answer_is_502() {
    let origin = Origin::start();
    let upstream = "circuit_breaker: off, retries: 0";
    let gateway = Gateway::start(&config_of(&origin, upstream, "websocket: {}"));
    let good = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    for (what, instead) in [
        ("HTTP/1.1", "HTTP/1.0"),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade", "Connection: keep-alive"),
        (
            "Connection: Upgrade",
            "Connection: Upgrade, Sec-WebSocket-Accept",
        ),
        (&accept, ""),
        (&accept, &accept.repeat(2)),
        (ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOx="),
        (ACCEPT, &ACCEPT.to_uppercase()),
    ] {
        let text = good.replacen(what, instead, 1);
        assert_ne!(text, good);
        let frame = [text.as_bytes(), b"\x81\x02no"].concat();
        origin.script(move |_| Act::Raw(frame.clone()));
        let mut client = gateway.connect();
        let answer = client.ask(&handshake("/ws"));
        assert_eq!(answer.is(), (502, "upstream_invalid".into()), "{instead}");
        client.ends();
    }
    // A request that asked for nothing.
    origin.script(move |_| Act::Raw(good.clone().into_bytes()));
    let answer = gateway.get("/ws");
    assert_eq!(answer.is(), (502, "upstream_invalid".into()));
}

#[test]
fn of_the_answer_only_the_switch_goes_from_hop_to_hop() {
    let origin = Origin::scripted(|seen| {
        let more = "\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\
                    Sec-WebSocket-Protocol: chat\r\n\r\n";
        Act::Raw(switch(seen).replacen("\r\n\r\n", more, 1).into_bytes())
    });
    let gateway = before(&origin);
    let answer = Socket::open(&gateway).answer;
    assert_eq!(answer.header("connection"), Some("Upgrade"));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
    for gone in ["x-hop", "keep-alive", "content-length", "transfer-encoding"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[test]
fn what_comes_behind_a_refused_handshake_is_no_request() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/403" => Act::status(403),
        _ => Act::ok("plain"),
    });
    let gateway = before(&origin);
    for (target, status) in [("/ws/403", 403), ("/ws/200", 200)] {
        let before = origin.hits();
        let mut client = gateway.connect();
        let early = [handshake(target).bytes(), Req::get("/smuggled").bytes()].concat();
        let answer = client.send(early).read();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close"))
        );
        client.ends();
        assert_eq!(origin.hits(), before + 1);
        // Nor if it comes later.
        let mut client = gateway.connect();
        assert_eq!(client.ask(&handshake(target)).status, status);
        client.try_send(Req::get("/smuggled").bytes());
        client.ends();
    }
    assert!(origin.seen().iter().all(|s| !s.target.contains("smuggled")));
    eventually("no connection is kept for another handshake", || {
        origin.open_connections() == 0
    });
}

#[test]
fn frames_sent_before_the_switch_are_not_lost() {
    let gate = Gate::new();
    let wait = gate.clone();
    let origin = Origin::scripted(move |_| {
        let wait = wait.clone();
        Act::take(move |mut stream, _, seen| {
            wait.pass();
            let _ = stream.write_all(switch(seen).as_bytes());
            let mut came = [0; 12];
            if stream.read_exact(&mut came).is_ok() {
                let _ = stream.write_all(&came);
            }
        })
    });
    let gateway = before(&origin);
    let mut client = gateway.connect();
    client.send([&*handshake("/ws").bytes(), b"early "].concat());
    eventually("at the service", || origin.hits() == 1);
    client.send("frames");
    gate.open();
    assert_eq!(client.read().status, 101);
    let mut came = Vec::new();
    client.read_to_end(&mut came).expect("reads");
    assert_eq!(came, b"early frames");
}
