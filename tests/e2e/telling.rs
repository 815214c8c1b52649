//! What is told: access lines, metrics, request ids, trace context.

use super::support::*;
use serde_json::{Value, json};

#[test]
fn a_line_says_who_asked_what_and_how_long_each_part_took() {
    let origin = Origin::start();
    let config = format!(
        "identity:\n\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n\
         upstreams: [{{ name: users-v1, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: users, match: {{ path: /users }}, auth: {{ any: [corp] }}, to: users-v1 }}]\n",
        mint::ISSUER
    );
    let gateway = Gateway::start(&config);
    let token = mint::sign(mint::SECRET, "HS256", None, &mint::claims(gateway.now_s()));
    let answer = gateway.ask(
        &Req::post("/users/4%32?secret=yes", "hello")
            .bearer(&token)
            .header("X-Request-ID", "r-1"),
    );
    assert_eq!(answer.status, 200);
    let line = gateway.line(&answer);
    for (field, want) in [
        ("request_id", json!("r-1")),
        ("client_addr", json!("127.0.0.1")),
        ("client_id", json!("web")),
        ("user_id", json!("alice")),
        ("tier", json!("gold")),
        ("listener", json!("public")),
        ("protocol", json!("HTTP/1.1")),
        ("method", json!("POST")),
        ("host", json!("api.example.com")),
        ("path", json!("/users/42")),
        ("route", json!("users")),
        ("upstream", json!("users-v1")),
        ("target", json!(origin.to_string())),
        ("status_code", json!(200)),
        ("attempts", json!(1)),
        ("bytes_in", json!(5)),
        ("bytes_out", json!(answer.body.len())),
    ] {
        assert_eq!(line[field], want, "{field}: {line}");
    }
    assert_eq!(line["reason"], Value::Null);
    let ms = |field: &str| {
        line[field]
            .as_f64()
            .unwrap_or_else(|| panic!("no {field}: {line}"))
    };
    let parts = ms("screen_ms") + ms("connect_ms") + ms("ttfb_ms");
    assert!(parts > 0.0 && parts <= ms("latency_ms") + 1.0, "{line}");
    assert!(ms("upstream_ms") <= ms("latency_ms"), "{line}");
    assert!(
        line["timestamp"]
            .as_str()
            .is_some_and(|t| t.ends_with('Z') && t.len() == 24)
    );
    assert!(line["trace_id"].as_str().is_some_and(|t| t.len() == 32));
    assert!(
        !gateway.raw_lines().contains("secret"),
        "queries hold secrets"
    );
}

#[test]
fn each_request_has_one_line_however_it_ends() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/reset" => Act::reset(),
        _ => Act::ok("ok"),
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for target in ["/", "/%00", "/health", "/x"] {
        client.ask(&Req::get(target));
    }
    gateway.ask(&Req::post("/reset", "x"));
    gateway.connect().send("BAD\r\n\r\n").read();
    eventually("six lines", || gateway.lines().len() == 6);
    let mut told: Vec<(u64, String)> = gateway
        .lines()
        .iter()
        .map(|l| {
            (
                l["status_code"].as_u64().unwrap(),
                l["reason"].as_str().unwrap_or("-").to_owned(),
            )
        })
        .collect();
    told.sort();
    let want = [
        (200, "-"),
        (200, "-"),
        (200, "-"),
        (400, "ambiguous_path"),
        (400, "bad_request"),
        (502, "upstream_reset"),
    ];
    assert_eq!(told, want.map(|(s, r)| (s, r.to_owned())));
}

#[test]
fn a_good_request_id_is_kept_and_a_bad_one_replaced() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let good = "7f3c-A.b_c:d/e+f=";
    let answer = gateway.ask(&Req::get("/").header("X-Request-ID", good));
    assert_eq!(answer.request_id(), good);
    assert_eq!(origin.last().header("x-request-id"), Some(good));
    for bad in ["", "a b", "a\"b", "a{b", &"x".repeat(129), "ü"] {
        let answer = gateway.ask(&Req::get("/").header("X-Request-ID", bad));
        let id = answer.request_id();
        assert_eq!(id.len(), 36, "a new one instead of {bad:?}");
        assert_eq!(origin.last().header("x-request-id"), Some(id));
    }
    let twice = Req::get("/")
        .header("X-Request-ID", "one")
        .header("X-Request-ID", "two");
    assert_eq!(gateway.ask(&twice).request_id().len(), 36);
    let ids: Vec<String> = (0..3)
        .map(|_| gateway.get("/").request_id().to_owned())
        .collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    origin.script(|_| Act::Answer(200, vec![("X-Request-ID", "theirs".into())], Vec::new()));
    assert_eq!(
        gateway
            .ask(&Req::get("/").header("X-Request-ID", "ours"))
            .request_id(),
        "ours"
    );
}

#[test]
fn a_trace_is_continued_or_begun() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let req = Req::get("/")
        .header("traceparent", &format!("00-{trace}-{span}-01"))
        .header("tracestate", "a=1,b=2");
    let answer = gateway.ask(&req);
    let seen = origin.last();
    let parent = seen.header("traceparent").expect("a trace").to_owned();
    assert!(parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-01"));
    assert!(!parent.contains(span), "a span of its own");
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(gateway.line(&answer)["trace_id"], trace);
    for bad in [
        "",
        "00-0-0-00",
        &format!("00-{}-{span}-01", "0".repeat(32)),
        &format!("ff-{trace}-{span}-01"),
    ] {
        gateway.ask(
            &Req::get("/")
                .header("traceparent", bad)
                .header("tracestate", "a=1"),
        );
        let seen = origin.last();
        let parent = seen.header("traceparent").expect("a trace");
        assert!(parent.len() == 55 && !parent.contains(trace), "{bad}");
        assert_eq!(seen.header("tracestate"), None, "the state of no trace");
    }
}

#[test]
fn metrics_count_requests_refusals_and_upstreams() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.ask(&Req::get("/"));
    }
    client.ask(&Req::new("HEAD", "/"));
    client.ask(&Req::new("BREW", "/"));
    client.ask(&Req::get("/%00"));
    let connections = "tollgate_connections{listener=\"public\"}";
    gateway.counts(connections, 1);
    for (name, want) in [
        (
            "tollgate_requests_total{method=\"GET\",route=\"all\",status=\"200\"}",
            3,
        ),
        (
            "tollgate_requests_total{method=\"HEAD\",route=\"all\",status=\"200\"}",
            1,
        ),
        (
            "tollgate_requests_total{method=\"GET\",route=\"-\",status=\"400\"}",
            1,
        ),
        ("tollgate_refusals_total{reason=\"ambiguous_path\"}", 1),
        ("tollgate_upstream_attempts_total{upstream=\"up\"}", 5),
        ("tollgate_upstream_requests_in_flight{upstream=\"up\"}", 0),
        ("tollgate_upstream_targets{upstream=\"up\"}", 1),
        (
            "tollgate_connections_accepted_total{listener=\"public\"}",
            1,
        ),
        (
            "http_server_request_duration_seconds_count{route=\"all\"}",
            5,
        ),
        (
            "http_client_request_duration_seconds_count{upstream=\"up\"}",
            5,
        ),
    ] {
        gateway.counts(name, want);
    }
    assert!(
        !gateway.metrics().contains("BREW"),
        "no label by what a client makes up"
    );
    drop(client);
    eventually("closed", || gateway.metric(connections) == 0);
}

#[test]
fn answers_of_services_come_back_as_they_are_but_for_hop_by_hop_fields() {
    let origin = Origin::scripted(|_| {
        let fields = vec![
            ("X-Custom", "Value".to_owned()),
            ("Set-Cookie", "a=1".into()),
            ("Set-Cookie", "b=2".into()),
            ("Connection", "X-Hop, keep-alive".into()),
            ("X-Hop", "1".into()),
            ("Keep-Alive", "timeout=5".into()),
            ("Proxy-Authenticate", "Basic".into()),
            ("Upgrade", "h2c".into()),
        ];
        Act::Answer(418, fields, b"teapot".to_vec())
    });
    let gateway = Gateway::start(&open_config(&origin));
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (418, "teapot"));
    assert_eq!(answer.header("x-custom"), Some("Value"));
    let cookies: Vec<_> = answer
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"))
        .collect();
    assert_eq!(cookies.len(), 2);
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(answer.header(gone), None, "{gone}: {}", answer.head);
    }
}

#[test]
fn a_log_that_is_stuck_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // Opened for both, so that the gateway can open it too; read only at the end.
    let mut options = std::fs::File::options();
    let mut reader = options.read(true).write(true).open(&pipe).unwrap();
    let origin = Origin::start();
    let log = format!("log: {{ access: \"{}\", buffer: 64 }}\n", pipe.display());
    let gateway = Gateway::start(&(log + &open_config(&origin)));
    let mut client = gateway.connect();
    let watch = Stopwatch::start();
    for n in 0..2000 {
        let answer = client.ask(&Req::get("/a").header("X-Request-ID", &format!("r-{n}")));
        assert_eq!(answer.status, 200, "request {n}");
    }
    watch.shows(0, 15_000);
    let name = "tollgate_access_log_dropped_total";
    eventually("lines are dropped", || gateway.metric(name) > 0);
    // Whoever comes to read finds whole lines, the first one first, and those of later requests.
    let (lines, came) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = std::io::BufReader::new(&mut reader);
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut reader, &mut line).is_ok() {
            let ended = lines.send(std::mem::take(&mut line)).is_err();
            if ended {
                return;
            }
        }
    });
    let next = || -> Value {
        let line = came.recv_timeout(patience()).expect("a line");
        serde_json::from_str(&line).expect("a whole line")
    };
    assert_eq!(next()["request_id"], "r-0");
    let mut asked = 0;
    eventually("a line of a request after the stop", || {
        client.ask(&Req::get("/a").header("X-Request-ID", "late"));
        asked += 1;
        came.try_iter().any(|line| line.contains("\"late\""))
    });
}
