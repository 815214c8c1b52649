//! TLS to targets: the name a certificate must bear, who may have signed it, and what we present
//! ourselves. There is no way to build any of it that verifies nothing.

use crate::base::secret::sha256;
use pingora::protocols::tls::CaType;
use pingora::tls::pkey::{PKey, Private};
use pingora::tls::x509::X509;
use pingora::utils::tls::CertKey;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// The name a target is asked for (SNI, RFC 6066 §3), which its certificate must bear.
///
/// Never empty: to Pingora an empty name means that nothing is verified. Never an IP address: those
/// are not asked for by SNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Arc<str>);

impl Name {
    /// A DNS name without its final dot; `None` if it is none.
    pub fn new(name: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        (!name.is_empty() && !address).then(|| Self(name.into()))
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A target that is spoken to over TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct Secure {
    /// The name its certificate must bear.
    pub name: Name,
    /// What its upstream's targets have in common.
    pub tls: Arc<Tls>,
}

/// What the targets of one upstream have in common.
#[derive(Debug)]
pub struct Tls {
    /// Who may have signed their certificates; `None` for the system's authorities.
    pub authorities: Option<Arc<CaType>>,
    /// What we present ourselves.
    pub client: Option<Arc<CertKey>>,
    /// Differs wherever one of the two does.
    pub mark: [u8; 32],
}

/// A certificate chain and its key, as PEM texts.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The certificate, then those that signed it.
    pub chain: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

impl PartialEq for Tls {
    /// Made of the same texts.
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl Tls {
    /// From PEM texts: the authorities, unless it is the system's, and what we present, if anything.
    ///
    /// # Errors
    /// As [`authorities`] and [`key_pair`].
    pub fn new(ca: Option<&[u8]>, client: Option<Pair<'_>>) -> Result<Self, String> {
        let mut all = Vec::new();
        let texts = [ca, client.map(|c| c.chain), client.map(|c| c.key)];
        for text in texts {
            let text = text.unwrap_or_default();
            all.extend(text.len().to_be_bytes());
            all.extend(text);
        }
        Ok(Self {
            authorities: ca.map(authorities).transpose()?.map(Arc::new),
            client: client.map(key_pair).transpose()?.map(Arc::new),
            mark: sha256(&all),
        })
    }
}

/// The certificates in a PEM text, each once.
///
/// # Errors
/// There is none, or one that cannot be read; says in full what was found and wanted.
pub fn authorities(pem: &[u8]) -> Result<CaType, String> {
    let mut seen = HashSet::new();
    let mut all = certificates(pem)?;
    all.retain(|one| one.to_der().is_ok_and(|der| seen.insert(der)));
    Ok(all.into())
}

/// A certificate with those that signed it, and its key.
///
/// # Errors
/// One of them cannot be read, or they do not belong together; says what was found and wanted.
pub fn key_pair(pair: Pair<'_>) -> Result<CertKey, String> {
    let chain = certificates(pair.chain)?;
    let key = private_key(pair.key)?;
    let own = chain.first().and_then(|leaf| leaf.public_key().ok());
    if !own.is_some_and(|own| own.public_eq(&key)) {
        return Err("found the key of another certificate, want the one it was made with".into());
    }
    Ok(CertKey::new(chain, key))
}

fn certificates(pem: &[u8]) -> Result<Vec<X509>, String> {
    match X509::stack_from_pem(pem) {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("found no certificate, want PEM with at least one".into()),
        Err(_) => Err("found a certificate that cannot be read, want PEM".into()),
    }
}

fn private_key(pem: &[u8]) -> Result<PKey<Private>, String> {
    PKey::private_key_from_pem(pem)
        .map_err(|_| "found no private key that can be read, want PEM without a password".into())
}

/// Whether this machine has authorities of its own to verify with. To be asked after Pingora has
/// looked for them, which the first of its connectors does: it notes in the environment where they
/// are.
pub fn system_has_authorities() -> bool {
    let listed = std::env::var_os("SSL_CERT_FILE");
    let listed = listed.and_then(|file| std::fs::read(file).ok());
    let folder = std::env::var_os("SSL_CERT_DIR");
    listed.is_some_and(|text| has_certificates(&text))
        || folder.is_some_and(|folder| has_hashed_files(Path::new(&folder)))
}

fn has_certificates(text: &[u8]) -> bool {
    let begin = b" CERTIFICATE-----";
    text.windows(begin.len()).any(|part| part == begin)
}

/// Whether a folder holds files named by hash and number, as certificates are looked for in it.
fn has_hashed_files(folder: &Path) -> bool {
    let hashed = |name: &str| {
        let parts = name.split_once('.');
        parts.is_some_and(|(hash, number)| {
            hash.len() == 8
                && hash.bytes().all(|b| b.is_ascii_hexdigit())
                && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.file_name().into_string().ok())
        .any(|name| hashed(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERT: &[u8] = include_bytes!("../../tests/keys/test-rsa-a.cert.pem");
    const KEY: &[u8] = include_bytes!("../../tests/keys/test-rsa-a.key.pem");
    const OTHER_KEY: &[u8] = include_bytes!("../../tests/keys/test-rsa-b.key.pem");

    #[test]
    fn no_name_verifies_nothing() {
        for bad in ["", ".", "192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            assert_eq!(Name::new(bad), None, "{bad:?}");
        }
        let name = Name::new("users.internal.").unwrap();
        assert_eq!(name.as_str(), "users.internal");
    }

    #[test]
    fn files_are_judged_before_anything_is_built_on_them() {
        let why = |ca: &[u8]| Tls::new(Some(ca), None).unwrap_err();
        assert!(why(b"").starts_with("found no certificate"));
        assert!(why(KEY).starts_with("found no certificate"));
        let cut = &CERT[..CERT.len() / 2];
        assert!(why(cut).starts_with("found a certificate that cannot"));
        let pair = |chain, key| Tls::new(None, Some(Pair { chain, key }));
        assert!(pair(CERT, KEY).is_ok());
        let why = |chain, key| pair(chain, key).unwrap_err();
        assert!(why(CERT, OTHER_KEY).starts_with("found the key of another"));
        assert!(why(CERT, CERT).starts_with("found no private key"));
        assert!(why(KEY, KEY).starts_with("found no certificate"));
    }

    #[test]
    fn a_machine_without_authorities_is_known() {
        assert!(has_certificates(CERT) && !has_certificates(KEY));
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        put("README");
        put("0a1b2c3.0");
        put("0a1b2c3d.r0");
        assert!(!has_hashed_files(folder.path()));
        put("0a1b2c3d.0");
        assert!(has_hashed_files(folder.path()));
        assert!(!has_hashed_files(&folder.path().join("none")));
    }

    #[test]
    fn an_authority_listed_twice_counts_once() {
        let twice = [CERT, b"\n", CERT].concat();
        assert_eq!(authorities(&twice).unwrap().len(), 1);
    }

    #[test]
    fn other_files_leave_another_mark() {
        let mark = |ca, client| Tls::new(ca, client).unwrap().mark;
        let pair = Pair {
            chain: CERT,
            key: KEY,
        };
        let marks = [
            mark(None, None),
            mark(Some(CERT), None),
            mark(None, Some(pair)),
            mark(Some(CERT), Some(pair)),
        ];
        let distinct: HashSet<_> = marks.iter().collect();
        assert_eq!(distinct.len(), marks.len());
        assert_eq!(mark(Some(CERT), None), marks[1]);
    }
}
