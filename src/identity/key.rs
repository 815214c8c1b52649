//! One verification key: what it may verify is fixed when it is made.

#[cfg(test)]
mod vectors;

use super::alg::{Alg, Algs, KeyKind};
use super::pem::PublicKey;
use super::verifier::Verifier;
use crate::base::secret::sha256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest key id taken from a token or a key set, in bytes.
pub const MAX_KID: usize = 256;
/// The smallest RSA modulus, in bits (RFC 7518 §3.3); the largest is [`MAX_RSA_BITS`].
pub const MIN_RSA_BITS: usize = 2048;
/// The largest RSA modulus, in bits: above it a verification costs too much.
pub const MAX_RSA_BITS: usize = 8192;

/// A key and the closed set of algorithms it may verify, all of the key's own kind.
pub struct Key {
    kid: Option<Box<str>>,
    algs: Algs,
    print: [u8; 32],
    serial: u64,
    verifier: Verifier,
}

impl Key {
    /// A shared secret for those of `algs` that are HMACs and whose hash is not longer than it.
    pub fn secret(kid: Option<&str>, secret: &[u8], algs: Algs) -> Result<Key, String> {
        let algs = fitting(KeyKind::Secret, algs)?;
        let long_enough: Algs = algs
            .iter()
            .filter(|a| a.min_secret() <= secret.len())
            .collect();
        if long_enough.is_empty() {
            let first = algs.iter().next().unwrap_or(Alg::HS256);
            return Err(format!(
                "found a secret of {} bytes, want at least {} for {first} (RFC 7518 §3.2)",
                secret.len(),
                first.min_secret()
            ));
        }
        let verifier = Verifier::secret(secret, long_enough);
        Key::new(kid, long_enough, &[b"oct", secret], verifier)
    }

    /// A public key for those of `algs` that are of its kind.
    pub fn public(kid: Option<&str>, key: &PublicKey, algs: Algs) -> Result<Key, String> {
        let (kind, parts): (_, &[&[u8]]) = match key {
            PublicKey::Rsa { n, e } => (KeyKind::Rsa, &[b"rsa", n, e]),
            PublicKey::P256(point) => (KeyKind::P256, &[b"p256", point]),
            PublicKey::P384(point) => (KeyKind::P384, &[b"p384", point]),
            PublicKey::Ed25519(key) => (KeyKind::Ed25519, &[b"ed25519", key]),
        };
        let algs = fitting(kind, algs)?;
        if let PublicKey::Rsa { n, e } = key {
            check_rsa(n, e)?;
        }
        let verifier = Verifier::public(key, algs);
        let verifier = verifier.ok_or("found numbers that are no public key of its kind")?;
        Key::new(kid, algs, parts, verifier)
    }

    fn new(
        kid: Option<&str>,
        algs: Algs,
        parts: &[&[u8]],
        verifier: Verifier,
    ) -> Result<Key, String> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
            return Err(format!(
                "found an empty or too long kid, want 1 to {MAX_KID} bytes"
            ));
        }
        let print = print(kid, algs, parts);
        let kid = kid.map(Box::from);
        Ok(Key {
            kid,
            algs,
            print,
            serial: SERIAL.fetch_add(1, Relaxed),
            verifier,
        })
    }

    /// The key's id, a name to look it up by and nothing else.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms this key may verify; never empty.
    pub fn algs(&self) -> Algs {
        self.algs
    }

    /// A number that no other key of this process has, but for one that is in every way the same and
    /// came in its place; a cached verdict names it.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Takes the place of a key that is in every way the same.
    pub(super) fn replace(&mut self, same: &Key) {
        self.serial = same.serial;
    }

    /// A digest of everything that makes this key what it is.
    pub(super) fn print(&self) -> [u8; 32] {
        self.print
    }

    /// Checks `signature` (base64url, the token's last segment) over `message`. An `alg` outside
    /// the key's own set fails; None if the signature is not strict base64url.
    pub(super) fn verify(&self, alg: Alg, message: &[u8], signature: &str) -> Option<bool> {
        if !self.algs.contains(alg) {
            return Some(false);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(self.verifier.verify(alg, message, &signature))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algs: Vec<_> = self.algs.iter().collect();
        write!(f, "Key({:?}, {algs:?})", self.kid)
    }
}

/// Those of `algs` that use this kind of key.
fn fitting(kind: KeyKind, algs: Algs) -> Result<Algs, String> {
    let fit = Algs::of_kind(kind).both(algs);
    if fit.is_empty() {
        let names: Vec<_> = algs.iter().map(Alg::name).collect();
        return Err(format!(
            "found a {kind:?} key, which cannot verify {}",
            names.join(", ")
        ));
    }
    Ok(fit)
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), String> {
    let bits = n
        .first()
        .map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(format!(
            "found an RSA key of {bits} bits, want {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        ));
    }
    // An even modulus is no product of two primes; the exponent 1 would accept any signature.
    let odd = |number: &[u8]| number.last().is_some_and(|b| b & 1 == 1);
    if !odd(n) || !odd(e) || e == [1] || e.len() > 4 {
        return Err("found an RSA key with an impossible modulus or exponent".to_owned());
    }
    Ok(())
}

fn print(kid: Option<&str>, algs: Algs, parts: &[&[u8]]) -> [u8; 32] {
    let names: String = algs.iter().map(Alg::name).collect();
    let mut all = Vec::new();
    for part in [kid.unwrap_or_default().as_bytes(), names.as_bytes()]
        .iter()
        .chain(parts)
    {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    sha256(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(n: &[u8], e: &[u8]) -> Result<Key, String> {
        let key = PublicKey::Rsa {
            n: n.to_vec(),
            e: e.to_vec(),
        };
        Key::public(None, &key, Algs::all())
    }

    #[test]
    fn secrets_must_cover_the_hash() {
        let only = |alg| [alg].into_iter().collect();
        for (alg, size) in [(Alg::HS256, 32), (Alg::HS384, 48), (Alg::HS512, 64)] {
            assert!(Key::secret(None, &vec![7; size], only(alg)).is_ok());
            let why = Key::secret(None, &vec![7; size - 1], only(alg)).unwrap_err();
            assert!(why.contains(&format!("at least {size} for {alg}")), "{why}");
        }
        let key = Key::secret(None, &[7; 40], Algs::all()).unwrap();
        assert_eq!(key.algs(), only(Alg::HS256));
        let why = Key::secret(None, &[7; 64], only(Alg::RS256)).unwrap_err();
        assert!(why.contains("cannot verify RS256"), "{why}");
    }

    #[test]
    fn rsa_bounds() {
        let mut n = vec![0xff; 256];
        assert!(rsa(&n, &[1, 0, 1]).is_ok());
        for e in [&[][..], &[1], &[2], &[1, 0, 1, 0, 1]] {
            assert!(rsa(&n, e).is_err(), "{e:?}");
        }
        n[0] = 0x7f; // 2047 bits
        assert!(rsa(&n, &[3]).unwrap_err().contains("2047 bits"));
        assert!(rsa(&[], &[3]).is_err());
        assert!(rsa(&vec![0xff; 1025], &[3]).is_err());
        n = vec![0xff; 256];
        n[255] = 0xfe;
        assert!(rsa(&n, &[3]).is_err());
    }

    #[test]
    fn a_key_keeps_to_its_kind_and_shows_nothing() {
        let key = Key::secret(Some("a"), &[0x41; 64], Algs::all()).unwrap();
        assert_eq!(key.algs(), Algs::of_kind(KeyKind::Secret));
        assert_eq!(key.verify(Alg::RS256, b"m", "AAAA"), Some(false));
        assert_eq!(key.verify(Alg::HS256, b"m", "AAA="), None);
        assert_eq!(
            format!("{key:?}"),
            "Key(Some(\"a\"), [HS256, HS384, HS512])"
        );
        assert!(Key::secret(Some(""), &[0x41; 64], Algs::all()).is_err());
        assert!(Key::secret(Some(&"k".repeat(257)), &[0x41; 64], Algs::all()).is_err());
    }
}
