//! Who may use the demo: its users, and the tokens made for them. The keys are in the repository and
//! known to everybody.

use crate::base::clock::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::Result;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The issuer's name, as `conf/demo.yaml` has it.
const ISSUER: &str = "https://issuer.demo.example";
/// Whom tokens are for, as `conf/demo.yaml` has it.
const AUDIENCE: &str = "api.demo.example";
/// How long a token is good, in seconds.
const LIFE_S: u64 = 12 * 3600;

const KEY_A: &str = include_str!("../../../conf/demo/issuer-a.key.pem");
const KEY_B: &str = include_str!("../../../conf/demo/issuer-b.key.pem");
const KEY_STRANGER: &str = include_str!("../../../conf/demo/issuer-stranger.key.pem");

/// Everyone whose token can be had, and what is special about it.
pub const TOKENS: [(&str, &str); 6] = [
    ("reader", "scopes [read:users] as a list, tenant globex"),
    (
        "buyer",
        "scope \"read:users read:orders write:orders\", tenant acme, tier gold",
    ),
    ("admin", "as buyer, and the role admin"),
    ("expired", "as buyer, over for an hour"),
    ("forged", "as admin, signed by somebody else"),
    ("unsigned", "as admin, with alg none and no signature"),
];

/// API keys in plain; `conf/demo/keys.yaml` has their digests.
pub const API_KEYS: [(&str, &str); 3] = [
    (GOLD, "client mobile-app, tier gold, scopes read:users pay"),
    (BRONZE, "client night-batch, tier bronze, scope pay"),
    (EXPIRED, "client mobile-app, over since 2020"),
];
/// The key of a good customer.
pub const GOLD: &str = "demo-key-gold";
/// The key of another.
pub const BRONZE: &str = "demo-key-bronze";
/// A key whose time is over.
pub const EXPIRED: &str = "demo-key-expired";

struct Key {
    kid: &'static str,
    key: EncodingKey,
}

/// Makes tokens, and publishes the keys to check them with.
pub struct Mint {
    first: Key,
    second: Key,
    stranger: EncodingKey,
    rotated: AtomicBool,
    clock: Clock,
}

impl Mint {
    /// A mint that signs with its first key.
    ///
    /// # Errors
    /// A key of the demo's cannot be read.
    pub fn new(clock: Clock) -> Result<Self> {
        let read = |pem: &str| EncodingKey::from_rsa_pem(pem.as_bytes());
        Ok(Self {
            first: Key {
                kid: "demo-a",
                key: read(KEY_A)?,
            },
            second: Key {
                kid: "demo-b",
                key: read(KEY_B)?,
            },
            stranger: read(KEY_STRANGER)?,
            rotated: AtomicBool::new(false),
            clock,
        })
    }

    /// Signs with the second key from now on, and publishes it beside the first.
    pub fn rotate(&self) -> &'static str {
        self.rotated.store(true, Relaxed);
        self.second.kid
    }

    /// The published key set (RFC 7517 §5).
    ///
    /// # Errors
    /// A key has no public half.
    pub fn key_set(&self) -> Result<Value> {
        let rotated = self.rotated.load(Relaxed);
        let shown = [Some(&self.first), Some(&self.second).filter(|_| rotated)];
        let mut keys = Vec::new();
        for key in shown.into_iter().flatten() {
            let mut jwk = Jwk::from_encoding_key(&key.key, Algorithm::RS256)?;
            jwk.common.key_id = Some(key.kid.to_owned());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            keys.push(jwk);
        }
        Ok(serde_json::to_value(JwkSet { keys })?)
    }

    /// A new token of `name`; none if there is nobody of that name.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn token(&self, name: &str) -> Result<Option<String>> {
        let Some(claims) = self.claims(name) else {
            return Ok(None);
        };
        let key = if self.rotated.load(Relaxed) {
            &self.second
        } else {
            &self.first
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key.kid.to_owned());
        match name {
            "unsigned" => Ok(Some(unsigned(&claims))),
            "forged" => encode(&header, &claims, &self.stranger).map(Some),
            _ => encode(&header, &claims, &key.key).map(Some),
        }
    }

    fn claims(&self, name: &str) -> Option<Value> {
        let now = self.clock.now().unix_s();
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "exp": now + LIFE_S,
            "email": format!("{name}@demo.example"),
            "scope": "read:users read:orders write:orders",
            "tenant": "acme", "tier": "gold",
        });
        let changes = match name {
            "buyer" => json!({}),
            "reader" => json!({ "scope": null, "scopes": ["read:users"],
                "tenant": "globex", "tier": "bronze" }),
            "admin" => json!({ "roles": ["admin"] }),
            "forged" | "unsigned" => json!({ "roles": ["admin"], "sub": "admin" }),
            "expired" => json!({ "sub": "buyer", "iat": now - 7200, "exp": now - 3600 }),
            _ => return None,
        };
        if let (Value::Object(claims), Value::Object(changes)) = (&mut claims, changes) {
            claims.extend(changes);
        }
        Some(claims)
    }
}

/// RFC 7519 §6; what no gateway may ever believe.
fn unsigned(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = json!({ "alg": "none", "typ": "JWT" });
    format!("{}.{}.", part(&header), part(claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_named_has_a_token_and_nobody_else() {
        let mint = Mint::new(Clock::system()).expect("the demo's keys are good");
        for (name, _) in TOKENS {
            let token = mint.token(name).expect("signed");
            assert_eq!(token.expect(name).matches('.').count(), 2, "{name}");
        }
        assert_eq!(mint.token("nobody"), Ok(None));
    }

    #[test]
    fn the_second_key_is_published_once_it_signs() {
        let mint = Mint::new(Clock::system()).expect("the demo's keys are good");
        let kids = || {
            let set = mint.key_set().expect("public halves");
            let keys = set["keys"].as_array().cloned().unwrap_or_default();
            let kids: Vec<_> = keys.iter().map(|k| k["kid"].clone()).collect();
            kids
        };
        assert_eq!(kids(), ["demo-a"]);
        mint.rotate();
        assert_eq!(kids(), ["demo-a", "demo-b"]);
    }
}
