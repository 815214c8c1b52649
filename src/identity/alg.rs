//! The signature algorithms we know (RFC 7518 §3.1, RFC 8037 §3.1) and sets of them.

use std::fmt;
use std::str::FromStr;

/// One signature algorithm, by its registered name. There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the registry's own")]
pub enum Alg {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// What kind of key an algorithm needs. A key of one kind never serves another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A shared secret (HMAC).
    Secret,
    /// An RSA public key.
    Rsa,
    /// A point on NIST P-256.
    P256,
    /// A point on NIST P-384.
    P384,
    /// An Ed25519 public key.
    Ed25519,
}

impl Alg {
    /// Every algorithm, in the order of the registry.
    pub const ALL: [Alg; 12] = [
        Alg::HS256,
        Alg::HS384,
        Alg::HS512,
        Alg::RS256,
        Alg::RS384,
        Alg::RS512,
        Alg::PS256,
        Alg::PS384,
        Alg::PS512,
        Alg::ES256,
        Alg::ES384,
        Alg::EdDSA,
    ];

    /// The registered name, spelled as in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Alg::HS256 => "HS256",
            Alg::HS384 => "HS384",
            Alg::HS512 => "HS512",
            Alg::RS256 => "RS256",
            Alg::RS384 => "RS384",
            Alg::RS512 => "RS512",
            Alg::PS256 => "PS256",
            Alg::PS384 => "PS384",
            Alg::PS512 => "PS512",
            Alg::ES256 => "ES256",
            Alg::ES384 => "ES384",
            Alg::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of exactly this name; case counts (RFC 7515 §4.1.1).
    pub fn named(name: &str) -> Option<Alg> {
        Alg::ALL.into_iter().find(|alg| alg.name() == name)
    }

    /// The only kind of key this algorithm may use.
    pub fn kind(self) -> KeyKind {
        match self {
            Alg::HS256 | Alg::HS384 | Alg::HS512 => KeyKind::Secret,
            Alg::RS256 | Alg::RS384 | Alg::RS512 | Alg::PS256 | Alg::PS384 | Alg::PS512 => {
                KeyKind::Rsa
            }
            Alg::ES256 => KeyKind::P256,
            Alg::ES384 => KeyKind::P384,
            Alg::EdDSA => KeyKind::Ed25519,
        }
    }

    /// The shortest shared secret allowed, in bytes: the output of the hash (RFC 7518 §3.2).
    /// 0 for algorithms that use no secret.
    pub fn min_secret(self) -> usize {
        match self {
            Alg::HS256 => 32,
            Alg::HS384 => 48,
            Alg::HS512 => 64,
            _ => 0,
        }
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Alg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Alg::named(text).ok_or_else(|| {
            let names: Vec<&str> = Alg::ALL.iter().map(|alg| alg.name()).collect();
            format!("found {text:?}, want one of {}", names.join(", "))
        })
    }
}

/// A set of algorithms, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algs(u16);

impl Algs {
    /// Every algorithm we know.
    pub fn all() -> Algs {
        Alg::ALL.into_iter().collect()
    }

    /// Every algorithm that uses this kind of key.
    pub fn of_kind(kind: KeyKind) -> Algs {
        Alg::ALL.into_iter().filter(|a| a.kind() == kind).collect()
    }

    /// Whether the set holds `alg`.
    pub fn contains(self, alg: Alg) -> bool {
        self.0 & (1 << alg as u16) != 0
    }

    /// The algorithms that both sets hold.
    #[must_use]
    pub fn both(self, other: Algs) -> Algs {
        Algs(self.0 & other.0)
    }

    /// Whether the set holds nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, in the order of the registry.
    pub fn iter(self) -> impl Iterator<Item = Alg> {
        Alg::ALL.into_iter().filter(move |alg| self.contains(*alg))
    }
}

impl FromIterator<Alg> for Algs {
    fn from_iter<I: IntoIterator<Item = Alg>>(algs: I) -> Self {
        Algs(algs.into_iter().fold(0, |set, a| set | 1 << a as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for alg in Alg::ALL {
            assert_eq!(alg.name().parse(), Ok(alg));
            assert_eq!(Alg::named(&alg.name().to_lowercase()), None);
        }
        for name in ["none", "None", "NONE", "nOnE", "", "ES512", "RS256 "] {
            assert_eq!(Alg::named(name), None, "{name}");
        }
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: Algs = [Alg::RS256, Alg::EdDSA].into_iter().collect();
        assert!(set.contains(Alg::RS256) && set.contains(Alg::EdDSA));
        assert!(!set.contains(Alg::HS256));
        assert_eq!(set.both(Algs::of_kind(KeyKind::Rsa)).iter().count(), 1);
        assert!(set.both(Algs::of_kind(KeyKind::Secret)).is_empty());
        assert_eq!(Algs::all().iter().count(), 12);
    }
}
