//! One certificate and its key: read, judged, and by which names and signatures it serves.

use super::Wrong;
use crate::exchange::tls::Names;
use crate::identity::rfc3339;
use crate::route::HostPattern;
use pingora::tls::nid::Nid;
use pingora::tls::pkey::{HasPublic, Id, PKey, PKeyRef, Private};
use pingora::tls::x509::{X509, X509Ref};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The shortest RSA key that is served, in bits.
const MIN_RSA: u32 = 2048;
/// How long before its end a certificate is warned of, in seconds: 21 days.
const WARN_AHEAD_S: u64 = 21 * DAY_S;
/// A day in seconds.
pub const DAY_S: u64 = 86_400;

/// What kind of key a certificate has, in the order in which they are preferred: a signature by
/// P-256 costs a server a twentieth of one by RSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ECDSA on the curve P-256.
    P256,
    /// ECDSA on the curve P-384.
    P384,
    /// Ed25519 (RFC 8422 §5.10).
    Ed25519,
    /// RSA.
    Rsa,
}

impl Kind {
    fn of<T: HasPublic>(key: &PKeyRef<T>) -> Result<Self, String> {
        match key.id() {
            Id::RSA if key.bits() >= MIN_RSA => Ok(Self::Rsa),
            Id::RSA => Err(format!("RSA of {} bits", key.bits())),
            Id::ED25519 => Ok(Self::Ed25519),
            Id::EC => {
                let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
                match curve {
                    Some(Nid::X9_62_PRIME256V1) => Ok(Self::P256),
                    Some(Nid::SECP384R1) => Ok(Self::P384),
                    _ => Err("another curve".to_owned()),
                }
            }
            _ => Err("another kind".to_owned()),
        }
    }

    /// How metrics and messages call it. Two certificates of one of these cannot both serve a name.
    pub fn label(self) -> &'static str {
        match self {
            Self::P256 | Self::P384 => "ecdsa",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }
}

/// A certificate that can be served.
pub struct Certificate {
    /// What it serves.
    pub names: Arc<Names>,
    /// The kind of its key.
    pub kind: Kind,
    /// From when it is valid, in seconds since the Unix epoch.
    pub not_before: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after: u64,
    /// Itself, then those that signed it.
    pub chain: Vec<X509>,
    /// Its key.
    pub key: PKey<Private>,
    /// Names it is to serve that it does not bear.
    unborne: Vec<String>,
}

impl Certificate {
    /// Judges a certificate and a key, both PEM texts; `asked` are the names that it is to serve
    /// instead of its own.
    pub fn judge(cert: &str, key: &str, asked: &[HostPattern]) -> Result<Self, Wrong> {
        let chain = chain(cert).map_err(Wrong::Cert)?;
        let key = private_key(key).map_err(Wrong::Key)?;
        let Some(leaf) = chain.first() else {
            return Err(Wrong::Cert(no_certificate()));
        };
        let public = leaf.public_key().map_err(|e| Wrong::Cert(unread(&e)))?;
        let kind = Kind::of(&public).map_err(|found| {
            Wrong::Cert(format!("has a key that is not served (found {found}, want RSA of {MIN_RSA} bits or more, P-256, P-384 or Ed25519)"))
        })?;
        if !public.public_eq(&key) {
            return Err(Wrong::Key("does not belong to the certificate (found another key than the one it was made for, want that one)".to_owned()));
        }
        let own = names(leaf);
        let served = if asked.is_empty() { &own } else { asked };
        if served.is_empty() {
            return Err(Wrong::Cert("bears no name that it could serve (found no DNS name or address as subjectAltName, want `names` beside it)".to_owned()));
        }
        let own = by_form(&own);
        Ok(Self {
            unborne: unborne(asked, &own),
            names: Arc::new(by_form(served)),
            kind,
            not_before: unix_s(leaf.not_before().as_ref().as_slice()),
            not_after: unix_s(leaf.not_after().as_ref().as_slice()),
            chain,
            key,
        })
    }

    /// What it is called: its first name.
    pub fn name(&self) -> String {
        self.names.first().unwrap_or_default()
    }

    /// What an operator should know of it at a time, in seconds since the Unix epoch.
    pub fn warnings(&self, now_s: u64) -> Vec<String> {
        let mut all: Vec<String> = self.unborne.iter().map(|name| {
            format!("does not bear a name that it is to serve (found `{name}` in `names`, want one of its own: clients will refuse it)")
        }).collect();
        all.extend(self.time_warning(now_s));
        all
    }

    /// The part of the warnings that comes with time.
    pub fn time_warning(&self, now_s: u64) -> Option<String> {
        if now_s < self.not_before {
            let begin = rfc3339::format(self.not_before);
            return Some(format!(
                "is not valid yet (found its begin at {begin}: clients will refuse it until then)"
            ));
        }
        ending(self.not_after, now_s)
    }
}

/// Says that something ends soon or has ended.
pub fn ending(not_after: u64, now_s: u64) -> Option<String> {
    let end = rfc3339::format(not_after);
    let left = not_after.checked_sub(now_s);
    match left {
        None => Some(format!(
            "has ended (found its end at {end}, want it renewed)"
        )),
        Some(left) if left < WARN_AHEAD_S => {
            let days = left / DAY_S;
            Some(format!(
                "ends in {days} days (found its end at {end}, want it renewed)"
            ))
        }
        Some(_) => None,
    }
}

/// The certificates of a PEM text; at least one.
pub fn chain(pem: &str) -> Result<Vec<X509>, String> {
    let chain = X509::stack_from_pem(pem.as_bytes()).map_err(|e| unread(&e))?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    Ok(chain)
}

fn no_certificate() -> String {
    "holds no certificate (found no block `BEGIN CERTIFICATE`, want PEM)".to_owned()
}

fn unread(why: &dyn std::fmt::Display) -> String {
    format!("holds a certificate that cannot be read (found {why}, want X.509 in PEM)")
}

fn private_key(pem: &str) -> Result<PKey<Private>, String> {
    if pem.contains("ENCRYPTED") {
        return Err("is encrypted (found a key under a passphrase, want one without)".to_owned());
    }
    if !pem.contains("PRIVATE KEY-----") {
        return Err(
            "holds no private key (found no block such as `BEGIN PRIVATE KEY`, want PEM)"
                .to_owned(),
        );
    }
    // The library's own words could quote what it found.
    PKey::private_key_from_pem(pem.as_bytes()).map_err(|_| {
        "holds a private key that cannot be read (found something else, want PKCS#8 of version 1, PKCS#1 or SEC1 in PEM)".to_owned()
    })
}

/// The names and addresses that a certificate bears. What stands in its subject alone does not
/// count: no client looks there (RFC 9110 §4.3.4).
fn names(leaf: &X509Ref) -> Vec<HostPattern> {
    let Some(all) = leaf.subject_alt_names() else {
        return Vec::new();
    };
    let texts = all.iter().filter_map(|name| {
        let address = || address(name.ipaddress()?);
        name.dnsname().map(ToOwned::to_owned).or_else(address)
    });
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(format!("[{}]", Ipv6Addr::from(v6)))
}

fn by_form(patterns: &[HostPattern]) -> Names {
    let of = |wildcard: bool| {
        let these = patterns.iter().filter(|p| p.is_wildcard() == wildcard);
        these.map(|p| Box::from(p.name())).collect()
    };
    Names {
        exact: of(false),
        wildcards: of(true),
    }
}

fn unborne(asked: &[HostPattern], own: &Names) -> Vec<String> {
    let borne = |p: &&HostPattern| {
        let wildcard = p.is_wildcard() && own.wildcards.iter().any(|w| **w == *p.name());
        wildcard || (!p.is_wildcard() && own.covers(p.name()))
    };
    let unborne = asked.iter().filter(|p| !borne(p));
    unborne.map(ToString::to_string).collect()
}

/// Unix seconds of an ASN.1 time as certificates have it (RFC 5280 §4.1.2.5): `YYMMDDHHMMSSZ` up to
/// 2049, `YYYYMMDDHHMMSSZ` after. What is before 1970 reads as 0.
pub fn unix_s(time: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(time);
    let text = match (text.len(), text.as_bytes().first()) {
        (13, Some(b'0'..=b'4')) => format!("20{text}"),
        (13, _) => format!("19{text}"),
        _ => text.into_owned(),
    };
    let part = |range| text.get(range).unwrap_or_default();
    let date = [part(0..4), part(4..6), part(6..8)].join("-");
    let time = [part(8..10), part(10..12), part(12..15)].join(":");
    rfc3339::parse(&format!("{date}T{time}")).unwrap_or(0)
}
