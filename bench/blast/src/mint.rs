//! `blast mint`: many tokens in little time, one a line.

use std::io::Write;
use std::ops::Range;
use std::thread::ScopedJoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use crate::Result;
use crate::options::Options;

/// Seconds that tokens are good for.
const GOOD_FOR: u64 = 86_400;

enum Signer {
    Hs256(Box<hmac::Key>),
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
}

impl Signer {
    fn new(algorithm: &str, path: &str) -> Result<Signer> {
        if algorithm == "HS256" {
            let secret = std::fs::read(path)?;
            return Ok(Signer::Hs256(Box::new(hmac::Key::new(
                hmac::HMAC_SHA256,
                &secret,
            ))));
        }
        let key = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|e| format!("{path}: {e:?}"))?;
        let der = key.secret_pkcs8_der();
        match algorithm {
            "RS256" => Ok(Signer::Rs256(RsaKeyPair::from_pkcs8(der)?)),
            "ES256" => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)?;
                Ok(Signer::Es256(pair))
            }
            other => Err(format!("--alg cannot be {other:?}").into()),
        }
    }

    fn sign(&self, random: &SystemRandom, signed: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Signer::Hs256(key) => hmac::sign(key, signed).as_ref().to_vec(),
            Signer::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, random, signed, &mut signature)?;
                signature
            }
            Signer::Es256(pair) => pair.sign(random, signed)?.as_ref().to_vec(),
        })
    }
}

/// What is the same in every token.
struct Die {
    signer: Signer,
    head: String,
    issuer: String,
    audience: String,
    subjects: u64,
    now: u64,
}

impl Die {
    /// Token n is of `user-(n modulo subjects)` and has n as its id, so that none is like another.
    fn token(&self, random: &SystemRandom, n: u64) -> Result<String> {
        let claims = json!({
            "iss": self.issuer, "aud": self.audience, "sub": format!("user-{}", n % self.subjects),
            "iat": self.now, "exp": self.now + GOOD_FOR, "jti": format!("{n:08x}"),
        });
        let signed = format!("{}.{}", self.head, url64(claims.to_string().as_bytes()));
        let signature = url64(&self.signer.sign(random, signed.as_bytes())?);
        Ok(format!("{signed}.{signature}\n"))
    }

    /// The tokens of a range, one a line.
    fn tokens(&self, range: Range<u64>) -> std::result::Result<String, String> {
        let random = SystemRandom::new();
        let made = range.map(|n| self.token(&random, n).map_err(|error| error.to_string()));
        made.collect()
    }
}

/// `blast mint`, on as many cores as it may use.
pub fn run(options: &Options) -> Result<()> {
    let algorithm: String = options.need("alg")?;
    let kid: String = options.need("kid")?;
    let head = json!({ "alg": algorithm, "typ": "JWT", "kid": kid });
    let die = Die {
        signer: Signer::new(&algorithm, &options.need::<String>("key")?)?,
        head: url64(head.to_string().as_bytes()),
        issuer: options.need("issuer")?,
        audience: options.need("audience")?,
        subjects: options.or("subjects", 1000)?,
        now: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let count: u64 = options.need("count")?;
    let parts = std::thread::available_parallelism()?.get() as u64;
    let all = std::thread::scope(|scope| {
        let part = |at: u64| count * at / parts..count * (at + 1) / parts;
        let minted: Vec<_> = (0..parts)
            .map(|at| {
                scope.spawn({
                    let die = &die;
                    move || die.tokens(part(at))
                })
            })
            .collect();
        let joined = minted.into_iter().map(ScopedJoinHandle::join);
        joined.collect::<Vec<_>>()
    });
    for part in all {
        let text = part.map_err(|_| "a thread ended")??;
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Base64 for URLs, without padding.
fn url64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 2);
    for group in bytes.chunks(3) {
        let all = group
            .iter()
            .fold(0_u32, |all, byte| all << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            let six = all >> (18 - 6 * digit) & 63;
            text.push(char::from(DIGITS[six as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::url64;

    #[test]
    fn base64_of_every_length() {
        let cases = [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("\u{7f}??", "fz8_"),
        ];
        for (plain, coded) in cases {
            assert_eq!(url64(plain.as_bytes()), coded);
        }
    }
}
