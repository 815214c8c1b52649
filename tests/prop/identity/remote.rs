//! Fetching published keys from a scripted server: rotation, outage, floods, ill behaviour.

#![expect(
    clippy::disallowed_methods,
    reason = "these measure how long a caller really waits"
)]

use super::mint::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate::base::clock::Clock;
use tollgate::identity::alg::Alg;
use tollgate::identity::fetch::{Place, RemoteKeys, RemoteRules};
use tollgate::identity::jwt::JwtFault;
use tollgate::identity::keyset::MAX_SET_BYTES;
use tollgate::identity::provider::{KeySource, Provider, Verdict, authenticate};
use tollgate::identity::seen::Seen;

/// What the server does with a request.
#[derive(Clone)]
enum Act {
    Answer { head: String, body: Vec<u8> },
    Wait,
    Hang,
}

fn publish(keys: &[serde_json::Value]) -> Act {
    Act::Answer {
        head: "200 OK".to_owned(),
        body: jwks(keys),
    }
}

fn refuse(status: &str) -> Act {
    Act::Answer {
        head: status.to_owned(),
        body: Vec::new(),
    }
}

/// A server for one issuer's keys and the task that fetches from it.
struct Scene {
    act: Arc<Mutex<Act>>,
    hits: Arc<AtomicUsize>,
    clock: Clock,
    remote: Arc<RemoteKeys>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    providers: [Arc<Provider>; 1],
    seen: Seen,
}

impl Scene {
    async fn open(act: Act) -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let act = Arc::new(Mutex::new(act));
        let hits = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(listener, Arc::clone(&act), Arc::clone(&hits)));
        let clock = Clock::system();
        let corp = issuer(&[Alg::RS256]);
        let rules = RemoteRules {
            provider: "corp".to_owned(),
            place: Place::Url(url),
            refresh: Duration::from_secs(3600),
            max_stale: Duration::from_secs(86_400),
            insecure_http: false,
            algorithms: corp.algorithms(),
        };
        let remote = Arc::new(RemoteKeys::new(rules, clock.clone()).unwrap());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&remote).run(stopped));
        let source = KeySource::Remote(Arc::clone(&remote));
        let providers = [Arc::new(Provider::new(corp, source).unwrap())];
        let seen = Seen::new(64);
        Scene {
            act,
            hits,
            clock,
            remote,
            stop,
            task,
            providers,
            seen,
        }
    }

    fn now_does(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    fn hits(&self) -> usize {
        self.hits.load(SeqCst)
    }

    async fn settled(&self, fetches: u64) {
        eventually(|| {
            let status = self.remote.status();
            status.fetches_ok + status.fetches_failed >= fetches
        })
        .await;
    }

    /// Judges a token the way a request does: ask once if need be, then take what comes.
    async fn judge(&self, signer: Signer, kid: &str) -> Verdict {
        let token = sign(signer, Alg::RS256, Some(kid), &claims());
        match authenticate(&self.providers, &self.seen, &token, NOW_MS, true) {
            Verdict::Ask(provider) => {
                provider.refetch(&token).await;
                authenticate(&self.providers, &self.seen, &token, NOW_MS, false)
            }
            other => other,
        }
    }

    async fn accepts(&self, signer: Signer, kid: &str) -> bool {
        matches!(
            self.judge(signer, kid).await,
            Verdict::Verified(_) | Verdict::Seen(_)
        )
    }
}

async fn serve(listener: TcpListener, act: Arc<Mutex<Act>>, hits: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (act, hits) = (Arc::clone(&act), Arc::clone(&hits));
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0; 512];
                let read = stream.read(&mut byte).await.unwrap_or(0);
                if read == 0 {
                    return;
                }
                request.extend_from_slice(&byte[..read]);
            }
            hits.fetch_add(1, SeqCst);
            let now = || act.lock().unwrap().clone();
            while matches!(now(), Act::Wait) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let Act::Answer { head, body } = now() else {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return;
            };
            let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        });
    }
}

async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to hold");
}

fn block_on<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn a_rotated_key_is_found_on_the_first_token() {
    block_on(async {
        let scene = Scene::open(publish(&[Signer::RsaA.jwk(Some("k1"))])).await;
        assert!(
            scene.accepts(Signer::RsaA, "k1").await,
            "waits for the first fetch"
        );
        let both = [Signer::RsaA.jwk(Some("k1")), Signer::RsaB.jwk(Some("k2"))];
        scene.now_does(publish(&both));
        assert!(scene.accepts(Signer::RsaB, "k2").await);
        assert!(scene.accepts(Signer::RsaA, "k1").await);
        let status = scene.remote.status();
        assert_eq!((status.fetches_ok, status.keys, scene.hits()), (2, 2, 2));
        // The old key is withdrawn: its tokens fall, remembered or not.
        scene.now_does(publish(&[Signer::RsaB.jwk(Some("k2"))]));
        scene.clock.advance(Duration::from_secs(10));
        assert!(!scene.accepts(Signer::RsaB, "k3").await);
        let old = scene.judge(Signer::RsaA, "k1").await;
        assert!(matches!(old, Verdict::Refused(JwtFault::UnknownKey)));
    });
}

#[test]
fn an_outage_keeps_the_keys() {
    block_on(async {
        let scene = Scene::open(publish(&[Signer::RsaA.jwk(Some("k1"))])).await;
        scene.settled(1).await;
        let generation = scene.remote.current().as_ref().unwrap().generation();
        let broken = Act::Answer {
            head: "200 OK".to_owned(),
            body: b"<html>".to_vec(),
        };
        let huge = Act::Answer {
            head: "200 OK".to_owned(),
            body: vec![b' '; MAX_SET_BYTES + 1],
        };
        let moved = "302 Found\r\nLocation: https://evil.example/keys";
        let empty = publish(&[]);
        for (n, act) in [refuse("503 Down"), broken, huge, refuse(moved), empty]
            .into_iter()
            .enumerate()
        {
            scene.now_does(act);
            scene.clock.advance(Duration::from_secs(100));
            assert!(!scene.accepts(Signer::RsaB, "k2").await);
            scene.settled(n as u64 + 2).await;
            assert!(scene.accepts(Signer::RsaA, "k1").await);
            assert!(scene.remote.status().fetches_failed > n as u64);
        }
        assert_eq!(scene.remote.status().fetches_ok, 1);
        assert!(scene.remote.status().age_s.unwrap() >= 500);
        assert_eq!(
            scene.remote.current().as_ref().unwrap().generation(),
            generation
        );
        // The same keys again: confirmed, and what was remembered stays good.
        scene.now_does(publish(&[Signer::RsaA.jwk(Some("k1"))]));
        scene.clock.advance(Duration::from_secs(100));
        assert!(!scene.accepts(Signer::RsaB, "k2").await);
        assert_eq!(scene.remote.status().fetches_ok, 2);
        assert_eq!(
            scene.remote.current().as_ref().unwrap().generation(),
            generation
        );
        assert!(scene.remote.status().age_s.unwrap() < 100);
    });
}

#[test]
fn before_the_first_keys_nothing_is_known() {
    block_on(async {
        let scene = Scene::open(refuse("500 Oops")).await;
        scene.settled(1).await;
        assert!(matches!(
            scene.judge(Signer::RsaA, "k1").await,
            Verdict::NoKeys
        ));
        scene.now_does(publish(&[Signer::RsaA.jwk(Some("k1"))]));
        // The background task tries again by itself, after 1 s and 2 s.
        eventually(|| scene.remote.status().keys == 1).await;
        assert!(scene.accepts(Signer::RsaA, "k1").await);
    });
}

#[test]
fn made_up_kids_cost_the_issuer_six_fetches_a_minute() {
    block_on(async {
        let scene = Scene::open(publish(&[Signer::RsaA.jwk(Some("k1"))])).await;
        scene.settled(1).await;
        for round in 0..600 {
            scene
                .remote
                .refetch(Some(&format!("made-up-{round}")))
                .await;
            scene.clock.advance(Duration::from_millis(99));
        }
        let hits = scene.hits() - 1;
        assert!((5..=6).contains(&hits), "{hits} fetches in a minute");
        // A kid that a fresh set lacked is not asked for again at once, even when another may be.
        scene.clock.advance(Duration::from_secs(60));
        scene.remote.refetch(Some("stale")).await;
        let before = scene.hits();
        scene.clock.advance(Duration::from_secs(11));
        scene.remote.refetch(Some("stale")).await;
        assert_eq!(scene.hits(), before);
        scene.remote.refetch(Some("another")).await;
        assert_eq!(scene.hits(), before + 1);
    });
}

#[test]
fn many_wait_for_one_fetch() {
    block_on(async {
        let scene = Arc::new(Scene::open(publish(&[Signer::RsaA.jwk(Some("k1"))])).await);
        scene.settled(1).await;
        scene.now_does(Act::Wait);
        let mut waiting: Vec<JoinHandle<bool>> = Vec::new();
        for _ in 0..50 {
            let scene = Arc::clone(&scene);
            let one = async move { scene.accepts(Signer::RsaB, "k2").await };
            waiting.push(tokio::spawn(one));
        }
        eventually(|| scene.hits() == 2).await;
        waiting.pop().unwrap().abort(); // a client that leaves takes nothing with it
        scene.now_does(publish(&[Signer::RsaB.jwk(Some("k2"))]));
        for one in waiting {
            assert!(one.await.unwrap());
        }
        assert_eq!(scene.hits(), 2);
    });
}

#[test]
fn a_slow_server_holds_nobody_for_long() {
    block_on(async {
        let scene = Scene::open(publish(&[Signer::RsaA.jwk(Some("k1"))])).await;
        scene.settled(1).await;
        scene.now_does(Act::Hang);
        let began = Instant::now();
        assert!(!scene.accepts(Signer::RsaB, "k2").await);
        let waited = began.elapsed();
        assert!(waited < Duration::from_millis(3800), "{waited:?}");
        let began = Instant::now();
        assert!(
            scene.accepts(Signer::RsaA, "k1").await,
            "known keys never wait"
        );
        assert!(began.elapsed() < Duration::from_millis(500));
        scene.settled(2).await;
        let began = Instant::now();
        assert!(!scene.accepts(Signer::RsaB, "k3").await, "throttled");
        assert!(began.elapsed() < Duration::from_millis(500));
    });
}

#[test]
fn the_task_ends_when_told() {
    block_on(async {
        let scene = Scene::open(Act::Hang).await;
        eventually(|| scene.hits() == 1).await;
        scene.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(2), scene.task)
            .await
            .unwrap()
            .unwrap();
        let began = Instant::now();
        scene.remote.refetch(Some("k")).await;
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "nobody fetches any more"
        );
    });
}
