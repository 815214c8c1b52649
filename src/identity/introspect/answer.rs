//! What an issuer answers when it is asked about a token (RFC 7662 §2.2), read strictly.
//!
//! Three ends: the token is good, it is refused, or the answer is none. A member that RFC 7662
//! names has the type it says, or the answer is none: `"active": "true"` and `"exp": null` are
//! guesses that nobody may make here. What a member says about us (`iss`, `aud`, `token_type`) and
//! what our own config reads out of the answer refuses the token.

use crate::identity::claims::{ClaimMap, Claims, numeric_date};
use crate::identity::json;
use crate::identity::principal::{Method, Principal};
use serde_json::Value;
use std::sync::Arc;
use thiserror::Error;

/// What is believed of an issuer's answers.
#[derive(Clone, Debug)]
pub struct AnswerRules {
    /// The provider's name in our configuration.
    pub provider: Arc<str>,
    /// The exact `iss` that an answer must have; none: any, or no `iss` at all.
    pub issuer: Option<String>,
    /// The audiences of which an answer must name one; none: any, or no `aud` at all.
    pub audiences: Option<Vec<String>>,
    /// How far the issuer's clock may be off.
    pub leeway_ms: u64,
    /// Which member gives what.
    pub claims: ClaimMap,
}

/// Why a token that is no JWT was refused. Closed, and free of anything the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpaqueFault {
    /// Longer than [`super::MAX_TOKEN`].
    #[error("longer than {} bytes", super::MAX_TOKEN)]
    TooLarge,
    /// With bytes that no bearer token has (RFC 6750 §2.1).
    #[error("not a bearer token")]
    Malformed,
    /// Its issuer says that it is not good, or not any more.
    #[error("not active")]
    Inactive,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` has not come yet, or it was issued in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// `iss` is not the configured issuer.
    #[error("from another issuer")]
    WrongIssuer,
    /// `aud` does not hold a configured audience.
    #[error("meant for another audience")]
    WrongAudience,
    /// Not one to be borne: a refresh token, or one that needs a proof that is not known here.
    #[error("of another type")]
    WrongType,
    /// It names nobody, or what the config reads out of it is of a wrong type.
    #[error("with a claim {0} that is missing or wrong")]
    BadClaim(&'static str),
}

/// Why an answer is none. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// Not a JSON object, or one with a member twice.
    #[error("it is not a JSON object with each member once")]
    NoObject,
    /// `active` is what counts.
    #[error("it has no `active` that is true or false")]
    NotActiveOrNot,
    /// A member is not what RFC 7662 says.
    #[error("its `{0}` is not of the type that RFC 7662 has it")]
    Member(&'static str),
}

/// What an answer says of a token, whatever the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is good.
    Active(Grant),
    /// It is not.
    Refused(OpaqueFault),
}

/// A token that its issuer calls good, and when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who it speaks for.
    pub principal: Arc<Principal>,
    /// Its `exp`, in Unix milliseconds, without leeway; none: it ends when its issuer says so.
    pub exp_ms: Option<u64>,
    /// The later of its `nbf` and `iat`, in Unix milliseconds.
    from_ms: u64,
}

impl Grant {
    /// Whether it holds at this time.
    pub fn judge(&self, now_unix_ms: u64, leeway_ms: u64) -> Result<(), OpaqueFault> {
        let ends = self.exp_ms.map(|exp| exp.saturating_add(leeway_ms));
        if ends.is_some_and(|ends| now_unix_ms >= ends) {
            return Err(OpaqueFault::Expired);
        }
        // A clock that reads 0 has lost its time: nothing can be said to be valid.
        if now_unix_ms == 0 || now_unix_ms.saturating_add(leeway_ms) < self.from_ms {
            return Err(OpaqueFault::NotYetValid);
        }
        Ok(())
    }
}

/// Reads an answer's body.
pub fn read(body: &[u8], rules: &AnswerRules) -> Result<Told, NoAnswer> {
    let claims = json::object(body).ok_or(NoAnswer::NoObject)?;
    match claims.get("active") {
        Some(Value::Bool(true)) => {}
        // Nothing else is said then (RFC 7662 §2.2), or nothing that counts.
        Some(Value::Bool(false)) => return Ok(Told::Refused(OpaqueFault::Inactive)),
        _ => return Err(NoAnswer::NotActiveOrNot),
    }
    well_formed(&claims)?;
    let exp_ms = date(&claims, "exp")?;
    let from_ms = date(&claims, "nbf")?.max(date(&claims, "iat")?);
    let principal = is_for_us(&claims, rules).and_then(|()| principal(&claims, rules));
    Ok(match principal {
        Ok(principal) => Told::Active(Grant {
            principal: Arc::new(principal),
            exp_ms,
            from_ms: from_ms.unwrap_or(0),
        }),
        Err(fault) => Told::Refused(fault),
    })
}

/// The members that RFC 7662 names are of its types. A list of scopes is none of them, yet what
/// several issuers send.
fn well_formed(claims: &Claims) -> Result<(), NoAnswer> {
    let is = |name: &'static str, good: fn(&Value) -> bool| match claims.get(name) {
        Some(value) if !good(value) => Err(NoAnswer::Member(name)),
        _ => Ok(()),
    };
    for name in ["client_id", "username", "token_type", "sub", "iss", "jti"] {
        is(name, Value::is_string)?;
    }
    for name in ["scope", "aud"] {
        is(name, is_text_or_texts)?;
    }
    Ok(())
}

fn is_text_or_texts(value: &Value) -> bool {
    let texts = |all: &Vec<Value>| all.iter().all(Value::is_string);
    value.is_string() || value.as_array().is_some_and(texts)
}

fn date(claims: &Claims, name: &'static str) -> Result<Option<u64>, NoAnswer> {
    let date = claims.get(name).map(numeric_date);
    date.map(|date| date.ok_or(NoAnswer::Member(name)))
        .transpose()
}

fn is_for_us(claims: &Claims, rules: &AnswerRules) -> Result<(), OpaqueFault> {
    if !is_borne(claims) {
        return Err(OpaqueFault::WrongType);
    }
    let iss = claims.get("iss").and_then(Value::as_str);
    if rules.issuer.is_some() && iss != rules.issuer.as_deref() {
        return Err(OpaqueFault::WrongIssuer);
    }
    let Some(ours) = &rules.audiences else {
        return Ok(());
    };
    let ours = |aud: &Value| {
        aud.as_str()
            .is_some_and(|aud| ours.iter().any(|o| o == aud))
    };
    let named = claims.get("aud").is_some_and(|aud| match aud {
        Value::Array(all) => all.iter().any(ours),
        one => ours(one),
    });
    if named {
        Ok(())
    } else {
        Err(OpaqueFault::WrongAudience)
    }
}

/// Whether it is an access token that whoever holds it may bear. An issuer answers about refresh
/// tokens as well (RFC 7662 §2.1), and some tell them only by members of their own. `N_A` is what
/// RFC 8693 §2.2.1 calls a token that is no access token.
fn is_borne(claims: &Claims) -> bool {
    let is_one_of = |name: &str, words: &[&str]| {
        let text = claims.get(name).and_then(Value::as_str);
        text.map(|text| words.iter().any(|word| text.eq_ignore_ascii_case(word)))
    };
    let bearer = is_one_of("token_type", &["Bearer"]).unwrap_or(true);
    // Ory Hydra, Amazon Cognito.
    let access = is_one_of("token_use", &["access_token", "access"]).unwrap_or(true);
    // Keycloak.
    let other = is_one_of("typ", &["Refresh", "Offline", "ID", "Logout"]).unwrap_or(false);
    bearer && access && !other
}

fn principal(claims: &Claims, rules: &AnswerRules) -> Result<Principal, OpaqueFault> {
    let map = &rules.claims;
    let read = map.principal(claims, &rules.provider);
    let mut principal = read.map_err(OpaqueFault::BadClaim)?;
    principal.method = Method::Introspection;
    // Only where the config does not ask for another member: two names for one account are two
    // accounts to a service.
    if principal.user.is_none() && map.user == ClaimMap::default().user {
        let username = claims.get("username").and_then(Value::as_str);
        principal.user = username.filter(|u| !u.is_empty()).map(str::to_owned);
    }
    if principal.user.is_none() && principal.client_id.is_none() {
        // Without a name the upstream would be told of nobody in particular.
        return Err(OpaqueFault::BadClaim("sub"));
    }
    Ok(principal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules() -> AnswerRules {
        AnswerRules {
            provider: Arc::from("corp"),
            issuer: None,
            audiences: None,
            leeway_ms: 30_000,
            claims: ClaimMap::default(),
        }
    }

    fn told(answer: &Value) -> Result<Told, NoAnswer> {
        read(answer.to_string().as_bytes(), &rules())
    }

    fn grant(answer: &Value) -> Grant {
        match told(answer) {
            Ok(Told::Active(grant)) => grant,
            other => panic!("{answer}: {other:?}"),
        }
    }

    fn fault(answer: &Value) -> OpaqueFault {
        match told(answer) {
            Ok(Told::Refused(fault)) => fault,
            other => panic!("{answer}: {other:?}"),
        }
    }

    /// The example of RFC 7662 §2.2.
    #[test]
    fn the_rfcs_own_example() {
        let answer = json!({
            "active": true, "client_id": "l238j323ds-23ij4", "username": "jdoe",
            "scope": "read write dolphin", "sub": "Z5O3upPC88QrAjx00dis",
            "aud": "https://protected.example.net/resource",
            "iss": "https://server.example.com/", "exp": 1_419_356_238, "iat": 1_419_350_238,
            "extension_field": "twenty-seven",
        });
        let grant = grant(&answer);
        let caller = &grant.principal;
        assert_eq!(caller.method, Method::Introspection);
        assert_eq!(caller.client_id.as_deref(), Some("l238j323ds-23ij4"));
        assert_eq!(caller.user.as_deref(), Some("Z5O3upPC88QrAjx00dis"));
        assert!(caller.scopes.has("dolphin") && !caller.scopes.has("admin"));
        let marks = &caller.marks;
        assert_eq!(marks.issuer.as_deref(), Some("https://server.example.com/"));
        assert_eq!(marks.issued_s, Some(1_419_350_238));
        assert_eq!(grant.exp_ms, Some(1_419_356_238_000));
        assert_eq!(fault(&json!({"active": false})), OpaqueFault::Inactive);
        let said = json!({"active": false, "exp": "never", "sub": 7});
        assert_eq!(fault(&said), OpaqueFault::Inactive);
    }

    #[test]
    fn times_with_leeway() {
        let answer = json!({"active": true, "sub": "u", "exp": 2000, "nbf": 1000, "iat": 990});
        let grant = grant(&answer);
        let at = |s: u64| grant.judge(s * 1000, 30_000);
        assert_eq!(at(969), Err(OpaqueFault::NotYetValid));
        assert_eq!(at(970), Ok(()));
        assert_eq!(at(2029), Ok(()));
        assert_eq!(at(2030), Err(OpaqueFault::Expired));
        assert_eq!(at(0), Err(OpaqueFault::NotYetValid));
        let of = |answer: Value| self::grant(&answer);
        let later = of(json!({"active": true, "sub": "u", "iat": 5000, "nbf": 1}));
        assert_eq!(
            later.judge(4_969_999, 30_000),
            Err(OpaqueFault::NotYetValid)
        );
        let open = of(json!({"active": true, "sub": "u"}));
        assert_eq!((open.exp_ms, open.judge(u64::MAX, 0)), (None, Ok(())));
    }

    #[test]
    fn types_of_tokens() {
        for good in ["Bearer", "bearer", "BEARER"] {
            grant(&json!({"active": true, "sub": "u", "token_type": good}));
        }
        for bad in ["N_A", "DPoP", "mac", "pop", "", "Bearer ", "refresh_token"] {
            let answer = json!({"active": true, "sub": "u", "token_type": bad});
            assert_eq!(fault(&answer), OpaqueFault::WrongType, "{bad}");
        }
        let of = |name: &str, value: &str| {
            let mut answer = json!({"active": true, "sub": "u", "token_type": "Bearer"});
            answer[name] = value.into();
            told(&answer) == Ok(Told::Refused(OpaqueFault::WrongType))
        };
        assert!(of("token_use", "refresh_token") && of("token_use", "id"));
        assert!(!of("token_use", "access_token") && !of("token_use", "access"));
        assert!(of("typ", "Refresh") && of("typ", "Offline") && of("typ", "ID"));
        assert!(!of("typ", "Bearer") && !of("typ", "at+jwt"));
    }

    #[test]
    fn an_issuer_and_an_audience_that_are_asked_for() {
        let strict = AnswerRules {
            issuer: Some("https://a.example/".to_owned()),
            audiences: Some(vec!["api".to_owned(), "other".to_owned()]),
            ..rules()
        };
        let judge = |iss: Value, aud: Value| {
            let mut answer = json!({"active": true, "sub": "u"});
            for (name, value) in [("iss", iss), ("aud", aud)] {
                if !value.is_null() {
                    answer[name] = value;
                }
            }
            read(answer.to_string().as_bytes(), &strict).map(|told| match told {
                Told::Active(_) => None,
                Told::Refused(fault) => Some(fault),
            })
        };
        let iss = || json!("https://a.example/");
        for aud in [json!("api"), json!(["x", "other"])] {
            assert_eq!(judge(iss(), aud), Ok(None));
        }
        for aud in [json!("API"), json!("x"), json!([]), json!(""), Value::Null] {
            let judged = judge(iss(), aud.clone());
            assert_eq!(judged, Ok(Some(OpaqueFault::WrongAudience)), "{aud}");
        }
        for iss in [json!("https://a.example"), json!(""), Value::Null] {
            let judged = judge(iss.clone(), json!("api"));
            assert_eq!(judged, Ok(Some(OpaqueFault::WrongIssuer)), "{iss}");
        }
        let judged = judge(iss(), json!(["api", 1]));
        assert_eq!(judged, Err(NoAnswer::Member("aud")));
    }

    #[test]
    fn who_it_is() {
        let user = |answer: Value| grant(&answer).principal.user.clone();
        let of = |answer: Value| user(answer).unwrap_or_default();
        assert_eq!(
            of(json!({"active": true, "sub": "s", "username": "n"})),
            "s"
        );
        assert_eq!(of(json!({"active": true, "sub": "", "username": "n"})), "n");
        assert_eq!(user(json!({"active": true, "client_id": "c"})), None);
        for nobody in [
            json!({"active": true}),
            json!({"active": true, "sub": "", "username": "", "client_id": ""}),
        ] {
            assert_eq!(fault(&nobody), OpaqueFault::BadClaim("sub"));
        }
        let mapped = AnswerRules {
            claims: ClaimMap {
                user: "email".parse().expect("a claim's name"),
                ..ClaimMap::default()
            },
            ..rules()
        };
        let answer = json!({"active": true, "username": "n", "sub": "s", "client_id": "c"});
        let Ok(Told::Active(grant)) = read(answer.to_string().as_bytes(), &mapped) else {
            panic!("the client is known");
        };
        assert_eq!(grant.principal.user, None);
    }

    #[test]
    fn scopes_in_either_form_and_a_bound_certificate() {
        for scope in [json!("b a"), json!(["a", "b"])] {
            let answer = json!({"active": true, "sub": "u", "scope": scope});
            let caller = grant(&answer).principal;
            assert_eq!(caller.scopes.iter().collect::<Vec<_>>(), ["a", "b"]);
        }
        let print = "A".repeat(43);
        let answer = json!({"active": true, "sub": "u", "cnf": {"x5t#S256": print}});
        assert_eq!(grant(&answer).principal.bound, Some([0; 32]));
        let answer = json!({"active": true, "sub": "u", "cnf": {"jkt": print}});
        assert_eq!(fault(&answer), OpaqueFault::BadClaim("cnf"));
    }

    #[test]
    fn what_is_no_answer() {
        for text in [
            "",
            "null",
            "true",
            "[]",
            "{",
            "{}}",
            r#"{"active":true,"active":true}"#,
            r#"{"active":true,"sub":"u","sub":"u"}"#,
            "<html></html>",
            "{\"active\":\"\u{0}\"}",
        ] {
            assert_eq!(
                read(text.as_bytes(), &rules()),
                Err(NoAnswer::NoObject),
                "{text}"
            );
        }
        for text in [
            "{}",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"Active":true}"#,
            r#"{"sub":"u"}"#,
        ] {
            let judged = read(text.as_bytes(), &rules());
            assert_eq!(judged, Err(NoAnswer::NotActiveOrNot), "{text}");
        }
        for (name, value) in [
            ("exp", json!("1419356238")),
            ("exp", json!(null)),
            ("exp", json!(-1)),
            ("exp", json!(1e300)),
            ("nbf", json!(true)),
            ("iat", json!([])),
            ("sub", json!(7)),
            ("sub", json!(null)),
            ("client_id", json!(["c"])),
            ("username", json!({})),
            ("token_type", json!(1)),
            ("iss", json!(["i"])),
            ("jti", json!(1)),
            ("scope", json!(1)),
            ("scope", json!(null)),
            ("scope", json!(["a", 1])),
            ("aud", json!(1)),
            ("aud", json!([["a"]])),
        ] {
            let mut answer = json!({"active": true, "sub": "u"});
            answer[name] = value;
            assert_eq!(told(&answer), Err(NoAnswer::Member(name)), "{answer}");
        }
        let roles = json!({"active": true, "sub": "u", "roles": 7});
        assert_eq!(fault(&roles), OpaqueFault::BadClaim("roles"));
    }
}
