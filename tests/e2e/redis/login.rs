//! Who may log in to Redis, and over what.

use crate::support::eventually;
use crate::support::pki::Authority;
use crate::support::redis::{Held, RedisServer, login};
use tollgate::base::secret::Secret;
use tollgate::redis::{RedisFault, RedisRules};

/// A user who may read and listen, but not write.
const READER: [&str; 10] = [
    "ACL",
    "SETUSER",
    "reader",
    "on",
    ">s3cret",
    "resetkeys",
    "~a:*",
    "-@all",
    "+get",
    "+ping",
];

#[track_caller]
fn told(held: &Held, what: &str) {
    eventually(what, || held.told().iter().any(|l| l.contains(what)));
    assert!(!held.redis.is_up());
    assert!(
        !held
            .told()
            .iter()
            .any(|l| l.contains("s3cret") || l.contains("wrong-one"))
    );
}

#[test]
fn a_user_may_do_what_its_acl_says_over_tls() {
    let ca = Authority::new("internal");
    let server = RedisServer::tls(&ca.server(&["127.0.0.1"]), None);
    server.run(&READER);
    server.run(&["SET", "a:1", "x"]);
    let held = Held::new(login(server.tls_rules(&ca.pem()), Some("reader"), "s3cret")).up();
    assert_eq!(held.query(&["GET", "a:1"]), Ok("x".to_owned()));
    for command in [&["SET", "a:1", "y"][..], &["GET", "b:1"]] {
        assert_eq!(
            held.query::<redis::Value>(command),
            Err(RedisFault::Refused)
        );
    }
    let told = held.told();
    assert!(
        told.iter()
            .any(|l| l.contains("does not allow it to this user (NOPERM)")),
        "{told:?}"
    );
}

#[test]
fn who_may_not_log_in_is_told_so() {
    let ca = Authority::new("internal");
    let server = RedisServer::tls(&ca.server(&["127.0.0.1"]), None);
    server.run(&READER);
    let rules = || server.tls_rules(&ca.pem());
    let wrong = Held::new(login(rules(), Some("reader"), "wrong-one"));
    told(&wrong, "the user's name or the password is not right");
    let nobody = Held::new(login(rules(), Some("nobody"), "s3cret"));
    told(&nobody, "the user's name or the password is not right");
}

#[test]
fn one_that_wants_a_password_says_so() {
    let server = RedisServer::start();
    server.run(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let held = Held::new(server.rules());
    told(&held, "it wants a password (NOAUTH)");
    let right = Held::new(login(server.rules(), None, "s3cret")).up();
    assert_eq!(right.query::<()>(&["SET", "a", "1"]), Ok(()));
}

#[test]
fn a_server_that_another_authority_signed_is_not_believed() {
    let (ca, other) = (Authority::new("internal"), Authority::new("other"));
    let server = RedisServer::tls(&ca.server(&["127.0.0.1"]), None);
    told(&Held::new(server.tls_rules(&other.pem())), "UnknownIssuer");
    let named = RedisServer::tls(&ca.server(&["redis.test"]), None);
    told(&Held::new(named.tls_rules(&ca.pem())), "not valid for name");
}

#[test]
fn a_client_certificate_is_shown() {
    let ca = Authority::new("internal");
    let server = RedisServer::tls(&ca.server(&["127.0.0.1"]), Some(&ca.pem()));
    let mut rules = server.tls_rules(&ca.pem());
    let own = ca.client("gateway");
    told(&Held::new(rules.clone()), "not connected");
    if let Some(tls) = &mut rules.tls {
        tls.client = Some((own.cert.clone(), Secret::new(own.key.clone())));
    }
    let held = Held::new(rules).up();
    assert_eq!(held.query::<()>(&["SET", "a", "1"]), Ok(()));
}

#[test]
fn a_database_has_a_number() {
    let server = RedisServer::start();
    let held = Held::new(RedisRules {
        db: 3,
        ..server.rules()
    });
    let held = held.up();
    assert_eq!(held.query::<()>(&["SET", "a", "1"]), Ok(()));
    assert_eq!(server.info("db3"), "keys=1,expires=0,avg_ttl=0");
}
