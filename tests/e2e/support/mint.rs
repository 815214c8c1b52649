//! Tokens, key sets and API keys, made with the test-only keys in `tests/keys`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// A shared secret long enough for every HMAC.
pub const SECRET: &str = "test-only secret of sixty-four bytes, known to every reader of i";
/// The issuer of the tokens.
pub const ISSUER: &str = "https://auth.example.com/";

macro_rules! key_file {
    ($name:literal) => {
        include_str!(concat!("../../keys/test-", $name, ".pem"))
    };
}

/// The public keys, by name as [`private`] takes it.
pub const PUBLIC: [(&str, &str); 5] = [
    ("rsa-a", key_file!("rsa-a.pub")),
    ("rsa-b", key_file!("rsa-b.pub")),
    ("p256", key_file!("p256.pub")),
    ("p384", key_file!("p384.pub")),
    ("ed25519", key_file!("ed25519.pub")),
];

/// The public key called `name`, as PEM.
pub fn public(name: &str) -> &'static str {
    PUBLIC.iter().find(|(n, _)| *n == name).expect("a key").1
}

fn private(name: &str) -> EncodingKey {
    let made = match name {
        "rsa-a" => EncodingKey::from_rsa_pem(key_file!("rsa-a.key").as_bytes()),
        "rsa-b" => EncodingKey::from_rsa_pem(key_file!("rsa-b.key").as_bytes()),
        "p256" => EncodingKey::from_ec_pem(key_file!("p256.key").as_bytes()),
        "p384" => EncodingKey::from_ec_pem(key_file!("p384.key").as_bytes()),
        "ed25519" => EncodingKey::from_ed_pem(key_file!("ed25519.key").as_bytes()),
        secret => Ok(EncodingKey::from_secret(secret.as_bytes())),
    };
    made.expect("a test key")
}

/// The name of the key that an algorithm needs.
pub fn key_for(alg: &str) -> &'static str {
    match alg {
        "ES256" => "p256",
        "ES384" => "p384",
        "EdDSA" => "ed25519",
        _ if alg.starts_with("HS") => SECRET,
        _ => "rsa-a",
    }
}

/// A token signed by the named key, or by a secret.
pub fn sign(key: &str, alg: &str, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(alg.parse::<Algorithm>().expect("an algorithm"));
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &private(key)).expect("signs")
}

/// A token whose header is exactly this text, signed by the named key.
pub fn sign_header(key: &str, alg: &str, header: &str, claims: &Value) -> String {
    sign_text(key, alg, header, claims.to_string())
}

/// A token of exactly these bytes, signed by the named key.
pub fn sign_text(
    key: &str,
    alg: &str,
    header: impl AsRef<[u8]>,
    claims: impl AsRef<[u8]>,
) -> String {
    sign_message(key, alg, &format!("{}.{}", encode(header), encode(claims)))
}

/// A token whose first two segments are exactly these, signed by the named key.
pub fn sign_message(key: &str, alg: &str, message: &str) -> String {
    let alg = alg.parse().expect("an algorithm");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &private(key), alg);
    format!("{message}.{}", signature.expect("signs"))
}

pub fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Claims that hold for five minutes from `now_s`.
pub fn claims(now_s: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": "api", "sub": "alice", "exp": now_s + 300, "scope": "write:b read:a",
        "roles": ["admin", "dev"], "email": "alice@example.com", "client_id": "web",
        "tenant": "acme", "tier": "gold",
    })
}

/// Claims with some of them changed; null takes one out.
pub fn claims_but(now_s: u64, changes: Value) -> Value {
    let mut all = claims(now_s);
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => {
                all.as_object_mut().expect("an object").remove(name);
            }
            value => all[name] = value.clone(),
        }
    }
    all
}

/// The public half of a key as a JWK.
pub fn jwk(key: &str, kid: &str) -> Value {
    let alg = match key {
        "p256" => Algorithm::ES256,
        "p384" => Algorithm::ES384,
        "ed25519" => Algorithm::EdDSA,
        _ => Algorithm::RS256,
    };
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&private(key), alg).expect("a test key");
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    jwk.as_object_mut().expect("an object").remove("alg");
    jwk["kid"] = json!(kid);
    jwk
}

/// The text of a key set.
pub fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// The digest of an API key as key files have it.
pub fn digest(key: &str) -> String {
    let digits = b"0123456789abcdef".map(char::from);
    let bytes = tollgate::base::secret::sha256(key.as_bytes());
    let hex = bytes
        .iter()
        .flat_map(|b| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]);
    hex.collect()
}

/// One entry of a key file for this API key; `more` are further fields, each with its comma.
pub fn api_key(id: &str, key: &str, more: &str) -> String {
    let hash = digest(key);
    format!("  - {{ id: {id}, client: {id}, hash: \"sha256:{hash}\"{more} }}\n")
}
