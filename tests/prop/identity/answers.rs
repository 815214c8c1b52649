//! What issuers answer about tokens (RFC 7662): whatever comes, nothing panics, and nothing passes that
//! a plain reading of the RFC would not let pass.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tollgate::identity::claims::ClaimMap;
use tollgate::identity::introspect::answer::{AnswerRules, NoAnswer, OpaqueFault, Told, read};
use tollgate::identity::principal::Method;

fn rules(issuer: Option<&str>, audience: Option<&str>) -> AnswerRules {
    AnswerRules {
        provider: Arc::from("sso"),
        issuer: issuer.map(str::to_owned),
        audiences: audience.map(|aud| vec![aud.to_owned()]),
        leeway_ms: 30_000,
        claims: ClaimMap::default(),
    }
}

/// The members that count, and one that does not.
const NAMES: [&str; 17] = [
    "active",
    "scope",
    "client_id",
    "username",
    "token_type",
    "exp",
    "iat",
    "nbf",
    "sub",
    "aud",
    "iss",
    "jti",
    "cnf",
    "token_use",
    "roles",
    "email",
    "extension",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!("ours")),
        2 => Just(json!("Bearer")),
        1 => Just(json!("access_token")),
        2 => Just(json!(["ours", "other"])),
        1 => Just(json!(["other"])),
        1 => Just(json!(["ours", 1])),
        2 => any::<u32>().prop_map(|n| json!(n)),
        1 => any::<f64>().prop_map(|n| json!(n)),
        1 => any::<i64>().prop_map(|n| json!(n)),
        1 => any::<bool>().prop_map(|b| json!(b)),
        1 => Just(Value::Null),
        1 => Just(json!({"x5t#S256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
        1 => ".*".prop_map(|text| json!(text)),
    ]
}

fn answer() -> impl Strategy<Value = Map<String, Value>> {
    let member = (prop::sample::select(&NAMES[1..]), value());
    let active = prop_oneof![6 => Just(json!(true)), 1 => value()];
    (active, prop::collection::vec(member, 0..8)).prop_map(|(active, members)| {
        let mut all = Map::new();
        all.insert("active".to_owned(), active);
        all.extend(members.into_iter().map(|(name, v)| (name.to_owned(), v)));
        all
    })
}

/// Whether RFC 7662 §2.2 has this member so.
fn fits(name: &str, value: &Value) -> bool {
    let texts = || {
        value
            .as_array()
            .is_some_and(|all| all.iter().all(Value::is_string))
    };
    match name {
        "client_id" | "username" | "token_type" | "sub" | "iss" | "jti" => value.is_string(),
        "scope" | "aud" => value.is_string() || texts(),
        "exp" | "iat" | "nbf" => value
            .as_f64()
            .is_some_and(|n| (0.0..=253_402_300_799.0).contains(&n)),
        _ => true,
    }
}

fn text<'a>(answer: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    answer.get(name).and_then(Value::as_str)
}

proptest! {
    #[test]
    fn whatever_comes_nothing_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&body, &rules(None, None));
    }

    #[test]
    fn nothing_panics_on_broken_answers(answer in answer(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = Value::Object(answer).to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = read(&body, &rules(Some("ours"), Some("ours")));
        let _ = read(&body[..at], &rules(None, None));
    }

    #[test]
    fn only_what_the_rfc_lets_pass_passes(answer in answer(), strict in any::<bool>()) {
        let only = strict.then_some("ours");
        let read = read(Value::Object(answer.clone()).to_string().as_bytes(), &rules(only, only));
        let broken = || answer.iter().any(|(name, value)| !fits(name, value));
        match answer["active"].as_bool() {
            None => prop_assert_eq!(&read, &Err(NoAnswer::NotActiveOrNot)),
            Some(false) => {
                prop_assert_eq!(&read, &Ok(Told::Refused(OpaqueFault::Inactive)));
            }
            Some(true) if broken() => {
                prop_assert!(matches!(read, Err(NoAnswer::Member(_))), "{read:?}");
            }
            Some(true) => prop_assert!(read.is_ok(), "{read:?}"),
        }
        let Ok(Told::Active(grant)) = read else {
            return Ok(());
        };
        let caller = &grant.principal;
        prop_assert_eq!(caller.method, Method::Introspection);
        prop_assert!(caller.client_id.is_some() || caller.user.is_some());
        let bearer = text(&answer, "token_type").is_none_or(|t| t.eq_ignore_ascii_case("bearer"));
        prop_assert!(bearer);
        prop_assert!(text(&answer, "token_use").is_none_or(|t| t.starts_with("access")));
        if strict {
            prop_assert_eq!(text(&answer, "iss"), Some("ours"));
            let aud = answer.get("aud").expect("one is asked for");
            let ours = |aud: &Value| aud == "ours";
            prop_assert!(ours(aud) || aud.as_array().is_some_and(|all| all.iter().any(ours)));
        }
        prop_assert_eq!(caller.bound.is_some(), answer.contains_key("cnf"));
        let exp = answer.get("exp").and_then(Value::as_f64);
        prop_assert_eq!(grant.exp_ms.is_some(), exp.is_some());
        if let Some(exp) = exp {
            // At its end and the leeway it is over, whatever else it says.
            let end = exp as u64 * 1000 + 31_000;
            prop_assert!(grant.judge(end, 30_000).is_err());
        }
    }

    #[test]
    fn a_member_twice_is_no_answer(answer in answer(), at in any::<prop::sample::Index>()) {
        let whole = Value::Object(answer.clone()).to_string();
        let (name, value) = answer.iter().nth(at.index(answer.len())).expect("a member");
        let twice = format!("{{{}:{value},{}", json!(name), &whole[1..]);
        prop_assert_eq!(read(twice.as_bytes(), &rules(None, None)), Err(NoAnswer::NoObject));
    }
}
