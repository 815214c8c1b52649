//! `blast mint`: many tokens in little time, one a line.

use std::io::{BufWriter, Write};
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
    Hs256(hmac::Key),
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
}

impl Signer {
    fn new(algorithm: &str, path: &str) -> Result<Signer> {
        if algorithm == "HS256" {
            let secret = std::fs::read(path)?;
            return Ok(Signer::Hs256(hmac::Key::new(hmac::HMAC_SHA256, &secret)));
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

/// `blast mint`: token n is of `user-(n modulo subjects)` and has n as its id, so that none is like another.
pub fn run(options: &Options) -> Result<()> {
    let algorithm: String = options.need("alg")?;
    let signer = Signer::new(&algorithm, &options.need::<String>("key")?)?;
    let (issuer, audience): (String, String) = (options.need("issuer")?, options.need("audience")?);
    let kid: String = options.need("kid")?;
    let head = url64(
        json!({ "alg": algorithm, "typ": "JWT", "kid": kid })
            .to_string()
            .as_bytes(),
    );
    let subjects = options.or("subjects", 1000_u64)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let random = SystemRandom::new();
    let mut out = BufWriter::new(std::io::stdout().lock());
    for n in 0..options.need::<u64>("count")? {
        let claims = json!({
            "iss": issuer, "aud": audience, "sub": format!("user-{}", n % subjects),
            "iat": now, "exp": now + GOOD_FOR, "jti": format!("{n:08x}"),
        });
        let signed = format!("{head}.{}", url64(claims.to_string().as_bytes()));
        let signature = url64(&signer.sign(&random, signed.as_bytes())?);
        writeln!(out, "{signed}.{signature}")?;
    }
    out.flush()?;
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
