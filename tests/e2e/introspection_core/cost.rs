//! How often an issuer is asked, by how many at a time, and what it costs when it is away.

use super::*;

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
