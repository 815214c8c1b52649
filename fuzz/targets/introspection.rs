//! Any text as an issuer's answer about a token: a caller comes only out of one that says that the token is
//! active, for us, from the issuer that was asked, and now.
#![no_main]

use std::sync::LazyLock;
use tollgate::identity::claims::ClaimMap;
use tollgate::identity::introspect::answer::{AnswerRules, Grant, NoAnswer, Told, read};
use tollgate_fuzz::json::{self, Json};
use tollgate_fuzz::keys::{AUDIENCE, LEEWAY_S, NOW_MS, NOW_S, iss};
use tollgate_fuzz::mutate;

static RULES: LazyLock<AnswerRules> = LazyLock::new(|| AnswerRules {
    provider: "secret".into(),
    issuer: Some(iss("secret")),
    audiences: Some(vec![AUDIENCE.to_owned()]),
    leeway_ms: LEEWAY_S * 1000,
    claims: ClaimMap::default(),
});

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let reading = json::object(text);
    match read(text, &RULES) {
        Ok(Told::Active(grant)) => active(&grant, &reading.expect("accepted: it is an object")),
        Ok(Told::Refused(_)) => assert!(reading.is_some(), "an answer, and no object"),
        Err(fault) => assert_eq!(fault == NoAnswer::NoObject, reading.is_none(), "{fault}"),
    }
});

/// What must stand in an answer that gives a caller (RFC 7662 §2.2).
fn active(grant: &Grant, reading: &Json) {
    let text = |name: &str| reading.get(name).and_then(Json::text);
    assert_eq!(reading.get("active"), Some(&Json::Bool(true)));
    assert_eq!(text("iss"), Some(iss("secret").as_str()));
    let ours = |aud: &Json| aud.text() == Some(AUDIENCE);
    let aud = reading.get("aud").expect("an audience");
    assert!(ours(aud) || aud.list().unwrap_or_default().iter().any(ours));
    let bearer = text("token_type").is_none_or(|of| of.eq_ignore_ascii_case("bearer"));
    assert!(
        bearer
            && reading
                .get("token_type")
                .is_none_or(|of| of.text().is_some())
    );
    let caller = &grant.principal;
    let named = |name: &str| text(name).filter(|text| !text.is_empty());
    assert_eq!(caller.user.as_deref(), named("sub").or(named("username")));
    assert_eq!(caller.client_id.as_deref(), named("client_id"));
    assert!(
        caller.user.is_some() || caller.client_id.is_some(),
        "it speaks for nobody"
    );
    assert_eq!(
        grant.exp_ms.is_some(),
        reading.get("exp").is_some(),
        "without its end"
    );
    let date = |name: &str| reading.get(name).and_then(Json::number);
    let (now, leeway) = (NOW_S as f64, LEEWAY_S as f64);
    if grant.judge(NOW_MS, RULES.leeway_ms).is_ok() {
        assert!(
            date("exp").is_none_or(|exp| now < exp + leeway),
            "its time is over"
        );
        let begun = |name: &str| date(name).is_none_or(|from| from < now + leeway + 0.001);
        assert!(begun("nbf") && begun("iat"), "its time has not come");
    }
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::value)
});
