//! Any header and any claims, a line each, properly signed: what passes a signature check is judged by the second
//! reader too. And no byte of it may be changed.
#![no_main]

use jsonwebtoken::{Algorithm, EncodingKey};
use std::sync::{Arc, LazyLock};
use tollgate::identity::jwt::{JwtFault, Verified};
use tollgate::identity::provider::{KeySource, Provider};
use tollgate_fuzz::base64url;
use tollgate_fuzz::json::Json;
use tollgate_fuzz::keys::{NOW_MS, SECRET, iss, providers};
use tollgate_fuzz::mutate;
use tollgate_fuzz::token::{Reading, is_plain};

static PROVIDER: LazyLock<Arc<Provider>> = LazyLock::new(|| {
    let mut all = providers().into_iter();
    all.find(|provider| provider.issuer().name() == "secret")
        .expect("one of them")
});

fn verify(token: &str) -> Result<Verified, JwtFault> {
    let KeySource::Fixed(keys) = PROVIDER.source() else {
        unreachable!("keys from a file");
    };
    PROVIDER.issuer().verify(keys, token, NOW_MS)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (header, claims) = bytes.split_at(end);
    let claims = claims.get(1..).unwrap_or_default();
    let message = format!("{}.{}", base64url::write(header), base64url::write(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    let token = format!("{message}.{}", signature.expect("signs"));
    let reading = Reading::of(&token);
    match verify(&token) {
        Ok(verified) => {
            let reading = reading.expect("accepted: it has one reading");
            assert_eq!(reading.fault(&iss("secret"), "HS256"), None, "accepted");
            told(&verified, &reading);
            assert!(
                verify(&bent(&token)).is_err(),
                "accepted with one byte changed"
            );
        }
        Err(fault) => {
            let good = reading.filter(|reading| {
                is_plain(reading) && reading.fault(&iss("secret"), "HS256").is_none()
            });
            assert!(good.is_none(), "refused, and good: {fault}");
        }
    }
});

/// The caller is who the token says.
fn told(verified: &Verified, reading: &Reading) {
    let caller = &verified.principal;
    let text = |name: &str| {
        reading
            .claims
            .get(name)
            .and_then(Json::text)
            .filter(|text| !text.is_empty())
    };
    assert_eq!(caller.user.as_deref(), text("sub"));
    assert_eq!(caller.client_id.as_deref(), text("client_id"));
    assert_eq!(caller.tenant.as_deref(), text("tenant"));
    assert_eq!(&*caller.provider, "secret");
    let exp = reading
        .claims
        .get("exp")
        .and_then(Json::number)
        .expect("a time");
    assert!(
        (verified.exp_ms as f64 - exp * 1000.0).abs() <= 1.0,
        "its end"
    );
    let scopes = ["scope", "scp", "scopes"]
        .iter()
        .find_map(|name| reading.claims.get(name).filter(|s| **s != Json::Null));
    let has = |scope: &str| match scopes {
        Some(Json::Text(all)) => all.split(' ').any(|own| own == scope),
        Some(Json::List(all)) => all.iter().any(|own| own.text() == Some(scope)),
        _ => false,
    };
    for scope in ["read", "write", "admin", "read write"] {
        assert_eq!(caller.scopes.has(scope), has(scope), "the scope {scope}");
    }
}

/// The token with one character changed, of which it tells which.
fn bent(token: &str) -> String {
    let sum: usize = token.bytes().map(usize::from).sum();
    let mut bytes = token.as_bytes().to_vec();
    let place = sum % bytes.len();
    let others = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    let other = others[sum / 7 % others.len()];
    bytes[place] = if bytes[place] == other { b'~' } else { other };
    String::from_utf8(bytes).expect("ASCII")
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::lines)
});
