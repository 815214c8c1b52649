//! What is tried again, and what never is.

use super::support::*;

fn gateway(targets: &[&Origin], settings: &str) -> Gateway {
    let targets: Vec<String> = targets.iter().map(|o| format!("\"{o}\"")).collect();
    Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [{}], {settings} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n",
        targets.join(", ")
    ))
}

#[test]
fn a_target_that_cannot_be_reached_is_passed_over_for_any_method() {
    let (dead, alive) = (Origin::start(), Origin::start());
    dead.stop();
    let gateway = gateway(&[&dead, &alive], "retries: 1");
    for n in 0..20 {
        let req = if n % 2 == 0 {
            Req::get("/")
        } else {
            Req::post("/", "body")
        };
        let answer = gateway.ask(&req);
        assert_eq!(answer.status, 200);
    }
    assert_eq!(alive.hits(), 20);
    let bodies = alive.seen().iter().filter(|s| s.body == b"body").count();
    assert_eq!(bodies, 10, "each once, and whole");
    eventually("all lines", || gateway.lines().len() == 20);
    let lines = gateway.lines();
    let twice = lines.iter().filter(|l| l["attempts"] == 2).count();
    assert_eq!(twice, 10, "every other one met the dead target");
    assert!(lines.iter().all(|l| l["target"] == alive.to_string()));
    let metric = |name: &str| {
        gateway.metric(&format!(
            "tollgate_upstream_{name}_total{{upstream=\"up\"}}"
        ))
    };
    assert_eq!(
        (
            metric("connect_failures"),
            metric("retries"),
            metric("attempts")
        ),
        (10, 10, 30)
    );
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0,);
}

#[test]
fn an_idempotent_request_is_replayed_after_a_reset_and_a_post_never() {
    for (method, body, status, attempts) in [
        ("GET", None, 200, 2),
        ("HEAD", None, 200, 2),
        ("PUT", Some("all of it"), 200, 2),
        ("DELETE", None, 200, 2),
        ("OPTIONS", None, 200, 2),
        ("POST", Some("once"), 502, 1),
        ("PATCH", Some("once"), 502, 1),
    ] {
        let origin = Origin::scripted(|seen| match seen.n {
            0 => Act::reset(),
            _ => Act::ok("ok"),
        });
        let gateway = gateway(&[&origin], "retries: 1");
        let req = Req::new(method, "/x");
        let req = body.map_or(req.clone(), |b| req.body(b));
        let answer = gateway.ask(&req);
        assert_eq!(answer.status, status, "{method}");
        assert_eq!(origin.hits(), attempts, "{method}");
        for seen in origin.seen() {
            assert_eq!(seen.body, body.unwrap_or_default().as_bytes(), "{method}");
        }
        let line = gateway.line(&answer);
        assert_eq!(line["attempts"], attempts, "{line}");
        assert_eq!(line["bytes_in"], body.unwrap_or_default().len(), "{line}");
    }
}

#[test]
fn a_chunked_put_is_replayed_whole() {
    let origin = Origin::scripted(|seen| match seen.n {
        0 => Act::reset(),
        _ => Act::ok("ok"),
    });
    let gateway = gateway(&[&origin], "retries: 1");
    let mut client = gateway.connect();
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    assert_eq!(client.read().status, 200);
    assert!(origin.seen().iter().all(|s| s.body == b"abcdefg"));
}

#[test]
fn attempts_are_bounded() {
    for (settings, attempts) in [("retries: 0", 1), ("retries: 1", 2), ("retries: 5", 6)] {
        let origin = Origin::scripted(|_| Act::reset());
        let gateway = gateway(&[&origin], settings);
        let answer = gateway.get("/");
        assert_eq!(answer.is(), (502, "upstream_reset".into()), "{settings}");
        assert_eq!(origin.hits(), attempts, "{settings}");
    }
}

#[test]
fn what_a_service_answered_is_never_asked_again() {
    let origin = Origin::scripted(|_| Act::status(503));
    let gateway = gateway(&[&origin], "retries: 5");
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(origin.hits(), 1);
}

#[test]
fn a_replay_goes_to_another_target() {
    let (a, b) = (Origin::scripted(|_| Act::reset()), Origin::start());
    let gateway = gateway(&[&a, &b], "retries: 1");
    for _ in 0..4 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!((a.hits(), b.hits()), (2, 4));
}

#[test]
fn kept_connections_that_the_service_closed_cost_nobody_anything() {
    let origin = Origin::start();
    let gateway = gateway(&[&origin], "retries: 1");
    for n in 0..30 {
        let answer = gateway.get(&format!("/{n}"));
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("/{n}").as_str())
        );
        origin.close_connections();
    }
}

#[test]
fn a_replay_tells_the_same_identity_and_request_id() {
    let origin = Origin::scripted(|seen| match seen.n {
        0 => Act::reset(),
        _ => Act::ok("ok"),
    });
    let gateway = gateway(&[&origin], "retries: 1");
    gateway.ask(&Req::get("/x").header("X-Request-ID", "same"));
    let ids: Vec<_> = origin
        .seen()
        .iter()
        .map(|s| s.header("x-request-id").map(str::to_owned))
        .collect();
    assert_eq!(ids, [Some("same".to_owned()), Some("same".to_owned())]);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_used_for_a_post() {
    let origin = Origin::start();
    let gateway = gateway(&[&origin], "retries: 1");
    for _ in 0..10 {
        assert_eq!(gateway.ask(&Req::post("/", "once")).status, 200);
        origin.close_connections();
        eventually("closed", || origin.open_connections() == 0);
        // What the kernel knows, the gateway needs a moment to hear.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(origin.hits(), 10);
}

#[test]
fn an_upload_too_large_to_keep_is_not_replayed_in_part() {
    let origin = Origin::scripted(|seen| match seen.n {
        0 => Act::reset(),
        _ => Act::ok("ok"),
    });
    let gateway = gateway(&[&origin], "retries: 1");
    let answer = gateway.ask(&Req::new("PUT", "/").body(vec![b'x'; 300_000]));
    assert_eq!(answer.is(), (502, "upstream_reset".into()));
    assert!(origin.seen().iter().all(|s| s.body.len() == 300_000));
}

/// A listener whose queue is full: the kernel drops what else comes, as a dead host does.
fn silent() -> (
    socket2::Socket,
    Vec<std::net::TcpStream>,
    std::net::SocketAddr,
) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let wait = std::time::Duration::from_millis(100);
    let queued = (0..8).filter_map(|_| std::net::TcpStream::connect_timeout(&address, wait).ok());
    let queued = queued.collect();
    (socket, queued, address)
}

#[test]
fn a_target_that_does_not_answer_a_connect_is_passed_over() {
    let (_socket, _queued, dead) = silent();
    let alive = Origin::start();
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{dead}\", \"{alive}\"], timeouts: {{ connect: 200ms }} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let watch = Stopwatch::start();
    for _ in 0..2 {
        assert_eq!(gateway.ask(&Req::post("/", "x")).status, 200);
    }
    watch.shows(190, 5000);
    assert_eq!(alive.hits(), 2);
}
