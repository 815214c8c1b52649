//! Who may ask the gateway about itself: `/health`, probes listeners, the admin port.

use super::support::*;
use std::io::{Read, Write};

#[test]
fn health_is_told_on_public_listeners_before_anything_else_and_without_details() {
    let origin = Origin::start();
    let config = format!(
        "identity: {{ api_keys: [{{ name: k, file: keys.yaml }}] }}\n\
         limits: [{{ name: l, key: route, algorithm: sliding_window, rate: 1/1h }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [k] }}, limits: [l], to: up }}]\n"
    );
    let keys = format!("keys:\n{}", mint::api_key("a", "key-of-a", ""));
    let gateway = Gateway::with_files(&config, &[("keys.yaml", &keys)]);
    for _ in 0..5 {
        let answer = gateway.get("/health");
        assert_eq!((answer.status, answer.text()), (200, "ok\n"));
    }
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::new("HEAD", "/health")).status, 200);
    assert_eq!(client.ask(&Req::get("/health?x")).status, 200);
    assert_eq!(
        client.ask(&Req::post("/health", "x")).status,
        401,
        "anything else goes its way"
    );
    for hidden in ["/ready", "/metrics", "/status", "/health/x"] {
        assert_eq!(
            gateway.get(hidden).status,
            401,
            "{hidden} is no business of the public"
        );
    }
    assert_eq!(origin.begun(), 0);
}

fn probes(networks: &str, metrics: bool, more: &str) -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::start(&format!(
        "listeners:\n\
         - {{ name: public, address: \"127.0.0.1:0\" }}\n\
         - {{ name: probes, address: \"127.0.0.1:0\", probes: {{ networks: [{networks}], metrics: {metrics} }} }}\n\
         {more}{}",
        open_config(&origin)
    ));
    (origin, gateway)
}

#[test]
fn a_probes_listener_answers_probes_and_nothing_else() {
    let (origin, gateway) = probes("127.0.0.0/8", true, "");
    let ask = |req: &Req| Client::open(gateway.listener("probes")).ask(req);
    assert_eq!(ask(&Req::get("/health")).text(), "ok\n");
    assert_eq!(ask(&Req::get("/ready")).text(), "ready\n");
    let metrics = ask(&Req::get("/metrics"));
    assert!(
        metrics
            .text()
            .contains("# TYPE tollgate_requests_total counter")
    );
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|t| t.starts_with("text/plain; version=0.0.4"))
    );
    assert_eq!(ask(&Req::get("/")).is(), (404, "route_not_found".into()));
    assert_eq!(ask(&Req::get("/status")).status, 404);
    let post = ask(&Req::post("/health", "x"));
    assert_eq!(post.is(), (405, "method_not_allowed".into()));
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    assert_eq!(origin.begun(), 0, "no traffic goes through it");
}

#[test]
fn metrics_are_told_on_a_probes_listener_only_if_asked() {
    let (_origin, gateway) = probes("127.0.0.0/8", false, "");
    let answer = Client::open(gateway.listener("probes")).ask(&Req::get("/metrics"));
    assert_eq!(answer.status, 404);
}

#[test]
fn a_probe_from_elsewhere_is_denied_whatever_it_says_of_itself() {
    let (_origin, gateway) = probes("10.0.0.0/8", true, "trusted_proxies: [127.0.0.0/8]\n");
    for path in ["/health", "/ready", "/metrics", "/"] {
        let req = Req::get(path).header("X-Forwarded-For", "10.1.2.3");
        let answer = Client::open(gateway.listener("probes")).ask(&req);
        assert_eq!(answer.is(), (403, "probe_denied".into()), "{path}");
    }
    assert_eq!(gateway.get("/health").status, 200);
}

#[test]
fn the_admin_port_tells_everything_to_local_names_only() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    for path in ["/health", "/ready", "/metrics", "/status"] {
        assert_eq!(gateway.admin(&Req::get(path)).status, 200, "{path}");
    }
    assert_eq!(gateway.admin(&Req::get("/nothing")).status, 404);
    let status = gateway.status();
    assert_eq!(status["ready"], true);
    assert_eq!(status["upstreams"][0]["name"], "up");
    assert_eq!(
        status["upstreams"][0]["targets"][0]["target"],
        origin.to_string()
    );
    assert_eq!(status["upstreams"][0]["circuit"], "closed");
    let raw = |host: &str, more: &str| {
        let address = gateway.admin_address();
        let mut client = Client::open(address);
        client.send(format!(
            "GET /status HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"
        ));
        client.read().status
    };
    assert_eq!(raw("localhost", ""), 200);
    assert_eq!(raw("[::1]:9901", ""), 200);
    for host in [
        "evil.example",
        "127.0.0.1.evil.example:9901",
        "localhost.evil.example",
        "10.0.0.1",
    ] {
        assert_eq!(raw(host, ""), 403, "{host}");
    }
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
    ] {
        assert_eq!(
            raw("localhost", &format!("Origin: {origin}\r\n")),
            403,
            "{origin}"
        );
    }
    assert_eq!(raw("localhost", "Origin: http://localhost:9901\r\n"), 200);
}

#[test]
fn nothing_changes_state_without_the_token() {
    let origin = Origin::start();
    let admin = "admin: { address: \"127.0.0.1:0\", token: \"${TEST_SECRET}\" }\n";
    let gateway = Gateway::start(&format!("{admin}{}", open_config(&origin)));
    let post = Req::post("/status", "");
    assert_eq!(gateway.admin(&post).status, 401);
    assert_eq!(gateway.admin(&post.clone().bearer("wrong")).status, 401);
    assert_eq!(gateway.admin(&post.bearer(mint::SECRET)).status, 405);
    let without = Gateway::start(&open_config(&origin));
    assert_eq!(
        without.admin(&Req::post("/status", "").bearer("")).status,
        401
    );
}

#[test]
fn the_admin_port_can_be_a_socket_that_only_its_owner_may_use() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let origin = Origin::start();
    let admin = format!("admin: {{ address: \"unix:{}\" }}\n", path.display());
    let gateway = Gateway::start(&format!("{admin}{}", open_config(&origin)));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("ready\n"),
        "{text}"
    );
    drop(gateway);
    assert!(!path.exists(), "tidied away");
}

#[test]
fn the_admin_port_refuses_what_is_not_http_and_survives_it() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    for bytes in ["GET / HTTP/1.0\r\n\r\n", "\u{16}\u{3}\u{1}", "GET /\n\n"] {
        let mut client = Client::open(gateway.admin_address());
        client.send(bytes);
        assert!(client.read().status >= 400);
    }
    assert_eq!(gateway.admin(&Req::get("/health")).status, 200);
}
