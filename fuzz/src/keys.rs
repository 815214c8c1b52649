//! Issuers with the test keys of `tests/keys`, and the tokens of theirs that hold.

use std::sync::Arc;
use std::time::Duration;
use tollgate::base::secret::Secret;
use tollgate::identity::alg::Alg;
use tollgate::identity::claims::ClaimMap;
use tollgate::identity::jwt::{Issuer, IssuerRules, Profile};
use tollgate::identity::keyset::{KeySet, Material, StaticKey};
use tollgate::identity::provider::{KeySource, Provider};

/// The time at which all targets take place, in Unix seconds.
pub const NOW_S: u64 = 1_800_000_000;
/// The same in milliseconds.
pub const NOW_MS: u64 = NOW_S * 1000;
/// How far an issuer's clock may be off.
pub const LEEWAY_S: u64 = 30;
/// What every token must be meant for.
pub const AUDIENCE: &str = "api";
/// The secret of the issuer that signs with HS256.
pub const SECRET: &[u8; 64] = b"test-only secret of sixty-four bytes, known to every reader of i";

macro_rules! public {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/keys/test-", $name, ".pub.pem"))
    };
}

/// An issuer of its own for each kind of key, all with one `kid`: only `iss` and the algorithm tell them apart.
pub fn providers() -> Vec<Arc<Provider>> {
    let pem = |text: &[u8]| Material::PublicPem(text.to_vec());
    let all = [
        ("rsa", Alg::RS256, pem(public!("rsa-a"))),
        ("pss", Alg::PS256, pem(public!("rsa-b"))),
        ("p256", Alg::ES256, pem(public!("p256"))),
        ("p384", Alg::ES384, pem(public!("p384"))),
        ("ed25519", Alg::EdDSA, pem(public!("ed25519"))),
        ("secret", Alg::HS256, Material::Secret(Secret::new(*SECRET))),
    ];
    let made = all.map(|(name, alg, material)| provider(name, alg, material));
    made.into_iter().collect()
}

/// The `iss` of the issuer of this name.
pub fn iss(name: &str) -> String {
    format!("https://{name}.example.com/")
}

fn provider(name: &str, alg: Alg, material: Material) -> Arc<Provider> {
    let rules = IssuerRules {
        name: name.to_owned(),
        issuer: iss(name),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: vec![alg],
        leeway: Duration::from_secs(LEEWAY_S),
        profile: Profile::Jwt,
        require: Vec::new(),
        claims: ClaimMap::default(),
    };
    let key = StaticKey {
        kid: Some("k".to_owned()),
        alg,
        material,
    };
    let issuer = Issuer::new(rules).expect("good rules");
    let keys = KeySet::from_static(&[key]).expect("a good key");
    let source = KeySource::Fixed(Arc::new(keys));
    Arc::new(Provider::new(issuer, source).expect("a key that fits"))
}

/// Tokens that the issuers have signed; the targets know no others that hold.
pub const SIGNED: [&str; 6] = [
    include_str!("../corpus/token/good-rs256"),
    include_str!("../corpus/token/good-ps256"),
    include_str!("../corpus/token/good-es256"),
    include_str!("../corpus/token/good-es384"),
    include_str!("../corpus/token/good-eddsa"),
    include_str!("../corpus/token/good-hs256"),
];
