//! Key sets (RFC 7517 §5): compiled once, never changed, looked up by `kid` and algorithm.

use super::alg::{Alg, Algs};
use super::key::Key;
use super::{json, jwk, pem};
use crate::base::secret::{Secret, sha256};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use thiserror::Error;

/// The most keys a set may hold.
pub const MAX_KEYS: usize = 50;
/// The largest key set that is read, in bytes.
pub const MAX_SET_BYTES: usize = 256 * 1024;
/// The most keys tried for a token that names none.
pub const MAX_TRIES: usize = 4;

/// Where a key set came from; what we write ourselves is judged more strictly and trusted more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator's own file.
    File,
    /// An issuer's public address.
    Fetched,
}

/// A key written in the configuration.
pub struct StaticKey {
    /// The key's id; tokens name it in their header.
    pub kid: Option<String>,
    /// The only algorithm the key is for.
    pub alg: Alg,
    /// The key itself.
    pub material: Material,
}

/// A key as written in the configuration.
pub enum Material {
    /// The bytes of a shared secret.
    Secret(Secret),
    /// A public key or a certificate, in PEM.
    PublicPem(Vec<u8>),
}

/// Why a key set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeySetFault {
    /// More than [`MAX_SET_BYTES`].
    #[error("found {0} bytes, want at most {MAX_SET_BYTES}")]
    TooLarge(usize),
    /// More than [`MAX_KEYS`].
    #[error("found {0} keys, want at most {MAX_KEYS}")]
    TooMany(usize),
    /// Not a JSON object, or a member is repeated.
    #[error("not strict JSON, an object with each member once (RFC 7517 §4)")]
    NotJson,
    /// Without an array `keys`.
    #[error("not a JSON Web Key Set (RFC 7517 §5)")]
    NotASet,
    /// Two keys of one id.
    #[error("two keys have the kid {0:?}")]
    SameKid(String),
    /// A key in the configuration that cannot be used; its place from 0, and why.
    #[error("key {0}: {1}")]
    BadKey(usize, String),
    /// Nothing in the set is of use; what was skipped and why.
    #[error("no usable key{}{}", if .0.is_empty() { "" } else { ": " }, .0.join("; "))]
    NoKeys(Vec<String>),
}

/// Keys ready to verify with. At least one, each bound to the algorithms it may be used for.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    warnings: Vec<String>,
    generation: u64,
    print: [u8; 32],
}

/// Why no key of a set may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// No key has this id; a newer set might.
    Unknown,
    /// The key of this id must not be used with this algorithm.
    WrongAlg,
}

impl KeySet {
    /// Compiles a JSON Web Key Set. A key of no use to `allowed` is skipped and told of in
    /// [`KeySet::warnings`]; a set without a usable key is a fault.
    pub fn from_jwks(text: &[u8], origin: Origin, allowed: Algs) -> Result<KeySet, KeySetFault> {
        if text.len() > MAX_SET_BYTES {
            return Err(KeySetFault::TooLarge(text.len()));
        }
        let set = json::object(text).ok_or(KeySetFault::NotJson)?;
        let jwks = set.get("keys").and_then(|keys| keys.as_array());
        let jwks = jwks.ok_or(KeySetFault::NotASet)?;
        if jwks.len() > MAX_KEYS {
            return Err(KeySetFault::TooMany(jwks.len()));
        }
        let mut keys: Vec<Key> = Vec::with_capacity(jwks.len());
        let mut warnings = Vec::new();
        for (place, jwk) in jwks.iter().enumerate() {
            let fault = match jwk::key(jwk, origin, allowed) {
                Ok(key) => match (repeated(&keys, &key), origin) {
                    (None, _) => {
                        keys.push(key);
                        continue;
                    }
                    (Some(kid), Origin::File) => return Err(KeySetFault::SameKid(kid)),
                    (Some(_), Origin::Fetched) => "an earlier key has its kid".to_owned(),
                },
                Err(fault) => fault,
            };
            warnings.push(skipped(place, jwk, &fault));
        }
        KeySet::new(keys, warnings)
    }

    /// Compiles keys written in the configuration; every one must be usable with its algorithm.
    pub fn from_static(written: &[StaticKey]) -> Result<KeySet, KeySetFault> {
        if written.len() > MAX_KEYS {
            return Err(KeySetFault::TooMany(written.len()));
        }
        let mut keys: Vec<Key> = Vec::with_capacity(written.len());
        for (place, one) in written.iter().enumerate() {
            let key = one
                .compile()
                .map_err(|why| KeySetFault::BadKey(place, why))?;
            if let Some(kid) = repeated(&keys, &key) {
                return Err(KeySetFault::SameKid(kid));
            }
            keys.push(key);
        }
        KeySet::new(keys, Vec::new())
    }

    fn new(keys: Vec<Key>, warnings: Vec<String>) -> Result<KeySet, KeySetFault> {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        if keys.is_empty() {
            return Err(KeySetFault::NoKeys(warnings));
        }
        let mut prints: Vec<_> = keys.iter().map(Key::print).collect();
        prints.sort_unstable();
        let print = sha256(&prints.concat());
        let generation = GENERATION.fetch_add(1, Relaxed);
        Ok(KeySet {
            keys,
            warnings,
            generation,
            print,
        })
    }

    /// Takes the place of an older set: what was verified with a key that is in both stays verified.
    pub fn follow(&mut self, old: &KeySet) {
        for key in &mut self.keys {
            let same = old.keys.iter().find(|known| known.print() == key.print());
            if let Some(same) = same {
                key.replace(same);
            }
        }
    }

    /// Whether it holds the key of this number.
    pub fn holds(&self, serial: u64) -> bool {
        self.keys.iter().any(|key| key.serial() == serial)
    }

    /// A number that no other key set of this process has.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many keys can be used.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The keys, in the order they were read.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Which keys were skipped, and why; for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether both sets hold the same keys for the same uses, in whatever order.
    pub fn same_keys(&self, other: &KeySet) -> bool {
        self.print == other.print
    }

    /// The keys to try for a token: the one it names, else every key that fits its algorithm, at
    /// most [`MAX_TRIES`].
    pub(super) fn candidates(
        &self,
        alg: Alg,
        kid: Option<&str>,
    ) -> Result<impl Iterator<Item = &Key>, NoKey> {
        let fits = move |key: &&Key| match kid {
            Some(kid) => key.kid() == Some(kid),
            None => key.algs().contains(alg),
        };
        let mut found = self.keys.iter().filter(fits).take(MAX_TRIES).peekable();
        match found.peek() {
            None => Err(NoKey::Unknown),
            Some(key) if !key.algs().contains(alg) => Err(NoKey::WrongAlg),
            Some(_) => Ok(found),
        }
    }
}

impl StaticKey {
    fn compile(&self) -> Result<Key, String> {
        let kid = self.kid.as_deref();
        let algs: Algs = [self.alg].into_iter().collect();
        match &self.material {
            Material::Secret(secret) => Key::secret(kid, secret.expose(), algs),
            Material::PublicPem(text) => Key::public(kid, &pem::public_key(text)?, algs),
        }
    }
}

/// The id of `key` if one of `keys` has it already.
fn repeated(keys: &[Key], key: &Key) -> Option<String> {
    let kid = key.kid()?;
    let taken = keys.iter().any(|other| other.kid() == Some(kid));
    taken.then(|| kid.to_owned())
}

/// One line on a skipped key. The kid is an outsider's text, so it is shown escaped and cut.
fn skipped(place: usize, jwk: &serde_json::Value, fault: &str) -> String {
    match jwk.get("kid").and_then(|kid| kid.as_str()) {
        Some(kid) => {
            let kid: String = kid.chars().take(64).collect();
            format!("key {place} ({kid:?}) skipped: {fault}")
        }
        None => format!("key {place} skipped: {fault}"),
    }
}
