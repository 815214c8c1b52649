//! Changes in Redis and messages, as they are heard.

use crate::support::eventually;
use crate::support::redis::{Diary, Held, RedisServer, login};
use std::sync::Arc;
use tollgate::redis::Watch;

fn keys(prefix: &str) -> Watch {
    Watch::Keys(prefix.as_bytes().into())
}

fn channel(name: &str) -> Watch {
    Watch::Channel(name.as_bytes().into())
}

#[track_caller]
fn watch(held: &Held, what: Watch) -> Arc<Diary> {
    let diary = Arc::new(Diary::default());
    held.redis.watch(what, diary.weak());
    eventually("watching", || diary.count("watching") == 1);
    diary
}

#[track_caller]
fn hears(diary: &Diary, what: &str, times: usize) {
    eventually(what, || diary.count(what) >= times);
    assert_eq!(diary.count(what), times, "{:?}", diary.all());
}

#[test]
fn every_way_a_key_changes_is_heard() {
    let server = RedisServer::start();
    let held = Held::new(server.rules());
    let diary = watch(&held, keys("a:"));
    server.run(&["SET", "b:1", "x"]);
    for (command, times) in [
        (vec!["SET", "a:1", "x"], 1),
        (vec!["SET", "a:1", "y"], 2),
        (vec!["DEL", "a:1"], 3),
        (vec!["HSET", "a:1", "f", "v"], 4),
        (vec!["PEXPIRE", "a:1", "20"], 5),
    ] {
        server.run(&command);
        hears(&diary, "changed a:1", times);
    }
    // It expires, which the server notices in its own time.
    hears(&diary, "changed a:1", 6);
    assert!(!diary.all().contains(&"changed b:1".to_owned()));
    server.run(&["FLUSHALL"]);
    hears(&diary, "watching", 2);
}

#[test]
fn messages_are_heard_on_their_channel() {
    let server = RedisServer::start();
    let held = Held::new(server.rules());
    let diary = watch(&held, channel("news"));
    assert_eq!(
        server.run(&["PUBLISH", "news", "hello"]),
        redis::Value::Int(1)
    );
    server.run(&["PUBLISH", "other", "unheard"]);
    server.run(&["PUBLISH", "news", "again"]);
    hears(&diary, "message again", 1);
    assert_eq!(diary.all(), ["watching", "message hello", "message again"]);
}

#[test]
fn who_comes_later_is_told_and_who_is_there_misses_nothing() {
    let server = RedisServer::start();
    let held = Held::new(server.rules());
    let first = watch(&held, keys("a:"));
    // A prefix that begins with another, one that the other begins with, another one, a channel.
    let later = [keys("a:x:"), keys("a"), keys("b:"), channel("news")];
    let later: Vec<_> = later.into_iter().map(|what| watch(&held, what)).collect();
    server.run(&["SET", "a:x:1", "v"]);
    for diary in [&first, &later[0], &later[1]] {
        hears(diary, "changed a:x:1", 1);
    }
    server.run(&["SET", "b:1", "v"]);
    hears(&later[2], "changed b:1", 1);
    server.run(&["PUBLISH", "news", "hello"]);
    hears(&later[3], "message hello", 1);
    assert_eq!(
        first.all(),
        ["watching", "changed a:x:1"],
        "nothing was lost meanwhile"
    );
}

#[test]
fn a_break_is_told_and_so_is_its_end() {
    let server = RedisServer::start();
    let held = Held::new(server.rules()).up();
    let diary = watch(&held, keys("a:"));
    server.restart();
    eventually("watching again", || diary.count("watching") == 2);
    server.run(&["SET", "a:1", "x"]);
    hears(&diary, "changed a:1", 1);
    assert_eq!(diary.all(), ["watching", "lost", "watching", "changed a:1"]);
    // One that answers nothing is noticed too.
    server.pause();
    eventually("lost", || diary.count("lost") == 2);
    assert_eq!(held.metric("tollgate_redis_listening", ""), 0);
    server.resume();
    eventually("watching again", || diary.count("watching") == 3);
    assert_eq!(held.metric("tollgate_redis_listening", ""), 1);
}

#[test]
fn who_is_gone_is_told_nothing_and_holds_nothing() {
    let server = RedisServer::start();
    let held = Held::new(server.rules());
    let gone = watch(&held, keys("a:"));
    let weak = Arc::downgrade(&gone);
    drop(gone);
    assert!(weak.upgrade().is_none());
    let next = watch(&held, keys("b:"));
    server.run(&["SET", "b:1", "x"]);
    hears(&next, "changed b:1", 1);
}

/// Without tracking, messages are heard all the same; of keys nobody is told that they are watched.
#[test]
fn a_server_that_does_not_let_keys_be_watched_is_told_of() {
    let server = RedisServer::start();
    server.run(&[
        "ACL",
        "SETUSER",
        "half",
        "on",
        ">s3cret",
        "~*",
        "&*",
        "+@all",
        "-client|tracking",
    ]);
    let held = Held::new(login(server.rules(), Some("half"), "s3cret")).up();
    let blind = Arc::new(Diary::default());
    held.redis.watch(keys("a:"), blind.weak());
    let news = watch(&held, channel("news"));
    server.run(&["PUBLISH", "news", "hello"]);
    hears(&news, "message hello", 1);
    let told = held.told();
    assert!(
        told.iter()
            .any(|l| l.contains("not listening to changes of keys: its ACL")),
        "{told:?}"
    );
    assert!(blind.all().is_empty());
}
