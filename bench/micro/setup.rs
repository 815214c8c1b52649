//! A gateway with 1,000 routes, one request for it, and the clock between rounds.

use crate::measured;
use crate::uncached::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use pingora::http::RequestHeader;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tollgate::base::clock::{Clock, Now};
use tollgate::config;
use tollgate::exchange::Exchange;
use tollgate::exchange::admission::Caps;
use tollgate::exchange::connection::Connection;
use tollgate::exchange::listener::{Listener, Terms};
use tollgate::gateway::{Shared, choose, receive};
use tollgate::observe::access_log::{AccessLog, Target, Writer};
use tollgate::observe::metrics::Metrics;
use tollgate::snapshot::compile::{Tools, compile};
use tollgate::snapshot::{Route, Snapshot};
use tollgate::upstream::discovery;
use tollgate::upstream::pool::Pool;

/// Routes in the table; behind them two that choose by tenant, among one and among a thousand.
pub const ROUTES: usize = 1000;
/// Headers that are made before the first round.
const READY: usize = 1104;
/// The one that is asked for.
const ASKED: usize = 617;
const KEY: &[u8] = include_bytes!("../../tests/keys/test-rsa-a.key.pem");

/// Everything that a round needs, made before the first.
pub struct Bench {
    /// The gateway.
    pub shared: Arc<Shared>,
    /// Its config, compiled.
    pub snapshot: Arc<Snapshot>,
    /// The client's connection.
    pub conn: Arc<Connection>,
    /// The request; a round may change it.
    pub header: RequestHeader,
    /// Its token.
    pub token: String,
    /// Its host and path, normalised.
    pub host: &'static str,
    /// See `host`.
    pub path: String,
    /// The route it belongs to.
    pub route: usize,
    /// The time of the round.
    pub now: Now,
    /// A request that came in, where a part begins with one.
    pub arrived: Option<Exchange>,
    whole: RequestHeader,
    _log: Writer,
}

impl Bench {
    /// Compiles the config and resolves its targets.
    pub fn new() -> Bench {
        let clock = Clock::system();
        let metrics = Arc::new(Metrics::new("bench", 0));
        let parsed = config::parse(&text(), "bench.yaml", Path::new("."), &|_| None);
        let loaded = parsed.unwrap_or_else(|faults| panic!("{faults}"));
        let tools = Tools {
            clock: &clock,
            metrics: &metrics,
            before: None,
        };
        let snapshot = compile(&loaded.conf, &tools).unwrap_or_else(|faults| panic!("{faults}"));
        let (access_log, log) = AccessLog::start(Target::Off, 64, clock.clone()).expect("no log");
        let now = clock.now();
        let shared = Arc::new(Shared {
            in_use: arc_swap::ArcSwap::default(),
            snapshot: arc_swap::ArcSwap::from_pointee(snapshot),
            clock,
            metrics,
            access_log,
            ready: AtomicBool::new(true),
        });
        let snapshot = shared.snapshot.load_full();
        resolve(&snapshot);
        let token = token(now);
        let header = request(&token);
        let counted = shared.metrics.listener("public");
        let (terms, caps) = (Terms::default(), Caps::default());
        let listener = Arc::new(Listener::new("public", counted, terms, caps));
        let pass = listener.admission.enter().expect("a place");
        let peer = ([192, 0, 2, 7], 5000).into();
        Bench {
            conn: Arc::new(Connection::new(listener, peer, None, pass)),
            whole: header.clone(),
            header,
            token,
            host: "api.example.com",
            path: format!("/service-{ASKED}/v1/items/42"),
            route: ASKED,
            now,
            arrived: None,
            shared,
            snapshot,
            _log: log,
        }
    }

    /// The route that is asked for.
    pub fn route(&self) -> &Route {
        &self.snapshot.routes[self.route]
    }

    /// An upstream.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.snapshot.pools[0]
    }

    /// [`measured::auth`] for a request that came in outside of it.
    pub fn authenticated(&mut self) {
        let headers = &self.header.headers;
        let begin = || receive::identify(headers, self.conn.clone(), self.now);
        self.arrived.get_or_insert_with(begin);
        measured::auth(self);
    }

    /// Whether a route has an upstream for the request. Here, since callgrind would switch itself off
    /// at a second function of `measured`.
    pub fn leads_on(&self, route: usize, mut exchange: Exchange) -> bool {
        let route = &self.snapshot.routes[route];
        let headers = &self.header.headers;
        choose::upstream(route, headers, &mut exchange, None).is_ok()
    }

    /// Nanoseconds that one round takes, making the header anew included where there are many. callgrind
    /// counts calls outside of [`measured`] too: the headers of a few rounds are made before, as many
    /// whatever the number of rounds, so that the difference of two runs has none of it.
    pub fn run(&mut self, part: fn(&mut Bench), rounds: u32) -> f64 {
        let mut headers = vec![self.whole.clone(); READY];
        let clock = self.shared.clock.clone();
        let begin = clock.now();
        for _ in 0..rounds {
            self.header = headers.pop().unwrap_or_else(|| self.whole.clone());
            self.now = clock.now();
            part(self);
        }
        clock.now().since_ns(begin) as f64 / f64::from(rounds)
    }
}

/// Gives every pool its addresses, as the start of a gateway does.
fn resolve(snapshot: &Snapshot) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    for pool in &snapshot.pools {
        runtime.block_on(discovery::resolve(pool));
    }
}

/// RS256, scopes, a limit by client, a choice by header with a split of 90 to 10 behind it.
fn text() -> String {
    let mut text = "
listeners: [{ name: public, address: \"127.0.0.1:0\" }]
log: { access: off }
identity:
  jwt:
    - name: corp
      issuer: \"https://auth.example.com/\"
      audiences: [api]
      algorithms: [RS256]
      keys: [{ kid: a, alg: RS256, public_key: \"file:tests/keys/test-rsa-a.pub.pem\" }]
limits: [{ name: standard, key: client, algorithm: sliding_window, rate: 200000000/1m }]
upstreams:
  - { name: users-v1, targets: [\"192.0.2.1:80\", \"192.0.2.2:80\"] }
  - { name: users-v2, targets: [\"192.0.2.3:80\"] }
  - { name: users-canary, targets: [\"192.0.2.4:80\"] }
routes:
"
    .to_owned();
    for n in 0..ROUTES {
        let route = format!(
            "  - name: service-{n}
    match: {{ hosts: [api.example.com], path: /service-{n}, methods: [GET, POST] }}
    auth: {{ any: [corp], scopes: [read:users] }}
    limits: [standard]
    to:
      header: X-API-Version
      values: {{ v1: users-v1, v2: {{ weights: {{ users-v2: 90, users-canary: 10 }} }} }}
      default: users-v1
"
        );
        let _ = text.write_str(&route);
    }
    for (name, others) in [("one", 0), ("many", 999)] {
        let others: String = (0..others).fold(String::new(), |mut all, n| {
            let _ = write!(all, "tenant-{n}: users-v1, ");
            all
        });
        let _ = writeln!(
            text,
            "  - {{ name: tenants-{name}, match: {{ path: /tenants-{name} }}, auth: none, \
             to: {{ tenant: X-API-Version, values: {{ {others}v2: users-v1 }} }} }}"
        );
    }
    text
}

fn token(now: Now) -> String {
    let key = EncodingKey::from_rsa_pem(KEY).expect("a test key");
    sign(Algorithm::RS256, &key, now, 0)
}

fn request(token: &str) -> RequestHeader {
    let target = format!("/service-{ASKED}/v1/items/42?page=2");
    let built = RequestHeader::build("GET", target.as_bytes(), Some(8));
    let mut header = built.expect("a request line");
    let fields = [
        ("Host", "api.example.com"),
        ("User-Agent", "bench/1.0"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "gzip, br"),
        ("X-API-Version", "v2"),
        ("Authorization", &format!("Bearer {token}")),
    ];
    for (name, value) in fields {
        header
            .insert_header(name.to_owned(), value)
            .expect("a header field");
    }
    header
}
