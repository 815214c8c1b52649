//! Tokens that come for the first time, and their signatures by themselves.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tollgate::base::clock::{Clock, Now};
use tollgate::config;
use tollgate::filter::chain::Filter;
use tollgate::identity::provider::Provider;
use tollgate::identity::seen::Seen;
use tollgate::observe::metrics::Metrics;
use tollgate::snapshot::compile::{Tools, compile};

/// Twice as many tokens as the cache has room for: each has been put out when its turn comes again.
const TOKENS: u64 = 8;

/// Tokens in turn, and what it takes to verify them.
pub struct Uncached {
    /// The issuer and its key, as a route has them.
    pub providers: Vec<Arc<Provider>>,
    /// A cache that is too small.
    pub seen: Seen,
    /// The key, ready to verify.
    pub key: ParsedPublicKey,
    tokens: Vec<(String, Signed)>,
    turn: usize,
}

/// What a signature check takes.
pub struct Signed {
    /// What is signed.
    pub message: Vec<u8>,
    /// The signature's bytes.
    pub signature: Vec<u8>,
}

impl Uncached {
    /// RSA with 2,048 bits.
    pub fn rs256(now: Now) -> Uncached {
        let private = include_bytes!("../../tests/keys/test-rsa-a.key.pem");
        let private = EncodingKey::from_rsa_pem(private).expect("a test key");
        let public = include_str!("../../tests/keys/test-rsa-a.pub.pem");
        let key = parsed(&RSA_PKCS1_2048_8192_SHA256, public);
        Uncached::new(Algorithm::RS256, "test-rsa-a", &private, key, now)
    }

    /// P-256.
    pub fn es256(now: Now) -> Uncached {
        let private = include_bytes!("../../tests/keys/test-p256.key.pem");
        let private = EncodingKey::from_ec_pem(private).expect("a test key");
        let public = include_str!("../../tests/keys/test-p256.pub.pem");
        let key = parsed(&ECDSA_P256_SHA256_FIXED, public);
        Uncached::new(Algorithm::ES256, "test-p256", &private, key, now)
    }

    fn new(
        alg: Algorithm,
        file: &str,
        private: &EncodingKey,
        key: ParsedPublicKey,
        now: Now,
    ) -> Uncached {
        let seen = Seen::new(4);
        assert!(seen.capacity() < TOKENS as usize);
        let token = |number| {
            let text = sign(alg, private, now, number);
            let (message, signature) = text.rsplit_once('.').expect("three parts");
            let signed = Signed {
                message: message.into(),
                signature: URL_SAFE_NO_PAD.decode(signature).expect("base64url"),
            };
            (text, signed)
        };
        Uncached {
            providers: providers(alg, file),
            seen,
            key,
            tokens: (0..TOKENS).map(token).collect(),
            turn: 0,
        }
    }

    /// Nanoseconds that one round takes; each has the next token.
    pub fn run(&mut self, part: fn(&Uncached, u64), rounds: u32) -> f64 {
        let clock = Clock::system();
        let begin = clock.now();
        for round in 0..rounds {
            self.turn = round as usize % self.tokens.len();
            part(self, begin.unix_ms);
        }
        clock.now().since_ns(begin) as f64 / f64::from(rounds)
    }

    /// The token whose turn it is.
    pub fn text(&self) -> &str {
        &self.tokens[self.turn].0
    }

    /// Its signature.
    pub fn signed(&self) -> &Signed {
        &self.tokens[self.turn].1
    }
}

/// A token such as issuers make, good for a day; of the same length for each number below ten.
pub fn sign(alg: Algorithm, key: &EncodingKey, now: Now, number: u64) -> String {
    let exp = now.unix_s() + 24 * 3600;
    let claims = json!({
        "iss": "https://auth.example.com/", "aud": "api", "sub": "user-1", "exp": exp,
        "scope": "read:users write:users", "roles": ["editor"], "email": "user-1@example.com",
        "jti": format!("9b2c1f0e-{number}"),
    });
    let mut header = Header::new(alg);
    header.kid = Some("a".to_owned());
    encode(&header, &claims, key).expect("signed")
}

fn parsed(alg: &'static dyn VerificationAlgorithm, pem: &str) -> ParsedPublicKey {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let der = STANDARD.decode(lines.collect::<String>()).expect("PEM");
    ParsedPublicKey::new(alg, der).expect("a test key")
}

/// The providers of a route that takes this issuer's tokens.
fn providers(alg: Algorithm, file: &str) -> Vec<Arc<Provider>> {
    let text = format!(
        "
listeners: [{{ name: public, address: \"127.0.0.1:0\" }}]
identity:
  jwt:
    - name: corp
      issuer: \"https://auth.example.com/\"
      audiences: [api]
      algorithms: [{alg:?}]
      keys: [{{ kid: a, alg: {alg:?}, public_key: \"file:tests/keys/{file}.pub.pem\" }}]
upstreams: [{{ name: users, targets: [\"192.0.2.1:80\"] }}]
routes: [{{ name: users, match: {{ path: / }}, auth: {{ any: [corp] }}, to: users }}]
"
    );
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new("bench", 0)));
    let parsed = config::parse(&text, "bench.yaml", Path::new("."), &|_| None);
    let loaded = parsed.unwrap_or_else(|faults| panic!("{faults}"));
    let tools = Tools {
        clock: &clock,
        metrics: &metrics,
        before: None,
    };
    let mut snapshot = compile(&loaded.conf, &tools).unwrap_or_else(|faults| panic!("{faults}"));
    let filters = std::mem::take(&mut snapshot.routes[0].chain);
    let auth = filters.into_iter().find_map(|filter| match filter {
        Filter::Auth(auth) => Some(auth),
        _ => None,
    });
    let auth = auth.expect("a route with authentication");
    let gate = auth.gates.into_iter().next().expect("a gate");
    gate.tokens
}
