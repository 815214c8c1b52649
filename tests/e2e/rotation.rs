//! Keys that rotate under load: an issuer changes its keys and is away for five minutes while tokens
//! with made-up key ids come from a thousand addresses, and valid clients on some of the same ones.
//!
//! With `TOLLGATE_LONG` set the flood lasts a minute and has at least 10,000 requests a second.

mod flood;

use super::support::*;
use flood::{Asker, Flood, Tally};
use serde_json::json;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;
use tollgate::identity::budget::MOST;

/// Valid clients: every other one on an address of theirs.
const CLIENTS: usize = 16;

fn is_long() -> bool {
    std::env::var_os("TOLLGATE_LONG").is_some()
}

/// Attackers. Few of them in the short form, so that the flood uses up what each may fail.
fn addresses() -> usize {
    if is_long() { 1000 } else { 40 }
}

/// The address of an attacker, and one that is nobody else's.
fn attacking(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, (n / 250) as u8, (n % 250 + 1) as u8)
}

fn alone(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 78, 0, n as u8 + 1)
}

/// An issuer, a gateway and what they are asked.
struct Scene {
    issuer: Origin,
    _origin: Origin,
    gateway: Gateway,
    /// When the issuer was asked, in milliseconds of the gateway's clock.
    asked: Arc<Mutex<Vec<u64>>>,
    /// Held by clients while they ask, so that the clock is moved between requests only.
    moving: RwLock<()>,
    /// The key that valid tokens are signed with: the number of its last change.
    signer: AtomicU64,
    over: AtomicBool,
}

/// The keys, in the order of their use.
const KEYS: [(&str, &str, &str); 3] = [
    ("rsa-a", "RS256", "a"),
    ("p256", "ES256", "b"),
    ("ed25519", "EdDSA", "c"),
];

impl Scene {
    fn open(failures: &str) -> Self {
        let (issuer, origin) = (Origin::start(), Origin::scripted(|_| Act::ok("ok")));
        let asked = Arc::default();
        publish(&issuer, &KEYS[..1], &asked, None);
        let gateway = Gateway::start(&format!(
            "log: {{ access: off }}\n\
             identity:\n\
             \x20 failures: {failures}\n\
             \x20 jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [RS256, ES256, EdDSA], jwks: {{ url: \"http://{issuer}/keys\" }} }}]\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
            mint::ISSUER
        ));
        Self {
            issuer,
            _origin: origin,
            gateway,
            asked,
            moving: RwLock::new(()),
            signer: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    fn publish(&self, keys: &[(&str, &str, &str)]) {
        publish(&self.issuer, keys, &self.asked, Some(&self.gateway));
    }

    /// Moves the clock while nobody asks.
    fn advance_s(&self, seconds: u64) {
        let _nobody = self.moving.write().expect("no panic");
        self.gateway.advance_s(seconds);
    }

    fn keys(&self) -> u64 {
        self.gateway.status()["issuers"][0]["keys"]
            .as_u64()
            .unwrap_or(0)
    }

    /// Waits for a new number of keys; the clock is moved on meanwhile, as the issuer is asked only so
    /// often.
    fn has_keys(&self, count: u64) {
        eventually("new keys", || {
            self.advance_s(1);
            self.keys() == count
        });
    }

    /// A token of its own, by the key in use.
    fn token(&self, id: &str) -> String {
        let (key, alg, kid) = KEYS[self.signer.load(SeqCst) as usize];
        let now = self.gateway.now_s();
        let claims = mint::claims_but(now, json!({ "jti": id, "exp": now + 7200 }));
        mint::sign(key, alg, Some(kid), &claims)
    }

    /// A valid client: a token is used a few times, then there is a new one.
    fn client(&self, n: usize, tally: &Tally) {
        let from = if n.is_multiple_of(2) {
            attacking(n)
        } else {
            alone(n)
        };
        let mut asker = Asker::new(from, self.gateway.address());
        for round in 0.. {
            if self.over.load(SeqCst) {
                return;
            }
            let key = self.signer.load(SeqCst);
            let token = self.token(&format!("{n}-{round}"));
            for _ in 0..10 {
                let nobody_moves = self.moving.read().expect("no panic");
                // What was signed with a key that has been withdrawn since is not valid any more.
                if self.signer.load(SeqCst) == key {
                    tally.count(asker.ask(&token));
                }
                drop(nobody_moves);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// A valid client who has shown its token before.
    fn known(&self, asker: &mut Asker, token: &str, tally: &Tally) {
        while !self.over.load(SeqCst) {
            let nobody_moves = self.moving.read().expect("no panic");
            tally.count(asker.ask(token));
            drop(nobody_moves);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has clients change to the next key, once nobody is asking.
    fn next_signer(&self) {
        let _nobody = self.moving.write().expect("no panic");
        self.signer.fetch_add(1, SeqCst);
    }

    /// All that can happen to keys: one comes before it is used, the old one goes; the issuer is away
    /// for five minutes and comes back with others.
    fn rotate(&self) {
        self.publish(&KEYS[..2]);
        self.has_keys(2);
        self.next_signer();
        self.publish(&KEYS[1..2]);
        self.has_keys(1);
        self.issuer.stop();
        for _ in 0..10 {
            self.advance_s(30);
            thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(self.keys(), 1, "the last good ones");
        self.issuer.start_again();
        self.publish(&KEYS[1..]);
        self.has_keys(2);
        self.next_signer();
        self.publish(&KEYS[2..]);
        self.has_keys(1);
    }

    #[track_caller]
    fn was_asked_seldom(&self) {
        let times = self.asked.lock().expect("no panic");
        assert!(times.len() > 1, "{times:?}");
        for first in times.iter() {
            let minute = times
                .iter()
                .filter(|at| (*first..=first + 60_000).contains(at));
            assert!(minute.count() <= MOST, "{times:?}");
        }
    }
}

fn publish(
    issuer: &Origin,
    keys: &[(&str, &str, &str)],
    asked: &Arc<Mutex<Vec<u64>>>,
    gateway: Option<&Gateway>,
) {
    let keys: Vec<_> = keys
        .iter()
        .map(|(key, _, kid)| mint::jwk(key, kid))
        .collect();
    let (set, asked, clock) = (
        mint::jwks(&keys),
        asked.clone(),
        gateway.map(Gateway::clock),
    );
    issuer.script(move |_| {
        let at = clock
            .as_ref()
            .map_or(0, |clock| clock.now().mono_ns / 1_000_000);
        asked.lock().expect("no panic").push(at);
        Act::ok(set.clone())
    });
}

/// Ends what runs beside a test with the test, also where that fails: nobody would wait for it in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The flood: how long it lasts, and how many a second it is to be.
fn flood() -> (Duration, u64) {
    if is_long() {
        (Duration::from_secs(60), 10_500)
    } else {
        (Duration::from_secs(6), 1_000)
    }
}

#[test]
fn no_valid_token_is_refused_whatever_keys_and_attackers_do() {
    let scene = Scene::open("off");
    let (valid, made_up) = (Tally::default(), Tally::default());
    let (lasts, rate) = flood();
    let watch = Stopwatch::start();
    thread::scope(|s| {
        let _over = Over(&scene.over);
        for n in 0..CLIENTS {
            let (scene, valid) = (&scene, &valid);
            s.spawn(move || scene.client(n, valid));
        }
        let flood = Flood::new(
            (0..addresses()).map(attacking),
            scene.gateway.address(),
            rate,
        );
        flood.run(s, &scene.moving, &scene.over, &made_up);
        scene.rotate();
        while watch.passed() < lasts {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let took = watch.passed().as_secs_f64();
    println!(
        "{} made-up key ids in {took:.1} s ({:.0} a second) from {} addresses: {made_up}; \
         valid clients: {valid}; the issuer was asked {} times",
        made_up.all(),
        made_up.all() as f64 / took,
        addresses(),
        scene.asked.lock().unwrap().len()
    );
    assert!(valid.all() > 200, "{valid}");
    assert_eq!(valid.of(200), valid.all(), "{valid}");
    assert_eq!(made_up.of(401), made_up.all(), "{made_up}");
    let least = if is_long() { 10_000.0 } else { 300.0 };
    assert!(
        made_up.all() as f64 / took >= least,
        "{made_up} in {took} s"
    );
    scene.was_asked_seldom();
}

/// With the limit on refused credentials: whoever is on an address of his own is never refused, nor is a
/// token that was seen before, though keys come and the address is an attacker's. What is new there may
/// have to wait.
#[test]
fn the_failure_limit_hits_those_alone_who_share_an_address_with_attackers() {
    let scene = Scene::open("{ rate: 20/1m }");
    let [alone_ones, known, new, made_up] = [(); 4].map(|()| Tally::default());
    let (lasts, rate) = flood();
    let watch = Stopwatch::start();
    thread::scope(|s| {
        let _over = Over(&scene.over);
        for n in 0..CLIENTS / 2 {
            let (scene, tallies) = (&scene, (&alone_ones, &known, &new));
            let token = scene.token(&format!("known-{n}"));
            let mut asker = Asker::new(attacking(n), scene.gateway.address());
            assert_eq!(asker.ask(&token), 200, "before the flood");
            s.spawn(move || scene.known(&mut asker, &token, tallies.1));
            // Odd ones are on addresses of their own.
            s.spawn(move || scene.client(2 * n + 1, tallies.0));
            s.spawn(move || scene.client(2 * n, tallies.2));
        }
        let flood = Flood::new(
            (0..addresses()).map(attacking),
            scene.gateway.address(),
            rate,
        );
        flood.run(s, &scene.moving, &scene.over, &made_up);
        eventually("attackers are barred", || made_up.of(429) > 1000);
        // Another key comes beside the one in use.
        scene.publish(&KEYS[..2]);
        scene.advance_s(3300);
        eventually("another key", || scene.keys() == 2);
        while watch.passed() < lasts {
            thread::sleep(Duration::from_millis(50));
        }
    });
    println!("made up: {made_up}; alone: {alone_ones}; known: {known}; new: {new}");
    assert!(
        alone_ones.all() > 100 && known.all() > 100,
        "{alone_ones} {known}"
    );
    assert_eq!(alone_ones.of(200), alone_ones.all(), "{alone_ones}");
    assert_eq!(known.of(200), known.all(), "{known}");
    assert_eq!(new.of(200) + new.of(429), new.all(), "{new}");
    assert_eq!(
        made_up.of(401) + made_up.of(429),
        made_up.all(),
        "{made_up}"
    );
    scene.was_asked_seldom();
}
