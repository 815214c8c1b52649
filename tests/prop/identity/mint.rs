//! Makes tokens and key sets with the test-only keys in `tests/keys`, independently of what is
//! tested: signing is the library's, the shape is put together here by hand.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tollgate::base::secret::Secret;
use tollgate::identity::alg::{Alg, Algs, KeyKind};
use tollgate::identity::claims::ClaimMap;
use tollgate::identity::jwt::{Issuer, IssuerRules, Profile};
use tollgate::identity::keyset::{KeySet, Material, StaticKey};

/// A secret of 64 bytes, long enough for every HMAC.
pub const SECRET: &[u8; 64] = b"test-only secret of sixty-four bytes, known to every reader of i";
/// The time at which tests take place, in Unix seconds.
pub const NOW_S: u64 = 1_800_000_000;
/// The same in milliseconds.
pub const NOW_MS: u64 = NOW_S * 1000;
/// The issuer of the tokens.
pub const ISSUER: &str = "https://auth.example.com/";

macro_rules! key_file {
    ($name:literal) => {
        include_str!(concat!("../../keys/test-", $name, ".pem"))
    };
}

pub const RSA_A_PUBLIC: &str = key_file!("rsa-a.pub");
pub const RSA_B_PUBLIC: &str = key_file!("rsa-b.pub");
pub const RSA_SMALL_PUBLIC: &str = key_file!("rsa-1024.pub");
pub const P256_PUBLIC: &str = key_file!("p256.pub");
pub const P384_PUBLIC: &str = key_file!("p384.pub");
pub const ED25519_PUBLIC: &str = key_file!("ed25519.pub");

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    RsaA,
    RsaB,
    P256,
    P384,
    Ed25519,
    Secret,
}

impl Signer {
    /// The signer whose key an algorithm needs.
    pub fn of(alg: Alg) -> Signer {
        match alg.kind() {
            KeyKind::Secret => Signer::Secret,
            KeyKind::Rsa => Signer::RsaA,
            KeyKind::P256 => Signer::P256,
            KeyKind::P384 => Signer::P384,
            KeyKind::Ed25519 => Signer::Ed25519,
        }
    }

    pub fn private(self) -> EncodingKey {
        let made = match self {
            Signer::RsaA => EncodingKey::from_rsa_pem(key_file!("rsa-a.key").as_bytes()),
            Signer::RsaB => EncodingKey::from_rsa_pem(key_file!("rsa-b.key").as_bytes()),
            Signer::P256 => EncodingKey::from_ec_pem(key_file!("p256.key").as_bytes()),
            Signer::P384 => EncodingKey::from_ec_pem(key_file!("p384.key").as_bytes()),
            Signer::Ed25519 => EncodingKey::from_ed_pem(key_file!("ed25519.key").as_bytes()),
            Signer::Secret => Ok(EncodingKey::from_secret(SECRET)),
        };
        made.expect("a test key")
    }

    pub fn material(self) -> Material {
        let pem = match self {
            Signer::RsaA => RSA_A_PUBLIC,
            Signer::RsaB => RSA_B_PUBLIC,
            Signer::P256 => P256_PUBLIC,
            Signer::P384 => P384_PUBLIC,
            Signer::Ed25519 => ED25519_PUBLIC,
            Signer::Secret => return Material::Secret(Secret::new(SECRET.as_slice())),
        };
        Material::PublicPem(pem.as_bytes().to_vec())
    }

    /// The public half as a JWK (the secret as `oct`), by the library's own reckoning.
    pub fn jwk(self, kid: Option<&str>) -> Value {
        let mut jwk = if self == Signer::Secret {
            json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)})
        } else {
            let alg = match self {
                Signer::P256 => Algorithm::ES256,
                Signer::P384 => Algorithm::ES384,
                Signer::Ed25519 => Algorithm::EdDSA,
                _ => Algorithm::RS256,
            };
            let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&self.private(), alg);
            let mut jwk = serde_json::to_value(jwk.expect("a test key")).expect("JSON");
            jwk.as_object_mut().expect("an object").remove("alg");
            jwk
        };
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }
}

/// A token the ordinary way: `alg`, an optional `kid`, `typ: JWT`.
pub fn sign(signer: Signer, alg: Alg, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(library(alg));
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &signer.private()).expect("signs")
}

/// A token whose header and claims are exactly these texts, signed with the key of `signer`.
pub fn sign_text(signer: Signer, alg: Alg, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.private(), library(alg));
    format!("{message}.{}", signature.expect("signs"))
}

pub fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn library(alg: Alg) -> Algorithm {
    alg.name()
        .parse()
        .expect("the library knows every algorithm we do")
}

/// Claims that hold at [`NOW_S`].
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "api", "sub": "u1", "exp": NOW_S + 300, "scope": "read:a write:b",
        "roles": ["admin"], "client_id": "web",
    })
}

/// An issuer that takes these algorithms, with the default leeway of 30 s.
pub fn issuer(algorithms: &[Alg]) -> Issuer {
    named_issuer("corp", ISSUER, algorithms)
}

pub fn named_issuer(name: &str, iss: &str, algorithms: &[Alg]) -> Issuer {
    let rules = IssuerRules {
        name: name.to_owned(),
        issuer: iss.to_owned(),
        audiences: vec!["api".to_owned(), "api2".to_owned()],
        algorithms: algorithms.to_vec(),
        leeway: std::time::Duration::from_secs(30),
        profile: Profile::Jwt,
        require: Vec::new(),
        claims: ClaimMap::default(),
    };
    Issuer::new(rules).expect("good rules")
}

/// A set of one configured key.
pub fn one_key(signer: Signer, alg: Alg, kid: Option<&str>) -> KeySet {
    let kid = kid.map(str::to_owned);
    let key = StaticKey {
        kid,
        alg,
        material: signer.material(),
    };
    KeySet::from_static(&[key]).expect("a good key")
}

/// The text of a key set.
pub fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

pub fn algs(all: &[Alg]) -> Algs {
    all.iter().copied().collect()
}
