//! gRPC: statuses in its own words, deadlines, cancellation, trailers, what the breaker makes of it.

use crate::support::rpc::{Channel, Does, Service, Told};
use crate::support::{Gateway, eventually, mint};
use h2::Reason;
use std::time::Duration;

/// A gateway that speaks HTTP/2 in front of this service, with a route for each thing to try.
pub fn gateway(service: &Service, upstream: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: [{{ name: public, address: \"127.0.0.1:0\", protocol: h2c }}]
identity:
  jwt:
    - name: corp
      issuer: {}
      audiences: [api]
      algorithms: [HS256]
      keys: [{{ kid: k, alg: HS256, secret: \"${{TEST_SECRET}}\" }}]
limits: [{{ name: one, key: address, algorithm: sliding_window, rate: 1/1d }}]
upstreams: [{{ name: up, targets: [\"{service}\"], protocol: http2{upstream} }}]
routes:
  - {{ name: open, match: {{ path: /open.Service }}, strip_prefix: false, auth: none, to: up }}
  - {{ name: keyed, match: {{ path: /keyed.Service }}, auth: {{ any: [corp], scopes: [read] }}, to: up }}
  - {{ name: limited, match: {{ path: /limited.Service }}, auth: none, limits: [one], to: up }}
  - {{ name: short, match: {{ path: /short.Service }}, auth: none, timeout: 300ms, to: up }}
  - {{ name: small, match: {{ path: /small.Service }}, auth: none, max_body: 10B, to: up }}
  - {{ name: stream, match: {{ path: /stream.Service }}, auth: none, timeout: 300ms, streaming: {{ idle_timeout: 1s }}, to: up }}
  - {{ name: get, match: {{ path: /get.Service, methods: [GET] }}, auth: none, to: up }}
",
        mint::ISSUER
    ))
}

pub fn well() -> Service {
    Service::start(|_| Does::status(0))
}

pub fn open(gateway: &Gateway, more: &[(&'static str, &str)]) -> Told {
    Channel::open(gateway.address()).call("/open.Service/Do", more)
}

#[test]
fn a_call_and_its_trailers_pass() {
    let service = Service::start(|_| {
        let trailers = [("grpc-status", "0"), ("x-late", "1"), ("x-late-bin", "AAE")];
        let trailers = trailers.map(|(name, value)| (name, value.to_owned()));
        Does::Answers(b"\0\0\0\0\x01a".to_vec(), trailers.to_vec())
    });
    let gateway = gateway(&service, "");
    let told = open(&gateway, &[("x-mine", "yes")]);
    assert_eq!((told.status, &told.body[..]), (200, &b"\0\0\0\0\x01a"[..]));
    let trailers = ["grpc-status", "x-late", "x-late-bin"].map(|name| told.field(name));
    assert_eq!((trailers, told.trailers.len()), (["0", "1", "AAE"], 3));
    assert!(!told.trailers_only && told.headers.contains_key("x-request-id"));
    let heard = &service.heard()[0];
    assert_eq!(heard.path, "/open.Service/Do");
    assert_eq!(heard.header("te"), Some("trailers"));
    assert_eq!(heard.header("x-mine"), Some("yes"));
    assert_eq!(heard.header("grpc-timeout"), None, "nobody set one");
    let line = gateway.line_where(|line| line["route"] == "open");
    assert_eq!(
        (&line["protocol"], &line["grpc_status"]),
        (&"HTTP/2".into(), &0.into())
    );
}

/// Path, more fields, status, code and message; `TOKEN` stands for a good token without scopes.
type Refused = (
    &'static str,
    &'static [(&'static str, &'static str)],
    [&'static str; 3],
);

const REFUSED: &[Refused] = &[
    (
        "/keyed.Service/Do",
        &[],
        ["16", "credentials_missing", "Missing authorization header"],
    ),
    (
        "/keyed.Service/Do",
        &[("authorization", "Bearer x")],
        ["16", "token_malformed", "Invalid or expired token"],
    ),
    (
        "/keyed.Service/Do",
        &[("authorization", "TOKEN")],
        [
            "7",
            "scope_insufficient",
            "Insufficient scope. Required: 'read'",
        ],
    ),
    (
        "/nowhere.Service/Do",
        &[],
        ["12", "route_not_found", "Route not found"],
    ),
    (
        "/get.Service/Do",
        &[],
        ["12", "method_not_allowed", "Method not allowed"],
    ),
    (
        "/limited.Service/Do",
        &[],
        [
            "8",
            "rate_limited",
            "Rate limit exceeded. See Retry-After header.",
        ],
    ),
    (
        "/open.Service/Do",
        &[("grpc-timeout", "1s")],
        [
            "3",
            "bad_request",
            "Bad request: grpc-timeout is not a timeout",
        ],
    ),
    (
        "/open.Service/Do",
        &[("grpc-timeout", "0n")],
        ["4", "deadline_exceeded", "Deadline exceeded"],
    ),
    (
        "/open.Service/%2e%2e%2f",
        &[],
        ["3", "ambiguous_path", "Ambiguous path"],
    ),
];

#[test]
fn refusals_are_statuses_in_a_header_with_nothing_behind_it() {
    let service = well();
    let gateway = gateway(&service, "");
    let channel = Channel::open(gateway.address());
    let claims = mint::claims(gateway.now_s());
    let token = mint::sign(mint::SECRET, "HS256", None, &claims);
    let token = format!("Bearer {token}");
    let limited = channel.call("/limited.Service/Do", &[]);
    assert_eq!(limited.field("grpc-status"), "0");
    for (path, more, [status, code, message]) in REFUSED.iter().copied() {
        let real = |value| if value == "TOKEN" { &*token } else { value };
        let more: Vec<_> = more
            .iter()
            .map(|(name, value)| (*name, real(*value)))
            .collect();
        let told = channel.call(path, &more);
        assert_eq!(told.is(), (status, code), "{path} {more:?}");
        assert_eq!(told.field("grpc-message"), message);
        assert!(told.trailers_only && told.body.is_empty(), "{told:?}");
        assert_eq!(told.field("content-type"), "application/grpc");
        let header = |name: &str| told.headers.get(name);
        assert!(header("content-length").is_none() && header("x-request-id").is_some());
        let id = told.field("x-request-id");
        let line = gateway.line_where(|line| line["request_id"] == id);
        assert_eq!(line["status_code"], 200);
        assert_eq!(line["grpc_status"].to_string(), status);
        assert_eq!(line["reason"], code);
    }
    assert_eq!(
        service.heard().len(),
        1,
        "nothing that is refused reaches a service"
    );
}

#[test]
fn when_to_come_back_is_told_twice() {
    let gateway = gateway(&well(), "");
    let channel = Channel::open(gateway.address());
    channel.call("/limited.Service/Do", &[]);
    let told = channel.call("/limited.Service/Do", &[]);
    let seconds: u64 = told.field("retry-after").parse().expect("seconds");
    let pushback: u64 = told.field("grpc-retry-pushback-ms").parse().expect("ms");
    assert!(
        seconds >= 1 && pushback == seconds * 1000,
        "{seconds} {pushback}"
    );
    assert_eq!(told.field("x-ratelimit-limit"), "1");
    assert_eq!(told.field("x-ratelimit-remaining"), "0");
}

#[test]
fn what_is_not_grpc_is_refused_as_http() {
    let gateway = gateway(&well(), "");
    let channel = Channel::open(gateway.address());
    for media in ["application/grpc-web", "application/json"] {
        let told = channel.call("/nowhere.Service/Do", &[("content-type", media)]);
        assert_eq!(told.status, 404, "{media}");
        assert_eq!(told.headers["content-type"], "application/problem+json");
        assert!(told.trailers.is_empty() && !told.body.is_empty());
    }
}

#[test]
fn a_body_that_grows_too_large_is_resource_exhausted() {
    let service = Service::start(|_| Does::Hangs);
    let gateway = gateway(&service, "");
    let channel = Channel::open(gateway.address());
    let announced = channel.begin("/small.Service/Do", &[("content-length", "11")]);
    assert_eq!(announced.told().is(), ("8", "body_too_large"));
    assert!(service.heard().is_empty(), "it was announced");
    let mut call = channel.begin("/small.Service/Do", &[]);
    call.send(&[0; 8], false);
    eventually("the call", || service.heard().len() == 1);
    call.send(&[0; 8], false);
    let told = call.told();
    assert_eq!(told.is(), ("8", "body_too_large"));
    assert!(told.trailers_only);
}

#[test]
fn a_service_that_cannot_be_had_is_unavailable() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let gateway = Gateway::start(&format!(
        "listeners: [{{ name: public, address: \"127.0.0.1:0\", protocol: h2c }}]
upstreams: [{{ name: up, targets: [\"{address}\"], protocol: http2 }}]
routes: [{{ name: open, match: {{ path: / }}, auth: none, to: up }}]
"
    ));
    let told = open(&gateway, &[]);
    assert_eq!(told.is(), ("14", "upstream_connect_failed"));
    assert_eq!(told.field("grpc-message"), "Bad gateway");
    assert!(told.trailers_only, "{told:?}");
}

#[test]
fn a_service_that_breaks_off_is_unavailable_or_a_reset() {
    let service = Service::start(|heard| match heard.header("x-do") {
        Some("reset") => Does::Resets(Reason::INTERNAL_ERROR),
        _ => Does::Breaks(b"\0\0\0\0\x05ab".to_vec(), Reason::INTERNAL_ERROR),
    });
    let gateway = gateway(&service, "");
    let told = open(&gateway, &[("x-do", "reset")]);
    assert_eq!(told.is(), ("14", "upstream_reset"));
    let told = open(&gateway, &[]);
    assert_eq!(told.reset, Some(Reason::INTERNAL_ERROR), "{told:?}");
    assert_eq!((told.status, &told.body[..]), (200, &b"\0\0\0\0\x05ab"[..]));
    let line = gateway.line_where(|line| line["status_code"] == 200 && line["bytes_out"] == 7);
    assert_eq!(line["reason"], "upstream_reset");
}

#[test]
fn an_answer_that_is_not_grpc_passes_as_it_is() {
    let service =
        Service::start(|_| Does::EndsWith(404, vec![("content-type", "text/html".to_owned())]));
    let gateway = gateway(&service, "");
    let told = open(&gateway, &[]);
    assert_eq!((told.status, told.trailers_only), (404, true));
    assert_eq!(told.headers["content-type"], "text/html");
    assert!(!told.headers.contains_key("grpc-status"));
}

#[test]
fn a_service_that_leaves_a_pausing_client_is_gone_and_not_to_blame() {
    let service = Service::start(|heard| match heard.header("x-do") {
        Some("leave") => Does::Leaves(Duration::from_millis(1500), Reason::INTERNAL_ERROR),
        _ => Does::status(0),
    });
    let gateway = gateway(&service, ", circuit_breaker: { consecutive_failures: 1 }");
    let channel = Channel::open(gateway.address());
    let mut call = channel.begin("/open.Service/Do", &[("x-do", "leave")]);
    call.send(b"\0\0\0\0\0", false);
    assert_eq!(call.told().is(), ("14", "upstream_reset"));
    assert_eq!(
        open(&gateway, &[]).field("grpc-status"),
        "0",
        "the circuit is closed"
    );
}

#[test]
fn a_client_that_leaves_takes_the_call_with_it() {
    let service = Service::start(|heard| match heard.header("x-do") {
        Some("stall") => Does::Stalls(b"\0\0\0\0\0".to_vec()),
        _ => Does::Hangs,
    });
    let gateway = gateway(&service, "");
    let channel = Channel::open(gateway.address());
    for (n, (sent, end)) in [
        ("hang", true),
        ("hang", false),
        ("stall", true),
        ("stall", false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut call = channel.begin("/open.Service/Do", &[("x-do", sent)]);
        call.send(b"\0\0\0\0\0", end);
        eventually("the call", || service.heard().len() == n + 1);
        call.cancel();
        eventually("its end", || service.cancelled().len() == n + 1);
    }
    assert_eq!(service.cancelled(), [Reason::CANCEL; 4]);
    eventually("four lines", || gateway.lines().len() == 4);
    assert!(
        gateway
            .lines()
            .iter()
            .all(|l| l["reason"] == "client_closed")
    );
}

#[test]
fn statuses_of_trouble_open_the_circuit_and_others_do_not() {
    for (status, opens) in [
        (14, true),
        (13, true),
        (4, true),
        (2, false),
        (5, false),
        (0, false),
    ] {
        let service = Service::start(move |heard| match heard.header("x-do") {
            Some("header") => Does::EndsWith(
                200,
                vec![
                    ("content-type", "application/grpc".to_owned()),
                    ("grpc-status", status.to_string()),
                ],
            ),
            _ => Does::status(status),
        });
        for form in ["header", "trailers"] {
            let gateway = gateway(&service, ", circuit_breaker: { min_requests: 3 }");
            let channel = Channel::open(gateway.address());
            for _ in 0..3 {
                let told = channel.call("/open.Service/Do", &[("x-do", form)]);
                assert_eq!(told.field("grpc-status"), status.to_string());
            }
            let told = channel.call("/open.Service/Do", &[("x-do", form)]);
            let code = told.field("x-error-code");
            assert_eq!(code == "circuit_open", opens, "{status} in {form}");
            if opens {
                assert_eq!(told.field("grpc-status"), "14");
                assert!(told.headers.contains_key("retry-after"));
            }
        }
    }
}

#[test]
fn impatience_opens_no_circuit() {
    let service = Service::start(|heard| match heard.header("x-do") {
        Some("hang") => Does::Hangs,
        Some("late") => Does::status(4),
        _ => Does::status(0),
    });
    let gateway = gateway(
        &service,
        ", circuit_breaker: { min_requests: 2, consecutive_failures: 2 }",
    );
    let channel = Channel::open(gateway.address());
    for how in ["hang", "late"] {
        for _ in 0..6 {
            let told = channel.call(
                "/open.Service/Do",
                &[("x-do", how), ("grpc-timeout", "60m")],
            );
            assert_eq!(told.field("grpc-status"), "4");
        }
    }
    assert_eq!(
        open(&gateway, &[]).field("grpc-status"),
        "0",
        "it is still closed"
    );
}

#[test]
fn a_probe_is_judged_by_its_trailers() {
    let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = well.clone();
    let service = Service::start(move |_| {
        let well = told.load(std::sync::atomic::Ordering::SeqCst);
        Does::status(if well { 0 } else { 14 })
    });
    let breaker = ", circuit_breaker: { consecutive_failures: 1, open_for: 1s, probes: 1 }";
    let gateway = gateway(&service, breaker);
    let channel = Channel::open(gateway.address());
    let code = || {
        let told = channel.call("/open.Service/Do", &[]);
        (
            told.field("grpc-status").to_owned(),
            told.field("x-error-code").to_owned(),
        )
    };
    let sick = ("14".to_owned(), String::new());
    let refused = ("14".to_owned(), "circuit_open".to_owned());
    assert_eq!((code(), code()), (sick.clone(), refused.clone()));
    gateway.advance_s(2);
    assert_eq!((code(), code()), (sick, refused), "the probe failed");
    gateway.advance_s(2);
    well.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!((code().0, code().0), ("0".to_owned(), "0".to_owned()));
}

#[test]
fn only_what_a_service_has_not_begun_with_is_tried_again() {
    let service = Service::start(|heard| match heard.header("x-do") {
        Some("refuse") => Does::Resets(Reason::REFUSED_STREAM),
        _ => Does::Resets(Reason::INTERNAL_ERROR),
    });
    let gateway = gateway(&service, ", retries: 2");
    assert_eq!(
        open(&gateway, &[("x-do", "refuse")]).is(),
        ("14", "upstream_reset")
    );
    assert_eq!(
        service.heard().len(),
        3,
        "refused each time, so tried each time"
    );
    assert_eq!(open(&gateway, &[]).is(), ("14", "upstream_reset"));
    assert_eq!(service.heard().len(), 4, "it may have done something");
}
