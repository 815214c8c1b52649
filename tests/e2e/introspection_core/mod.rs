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

mod answers;
mod cost;

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
