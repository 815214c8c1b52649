//! Commands, their budget of time, and the breaker around a server that is paused, ended or unwilling.

use crate::support::redis::{Held, RedisServer};
use crate::support::{Stopwatch, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tollgate::redis::{RedisFault, RedisRules};

#[test]
fn a_command_is_answered_or_refused() {
    let server = RedisServer::start();
    let held = Held::new(server.rules()).up();
    assert_eq!(held.query::<()>(&["SET", "a", "1"]), Ok(()));
    assert_eq!(held.query::<Option<u64>>(&["GET", "a"]), Ok(Some(1)));
    assert_eq!(held.query::<Option<u64>>(&["GET", "b"]), Ok(None));
    server.run(&["LPUSH", "list", "x"]);
    let list = held.query::<Option<u64>>(&["GET", "list"]);
    assert_eq!(list, Err(RedisFault::Refused));
    server.run(&["SET", "text", "no number"]);
    let text = held.query::<u64>(&["GET", "text"]);
    assert_eq!(text, Err(RedisFault::Refused), "of another type");
    assert!(held.redis.is_up(), "a refusal says nothing of the server");
    assert_eq!(held.metric("tollgate_redis_up", ""), 1);
    assert_eq!(
        held.metric("tollgate_redis_calls_total", "result=\"ok\","),
        3
    );
    assert_eq!(
        held.metric("tollgate_redis_calls_total", "result=\"refused\","),
        2
    );
    let refusals = || {
        held.told()
            .iter()
            .filter(|l| l.contains("GET was refused"))
            .count()
    };
    assert_eq!(refusals(), 1, "told rarely: {:?}", held.told());
}

#[test]
fn a_paused_server_is_waited_for_three_times_and_comes_back_by_itself() {
    let server = RedisServer::start();
    let held = Held::new(server.rules()).up();
    let budget = server.rules().timeout;
    server.pause();
    let watch = Stopwatch::start();
    let mut late = 0;
    while held.redis.is_up() {
        match held.query::<()>(&["GET", "a"]) {
            Err(RedisFault::Late) => late += 1,
            other => assert_eq!(other, Err(RedisFault::Down), "another was the third"),
        }
        assert!(late <= 3, "the fourth waits no longer");
    }
    assert!(late >= 1 && watch.passed() >= budget);
    let watch = Stopwatch::start();
    for _ in 0..1000 {
        assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Down));
    }
    assert!(
        watch.passed() < budget * 4,
        "nobody waits: {:?}",
        watch.passed()
    );
    assert_eq!(held.metric("tollgate_redis_up", ""), 0);
    server.resume();
    eventually("up again", || held.redis.is_up());
    assert_eq!(held.query::<()>(&["SET", "a", "1"]), Ok(()));
    let told = held.told();
    let lines = |what: &str| told.iter().filter(|l| l.contains(what)).count();
    assert_eq!(
        lines(": down: 3 answers in a row took longer than 250 ms"),
        1,
        "{told:?}"
    );
    assert_eq!(lines(": up"), 2, "{told:?}");
}

#[test]
fn an_idle_server_that_is_paused_is_found_out_before_a_request_waits() {
    let server = RedisServer::start();
    let held = Held::new(server.rules()).up();
    server.pause();
    eventually("down, though nobody asked", || !held.redis.is_up());
    assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Down));
    assert_eq!(
        held.metric("tollgate_redis_calls_total", "result=\"late\","),
        0
    );
    server.resume();
}

#[test]
fn a_server_that_ends_is_down_at_once_and_up_once_it_is_back() {
    let server = RedisServer::start();
    let held = Held::new(server.rules()).up();
    server.kill();
    eventually("down", || !held.redis.is_up());
    assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Down));
    eventually("it is said why", || {
        let told = held.told();
        told.iter()
            .any(|l| l.contains("not connected") && l.contains("refused"))
    });
    server.restart();
    eventually("up again", || held.redis.is_up());
    assert_eq!(held.query::<()>(&["SET", "a", "1"]), Ok(()));
}

#[test]
fn one_that_is_not_there_yet_stops_nobody() {
    let server = RedisServer::start();
    server.kill();
    let held = Held::new(server.rules());
    held.runtime.block_on(held.redis.first());
    assert!(!held.redis.is_up());
    server.restart();
    eventually("up", || held.redis.is_up());
}

#[test]
fn its_name_is_looked_up_anew_and_many_share_a_connection() {
    let server = RedisServer::start();
    let rules = RedisRules {
        host: "localhost".to_owned(),
        ..server.rules()
    };
    let held = Held::new(rules).up();
    held.runtime.block_on(async {
        let all: Vec<_> = (0..200)
            .map(|n| {
                let redis = held.redis.clone();
                tokio::spawn(async move {
                    let mut set = redis::cmd("SET");
                    set.arg(format!("k{n}")).arg(n);
                    redis.query::<()>(&set).await
                })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Ok(()));
        }
    });
    let connects = held.metric("tollgate_redis_connects_total", "result=\"ok\",");
    assert_eq!(connects, 1);
}

/// A server that answers as it is told to, command by command.
struct Scripted {
    port: u16,
    connections: Arc<AtomicUsize>,
    answer: Arc<Mutex<&'static str>>,
}

impl Scripted {
    /// PING is answered with `ping`, everything else with `answer`.
    fn start(ping: &'static str, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Mutex::new(ping));
        let (count, pings) = (connections.clone(), answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, SeqCst);
                let pings = pings.clone();
                std::thread::spawn(move || serve(stream, &pings, answer));
            }
        });
        Self {
            port,
            connections,
            answer: answers,
        }
    }

    fn held(&self) -> Held {
        Held::new(RedisRules {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            db: 0,
            tls: None,
            username: None,
            password: None,
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(2),
        })
    }
}

fn serve(stream: TcpStream, pings: &Mutex<&'static str>, answer: &str) {
    let mut out = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let count: usize = line.trim().trim_start_matches('*').parse().unwrap();
        let mut words = Vec::new();
        for _ in 0..count {
            line.clear();
            lines.read_line(&mut line).unwrap();
            let length: usize = line.trim().trim_start_matches('$').parse().unwrap();
            let mut word = vec![0; length + 2];
            lines.read_exact(&mut word).unwrap();
            words.push(String::from_utf8_lossy(&word[..length]).into_owned());
        }
        let reply = match words[0].as_str() {
            "PING" => *pings.lock().unwrap(),
            "CLIENT" => "+OK",
            _ => answer,
        };
        if out.write_all(format!("{reply}\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn one_that_is_loading_is_waited_for_in_the_background() {
    let server = Scripted::start("-LOADING Redis is loading the dataset in memory", "+OK");
    let held = server.held();
    eventually("it is said why", || {
        let told = held.told();
        told.iter()
            .any(|l| l.contains("WARN") && l.contains("still loading its data"))
    });
    assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Down));
    *server.answer.lock().unwrap() = "+PONG";
    eventually("up", || held.redis.is_up());
    let lines = held.told();
    assert_eq!(
        lines.iter().filter(|l| l.contains("LOADING")).count(),
        1,
        "{lines:?}"
    );
}

#[test]
fn one_that_begins_to_load_is_down() {
    let server = Scripted::start("+PONG", "-LOADING Redis is loading the dataset in memory");
    let held = server.held().up();
    assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Down));
}

/// Behind the name there may be another server by now that takes writes.
#[test]
fn a_replica_is_asked_for_again_by_a_new_connection() {
    let server = Scripted::start(
        "+PONG",
        "-READONLY You can't write against a read only replica.",
    );
    let held = server.held().up();
    let refused = Err(RedisFault::Refused);
    eventually("a new connection", || {
        assert_eq!(held.query::<()>(&["SET", "a", "1"]), refused);
        server.connections.load(SeqCst) > 1
    });
    assert!(held.redis.is_up(), "reads are answered meanwhile");
}

#[test]
fn a_cluster_is_told_apart() {
    let server = Scripted::start("+PONG", "-MOVED 3999 127.0.0.1:6381");
    let held = server.held().up();
    assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Refused));
    let told = held.told();
    assert!(
        told.iter().any(|l| l.contains("part of a cluster (MOVED)")),
        "{told:?}"
    );
}

#[test]
fn one_that_speaks_something_else_is_down() {
    let server = Scripted::start("+PONG", "HTTP/1.1 400 Bad Request");
    let held = server.held().up();
    assert_eq!(held.query::<()>(&["GET", "a"]), Err(RedisFault::Down));
}
