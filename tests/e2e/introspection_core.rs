//! Tokens that their issuer is asked about (RFC 7662): what it is asked, how often, and what becomes
//! of its answers. The gateway's own part is in `introspection`.

use crate::support::{Act, Gate, Origin, Seen, Stopwatch, eventually, patience, stderr};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tollgate::base::clock::Clock;
use tollgate::base::secret::Secret;
use tollgate::identity::claims::ClaimMap;
use tollgate::identity::introspect::{
    ClientAuth, Introspection, IntrospectionRules, OpaqueFault, TokenVerdict,
};
use tollgate::observe::metrics::Metrics;

/// What an issuer is told and a request asks, without a gateway around it.
struct Asker {
    introspection: Arc<Introspection>,
    clock: Clock,
    metrics: Arc<Metrics>,
    _background: Runtime,
    stop: watch::Sender<bool>,
}

impl Asker {
    fn new(origin: &Origin) -> Asker {
        Self::with(origin, |_| {})
    }

    fn with(origin: &Origin, change: impl FnOnce(&mut IntrospectionRules)) -> Asker {
        stderr::keep();
        let mut rules = rules(origin);
        change(&mut rules);
        let metrics = Arc::new(Metrics::new("0", 0));
        let clock = Clock::system();
        let handle = metrics.introspection(&rules.name);
        let made = Introspection::new(rules, clock.clone(), handle);
        let introspection = Arc::new(made.expect("good rules"));
        let background = background();
        let stop = watch::Sender::new(false);
        let task = introspection
            .task(stop.subscribe())
            .expect("the first call");
        background.spawn(task);
        assert!(introspection.task(stop.subscribe()).is_none(), "one task");
        Asker {
            introspection,
            clock,
            metrics,
            _background: background,
            stop,
        }
    }

    fn judge(&self, token: &str, asked: bool) -> TokenVerdict {
        self.introspection.judge(token, self.clock.now(), asked)
    }

    /// As a request does it.
    async fn request(&self, token: &str) -> TokenVerdict {
        match self.judge(token, false) {
            TokenVerdict::Ask => {
                self.introspection.look_up(token).await;
                self.judge(token, true)
            }
            known => known,
        }
    }

    fn ask(&self, token: &str) -> TokenVerdict {
        on_a_worker(self.request(token))
    }

    fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|l| l == line)
    }
}

fn rules(origin: &Origin) -> IntrospectionRules {
    IntrospectionRules {
        name: "sso".to_owned(),
        url: format!("http://{origin}/introspect"),
        insecure_http: false,
        client_id: "gateway".to_owned(),
        client_secret: Secret::new("hunter2"),
        client_auth: ClientAuth::Basic,
        issuer: None,
        audiences: None,
        leeway: Duration::from_secs(30),
        timeout: Duration::from_secs(2),
        ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(5),
        max_cached: 1024,
        claims: ClaimMap::default(),
        shared: None,
    }
}

/// As the server has one.
fn background() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// Requests are on runtimes of one thread, away from the queries.
fn on_a_worker<F: Future>(future: F) -> F::Output {
    let worker = Builder::new_current_thread().enable_all().build();
    worker.expect("a runtime").block_on(future)
}

fn json_answer(answer: &Value) -> Act {
    let typed = ("Content-Type", "application/json;charset=UTF-8".to_owned());
    Act::Answer(200, vec![typed], answer.to_string().into_bytes())
}

/// An issuer that answers this about every token.
fn issuer(answer: Value) -> Origin {
    Origin::scripted(move |_| json_answer(&answer))
}

fn good() -> Value {
    json!({"active": true, "sub": "alice", "client_id": "web", "scope": "read"})
}

#[track_caller]
fn user(verdict: &TokenVerdict) -> &str {
    match verdict {
        TokenVerdict::Known(caller) => caller.user.as_deref().expect("a user"),
        other => panic!("{other:?}"),
    }
}

fn refused(fault: OpaqueFault) -> TokenVerdict {
    TokenVerdict::Refused(fault)
}

fn body(seen: &Seen) -> String {
    String::from_utf8(seen.body.clone()).expect("text")
}

/// RFC 7662 §2.1, RFC 6749 §2.3.1: the bytes.
#[test]
fn what_is_asked() {
    let origin = issuer(good());
    let asker = Asker::with(&origin, |rules| {
        rules.client_id = "gate:way".to_owned();
        rules.client_secret = Secret::new("s%+é =");
    });
    assert_eq!(user(&asker.ask("2YotnFZFE/jr1z+C~s._-==")), "alice");
    let seen = origin.last();
    assert_eq!((&*seen.method, &*seen.target), ("POST", "/introspect"));
    assert_eq!(
        body(&seen),
        "token=2YotnFZFE%2Fjr1z%2BC%7Es._-%3D%3D&token_type_hint=access_token"
    );
    let form = "application/x-www-form-urlencoded";
    assert_eq!(seen.header("content-type"), Some(form));
    assert_eq!(seen.header("accept"), Some("application/json"));
    // gate%3Away:s%25%2B%C3%A9+%3D
    let basic = "Basic Z2F0ZSUzQXdheTpzJTI1JTJCJUMzJUE5KyUzRA==";
    assert_eq!(seen.header("authorization"), Some(basic));
    let length = seen.body.len().to_string();
    assert_eq!(seen.header("content-length"), Some(&*length));

    let posts = Asker::with(&origin, |rules| {
        rules.client_id = "gate:way".to_owned();
        rules.client_secret = Secret::new("s%+é&=");
        rules.client_auth = ClientAuth::Post;
    });
    posts.ask("abc");
    let seen = origin.last();
    assert_eq!(
        body(&seen),
        "token=abc&token_type_hint=access_token&client_id=gate%3Away&client_secret=s%25%2B%C3%A9%26%3D"
    );
    assert_eq!(seen.header("authorization"), None);
}

#[test]
fn nothing_that_is_no_bearer_token_is_asked_about() {
    let origin = issuer(good());
    let asker = Asker::new(&origin);
    let longest = "a".repeat(8192);
    let longer = format!("{longest}a");
    assert_eq!(asker.ask(&longer), refused(OpaqueFault::TooLarge));
    for bad in [
        "", "=", "a=b", "a b", "a\"", "a,b", "a%20", "ä", "a\u{0}", "{}",
    ] {
        assert_eq!(asker.ask(bad), refused(OpaqueFault::Malformed), "{bad:?}");
        on_a_worker(asker.introspection.look_up(bad));
    }
    assert_eq!(origin.begun(), 0);
    assert_eq!(user(&asker.ask(&longest)), "alice");
    assert!(!asker.introspection.is_cached(&longer, asker.clock.now()));
}

#[test]
fn an_answer_counts_for_its_time_and_a_refusal_for_less() {
    let origin = Origin::scripted(|seen| {
        let active = !body(seen).contains("token=bad");
        json_answer(&json!({"active": active, "sub": "alice"}))
    });
    let asker = Asker::new(&origin);
    for _ in 0..3 {
        assert_eq!(user(&asker.ask("good")), "alice");
        assert_eq!(asker.ask("bad"), refused(OpaqueFault::Inactive));
    }
    assert_eq!(origin.hits(), 2);
    let cached = |token| asker.introspection.is_cached(token, asker.clock.now());
    assert!(cached("good") && !cached("bad") && !cached("other"));
    asker.advance(5_000);
    asker.ask("good");
    asker.ask("bad");
    assert_eq!(origin.hits(), 3, "the refusal is over");
    asker.advance(50_000);
    asker.ask("good");
    assert_eq!(origin.hits(), 3);
    asker.advance(5_000);
    assert!(!cached("good"));
    asker.ask("good");
    assert_eq!(origin.hits(), 4, "a minute is over");
    for line in [
        "tollgate_introspections_total{issuer=\"sso\",result=\"active\"} 2",
        "tollgate_introspections_total{issuer=\"sso\",result=\"inactive\"} 2",
        "tollgate_introspection_cache_lookups_total{issuer=\"sso\",result=\"hit\"} 6",
        "tollgate_introspection_cache_lookups_total{issuer=\"sso\",result=\"miss\"} 4",
        "tollgate_introspection_duration_seconds_count{issuer=\"sso\"} 4",
        "tollgate_introspections_in_flight{issuer=\"sso\"} 0",
    ] {
        assert!(asker.shows(line), "{line}");
    }
}

#[test]
fn never_beyond_the_tokens_own_end() {
    let clock = Clock::system();
    let exp = clock.now().unix_s() + 20;
    let origin = issuer(json!({"active": true, "sub": "alice", "exp": exp}));
    let asker = Asker::new(&origin);
    asker.ask("t");
    asker.advance(18_000);
    asker.ask("t");
    assert_eq!(origin.hits(), 1);
    asker.advance(3_000);
    assert!(!asker.introspection.is_cached("t", asker.clock.now()));
    assert_eq!(user(&asker.ask("t")), "alice", "within the leeway");
    assert_eq!(origin.hits(), 2, "but its issuer is asked");
    asker.advance(31_000);
    assert_eq!(asker.ask("t"), refused(OpaqueFault::Expired));
    assert_eq!(origin.hits(), 3);
    assert_eq!(asker.ask("t"), refused(OpaqueFault::Expired));
    assert_eq!(
        origin.hits(),
        3,
        "that it is over is remembered as any refusal"
    );
}

#[test]
fn tokens_for_others_and_for_later() {
    let origin = issuer(good());
    let asker = Asker::with(&origin, |rules| {
        rules.issuer = Some("https://sso.example/".to_owned());
        rules.audiences = Some(vec!["api".to_owned()]);
    });
    let now_s = asker.clock.now().unix_s();
    let cases = [
        (
            "a",
            json!({"iss": "https://sso.example/", "aud": ["x", "api"]}),
            None,
        ),
        ("b", json!({"aud": "api"}), Some(OpaqueFault::WrongIssuer)),
        (
            "c",
            json!({"iss": "https://evil.example/", "aud": "api"}),
            Some(OpaqueFault::WrongIssuer),
        ),
        (
            "d",
            json!({"iss": "https://sso.example/"}),
            Some(OpaqueFault::WrongAudience),
        ),
        (
            "e",
            json!({"iss": "https://sso.example/", "aud": "x"}),
            Some(OpaqueFault::WrongAudience),
        ),
        (
            "f",
            json!({"iss": "https://sso.example/", "aud": "api", "nbf": now_s + 90}),
            Some(OpaqueFault::NotYetValid),
        ),
        (
            "g",
            json!({"iss": "https://sso.example/", "aud": "api", "exp": now_s - 31}),
            Some(OpaqueFault::Expired),
        ),
        (
            "h",
            json!({"iss": "https://sso.example/", "aud": "api", "token_type": "DPoP"}),
            Some(OpaqueFault::WrongType),
        ),
        (
            "i",
            json!({"iss": "https://sso.example/", "aud": "api", "roles": 1}),
            Some(OpaqueFault::BadClaim("roles")),
        ),
    ];
    for (token, members, want) in cases {
        let mut answer = members;
        answer["active"] = true.into();
        answer["sub"] = "alice".into();
        origin.script(move |_| json_answer(&answer));
        match (asker.ask(token), want) {
            (TokenVerdict::Known(_), None) => {}
            (TokenVerdict::Refused(found), Some(want)) => assert_eq!(found, want, "{token}"),
            (found, want) => panic!("{token}: {found:?}, want {want:?}"),
        }
        let hits = origin.hits();
        asker.ask(token);
        assert_eq!(origin.hits(), hits, "{token} is remembered");
    }
}

#[test]
fn what_is_no_answer_is_no_refusal_and_is_not_remembered() {
    let origin = Origin::start();
    let asker = Asker::new(&origin);
    let typed = |kind: &str, body: &[u8]| {
        Act::Answer(200, vec![("Content-Type", kind.to_owned())], body.to_vec())
    };
    let fine = good().to_string().into_bytes();
    let mut huge = good();
    huge["pad"] = "x".repeat(64 * 1024).into();
    let acts = [
        Act::ok(fine.clone()),
        typed("text/html", b"<html>"),
        typed("text/json", &fine),
        typed("application/json", b"<html>"),
        typed("application/json", b""),
        typed("application/json", b"{\"active\":\"yes\"}"),
        typed(
            "application/json",
            b"{\"active\":true,\"active\":true,\"sub\":\"u\"}",
        ),
        typed(
            "application/json",
            b"{\"active\":true,\"sub\":\"u\",\"exp\":\"1\"}",
        ),
        json_answer(&huge),
        Act::status(204),
        Act::status(400),
        Act::status(404),
        Act::Answer(
            302,
            vec![("Location", format!("http://{origin}/other"))],
            Vec::new(),
        ),
    ];
    for (n, act) in acts.into_iter().enumerate() {
        origin.script(move |_| act.clone());
        let hits = origin.hits();
        assert_eq!(asker.ask("token"), TokenVerdict::Invalid, "{n}");
        assert_eq!(
            origin.hits(),
            hits + 1,
            "{n}: asked once, no redirect followed"
        );
    }
    assert!(
        !asker.introspection.status().given_up,
        "it may be about this token"
    );
    origin.script(|_| json_answer(&good()));
    assert_eq!(user(&asker.ask("token")), "alice");
    assert!(asker.shows("tollgate_introspections_total{issuer=\"sso\",result=\"invalid\"} 13"));
}

#[test]
fn an_issuer_that_cannot_be_asked_is_no_refusal() {
    let origin = Origin::start();
    let asker = Asker::with(&origin, |rules| rules.timeout = Duration::from_millis(200));
    let acts = [
        Act::status(500),
        Act::status(503),
        Act::status(429),
        Act::reset(),
        Act::RawThenClose(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
                .to_vec(),
        ),
        Act::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()),
        Act::Hang,
    ];
    for (n, act) in acts.into_iter().enumerate() {
        origin.script(move |_| act.clone());
        assert_eq!(asker.ask("token"), TokenVerdict::Unavailable, "{n}");
        // Not given up so far.
        origin.script(|_| json_answer(&good()));
        assert_eq!(user(&asker.ask(&format!("other{n}"))), "alice");
    }
    origin.stop();
    assert_eq!(asker.ask("token"), TokenVerdict::Unavailable);
    // What is known goes on being good.
    assert_eq!(user(&asker.ask("other0")), "alice");
}

/// What a request that waited is told does not depend on an answer from before.
#[test]
fn without_a_cache_every_request_asks() {
    let origin = issuer(good());
    let asker = Asker::with(&origin, |rules| {
        (rules.ttl, rules.negative_ttl) = (Duration::ZERO, Duration::ZERO);
    });
    for n in 1..=3 {
        assert_eq!(user(&asker.ask("token")), "alice");
        assert_eq!(origin.hits(), n);
    }
    origin.script(|_| json_answer(&json!({"active": false})));
    assert_eq!(asker.ask("token"), refused(OpaqueFault::Inactive));
    origin.script(|_| Act::status(503));
    assert_eq!(asker.ask("token"), TokenVerdict::Unavailable);
    assert!(!asker.introspection.is_cached("token", asker.clock.now()));
}

#[test]
fn refused_credentials_of_our_own_are_told_loudly_and_not_to_clients() {
    let origin = Origin::scripted(|_| Act::status(401));
    let asker = Asker::with(&origin, |rules| rules.name = "loud".to_owned());
    assert_eq!(
        asker.ask("secret-token-of-a-client"),
        TokenVerdict::Unavailable
    );
    let lines = stderr::lines();
    let told = |l: &&String| l.contains("identity loud") && l.contains("client_secret");
    let line = lines.iter().find(told).expect("a line");
    assert!(line.starts_with("WARN"), "{line}");
    for secret in ["hunter2", "secret-token-of-a-client"] {
        assert!(!lines.iter().any(|l| l.contains(secret)), "{secret}");
    }
    // Once in ten seconds, however often.
    let count = || {
        stderr::lines()
            .iter()
            .filter(|l| l.contains("identity loud") && l.contains("client_secret"))
            .count()
    };
    for n in 0..3 {
        asker.ask(&format!("token{n}"));
    }
    assert_eq!(count(), 1);
    asker.advance(10_000);
    asker.ask("token");
    assert_eq!(count(), 2);
}

#[test]
fn a_dead_issuer_costs_a_probe_a_second_and_not_a_wait_a_request() {
    let origin = Origin::scripted(|_| Act::Hang);
    let asker = Asker::with(&origin, |rules| rules.timeout = Duration::from_millis(100));
    for n in 0..5 {
        assert_eq!(asker.ask(&format!("t{n}")), TokenVerdict::Unavailable);
    }
    assert!(asker.introspection.status().given_up);
    assert!(asker.shows("tollgate_introspection_given_up{issuer=\"sso\"} 1"));
    let begun = origin.begun();
    let watch = Stopwatch::start();
    for n in 0..50 {
        assert_eq!(asker.ask(&format!("u{n}")), TokenVerdict::Unavailable);
    }
    // Fifty waits would be five seconds.
    assert!(origin.begun() <= begun + 3, "{}", origin.begun() - begun);
    assert!(watch.passed() < Duration::from_secs(3));
    asker.advance(1_000);
    origin.script(|_| json_answer(&good()));
    assert_eq!(
        user(&asker.ask("v")),
        "alice",
        "the probe itself is answered"
    );
    assert!(!asker.introspection.status().given_up);
    assert!(asker.shows("tollgate_introspection_given_up{issuer=\"sso\"} 0"));
    assert_eq!(user(&asker.ask("w")), "alice");
}

#[test]
fn one_query_however_many_ask_and_whoever_goes_away() {
    let gate = Gate::new();
    let act = Act::At(gate.clone(), Box::new(json_answer(&good())));
    let origin = Origin::scripted(move |_| act.clone());
    let asker = Arc::new(Asker::with(&origin, |rules| rules.timeout = patience()));
    let worker = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let worker = worker.expect("a runtime");
    let one = |token: &'static str| {
        let asker = asker.clone();
        worker.spawn(async move { asker.request(token).await })
    };
    let first = one("token");
    eventually("a query", || origin.begun() == 1);
    let rest: Vec<_> = (0..200).map(|_| one("token")).collect();
    let other = one("other");
    eventually("a query about another token", || origin.begun() == 2);
    // Whoever asked first does not wait for the answer.
    first.abort();
    gate.open();
    for request in rest {
        let verdict = worker.block_on(request).expect("an end");
        assert_eq!(user(&verdict), "alice");
    }
    assert_eq!(user(&worker.block_on(other).expect("an end")), "alice");
    assert_eq!(origin.hits(), 2);
}

#[test]
fn queries_under_way_are_bounded() {
    let gate = Gate::new();
    let act = Act::At(gate.clone(), Box::new(json_answer(&good())));
    let origin = Origin::scripted(move |_| act.clone());
    let asker = Arc::new(Asker::with(&origin, |rules| rules.timeout = patience()));
    let worker = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let worker = worker.expect("a runtime");
    let requests: Vec<_> = (0..300)
        .map(|n| {
            let asker = asker.clone();
            worker.spawn(async move { asker.request(&format!("token{n}")).await })
        })
        .collect();
    eventually("as many as there may be", || origin.begun() == 256);
    eventually("those beyond are answered", || {
        requests.iter().filter(|r| r.is_finished()).count() == 44
    });
    assert_eq!(origin.begun(), 256);
    gate.open();
    let verdicts: Vec<_> = requests
        .into_iter()
        .map(|r| worker.block_on(r).expect("an end"))
        .collect();
    let known = |v: &&TokenVerdict| matches!(v, TokenVerdict::Known(_));
    assert_eq!(verdicts.iter().filter(known).count(), 256);
    let beyond = |v: &&TokenVerdict| **v == TokenVerdict::Unavailable;
    assert_eq!(verdicts.iter().filter(beyond).count(), 44);
    assert!(asker.shows("tollgate_introspections_total{issuer=\"sso\",result=\"skipped\"} 44"));
}

/// Connections are kept, and one that was closed meanwhile costs nobody an answer.
#[test]
fn connections_are_kept_and_made_anew() {
    let origin = issuer(good());
    let asker = Asker::new(&origin);
    for n in 0..20 {
        asker.ask(&format!("t{n}"));
    }
    assert!(origin.accepted() < 20, "{}", origin.accepted());
    for n in 0..20 {
        origin.close_connections();
        assert_eq!(user(&asker.ask(&format!("u{n}"))), "alice", "{n}");
    }
}

/// As with a snapshot that no request uses any more.
#[test]
fn the_task_ends_with_the_last_who_could_ask() {
    let gate = Gate::new();
    let act = Act::At(gate.clone(), Box::new(json_answer(&good())));
    let origin = Origin::scripted(move |_| act.clone());
    let metrics = Metrics::new("0", 0);
    let handle = metrics.introspection("sso");
    let mut rules = rules(&origin);
    rules.timeout = patience();
    let made = Introspection::new(rules, Clock::system(), handle).expect("good rules");
    let background = background();
    let (_stop, stopping) = watch::channel(false);
    let task = background.spawn(made.task(stopping).expect("the first call"));
    on_a_worker(async {
        let asked = tokio::time::timeout(Duration::from_millis(50), made.look_up("token"));
        assert!(asked.await.is_err(), "the gate is closed");
    });
    eventually("the query", || origin.begun() == 1);
    drop(made);
    assert!(!task.is_finished(), "its query is under way");
    gate.open();
    let ended = background.block_on(async { tokio::time::timeout(patience(), task).await });
    ended.expect("an end").expect("no panic");
}
