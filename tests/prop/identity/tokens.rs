//! The corpus of bad tokens, and that good ones of every algorithm pass.

use super::mint::*;
use base64::{Engine, engine::general_purpose::URL_SAFE};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tollgate::identity::alg::Alg;
use tollgate::identity::jwt::{Issuer, JwtFault};
use tollgate::identity::keyset::{KeySet, Origin};
use tollgate::identity::token::MAX_TOKEN;

static CORP: LazyLock<Issuer> = LazyLock::new(|| issuer(&[Alg::RS256, Alg::ES256]));
/// `k1` is RSA key a, `k2` the P-256 key.
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let text = jwks(&[Signer::RsaA.jwk(Some("k1")), Signer::P256.jwk(Some("k2"))]);
    KeySet::from_jwks(&text, Origin::Fetched, CORP.algorithms()).unwrap()
});

fn check(token: &str) -> Result<(), JwtFault> {
    check_at(token, NOW_MS)
}

fn check_at(token: &str, now_ms: u64) -> Result<(), JwtFault> {
    CORP.verify(&KEYS, token, now_ms).map(drop)
}

/// A properly signed token with this header text.
fn headed(header: &str) -> String {
    sign_text(Signer::RsaA, Alg::RS256, header, &claims().to_string())
}

/// A properly signed token with this claims text.
fn claiming(claims: &str) -> String {
    sign_text(
        Signer::RsaA,
        Alg::RS256,
        r#"{"alg":"RS256","kid":"k1"}"#,
        claims,
    )
}

/// The good claims with one changed; null takes it away.
fn with(name: &str, value: Value) -> String {
    let mut all = claims();
    all[name] = value;
    if all[name].is_null() {
        all.as_object_mut().unwrap().remove(name);
    }
    claiming(&all.to_string())
}

#[test]
fn every_algorithm_signs_and_verifies() {
    for alg in Alg::ALL {
        let issuer = issuer(&[alg]);
        let signer = Signer::of(alg);
        let token = sign(signer, alg, Some("k"), &claims());
        let published = jwks(&[signer.jwk(Some("k"))]);
        let published = KeySet::from_jwks(&published, Origin::File, algs(&[alg])).unwrap();
        for keys in [one_key(signer, alg, Some("k")), published] {
            let verified = issuer.verify(&keys, &token, NOW_MS).unwrap();
            assert_eq!(verified.exp_ms, NOW_MS + 300_000);
            assert_eq!(verified.principal.user.as_deref(), Some("u1"), "{alg}");
            assert!(verified.principal.scopes.has("read:a"));
            assert_eq!(&*verified.principal.provider, "corp");
            // One bit off in the claims or in the signature.
            let mut bent = token.clone().into_bytes();
            let last = bent.len() - 2;
            bent[last] = if bent[last] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).unwrap();
            assert_eq!(
                issuer.verify(&keys, &bent, NOW_MS),
                Err(JwtFault::BadSignature),
                "{alg}"
            );
            let mut more = claims();
            more["sub"] = json!("root");
            let other = sign(signer, alg, Some("k"), &more);
            let (front, _) = other.rsplit_once('.').unwrap();
            let (_, signature) = token.rsplit_once('.').unwrap();
            let swapped = format!("{front}.{signature}");
            assert_eq!(
                issuer.verify(&keys, &swapped, NOW_MS),
                Err(JwtFault::BadSignature)
            );
        }
    }
}

#[test]
fn alg_none_in_any_case() {
    for name in ["none", "None", "NONE", "nOnE", "NoNe"] {
        let front = format!(
            "{}.{}",
            encode(format!(r#"{{"alg":"{name}","kid":"k1"}}"#)),
            encode(claims().to_string())
        );
        assert_eq!(check(&front), Err(JwtFault::Malformed));
        for signature in ["", "AA"] {
            assert_eq!(
                check(&format!("{front}.{signature}")),
                Err(JwtFault::AlgorithmNotAllowed)
            );
        }
        let signed = headed(&format!(r#"{{"alg":"{name}","kid":"k1"}}"#));
        assert_eq!(check(&signed), Err(JwtFault::AlgorithmNotAllowed));
    }
    for header in [
        r#"{"kid":"k1"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["RS256"]}"#,
        r#"{"alg":1}"#,
    ] {
        assert_eq!(check(&headed(header)), Err(JwtFault::Malformed), "{header}");
    }
    for name in ["rs256", "RS256 ", "", "RS512", "ES384", "HS256", "EdDSA"] {
        let header = format!(r#"{{"alg":"{name}","kid":"k1"}}"#);
        assert_eq!(
            check(&headed(&header)),
            Err(JwtFault::AlgorithmNotAllowed),
            "{name}"
        );
    }
}

/// The public key's text, or its DER, used as an HMAC secret (CVE-2015-9235 and its many heirs).
#[test]
fn a_public_key_is_no_hmac_secret() {
    let der: String = RSA_A_PUBLIC
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(der)
        .unwrap();
    for secret in [
        RSA_A_PUBLIC.as_bytes(),
        RSA_A_PUBLIC.trim_end().as_bytes(),
        &der,
    ] {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        assert_eq!(check(&token), Err(JwtFault::AlgorithmNotAllowed));
        // Even an issuer that takes HS256 has no such key under that name.
        let hmac = issuer(&[Alg::HS256]);
        assert_eq!(
            hmac.verify(&KEYS, &token, NOW_MS),
            Err(JwtFault::AlgorithmNotAllowed)
        );
    }
    // And the reverse: the algorithm is configured, the key of that id is of another kind.
    let token = sign(Signer::P256, Alg::ES256, Some("k1"), &claims());
    assert_eq!(check(&token), Err(JwtFault::AlgorithmNotAllowed));
    let token = sign(Signer::RsaA, Alg::RS256, Some("k2"), &claims());
    assert_eq!(check(&token), Err(JwtFault::AlgorithmNotAllowed));
}

#[test]
fn kid_is_only_a_name() {
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "k1\0",
        "K1",
        "' OR 1=1",
        "http://x/k",
        "",
    ] {
        let token = sign(Signer::RsaA, Alg::RS256, Some(kid), &claims());
        assert_eq!(check(&token), Err(JwtFault::UnknownKey), "{kid:?}");
    }
    let long = sign(Signer::RsaA, Alg::RS256, Some(&"k".repeat(257)), &claims());
    assert_eq!(check(&long), Err(JwtFault::Malformed));
    for kid in ["1", "null", "[\"k1\"]", "{}"] {
        let header = format!(r#"{{"alg":"RS256","kid":{kid}}}"#);
        assert_eq!(check(&headed(&header)), Err(JwtFault::Malformed), "{kid}");
    }
}

#[test]
fn keys_and_extensions_in_the_header_are_not_followed() {
    let own = Signer::RsaB.jwk(Some("k1"));
    let header = json!({"alg": "RS256", "kid": "k1", "jwk": own, "jku": "https://evil.example/",
        "x5u": "https://evil.example/", "x5c": ["MIIB"], "x5t": "AAAA"});
    let forged = sign_text(
        Signer::RsaB,
        Alg::RS256,
        &header.to_string(),
        &claims().to_string(),
    );
    assert_eq!(check(&forged), Err(JwtFault::BadSignature));
    assert_eq!(
        check(&headed(&header.to_string())),
        Ok(()),
        "ignored, not refused"
    );
    for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", "\"x\""] {
        let header = format!(r#"{{"alg":"RS256","kid":"k1","crit":{crit}}}"#);
        assert_eq!(
            check(&headed(&header)),
            Err(JwtFault::CriticalHeader),
            "{crit}"
        );
    }
    for (typ, want) in [
        ("JWT", Ok(())),
        ("AT+JWT", Ok(())),
        ("application/at+jwt", Ok(())),
        ("JWE", Err(JwtFault::WrongType)),
        ("logout+jwt", Err(JwtFault::WrongType)),
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"k1","typ":"{typ}"}}"#);
        assert_eq!(check(&headed(&header)), want, "{typ}");
    }
}

#[test]
fn repeated_members_and_leftovers() {
    for header in [
        r#"{"alg":"RS256","alg":"RS256","kid":"k1"}"#,
        r#"{"alg":"none","kid":"k1","alg":"RS256"}"#,
        r#"{"alg":"RS256","kid":"k1","kid":"k2"}"#,
        r#"{"alg":"RS256","kid":"k1","x":{"a":1,"a":2}}"#,
        r#"{"alg":"RS256","kid":"k1"} "x""#,
        r#"{"alg":"RS256","kid":"k1"}{}"#,
        r#"["RS256"]"#,
        "",
        "null",
    ] {
        assert_eq!(check(&headed(header)), Err(JwtFault::Malformed), "{header}");
    }
    let good = claims().to_string();
    let inner = good.trim_end_matches('}');
    for text in [
        format!(r#"{inner},"sub":"admin"}}"#),
        format!(r#"{inner},"\u0073ub":"admin"}}"#),
        format!(r#"{inner},"x":[{{"a":1,"b":{{"c":1,"c":1}}}}]}}"#),
        format!("{good}{good}"),
        format!("{good}\0"),
        "[]".to_owned(),
        "\"text\"".to_owned(),
    ] {
        assert_eq!(check(&claiming(&text)), Err(JwtFault::Malformed), "{text}");
    }
    assert_eq!(
        check(&claiming(&format!(" {good}\n"))),
        Ok(()),
        "white space is no leftover"
    );
}

#[test]
fn shape() {
    let token = claiming(&claims().to_string());
    assert_eq!(check(&token), Ok(()));
    let [head, body, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three segments")
    };
    let padded = URL_SAFE.encode(r#"{"alg":"RS256","kid":"k1"}"#);
    assert!(padded.ends_with('='));
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        head.to_owned(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!(".{body}.{signature}"),
        format!("{head}..{signature}"),
        format!("{token}.{signature}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{padded}.{body}.{signature}"),
        format!("{head}.{body}.{signature}="),
        format!("{head}.{body}.{signature}=="),
        format!("{head}.{body}.{}", signature.replacen(['-', '_'], "+", 1)),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{head}.{body}.é{signature}"),
    ] {
        let found = check(&bad);
        assert_eq!(found, Err(JwtFault::Malformed), "{bad}");
    }
    // Bits left over in the last character must be zero: one token, one spelling.
    let last = signature.chars().last().unwrap();
    let twin = char::from(last as u8 + 1);
    let respelled = format!("{}{twin}", &token[..token.len() - 1]);
    assert_eq!(check(&respelled), Err(JwtFault::Malformed));
    assert_eq!(check(&"a".repeat(MAX_TOKEN + 1)), Err(JwtFault::TooLarge));
    let large = with("x", json!("y".repeat(5000)));
    assert!(large.len() < MAX_TOKEN);
    assert_eq!(check(&large), Ok(()));
}

#[test]
fn signatures_that_were_never_made() {
    let front = format!(
        "{}.{}",
        encode(r#"{"alg":"ES256","kid":"k2"}"#),
        encode(claims().to_string())
    );
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&order[at..at + 2], 16).unwrap())
        .collect();
    let one = [vec![0; 31], vec![1]].concat();
    for (r, s) in [
        (vec![0; 32], vec![0; 32]), // CVE-2022-21449
        (one.clone(), vec![0; 32]),
        (vec![0; 32], one.clone()),
        (order.clone(), order.clone()),
        (one, order),
        (vec![0xff; 32], vec![0xff; 32]),
    ] {
        let token = format!("{front}.{}", encode([r, s].concat()));
        assert_eq!(check(&token), Err(JwtFault::BadSignature));
    }
    for length in [1, 16, 63, 65, 72, 256] {
        let token = format!("{front}.{}", encode(vec![0x30; length]));
        assert_eq!(check(&token), Err(JwtFault::BadSignature), "{length} bytes");
    }
    for length in [1, 255, 256, 257, 512] {
        let token = claiming(&claims().to_string());
        let (front, _) = token.rsplit_once('.').unwrap();
        for byte in [0, 1, 0xff] {
            let token = format!("{front}.{}", encode(vec![byte; length]));
            assert_eq!(check(&token), Err(JwtFault::BadSignature), "{length} bytes");
        }
    }
}

#[test]
fn another_key_of_the_same_kid() {
    let foreign = sign(Signer::RsaB, Alg::RS256, Some("k1"), &claims());
    assert_eq!(check(&foreign), Err(JwtFault::BadSignature));
}

#[test]
fn issuer_and_audience() {
    for (iss, want) in [
        (json!(null), JwtFault::MissingClaim("iss")),
        (json!("https://auth.example.com"), JwtFault::WrongIssuer),
        (json!("HTTPS://auth.example.com/"), JwtFault::WrongIssuer),
        (json!(""), JwtFault::WrongIssuer),
        (json!([ISSUER]), JwtFault::BadClaim("iss")),
    ] {
        assert_eq!(check(&with("iss", iss.clone())), Err(want), "{iss}");
    }
    for (aud, want) in [
        (json!("api"), Ok(())),
        (json!(["api"]), Ok(())),
        (json!(["other", "api2"]), Ok(())),
        (json!(null), Err(JwtFault::MissingClaim("aud"))),
        (json!("other"), Err(JwtFault::WrongAudience)),
        (json!("api "), Err(JwtFault::WrongAudience)),
        (json!("api api2"), Err(JwtFault::WrongAudience)),
        (json!(""), Err(JwtFault::WrongAudience)),
        (json!([]), Err(JwtFault::WrongAudience)),
        (json!(["API"]), Err(JwtFault::WrongAudience)),
        (json!(["api", 1]), Err(JwtFault::BadClaim("aud"))),
        (json!([["api"]]), Err(JwtFault::BadClaim("aud"))),
        (json!({"api": true}), Err(JwtFault::BadClaim("aud"))),
    ] {
        assert_eq!(check(&with("aud", aud.clone())), want, "{aud}");
    }
}

#[test]
fn times() {
    let exp = |text: &str| {
        let good = claims().to_string();
        let text = good.replace(
            &format!("\"exp\":{}", NOW_S + 300),
            &format!("\"exp\":{text}"),
        );
        check(&claiming(&text))
    };
    for (text, want) in [
        ("1800000300.75", Ok(())),
        ("1.9e9", Ok(())),
        ("253402300799", Ok(())),
        ("253402300800", Err(JwtFault::BadClaim("exp"))),
        ("18446744073709551615", Err(JwtFault::BadClaim("exp"))),
        ("18446744073709551616", Err(JwtFault::BadClaim("exp"))),
        ("1e300", Err(JwtFault::BadClaim("exp"))),
        ("1e999", Err(JwtFault::Malformed)),
        ("-1", Err(JwtFault::BadClaim("exp"))),
        ("\"1800000300\"", Err(JwtFault::BadClaim("exp"))),
        ("null", Err(JwtFault::BadClaim("exp"))),
        ("true", Err(JwtFault::BadClaim("exp"))),
        ("[1800000300]", Err(JwtFault::BadClaim("exp"))),
        ("0", Err(JwtFault::Expired)),
        ("1800000000000", Err(JwtFault::BadClaim("exp"))), // milliseconds by mistake
    ] {
        assert_eq!(exp(text), want, "{text}");
    }
    assert_eq!(
        check(&with("exp", json!(null))),
        Err(JwtFault::MissingClaim("exp"))
    );
    let token = with("exp", json!(NOW_S));
    assert_eq!(
        check_at(&token, NOW_MS + 29_999),
        Ok(()),
        "within the leeway"
    );
    assert_eq!(check_at(&token, NOW_MS + 30_000), Err(JwtFault::Expired));
    let token = with("nbf", json!(NOW_S));
    assert_eq!(
        check_at(&token, NOW_MS - 30_000),
        Ok(()),
        "within the leeway"
    );
    assert_eq!(
        check_at(&token, NOW_MS - 30_001),
        Err(JwtFault::NotYetValid)
    );
    assert_eq!(
        check(&with("nbf", json!("0"))),
        Err(JwtFault::BadClaim("nbf"))
    );
    assert_eq!(
        check_at(&with("x", json!(1)), 0),
        Err(JwtFault::NotYetValid),
        "no clock"
    );
}

#[test]
fn a_token_must_name_somebody() {
    assert_eq!(
        check(&with("sub", json!(null))),
        Ok(()),
        "the client is enough"
    );
    assert_eq!(
        check(&with("sub", json!(5))),
        Err(JwtFault::BadClaim("user"))
    );
    let nobody = json!({"iss": ISSUER, "aud": "api", "exp": NOW_S + 1, "sub": ""});
    assert_eq!(
        check(&claiming(&nobody.to_string())),
        Err(JwtFault::MissingClaim("sub"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_passes_or_panics(token in "[A-Za-z0-9_.=-]{0,80}|\\PC{0,40}") {
        prop_assert!(check(&token).is_err());
    }

    #[test]
    fn no_change_of_one_character_passes(at in 0_usize..600, to in "[A-Za-z0-9_.-]") {
        static TOKEN: LazyLock<String> = LazyLock::new(|| claiming(&claims().to_string()));
        let at = at % TOKEN.len();
        let bent = format!("{}{to}{}", &TOKEN[..at], &TOKEN[at + 1..]);
        prop_assert!(bent == *TOKEN || check(&bent).is_err());
    }
}
