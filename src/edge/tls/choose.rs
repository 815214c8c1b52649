//! Which certificate a client is given: by the name it asks for, then by the signatures it knows.

use super::certificate::{Certificate, Kind};
use crate::exchange::tls::below;
use crate::route::host;
use pingora::tls::ssl::SslContext;
use std::collections::HashMap;
use std::sync::Arc;

/// A certificate with what the library needs to serve it.
pub struct Ready {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// The context that presents it.
    pub context: SslContext,
}

/// The certificates for one name, the preferred first; never empty.
type Offer = Vec<Arc<Ready>>;

/// Which certificate serves which name. One table is never changed; a reload makes another.
pub struct Table {
    exact: HashMap<Box<str>, Offer>,
    /// By what follows the `*.`.
    wildcards: HashMap<Box<str>, Offer>,
    default: Offer,
    refuse_unknown: bool,
}

/// Two certificates with one kind of key for one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Clash {
    /// Their places in the list.
    pub places: (usize, usize),
    /// The name.
    pub name: String,
}

impl Table {
    /// Makes the table of a list, which must be free of clashes. The first is the default; others
    /// that serve its first name stand beside it.
    pub fn new(all: &[Arc<Ready>], refuse_unknown: bool) -> Self {
        let mut table = Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
            default: all.iter().take(1).cloned().collect(),
            refuse_unknown,
        };
        for ready in all {
            let names = &ready.certificate.names;
            for (list, map) in [
                (&names.exact, &mut table.exact),
                (&names.wildcards, &mut table.wildcards),
            ] {
                for name in list {
                    let offer: &mut Offer = map.entry(name.clone()).or_default();
                    offer.push(ready.clone());
                    offer.sort_by_key(|r| r.certificate.kind);
                }
            }
        }
        let first = all.first().map(|first| &first.certificate.names);
        let twin = first.and_then(|names| match names.exact.first() {
            Some(name) => table.exact.get(name),
            None => table.wildcards.get(names.wildcards.first()?),
        });
        if let Some(twin) = twin {
            table.default.clone_from(twin);
        }
        table
    }

    /// The certificate for a client that asks for `name` as it stands in the handshake; none if it is
    /// to be refused.
    pub fn choose(
        &self,
        name: Option<&[u8]>,
        knows: impl FnOnce() -> Abilities,
    ) -> Option<&Arc<Ready>> {
        let offer = match name {
            None => &self.default,
            Some(name) => match self.named(name) {
                Some(offer) => offer,
                None if self.refuse_unknown => return None,
                None => &self.default,
            },
        };
        if let [only] = &offer[..] {
            return Some(only);
        }
        let knows = knows();
        let fit = offer.iter().find(|r| knows.verify(r.certificate.kind));
        // Whom none fits gets the refusal that the library words.
        fit.or(offer.last())
    }

    fn named(&self, raw: &[u8]) -> Option<&Offer> {
        let raw = std::str::from_utf8(raw).ok()?;
        // A name in a handshake has no port (RFC 6066 §3).
        let name = host::normalise(raw).ok().filter(|_| !raw.contains(':'))?;
        let exact = self.exact.get(&*name);
        exact.or_else(|| self.wildcards.get(below(&name)?))
    }
}

/// The first two certificates that cannot both serve a name.
pub fn clash<'a>(all: impl Iterator<Item = &'a Certificate>) -> Option<Clash> {
    let mut seen = HashMap::new();
    for (at, certificate) in all.enumerate() {
        let names = &certificate.names;
        let exact = names.exact.iter().map(|name| (false, &**name));
        let wildcards = names.wildcards.iter().map(|name| (true, &**name));
        for (wildcard, name) in exact.chain(wildcards) {
            let key = (wildcard, name.to_owned(), certificate.kind.label());
            let before = *seen.entry(key).or_insert(at);
            if before != at {
                let star = if wildcard { "*." } else { "" };
                return Some(Clash {
                    places: (before, at),
                    name: format!("{star}{name}"),
                });
            }
        }
    }
    None
}

/// Which kinds of certificate a client can verify, as its first message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    p256: bool,
    p384: bool,
    ed25519: bool,
}

/// What a client's first message holds, as it stands there; empty where it does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hello<'a> {
    /// The extension `signature_algorithms` (RFC 8446 §4.2.3).
    pub signatures: &'a [u8],
    /// The extension `supported_groups` (RFC 8422 §5.1.1).
    pub groups: &'a [u8],
    /// The extension `supported_versions` (RFC 8446 §4.2.1).
    pub versions: &'a [u8],
    /// The cipher suites.
    pub ciphers: &'a [u8],
}

/// The ciphers of TLS 1.2 that go with a key that is not RSA, of those we speak: ECDHE-ECDSA with
/// AES-128-GCM, AES-256-GCM and CHACHA20-POLY1305.
const ECDSA_CIPHERS: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
const TLS_1_3: u16 = 0x0304;

impl Abilities {
    /// Reads them. Who is not sure to verify a kind is given RSA, if there is a choice.
    pub fn of(hello: Hello<'_>) -> Self {
        let signs = |wanted| numbers(behind(hello.signatures, 2)).any(|n| n == wanted);
        let group = |wanted| numbers(behind(hello.groups, 2)).any(|n| n == wanted);
        let tls13 = numbers(behind(hello.versions, 1)).any(|n| n == TLS_1_3);
        // In TLS 1.2 the key must fit the cipher, and its curve the client's groups (RFC 8422 §5.1).
        let cipher = tls13 || numbers(hello.ciphers).any(|n| ECDSA_CIPHERS.contains(&n));
        Self {
            p256: signs(0x0403) && cipher && (tls13 || group(23)),
            p384: signs(0x0503) && cipher && (tls13 || group(24)),
            ed25519: signs(0x0807) && cipher,
        }
    }

    /// Whether the client can verify a certificate of this kind.
    pub(super) fn verify(self, kind: Kind) -> bool {
        match kind {
            Kind::P256 => self.p256,
            Kind::P384 => self.p384,
            Kind::Ed25519 => self.ed25519,
            Kind::Rsa => true,
        }
    }
}

/// What follows the length of a list, which is of `size` bytes.
fn behind(list: &[u8], size: usize) -> &[u8] {
    list.get(size..).unwrap_or_default()
}

fn numbers(list: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = list.chunks_exact(2);
    pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}
