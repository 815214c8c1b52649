//! Another config while it serves: what changes does so at once, what does not goes on untouched,
//! and what cannot be used changes nothing.

use super::support::*;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use tollgate::filter::rate_limit::Counts;
use tollgate::limit::heir::Heir;
use tollgate::limit::quota::Quota;
use tollgate::limit::{Decision, Key};

fn upstreams(origin: &Origin) -> String {
    format!("upstreams: [{{ name: up, targets: [\"{origin}\"], retries: 0 }}]\n")
}

const OPEN: &str = "{ name: r, match: { path: / }, auth: none, to: up }";

fn open(origin: &Origin) -> String {
    format!("{}routes: [{OPEN}]\n", upstreams(origin))
}

#[test]
fn routes_change_at_once_and_a_request_ends_by_the_config_it_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let old = Origin::scripted(move |_| Act::At(held.clone(), Box::new(Act::ok("old"))));
    let new = Origin::scripted(|_| Act::ok("new"));
    let gateway = Gateway::start(&open(&old));
    let mut busy = gateway.connect();
    busy.send(Req::get("/").bytes());
    eventually("in flight", || old.hits() == 1);
    let mut kept = gateway.connect();
    kept.send(Req::get("/").bytes());
    eventually("in flight", || old.hits() == 2);
    assert_eq!(
        gateway.reload(&open(&new)),
        Ok(vec!["upstream `up`: changed".to_owned()])
    );
    assert_eq!(gateway.get("/").text(), "new");
    gate.open();
    assert_eq!(busy.read().text(), "old", "begun before");
    assert_eq!(kept.read().text(), "old");
    assert_eq!(
        kept.ask(&Req::get("/")).text(),
        "new",
        "on the same connection"
    );
    let text = open(&new).replace("path: /", "path: /api");
    assert_eq!(
        gateway.reload(&text),
        Ok(vec!["route `r`: changed".to_owned()])
    );
    assert_eq!(
        kept.ask(&Req::get("/")).is(),
        (404, "route_not_found".into())
    );
    assert_eq!(kept.ask(&Req::get("/api")).text(), "new");
    assert_eq!(gateway.reload(&text), Ok(Vec::new()), "nothing differs");
}

/// Nobody gains by a reload: neither by one that changes something else, nor by one that moves the
/// route, nor by one that changes the limit itself.
#[test]
fn counts_go_on() {
    let origin = Origin::start();
    let text = |rate: &str, routes: &str| {
        format!(
            "{}limits: [{{ name: few, key: address, algorithm: sliding_window, rate: {rate} }}]\n\
             routes: [{routes}]\n",
            upstreams(&origin)
        )
    };
    let limited = "{ name: r, match: { path: / }, auth: none, limits: [few], to: up }";
    let other = "{ name: first, match: { path: /first }, auth: none, limits: [few], to: up }";
    let gateway = Gateway::start(&text("3/1h", limited));
    gateway.begin_window(3600);
    assert_eq!(gateway.get("/").number("x-ratelimit-remaining"), 2);
    let both = text("3/1h", &format!("{other}, {limited}"));
    assert_eq!(
        gateway.reload(&both),
        Ok(vec!["route `first`: added".to_owned()])
    );
    assert_eq!(
        gateway.get("/").number("x-ratelimit-remaining"),
        1,
        "its place has changed"
    );
    assert_eq!(
        gateway.get("/first").number("x-ratelimit-remaining"),
        2,
        "by itself"
    );
    let more = both.replace("3/1h", "4/1h");
    assert_eq!(
        gateway.reload(&more),
        Ok(vec!["limit `few`: changed".to_owned()])
    );
    assert_eq!(
        gateway.get("/").number("x-ratelimit-remaining"),
        1,
        "2 of 4 were used"
    );
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.get("/").status, 429);
    assert_eq!(gateway.reload(&both).map(|all| all.len()), Ok(1));
    assert_eq!(gateway.get("/").status, 429);
    assert_eq!(gateway.get("/first").status, 200);
}

/// With reloads in a loop a client gets what it gets without.
#[test]
fn reloads_in_a_loop_grant_nobody_more() {
    let origin = Origin::start();
    let text = |rest: &str| {
        format!(
            "{}limits: [{{ name: few, key: address, algorithm: sliding_window, rate: 50/1h }}]\n\
             routes: [{{ name: r, match: {{ path: / }}, auth: none, limits: [few], to: up }}{rest}]\n",
            upstreams(&origin)
        )
    };
    let gateway = Gateway::start(&text(""));
    gateway.begin_window(3600);
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let asking = s.spawn(|| {
            let mut client = gateway.connect();
            let passed = (0..500)
                .filter(|_| client.ask(&Req::get("/")).status == 200)
                .count();
            done.store(true, SeqCst);
            passed
        });
        let mut n = 0;
        while !done.load(SeqCst) {
            n += 1;
            let more = format!(
                ", {{ name: r{n}, match: {{ path: /{n} }}, auth: none, limits: [few], to: up }}"
            );
            assert_eq!(
                gateway.reload(&text(&more)).map(|all| all.is_empty()),
                Ok(false)
            );
        }
        assert_eq!(
            asking.join().expect("no panic"),
            50,
            "of 500, with {n} reloads"
        );
        assert!(n > 3, "{n} reloads");
    });
}

#[test]
fn circuits_targets_and_keys_go_on() {
    let issuer = Origin::scripted(|_| Act::ok(mint::jwks(&[mint::jwk("rsa-a", "a")])));
    let (sick, well) = (Origin::scripted(|_| Act::status(500)), Origin::start());
    let text = |more: &str| {
        format!(
            "server: {{ workers: 1, drain: {{ idle: 0s, max: 5s }} }}\n\
             identity: {{ jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [RS256],\n\
             \x20 jwks: {{ url: \"http://{issuer}/jwks.json\", refresh: 1h }} }}] }}\n\
             upstreams:\n\
             - {{ name: sick, targets: [\"{sick}\"], retries: 0 }}\n\
             - {{ name: well, targets: [\"{well}\"]{more} }}\n\
             routes:\n\
             - {{ name: sick, match: {{ path: /sick }}, auth: none, to: sick }}\n\
             - {{ name: well, match: {{ path: / }}, auth: {{ any: [corp] }}, to: well }}\n",
            mint::ISSUER
        )
    };
    let gateway = Gateway::start(&text(""));
    let ask = || {
        let claims = mint::claims(gateway.now_s());
        let token = mint::sign("rsa-a", "RS256", Some("a"), &claims);
        gateway.ask(&Req::get("/").bearer(&token)).status
    };
    for _ in 0..5 {
        assert_eq!(gateway.get("/sick").status, 500);
    }
    assert_eq!(gateway.get("/sick").is(), (503, "circuit_open".into()));
    assert_eq!(ask(), 200);
    let connections = well.accepted();
    for n in 1..=3 {
        let more = format!(", timeouts: {{ total: {}s }}", 20 + n);
        let changed = gateway.reload(&text(&more));
        assert_eq!(changed, Ok(vec!["upstream `well`: changed".to_owned()]));
        let sick = gateway.get("/sick").is();
        assert_eq!(sick, (503, "circuit_open".into()), "reload {n}");
        assert_eq!(ask(), 200);
    }
    assert_eq!(issuer.hits(), 1, "the keys are there");
    assert_eq!(
        well.accepted(),
        connections,
        "connections to a service are kept"
    );
    // Without the issuer nobody fetches; with it again, anew.
    let without = format!(
        "server: {{ workers: 1, drain: {{ idle: 0s, max: 5s }} }}\n{}",
        open(&well)
    );
    assert!(gateway.reload(&without).is_ok());
    assert_eq!(gateway.get("/").status, 200);
    assert!(gateway.reload(&text("")).is_ok());
    assert_eq!(issuer.hits(), 2);
    let sick = gateway.get("/sick").status;
    assert_eq!(sick, 500, "a new upstream has a new circuit");
}

#[test]
fn listeners_are_opened_closed_and_changed_while_connections_stay() {
    let origin = Origin::start();
    let text = |listeners: &str| format!("listeners: [{listeners}]\n{}", open(&origin));
    let free = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        socket.local_addr().expect("an address")
    };
    let (one, two) = (free(), free());
    let public = format!("{{ name: public, address: \"{one}\" }}");
    let gateway = Gateway::start(&text(&public));
    let mut early = gateway.connect();
    assert_eq!(early.ask(&Req::get("/")).status, 200);
    let with_second = format!("{public}, {{ name: second, address: \"{two}\" }}");
    let added = gateway.reload(&text(&with_second));
    assert_eq!(added, Ok(vec!["listener `second`: added".to_owned()]));
    let mut second = Client::open(two);
    assert_eq!(second.ask(&Req::get("/")).status, 200);
    // A change of terms is for connections to come; the address is never closed.
    let strict = with_second.replace("\" }, ", "\", max_uri_bytes: 100B }, ");
    let long = Req::get(&format!("/{}", "x".repeat(200)));
    assert_eq!(
        gateway.reload(&text(&strict)),
        Ok(vec!["listener `public`: changed".to_owned()])
    );
    assert_eq!(early.ask(&long).status, 200, "it came in by other terms");
    assert_eq!(gateway.ask(&long).status, 414);
    // Another name for the same address.
    let renamed = strict.replace("name: public", "name: front");
    assert_eq!(gateway.reload(&text(&renamed)).map(|all| all.len()), Ok(2));
    assert_eq!(early.ask(&Req::get("/")).status, 200);
    assert_eq!(gateway.ask(&long).status, 414);
    let alone = renamed
        .split(", { name: second")
        .next()
        .expect("a listener");
    let removed = gateway.reload(&text(alone));
    assert_eq!(removed, Ok(vec!["listener `second`: removed".to_owned()]));
    assert!(TcpStream::connect(two).is_err(), "really closed");
    second.ends();
    assert_eq!(early.ask(&Req::get("/")).status, 200);
    assert!(!gateway.metrics().contains("listener=\"second\""));
    assert!(gateway.drain(), "nothing is left of any of them");
}

#[test]
fn a_listener_that_is_removed_lets_idle_connections_ask_once_more() {
    let origin = Origin::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr());
    let second = free.expect("an address");
    let text = |more: &str| {
        format!(
            "server: {{ workers: 1, drain: {{ idle: 60s, max: 60s }} }}\n\
             listeners: [{{ name: public, address: \"127.0.0.1:0\" }}{more}]\n{}",
            open(&origin)
        )
    };
    let both = text(&format!(", {{ name: second, address: \"{second}\" }}"));
    let gateway = Gateway::start(&both);
    let (mut stays, mut goes) = (gateway.connect(), Client::open(second));
    for client in [&mut stays, &mut goes] {
        assert_eq!(client.ask(&Req::get("/")).status, 200);
    }
    assert!(gateway.reload(&text("")).is_ok());
    assert!(TcpStream::connect(second).is_err(), "closed");
    let last = goes.ask(&Req::get("/"));
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    goes.ends();
    let answer = stays.ask(&Req::get("/"));
    assert_ne!(answer.header("connection"), Some("close"));
}

#[test]
fn whatever_cannot_be_used_changes_nothing() {
    let origin = Origin::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = taken.local_addr().map(|a| (a, taken)).expect("an address");
    let gateway = Gateway::start(&open(&origin));
    let failed = "tollgate_config_loads_total{result=\"failed\"}";
    let public = "{ name: public, address: \"127.0.0.1:0\" }";
    let cases = [
        (open(&origin).replace("to: up", "to: nowhere"), "nowhere"),
        (
            format!(
                "listeners: [{public}, {{ name: more, address: \"{}\" }}]\n{}",
                taken.0,
                open(&origin)
            ),
            "listener more: cannot bind",
        ),
        (
            format!(
                "listeners: [{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: no.pem, key: no.pem }}] }} }}]\n{}",
                open(&origin)
            ),
            "no.pem",
        ),
    ];
    for (n, (text, names)) in (1..).zip(cases) {
        let refused = gateway.reload(&text).expect_err("refused");
        assert!(refused.contains(names), "{refused}");
        assert_eq!(gateway.get("/").status, 200);
        assert_eq!(gateway.metric(failed), n, "{names}");
        assert_eq!(gateway.metric("tollgate_config_last_reload_successful"), 0);
        let told = gateway.status()["config"]["last_reload_fault"].to_string();
        assert!(told.contains(names), "{told}");
        assert!(!gateway.metrics().contains("listener=\"more\""));
    }
    let hash = |gateway: &Gateway| gateway.status()["config"]["hash"].clone();
    let before = hash(&gateway);
    assert!(
        gateway
            .reload(&format!("# other\n{}", open(&origin)))
            .is_ok()
    );
    assert_eq!(gateway.metric("tollgate_config_last_reload_successful"), 1);
    let config = gateway.status()["config"].clone();
    assert_ne!(config["hash"], before);
    let loaded_at = config["loaded_at"].as_u64().expect("seconds");
    assert!(loaded_at.abs_diff(gateway.now_s()) < 60);
    assert!(config["last_reload_fault"].is_null(), "{config}");
    let hash = config["hash"].as_str().expect("digits");
    assert_eq!(
        gateway.metric(&format!("tollgate_config_info{{hash=\"{hash}\"}}")),
        1
    );
}

/// The watchdog is told that all is well only while every worker gets to its timers.
#[test]
fn a_worker_that_is_stuck_is_no_life() {
    struct Stuck(Gate);
    impl Heir for Stuck {
        fn decide(&self, _: Quota, _: Key, _: u32, _: bool) -> Option<Decision> {
            self.0.pass();
            None
        }
    }
    let origin = Origin::start();
    let limit = "limits: [{ name: few, key: address, algorithm: sliding_window, rate: 5/1h }]\n";
    let text = open(&origin).replace("auth: none,", "auth: none, limits: [few],");
    let gateway = Gateway::start(&format!("{limit}{text}"));
    assert_eq!(gateway.alive(), Ok(()));
    let gate = Gate::new();
    let snapshot = gateway.shared().snapshot.load_full();
    let Counts::Exact(store, _) = &snapshot.kept.counts["few"] else {
        panic!("exact");
    };
    store.give(Arc::new(Stuck(gate.clone())));
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    eventually("a stuck worker", || gateway.alive().is_err());
    let told = gateway.alive();
    assert_eq!(
        told,
        Err("a worker has run no timer for a second".to_owned())
    );
    gate.open();
    assert_eq!(client.read().status, 200);
    assert_eq!(gateway.alive(), Ok(()));
}

/// Names come and go: a target that is not known yet keeps nobody from a new config.
#[test]
fn a_name_that_does_not_resolve_is_no_fault() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open(&origin));
    let text = open(&origin).replace("targets: [", "targets: [\"nowhere.invalid:80\", ");
    assert_eq!(
        gateway.reload(&text),
        Ok(vec!["upstream `up`: changed".to_owned()])
    );
    assert_eq!(gateway.get("/").status, 200);
}

/// A secret is changed in three steps: the new one beside the old, then the callers, then the old
/// one goes.
#[test]
fn two_secrets_hold_while_they_are_changed() {
    let origin = Origin::start();
    let key =
        |kid: &str, file: &str| format!("{{ kid: {kid}, alg: HS256, secret: \"file:{file}\" }}");
    let text = |keys: &str| {
        format!(
            "identity: {{ jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{keys}] }}] }}\n\
             {}routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
            mint::ISSUER,
            upstreams(&origin)
        )
    };
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let files = [("old.txt", old.as_str()), ("new.txt", new.as_str())];
    let gateway = Gateway::with_files(&text(&key("a", "old.txt")), &files);
    let ask = |secret: &str, kid: &str| {
        let token = mint::sign(secret, "HS256", Some(kid), &mint::claims(gateway.now_s()));
        gateway.ask(&Req::get("/").bearer(&token)).status
    };
    assert_eq!((ask(&old, "a"), ask(&new, "b")), (200, 401));
    let both = format!("{}, {}", key("a", "old.txt"), key("b", "new.txt"));
    assert!(gateway.reload(&text(&both)).is_ok());
    assert_eq!((ask(&old, "a"), ask(&new, "b")), (200, 200));
    assert!(gateway.reload(&text(&key("b", "new.txt"))).is_ok());
    assert_eq!(
        (ask(&old, "a"), ask(&new, "b")),
        (401, 200),
        "not from a cache either"
    );
    // What a file holds is read again, though the config is the same.
    gateway.write("new.txt", &old);
    let reread = gateway.reload(&text(&key("b", "new.txt")));
    assert_eq!(reread, Ok(vec!["issuer `corp`: changed".to_owned()]));
    assert_eq!((ask(&old, "b"), ask(&new, "b")), (200, 401));
}

#[test]
fn a_plan_says_what_a_reload_would_do_and_does_not() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open(&origin));
    let text = open(&origin).replace("path: /", "path: /api");
    let server = "server: { workers: 1, drain: { idle: 0s, max: 5s } }\n";
    let plan = gateway.plan(&format!("{server}{text}"));
    let later = "`server.workers`: changed, which takes effect with an upgrade or a restart";
    assert_eq!(
        plan,
        Ok(vec![later.to_owned(), "route `r`: changed".to_owned()])
    );
    assert_eq!(gateway.get("/").status, 200);
    assert!(gateway.plan(&text.replace("to: up", "to: x")).is_err());
    assert_eq!(gateway.metric("tollgate_config_last_reload_successful"), 1);
}

/// The short form of what `make test-long` does for an hour.
#[test]
fn no_request_fails_while_it_is_reloaded() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open(&origin));
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|s| {
        for n in 0..4 {
            let (done, asked, gateway) = (&done, &asked, &gateway);
            s.spawn(move || {
                let mut kept = gateway.connect();
                while !done.load(SeqCst) {
                    let answer = if n % 2 == 0 {
                        kept.ask(&Req::get("/"))
                    } else {
                        gateway.get("/")
                    };
                    assert_eq!(answer.status, 200);
                    asked.fetch_add(1, SeqCst);
                }
            });
        }
        for n in 0..20 {
            let listener = "{ name: public, address: \"127.0.0.1:0\", idle_timeout: ";
            let text = format!("listeners: [{listener}{}s }}]\n{}", 20 + n, open(&origin));
            assert_eq!(gateway.reload(&text).map(|all| all.len()), Ok(1));
            thread::sleep(Duration::from_millis(10));
        }
        done.store(true, SeqCst);
    });
    let asked = asked.into_inner();
    assert!(asked > 50, "{asked}");
}
