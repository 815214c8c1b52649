//! What an issuer is asked, and what becomes of its answers.

use super::*;

/// RFC 7662 §2.1, RFC 6749 §2.3.1: the bytes.
#[test]
fn what_is_asked() {
    let origin = issuer(good());
    let asker = Asker::with(&origin, |rules| {
        rules.client_id = "gate:way".to_owned();
        rules.client_secret = Secret::new("s%+é =");
    });
    assert_eq!(user(&asker.ask("2YotnFZFE/jr1z+C~s._-==")), "alice");
    let seen = origin.last();
    assert_eq!((&*seen.method, &*seen.target), ("POST", "/introspect"));
    assert_eq!(
        body(&seen),
        "token=2YotnFZFE%2Fjr1z%2BC%7Es._-%3D%3D&token_type_hint=access_token"
    );
    let form = "application/x-www-form-urlencoded";
    assert_eq!(seen.header("content-type"), Some(form));
    assert_eq!(seen.header("accept"), Some("application/json"));
    // gate%3Away:s%25%2B%C3%A9+%3D
    let basic = "Basic Z2F0ZSUzQXdheTpzJTI1JTJCJUMzJUE5KyUzRA==";
    assert_eq!(seen.header("authorization"), Some(basic));
    let length = seen.body.len().to_string();
    assert_eq!(seen.header("content-length"), Some(&*length));

    let posts = Asker::with(&origin, |rules| {
        rules.client_id = "gate:way".to_owned();
        rules.client_secret = Secret::new("s%+é&=");
        rules.client_auth = ClientAuth::Post;
    });
    posts.ask("abc");
    let seen = origin.last();
    assert_eq!(
        body(&seen),
        "token=abc&token_type_hint=access_token&client_id=gate%3Away&client_secret=s%25%2B%C3%A9%26%3D"
    );
    assert_eq!(seen.header("authorization"), None);
}

#[test]
fn nothing_that_is_no_bearer_token_is_asked_about() {
    let origin = issuer(good());
    let asker = Asker::new(&origin);
    let longest = "a".repeat(8192);
    let longer = format!("{longest}a");
    assert_eq!(asker.ask(&longer), refused(OpaqueFault::TooLarge));
    for bad in [
        "", "=", "a=b", "a b", "a\"", "a,b", "a%20", "ä", "a\u{0}", "{}",
    ] {
        assert_eq!(asker.ask(bad), refused(OpaqueFault::Malformed), "{bad:?}");
        on_a_worker(asker.introspection.look_up(bad));
    }
    assert_eq!(origin.begun(), 0);
    assert_eq!(user(&asker.ask(&longest)), "alice");
    assert!(!asker.introspection.is_cached(&longer, asker.clock.now()));
}

/// Tokens, what their issuer says of them, and why they are not for us; not now, if they are.
fn for_others(now_s: u64) -> Vec<(&'static str, Value, Option<OpaqueFault>)> {
    vec![
        (
            "a",
            json!({"iss": "https://sso.example/", "aud": ["x", "api"]}),
            None,
        ),
        ("b", json!({"aud": "api"}), Some(OpaqueFault::WrongIssuer)),
        (
            "c",
            json!({"iss": "https://evil.example/", "aud": "api"}),
            Some(OpaqueFault::WrongIssuer),
        ),
        (
            "d",
            json!({"iss": "https://sso.example/"}),
            Some(OpaqueFault::WrongAudience),
        ),
        (
            "e",
            json!({"iss": "https://sso.example/", "aud": "x"}),
            Some(OpaqueFault::WrongAudience),
        ),
        (
            "f",
            json!({"iss": "https://sso.example/", "aud": "api", "nbf": now_s + 90}),
            Some(OpaqueFault::NotYetValid),
        ),
        (
            "g",
            json!({"iss": "https://sso.example/", "aud": "api", "exp": now_s - 31}),
            Some(OpaqueFault::Expired),
        ),
        (
            "h",
            json!({"iss": "https://sso.example/", "aud": "api", "token_type": "DPoP"}),
            Some(OpaqueFault::WrongType),
        ),
        (
            "i",
            json!({"iss": "https://sso.example/", "aud": "api", "roles": 1}),
            Some(OpaqueFault::BadClaim("roles")),
        ),
    ]
}

#[test]
fn tokens_for_others_and_for_later() {
    let origin = issuer(good());
    let asker = Asker::with(&origin, |rules| {
        rules.issuer = Some("https://sso.example/".to_owned());
        rules.audiences = Some(vec!["api".to_owned()]);
    });
    for (token, members, want) in for_others(asker.clock.now().unix_s()) {
        let mut answer = members;
        answer["active"] = true.into();
        answer["sub"] = "alice".into();
        origin.script(move |_| json_answer(&answer));
        match (asker.ask(token), want) {
            (TokenVerdict::Known(_), None) => {}
            (TokenVerdict::Refused(found), Some(want)) => assert_eq!(found, want, "{token}"),
            (found, want) => panic!("{token}: {found:?}, want {want:?}"),
        }
        let hits = origin.hits();
        asker.ask(token);
        assert_eq!(origin.hits(), hits, "{token} is remembered");
    }
}

#[test]
fn what_is_no_answer_is_no_refusal_and_is_not_remembered() {
    let origin = Origin::start();
    let asker = Asker::new(&origin);
    let typed = |kind: &str, body: &[u8]| {
        Act::Answer(200, vec![("Content-Type", kind.to_owned())], body.to_vec())
    };
    let fine = good().to_string().into_bytes();
    let mut huge = good();
    huge["pad"] = "x".repeat(64 * 1024).into();
    let acts = [
        Act::ok(fine.clone()),
        typed("text/html", b"<html>"),
        typed("text/json", &fine),
        typed("application/json", b"<html>"),
        typed("application/json", b""),
        typed("application/json", b"{\"active\":\"yes\"}"),
        typed(
            "application/json",
            b"{\"active\":true,\"active\":true,\"sub\":\"u\"}",
        ),
        typed(
            "application/json",
            b"{\"active\":true,\"sub\":\"u\",\"exp\":\"1\"}",
        ),
        json_answer(&huge),
        Act::status(204),
        Act::status(400),
        Act::status(404),
        Act::Answer(
            302,
            vec![("Location", format!("http://{origin}/other"))],
            Vec::new(),
        ),
    ];
    for (n, act) in acts.into_iter().enumerate() {
        origin.script(move |_| act.clone());
        let hits = origin.hits();
        assert_eq!(asker.ask("token"), TokenVerdict::Invalid, "{n}");
        assert_eq!(
            origin.hits(),
            hits + 1,
            "{n}: asked once, no redirect followed"
        );
    }
    assert!(
        !asker.introspection.status().given_up,
        "it may be about this token"
    );
    origin.script(|_| json_answer(&good()));
    assert_eq!(user(&asker.ask("token")), "alice");
    assert!(asker.shows("tollgate_introspections_total{issuer=\"sso\",result=\"invalid\"} 13"));
}

#[test]
fn an_issuer_that_cannot_be_asked_is_no_refusal() {
    let origin = Origin::start();
    let asker = Asker::with(&origin, |rules| rules.timeout = Duration::from_millis(200));
    let acts = [
        Act::status(500),
        Act::status(503),
        Act::status(429),
        Act::reset(),
        Act::RawThenClose(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
                .to_vec(),
        ),
        Act::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()),
        Act::Hang,
    ];
    for (n, act) in acts.into_iter().enumerate() {
        origin.script(move |_| act.clone());
        assert_eq!(asker.ask("token"), TokenVerdict::Unavailable, "{n}");
        // Not given up so far.
        origin.script(|_| json_answer(&good()));
        assert_eq!(user(&asker.ask(&format!("other{n}"))), "alice");
    }
    origin.stop();
    assert_eq!(asker.ask("token"), TokenVerdict::Unavailable);
    // What is known goes on being good.
    assert_eq!(user(&asker.ask("other0")), "alice");
}

#[test]
fn refused_credentials_of_our_own_are_told_loudly_and_not_to_clients() {
    let origin = Origin::scripted(|_| Act::status(401));
    let asker = Asker::with(&origin, |rules| rules.name = "loud".to_owned());
    assert_eq!(
        asker.ask("secret-token-of-a-client"),
        TokenVerdict::Unavailable
    );
    let lines = stderr::lines();
    let told = |l: &&String| l.contains("identity loud") && l.contains("client_secret");
    let line = lines.iter().find(told).expect("a line");
    assert!(line.starts_with("WARN"), "{line}");
    for secret in ["hunter2", "secret-token-of-a-client"] {
        assert!(!lines.iter().any(|l| l.contains(secret)), "{secret}");
    }
    // Once in ten seconds, however often.
    let count = || {
        stderr::lines()
            .iter()
            .filter(|l| l.contains("identity loud") && l.contains("client_secret"))
            .count()
    };
    for n in 0..3 {
        asker.ask(&format!("token{n}"));
    }
    assert_eq!(count(), 1);
    asker.advance(10_000);
    asker.ask("token");
    assert_eq!(count(), 2);
}
