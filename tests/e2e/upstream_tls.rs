//! TLS to targets: who is believed, what is asked for and shown, and what becomes of the rest.

use super::support::backend::{Authority, Backend, Certificate, Reply, Speaks};
use super::support::*;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const HTTP1: &[&str] = &["http/1.1"];

/// One route to the upstream `up`; `settings` are its further keys.
fn gateway(targets: &[&str], settings: &str, files: &[(&str, &str)]) -> Gateway {
    let targets: Vec<String> = targets.iter().map(|t| format!("\"{t}\"")).collect();
    let yaml = format!(
        "upstreams: [{{ name: up, targets: [{}], {settings} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n",
        targets.join(", ")
    );
    Gateway::with_files(&yaml, files)
}

/// To one backend, asked for as `users.test`, with the authority in `ca.pem`.
fn to(backend: &Backend, ca: &Authority, settings: &str) -> Gateway {
    let settings = format!("tls: {{ server_name: users.test, ca: ca.pem }}, {settings}");
    gateway(&[&backend.to_string()], &settings, &[("ca.pem", ca.pem())])
}

/// Waits for what the operator is told of an upstream's target.
#[track_caller]
fn told(backend: &Backend, what: &str) {
    let target = backend.to_string();
    eventually(what, || {
        let lines = stderr::lines();
        lines
            .iter()
            .any(|l| l.contains(&target) && l.contains(what))
    });
}

#[test]
fn a_target_is_asked_by_its_name_and_believed() {
    let ca = Authority::new("internal");
    let backend = Backend::start(Speaks::tls(&ca.certify(&["users.test"]), HTTP1));
    let gateway = to(&backend, &ca, "");
    let answer = gateway.ask(&Req::post("/a?b=c", "hello"));
    assert_eq!((answer.status, answer.text()), (200, "/a?b=c"));
    let asked = backend.last();
    assert_eq!(asked.sni.as_deref(), Some("users.test"));
    assert_eq!(asked.authority, "api.example.com", "the client's own host");
    assert_eq!(asked.body, b"hello");
    assert!(!asked.http2 && !asked.certified);
    for _ in 0..5 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert!(backend.accepted() <= 2, "one a worker, then kept");
}

/// Refused with a reason of its own, and not a byte of the request is sent.
#[track_caller]
fn refused(backend: &Backend, gateway: &Gateway, why: &str) {
    let answer = gateway.ask(&Req::post("/", "secret"));
    assert_eq!(answer.is(), (502, "upstream_tls_failed".into()));
    assert!(!answer.text().contains("ertificate"), "no detail is told");
    assert_eq!(backend.hits(), 0);
    let line = gateway.line(&answer);
    assert_eq!(line["reason"], "upstream_tls_failed", "{line}");
    assert_eq!(line["target"], backend.to_string(), "{line}");
    told(backend, why);
    gateway.counts("tollgate_upstream_tls_failures_total{upstream=\"up\"}", 1);
    gateway.counts(
        "tollgate_upstream_connect_failures_total{upstream=\"up\"}",
        1,
    );
}

#[test]
fn what_is_not_good_for_its_name_is_refused() {
    let (ca, stranger) = (Authority::new("internal"), Authority::new("another"));
    let cases: [(Certificate, &str); 4] = [
        (ca.certify(&["other.test"]), "ostname mismatch"),
        (
            ca.certify(&["a.users.test", "*.users.test"]),
            "ostname mismatch",
        ),
        (ca.expired(&["users.test"]), "has expired"),
        (
            stranger.certify(&["users.test"]),
            "unable to get local issuer",
        ),
    ];
    for (certificate, why) in cases {
        let backend = Backend::start(Speaks::tls(&certificate, HTTP1));
        let gateway = to(&backend, &ca, "retries: 0");
        refused(&backend, &gateway, why);
    }
}

#[test]
fn without_an_authority_of_our_own_the_systems_decide() {
    let ca = Authority::new("internal");
    let backend = Backend::start(Speaks::tls(&ca.certify(&["users.test"]), HTTP1));
    let settings = "tls: { server_name: users.test }, retries: 0";
    let gateway = gateway(&[&backend.to_string()], settings, &[]);
    refused(&backend, &gateway, "unable to get local issuer");
}

#[test]
fn a_targets_own_name_is_asked_for_at_each_of_its_addresses() {
    let ca = Authority::new("internal");
    let backend = Backend::at_localhost(Speaks::tls(&ca.certify(&["localhost"]), HTTP1));
    let target = format!("localhost:{}", backend.address().port());
    let gateway = gateway(&[&target], "tls: { ca: ca.pem }", &[("ca.pem", ca.pem())]);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(backend.last().sni.as_deref(), Some("localhost"));
}

#[test]
fn we_show_our_certificate_where_one_is_written() {
    let (ca, clients) = (Authority::new("internal"), Authority::new("clients"));
    let (ours, foreign) = (
        clients.certify(&["gateway.test"]),
        ca.certify(&["gateway.test"]),
    );
    let speaks = Speaks::tls(&ca.certify(&["users.test"]), &["h2", "http/1.1"]).only_to(&clients);
    let shows = |backend: &Backend, protocol: &str, shown: Option<&Certificate>| {
        let pair = shown.map_or("", |_| ", client_certificate: { cert: c.pem, key: c.key }");
        let tls = format!("tls: {{ server_name: users.test, ca: ca.pem{pair} }}");
        let settings = format!("protocol: {protocol}, retries: 0, {tls}");
        let mut files = vec![("ca.pem", ca.pem())];
        if let Some(shown) = shown {
            files.extend([("c.pem", &*shown.pem), ("c.key", &*shown.key_pem)]);
        }
        gateway(&[&backend.to_string()], &settings, &files).get("/")
    };
    for speaks in [speaks.clone(), speaks.tls12()] {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start(speaks.clone());
            assert_eq!(shows(&backend, protocol, Some(&ours)).status, 200);
            assert!(backend.last().certified);
            assert_eq!(backend.last().http2, protocol == "http2");
            for (n, wrong) in [None, Some(&foreign)].into_iter().enumerate() {
                let answer = shows(&backend, protocol, wrong);
                assert_eq!(answer.is(), (502, "upstream_tls_failed".into()));
                eventually("its refusal", || backend.refused() == n + 1);
            }
            assert_eq!(backend.hits(), 1);
        }
    }
}

/// Ways to one address; no two of them are the same.
const WAYS: [(&str, &str); 7] = [
    ("one", "tls: { server_name: users.test, ca: ca.pem }"),
    ("two", "tls: { server_name: users.test, ca: both.pem }"),
    ("three", "tls: { server_name: orders.test, ca: ca.pem }"),
    (
        "four",
        "tls: { server_name: users.test, ca: ca.pem }, protocol: http2",
    ),
    (
        "five",
        "tls: { server_name: users.test, ca: ca.pem }, protocol: auto",
    ),
    ("six", "tls: { server_name: users.test, ca: ca.pem }"),
    (
        "bad",
        "tls: { server_name: users.test, ca: other.pem }, retries: 0",
    ),
];

#[test]
fn upstreams_never_share_a_connection() {
    let (ca, other) = (Authority::new("internal"), Authority::new("another"));
    let certificate = ca.certify(&["users.test", "orders.test"]);
    let backend = Backend::start(Speaks::tls(&certificate, &["h2", "http/1.1"]));
    let both = format!("{}{}", ca.pem(), other.pem());
    let files = [
        ("ca.pem", ca.pem()),
        ("other.pem", other.pem()),
        ("both.pem", &both),
    ];
    let upstreams: Vec<String> = WAYS
        .iter()
        .map(|(name, rest)| format!("{{ name: {name}, targets: [\"{backend}\"], {rest} }}"))
        .collect();
    let routes: Vec<String> = WAYS
        .iter()
        .map(|(n, _)| format!("{{ name: {n}, match: {{ path: /{n} }}, auth: none, to: {n} }}"))
        .collect();
    let (upstreams, routes) = (upstreams.join(", "), routes.join(", "));
    let gateway = Gateway::with_files(
        &format!("server: {{ workers: 1 }}\nupstreams: [{upstreams}]\nroutes: [{routes}]\n"),
        &files,
    );
    for _ in 0..3 {
        for (name, _) in &WAYS[..6] {
            assert_eq!(gateway.get(&format!("/{name}/x")).status, 200, "{name}");
        }
        // Good connections to the same address lie ready, verified for others.
        assert_eq!(
            gateway.get("/bad").is(),
            (502, "upstream_tls_failed".into())
        );
    }
    let asked = backend.asked();
    assert_eq!(asked.len(), 18);
    for (at, first) in asked[..6].iter().enumerate() {
        let again = [&asked[at + 6], &asked[at + 12]];
        assert!(
            again.iter().all(|a| a.connection == first.connection),
            "{asked:?}"
        );
        let others = asked[..6]
            .iter()
            .filter(|o| o.connection == first.connection);
        assert_eq!(others.count(), 1, "{asked:?}");
    }
}

#[test]
fn a_target_that_fails_at_tls_is_passed_over_and_opens_the_breaker() {
    let ca = Authority::new("internal");
    let bad = Backend::start(Speaks::tls(&ca.expired(&["users.test"]), HTTP1));
    let good = Backend::start(Speaks::tls(&ca.certify(&["users.test"]), HTTP1));
    let tls = "tls: { server_name: users.test, ca: ca.pem }";
    let (targets, files) = ([bad.to_string(), good.to_string()], [("ca.pem", ca.pem())]);
    let both = gateway(
        &[&targets[0], &targets[1]],
        &format!("{tls}, retries: 1"),
        &files,
    );
    for _ in 0..6 {
        let answer = both.ask(&Req::post("/", "body"));
        assert_eq!(
            answer.status, 200,
            "nothing was sent, so any method goes on"
        );
    }
    assert_eq!((bad.hits(), good.hits()), (0, 6));
    let breaker = "circuit_breaker: { min_requests: 3 }, retries: 0";
    let alone = gateway(&[&targets[0]], &format!("{tls}, {breaker}"), &files);
    for _ in 0..3 {
        assert_eq!(alone.get("/").is(), (502, "upstream_tls_failed".into()));
    }
    assert_eq!(alone.get("/").is(), (503, "circuit_open".into()));
    alone.counts("tollgate_refusals_total{reason=\"upstream_tls_failed\"}", 3);
}

fn usable(gateway: &Gateway) -> u64 {
    gateway.metric("tollgate_upstream_healthy_targets{upstream=\"up\"}")
}

const CHECK: &str =
    "health_check: { http: /health, interval: 300ms, timeout: 300ms, unhealthy: 1 }";

#[test]
fn checks_go_the_way_of_requests() {
    let ca = Authority::new("internal");
    let certificate = ca.certify(&["users.test"]);
    let all = ["h2", "http/1.1"];
    for (protocol, offers, http2) in [
        ("http1", &all[..], false),
        ("http2", &all[..1], true),
        ("auto", &all[..], true),
        ("auto", &all[1..], false),
    ] {
        let backend = Backend::start(Speaks::tls(&certificate, offers));
        let gateway = to(&backend, &ca, &format!("protocol: {protocol}, {CHECK}"));
        assert_eq!(usable(&gateway), 1, "{protocol} {offers:?}");
        eventually("some checks", || backend.hits() > 3);
        let asked = backend.last();
        assert_eq!((&*asked.path, asked.http2), ("/health", http2));
        assert_eq!(asked.authority, backend.to_string());
        assert_eq!(asked.sni.as_deref(), Some("users.test"));
        assert_eq!(asked.scheme.as_deref(), http2.then_some("https"));
        assert!(asked.connection >= 3, "each with a connection of its own");
        eventually("none is left behind", || backend.open() == 0);
    }
}

#[test]
fn a_check_fails_where_a_request_would() {
    let (ca, stranger) = (Authority::new("internal"), Authority::new("another"));
    let certificate = ca.certify(&["users.test"]);
    let backend = Backend::start(Speaks::tls(&certificate, HTTP1));
    let gateway = to(&backend, &stranger, CHECK);
    assert_eq!(usable(&gateway), 0);
    told(
        &backend,
        "is unhealthy: certificate refused: unable to get local",
    );
    assert_eq!(gateway.get("/").is(), (503, "no_healthy_target".into()));
    let backend = Backend::start(Speaks::tls(&certificate, &[]));
    let gateway = to(&backend, &ca, &format!("protocol: http2, {CHECK}"));
    assert_eq!(usable(&gateway), 0);
    told(&backend, "does not speak HTTP/2");
    assert_eq!(backend.hits(), 0);
    // A TCP check sees no further than TCP.
    let backend = Backend::start(Speaks::tls(&certificate, HTTP1));
    let gateway = to(
        &backend,
        &stranger,
        "health_check: { tcp: true }, retries: 0",
    );
    assert_eq!(usable(&gateway), 1);
    assert_eq!(gateway.get("/").is(), (502, "upstream_tls_failed".into()));
}

#[test]
fn one_that_asks_for_http_1_1_gets_it_where_that_is_allowed() {
    let ca = Authority::new("internal");
    let speaks = Speaks::tls(&ca.certify(&["users.test"]), &["h2", "http/1.1"]);
    let backend = Backend::scripted(speaks, |asked| match asked.http2 {
        true => Reply::Reset(h2::Reason::HTTP_1_1_REQUIRED),
        false => Reply::ok("as it was"),
    });
    let gateway = to(&backend, &ca, "protocol: auto, retries: 1");
    for attempts in [2, 1] {
        let answer = gateway.get("/");
        assert_eq!((answer.status, answer.text()), (200, "as it was"));
        assert_eq!(gateway.line(&answer)["attempts"], attempts);
    }
}

/// The binary with the authorities of a machine that we make up: a file, and a folder.
fn binary(args: &[&str], file: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(args).env_remove("RUST_LOG");
    command
        .env("SSL_CERT_FILE", file)
        .env("SSL_CERT_DIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_machines_own_authorities_are_believed_by_default_and_must_be_there() {
    let ca = Authority::new("a machine's");
    let backend = Backend::start(Speaks::tls(&ca.certify(&["users.test"]), HTTP1));
    let dir = tempfile::tempdir().expect("a folder");
    let (config, file) = (dir.path().join("t.yaml"), dir.path().join("ca.pem"));
    let folder = dir.path().join("certs");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, ca.pem()).unwrap();
    // Nobody else in this process listens on this address.
    let address = "127.99.0.1:8080";
    let text = format!(
        "listeners: [{{ name: public, address: \"{address}\" }}]\n\
         log: {{ access: off }}\n\
         upstreams:\n  - name: up\n    targets: [\"{backend}\"]\n    \
         tls: {{ server_name: users.test }}\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let mut running = binary(&["run", "-c", config], &file, &folder);
    let running = running.stderr(Stdio::null()).spawn();
    let _running = Running(running.expect("the binary runs"));
    eventually("it listens", || TcpStream::connect(address).is_ok());
    let answer = Client::open(address.parse().unwrap()).ask(&Req::get("/x"));
    assert_eq!((answer.status, answer.text()), (200, "/x"));

    let ended = binary(&["check", "-c", config], Path::new("/dev/null"), &folder).output();
    let ended = ended.expect("the binary runs");
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(64), "{said}");
    let want = ":6:10: upstreams[up].tls: cannot be used on this machine (it has no certificate \
                authorities to verify with: install the package `ca-certificates`, or write `ca`)";
    assert!(said.contains(want), "{said}");
    // One in the folder is enough.
    std::fs::write(folder.join("0a1b2c3d.0"), ca.pem()).unwrap();
    let ended = binary(&["check", "-c", config], Path::new("/dev/null"), &folder).output();
    assert_eq!(ended.expect("the binary runs").status.code(), Some(0));
}
