//! What is revoked through one Redis, as the gateways that share it know it.

use super::support::redis::{Held, RedisServer};
use super::support::{Stopwatch, eventually};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tollgate::identity::principal::{Marks, Method, Principal};
use tollgate::identity::revoke::entry::{Revoked, message};
use tollgate::identity::revoke::{RevocationRules, Revocations};

const KEY: &str = "tollgate:revocations";
const ISSUER: &str = "https://issuer.test/";
const SOON: Duration = Duration::from_secs(1);

fn rules() -> RevocationRules {
    RevocationRules {
        key: KEY.to_owned(),
        scan: Duration::from_secs(3600),
        max_lag: Duration::from_secs(60),
        refuse: true,
        max_entries: 1_000_000,
    }
}

/// One gateway's set.
struct Side {
    held: Held,
    revocations: Arc<Revocations>,
    _stop: watch::Sender<bool>,
}

impl Side {
    /// One that knows all there is.
    #[track_caller]
    fn start(server: &RedisServer, rules: RevocationRules) -> Self {
        let side = Self::begin(server, rules);
        eventually("the set is complete", || side.lag() == Some(0));
        side
    }

    fn begin(server: &RedisServer, rules: RevocationRules) -> Self {
        let held = Held::new(server.rules());
        let metrics = held.metrics.revocations(KEY);
        let (redis, clock) = (held.redis.clone(), held.clock.clone());
        let made = Revocations::new(rules, redis, clock, metrics, None);
        let (revocations, stop) = (Arc::new(made), watch::Sender::new(false));
        held.runtime
            .spawn(revocations.clone().run(stop.subscribe()));
        Self {
            held,
            revocations,
            _stop: stop,
        }
    }

    fn lag(&self) -> Option<u64> {
        self.revocations.status().lag_s
    }

    fn is_stale(&self) -> bool {
        self.revocations.is_stale(self.held.clock.now())
    }

    /// The time as this gateway has it.
    fn now_s(&self) -> u64 {
        self.held.clock.now().unix_s()
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let text = self.held.metrics.render();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }
}

/// Everything a revocation can name.
fn caller() -> Principal {
    Principal {
        user: Some("alice".to_owned()),
        marks: Marks {
            issuer: Some(ISSUER.into()),
            jti: Some("t-1".into()),
            issued_s: Some(1000),
            kid: Some("k-1".into()),
        },
        ..Principal::new(Method::Jwt, &"corp".into())
    }
}

fn key_holder() -> Principal {
    Principal {
        client_id: Some("acme".to_owned()),
        key_id: Some("acme-1".to_owned()),
        ..Principal::new(Method::ApiKey, &"partners".into())
    }
}

fn token() -> Revoked {
    Revoked::Token {
        issuer: ISSUER.to_owned(),
        jti: "t-1".to_owned(),
    }
}

/// A config for the command line.
fn config(server: &RedisServer) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "redis: {{ url: \"{}\" }}\n\
         identity:\n  revocation: {{}}\n  jwt: [{{ name: corp, issuer: \"{ISSUER}\", audiences: [a], algorithms: [RS256], jwks: {{ url: \"https://issuer.test/keys\" }} }}]\n\
         listeners: [{{ name: l, address: \"127.0.0.1:0\" }}]\n\
         upstreams: [{{ name: u, targets: [\"127.0.0.1:1\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: u }}]\n",
        server.url()
    );
    let path = dir.path().join("tollgate.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

/// What the command prints, and its exit code.
fn revoke(config: &str, args: &[&str]) -> (Option<i32>, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let mut command = Command::new(program);
    command.args(["revoke", "-c", config]).args(args);
    let done = command.output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn whatever_is_revoked_is_known_to_both_within_a_second_and_can_be_taken_back() {
    let server = RedisServer::start();
    let sides = [Side::start(&server, rules()), Side::start(&server, rules())];
    let (_dir, config) = config(&server);
    let of = ["--issuer", ISSUER];
    for (args, named) in [
        (vec!["token", of[0], of[1], "--jti", "t-1"], caller()),
        (vec!["subject", of[0], of[1], "--sub", "alice"], caller()),
        (vec!["signing-key", of[0], of[1], "--kid", "k-1"], caller()),
        (vec!["key", "acme-1"], key_holder()),
    ] {
        // As it lies in a cache of verified tokens: compared a moment ago.
        assert!(sides.iter().all(|side| !side.revocations.covers(&named)));
        let (code, said) = revoke(&config, &args);
        let watch = Stopwatch::start();
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.starts_with("revoked until 2") && said.contains("heard by 2 gateways"),
            "{said}"
        );
        for side in &sides {
            eventually("revoked", || side.revocations.covers(&named));
            assert!(watch.passed() < SOON, "{args:?}: {:?}", watch.passed());
        }
        let (_, listed) = revoke(&config, &["list"]);
        assert_eq!(listed.lines().count(), 1, "{listed}");
        let undo = [&args[..], &["--undo"]].concat();
        let (code, said) = revoke(&config, &undo);
        assert!(
            code == Some(0) && said.starts_with("taken back: "),
            "{said}"
        );
        for side in &sides {
            eventually("taken back", || !side.revocations.covers(&named));
        }
        let (code, said) = revoke(&config, &undo);
        assert!(
            code == Some(1) && said.starts_with("not revoked: "),
            "{said}"
        );
    }
}

#[test]
fn a_subject_is_let_in_again_with_a_newer_token() {
    let server = RedisServer::start();
    let side = Side::start(&server, rules());
    let (_dir, config) = config(&server);
    let before = "1970-01-01T00:16:40Z";
    let (code, said) = revoke(
        &config,
        &[
            "subject", "--issuer", ISSUER, "--sub", "alice", "--before", before,
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    let issued = |issued_s| {
        let mut caller = caller();
        caller.marks.issued_s = issued_s;
        caller
    };
    eventually("revoked", || side.revocations.covers(&issued(Some(1000))));
    assert!(
        side.revocations.covers(&issued(None)),
        "it does not say when"
    );
    assert!(!side.revocations.covers(&issued(Some(1001))));
    let mut other = caller();
    other.user = Some("bob".to_owned());
    assert!(!side.revocations.covers(&other));
}

#[test]
fn the_command_says_what_is_wrong() {
    let server = RedisServer::start();
    let (_dir, path) = config(&server);
    let (code, said) = revoke(&path, &["token", "--issuer", "typo", "--jti", "x"]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("warning: no issuer in this config is `typo`"),
        "{said}"
    );
    assert!(said.contains("heard by no gateway"), "{said}");
    let past = ["key", "a", "--until", "2001-01-01T00:00:00Z"];
    let (code, said) = revoke(&path, &past);
    assert_eq!(
        (code, said.contains("a time that is over")),
        (Some(64), true),
        "{said}"
    );
    for (args, what) in [
        (&["key", "a", "--until", "soon"][..], "want a UTC time"),
        (&["key", "a", "--for", "0s"], "want at least a second"),
        (
            &["key", "a", "--for", "1d", "--undo"],
            "cannot be used with",
        ),
        (&["token", "--jti", "x"], "--issuer"),
    ] {
        let (code, said) = revoke(&path, args);
        assert_eq!((code, said.contains(what)), (Some(64), true), "{said}");
    }
    let bare = std::fs::read_to_string(&path)
        .unwrap()
        .replace("  revocation: {}\n", "");
    std::fs::write(&path, bare).unwrap();
    let (code, said) = revoke(&path, &["list"]);
    assert_eq!(
        (code, said.contains("identity.revocation: is missing")),
        (Some(64), true),
        "{said}"
    );
    let (_dir, path) = config(&server);
    server.kill();
    let (code, said) = revoke(&path, &["list"]);
    assert_eq!((code, said.contains("refused")), (Some(1), true), "{said}");
}

#[test]
fn what_is_known_stays_while_redis_is_away() {
    let server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let side = Side::start(&server, rules());
    let (_dir, config) = config(&server);
    revoke(&config, &["token", "--issuer", ISSUER, "--jti", "t-1"]);
    eventually("revoked", || side.revocations.covers(&caller()));
    server.kill();
    eventually("it is noticed", || !side.revocations.status().listening);
    assert!(side.revocations.covers(&caller()) && !side.is_stale());
    side.held.clock.advance(Duration::from_secs(61));
    assert!(side.is_stale(), "for longer than it may be");
    eventually("shown", || {
        side.metric("tollgate_revocations_lag_seconds{set=\"tollgate:revocations\"}") >= Some(61)
    });
    assert!(side.revocations.covers(&caller()));
    server.restart();
    eventually("complete again", || side.lag() == Some(0));
    assert!(!side.is_stale() && side.revocations.covers(&caller()));
}

#[test]
fn one_that_never_knew_all_is_stale_at_once_where_that_is_asked_for() {
    let server = RedisServer::start();
    server.kill();
    let strict = Side::begin(&server, rules());
    let lenient = Side::begin(
        &server,
        RevocationRules {
            refuse: false,
            ..rules()
        },
    );
    for side in [&strict, &lenient] {
        side.held.runtime.block_on(side.revocations.first());
        assert_eq!(side.lag(), None);
    }
    assert!(strict.is_stale() && !lenient.is_stale());
    server.restart();
    eventually("complete", || {
        strict.lag() == Some(0) && lenient.lag() == Some(0)
    });
    assert!(!strict.is_stale());
}

#[test]
fn a_message_that_was_missed_is_made_up_for_and_so_is_a_removal() {
    let server = RedisServer::start();
    let often = RevocationRules {
        scan: Duration::from_secs(1),
        ..rules()
    };
    let side = Side::start(&server, often);
    let until = (side.now_s() + 1000).to_string();
    let member = token().to_string();
    server.run(&["ZADD", KEY, &until, &member]);
    eventually("found", || side.revocations.covers(&caller()));
    server.run(&["ZREM", KEY, &member]);
    eventually("forgotten", || !side.revocations.covers(&caller()));
}

#[test]
fn what_is_over_leaves_the_set() {
    let server = RedisServer::start();
    let side = Side::start(&server, rules());
    let until = side.now_s() + 1000;
    server.run(&["PUBLISH", KEY, &message(&token(), until)]);
    eventually("revoked", || side.revocations.covers(&caller()));
    server.kill();
    side.held.clock.advance(Duration::from_secs(1001));
    eventually("forgotten though Redis is away", || {
        side.revocations.status().entries == 0
    });
    assert!(!side.revocations.covers(&caller()));
}

#[test]
fn more_than_there_is_room_for_is_told_and_makes_the_set_incomplete() {
    let server = RedisServer::start();
    let until = "99999999999";
    for id in ["a", "b", "acme-1"] {
        server.run(&["ZADD", KEY, until, &format!("1 key {id}")]);
    }
    let narrow = RevocationRules {
        max_entries: 2,
        ..rules()
    };
    let side = Side::begin(&server, narrow);
    side.held.runtime.block_on(side.revocations.first());
    assert_eq!((side.revocations.status().entries, side.lag()), (2, None));
    assert!(side.is_stale());
    let lines = super::support::stderr::lines();
    let told =
        "ERROR tollgate::identity::revoke: revocations tollgate:revocations: there are more than 2";
    assert!(lines.iter().any(|l| l.starts_with(told)), "{lines:?}");
    server.run(&["ZREM", KEY, "1 key a"]);
    eventually("complete", || side.lag() == Some(0));
    assert!(side.revocations.covers(&key_holder()));
    // One that comes by message is too many, too.
    server.run(&["ZADD", KEY, until, "1 key c"]);
    server.run(&["PUBLISH", KEY, &format!("+{until} 1 key c")]);
    eventually("incomplete", || side.lag() != Some(0));
}

#[test]
fn what_another_version_wrote_is_told_of_and_harms_nothing() {
    let server = RedisServer::start();
    server.run(&["ZADD", KEY, "99999999999", "2 something new"]);
    server.run(&["ZADD", KEY, "99999999999", "1 key acme-1"]);
    let side = Side::start(&server, rules());
    assert!(side.revocations.covers(&key_holder()));
    let labels = "{set=\"tollgate:revocations\"}";
    assert_eq!(
        side.metric(&format!("tollgate_revocations_unknown{labels}")),
        Some(1)
    );
    server.run(&["PUBLISH", KEY, "gibberish"]);
    let heard =
        "tollgate_revocation_messages_total{result=\"unknown\",set=\"tollgate:revocations\"}";
    eventually("counted", || side.metric(heard) == Some(1));
    assert!(side.revocations.covers(&key_holder()));
}

#[test]
fn a_change_of_the_rules_forgets_nothing() {
    let server = RedisServer::start();
    server.run(&["ZADD", KEY, "99999999999", "1 key acme-1"]);
    let side = Side::start(&server, rules());
    let after = |redis: &Arc<tollgate::redis::Redis>| {
        let metrics = side.held.metrics.revocations(KEY);
        let rules = RevocationRules {
            max_lag: SOON,
            ..rules()
        };
        let clock = side.held.clock.clone();
        Revocations::new(
            rules,
            redis.clone(),
            clock,
            metrics,
            Some(&side.revocations),
        )
    };
    let same = after(&side.held.redis);
    assert!(same.covers(&key_holder()) && same.status().lag_s == Some(0));
    let elsewhere = after(&Held::new(server.rules()).redis);
    assert!(elsewhere.covers(&key_holder()), "until that one is read");
    assert!(!elsewhere.status().listening);
}

/// A hundred thousand, to see that a scan takes them all; a million with `TOLLGATE_LONG`, as many as the
/// default holds.
#[test]
fn many_are_read_in_pages() {
    let many = match std::env::var_os("TOLLGATE_LONG") {
        Some(_) => 1_000_000,
        None => 100_000,
    };
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for start in (0..many).step_by(10_000) {
        let mut add = redis::cmd("ZADD");
        add.arg(KEY);
        for n in start..start + 10_000 {
            add.arg(99_999_999_999_u64).arg(format!("1 key k-{n}"));
        }
        add.exec(&mut connection).unwrap();
    }
    let (before, watch) = (resident(), Stopwatch::start());
    let side = Side::start(&server, rules());
    let (took, held) = (watch.passed(), resident().saturating_sub(before));
    println!("{many} revocations read in {took:?}, {held} KiB more");
    assert_eq!(side.revocations.status().entries, many);
    let mut one = key_holder();
    one.key_id = Some(format!("k-{}", many - 1));
    assert!(side.revocations.covers(&one) && !side.revocations.covers(&key_holder()));
}

/// Memory of this process, in KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next());
    kib.and_then(|n| n.parse().ok()).unwrap_or(0)
}
