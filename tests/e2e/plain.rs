//! `errors: plain`: exact bodies, with when to return and which service failed.

use super::support::*;

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "server: {{ workers: 1, errors: plain }}\n\
         limits: [{{ name: one, key: address, algorithm: sliding_window, rate: 1/1h }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"], retries: 0 }}]\n\
         routes:\n\
         - {{ name: limited, match: {{ path: /limited }}, auth: none, limits: [one], to: up }}\n\
         - {{ name: open, match: {{ path: /open }}, auth: none, to: up }}\n"
    ))
}

#[track_caller]
fn says(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.text().trim_end()), (status, body));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(!answer.request_id().is_empty());
}

#[test]
fn a_plain_429_tells_when_to_return() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    assert_eq!(gateway.get("/limited").status, 200);
    let answer = gateway.get("/limited");
    let wait = answer.number("retry-after");
    assert!((1..=7200).contains(&wait), "{wait}");
    let body = format!(
        r#"{{"error":"Rate limit exceeded. See Retry-After header.","retryAfter":{wait}}}"#
    );
    says(&answer, 429, &body);
}

#[test]
fn plain_failures_name_the_service() {
    let origin = Origin::scripted(|_| Act::reset());
    let gateway = gateway(&origin);
    for _ in 0..5 {
        let answer = gateway.get("/open");
        says(&answer, 502, r#"{"error":"Bad gateway","service":"up"}"#);
        assert_eq!(answer.header("retry-after"), None);
    }
    let answer = gateway.get("/open");
    let wait = answer.number("retry-after");
    assert!((1..=30).contains(&wait), "{wait}");
    let body = format!(
        r#"{{"error":"Service temporarily unavailable","retryAfter":{wait},"service":"up"}}"#
    );
    says(&answer, 503, &body);
    assert_eq!(origin.hits(), 5);
}

#[test]
fn a_plain_504_names_the_service() {
    let origin = Origin::scripted(|_| Act::Hang);
    let gateway = Gateway::start(&format!(
        "server: {{ workers: 1, errors: plain }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"], timeouts: {{ total: 200ms }} }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let answer = gateway.get("/");
    says(
        &answer,
        504,
        r#"{"error":"Gateway timeout","service":"up"}"#,
    );
}

#[test]
fn plain_refusals_of_what_nobody_does() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let unmet = gateway.ask(&Req::get("/open").header("Expect", "the unexpected"));
    says(&unmet, 417, r#"{"error":"Expectation failed"}"#);
    let mut client = gateway.connect();
    client.send("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
    let unknown = client.read();
    let body = r#"{"error":"Transfer coding not supported: only chunked is served"}"#;
    says(&unknown, 501, body);
    assert_eq!(origin.begun(), 0);
}
