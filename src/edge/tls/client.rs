//! Certificates of clients: whose are taken, and what is read from one.

use super::certificate;
use super::fault::Fault;
use crate::exchange::tls::ClientCertificate;
use crate::observe::metrics::HandshakeFault;
use pingora::tls::hash::MessageDigest;
use pingora::tls::nid::Nid;
use pingora::tls::ssl::{SslRef, SslVerifyMode};
use pingora::tls::ssl_sys::XN_FLAG_RFC2253;
use pingora::tls::x509::store::{X509Store, X509StoreBuilder};
use pingora::tls::x509::verify::X509VerifyFlags;
use pingora::tls::x509::{GeneralNameRef, X509, X509NameRef, X509Ref};

/// The most authorities that a file may hold: each is named to every client.
const MAX_AUTHORITIES: usize = 100;
/// The most certificates between a client's own and an authority.
pub const MAX_DEPTH: u32 = 4;

/// Who may have signed a client's certificate.
pub struct Authorities {
    /// Themselves.
    pub certificates: Vec<X509>,
    /// The same, to verify by.
    pub store: X509Store,
    /// When the first of them ends, in seconds since the Unix epoch.
    pub not_after: u64,
}

impl Authorities {
    /// Judges a PEM text. The error is a whole message.
    pub fn judge(pem: &str) -> Result<Self, String> {
        let certificates = certificate::chain(pem)?;
        let count = certificates.len();
        if count > MAX_AUTHORITIES {
            return Err(format!(
                "holds too many certificates (found {count}, want at most {MAX_AUTHORITIES})"
            ));
        }
        let store = store(&certificates);
        let store = store.map_err(|e| format!("cannot be used to verify clients (found {e})"))?;
        let ends = certificates.iter();
        let ends = ends.map(|c| certificate::unix_s(c.not_after().as_ref().as_slice()));
        Ok(Self {
            not_after: ends.min().unwrap_or(0),
            certificates,
            store,
        })
    }
}

fn store(all: &[X509]) -> Result<X509Store, pingora::tls::error::ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for authority in all {
        store.add_cert(authority)?;
    }
    // Whatever is in the file is trusted, also an authority that another one signed.
    store.try_set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    Ok(store.build())
}

/// How the library is told whether a certificate must be there.
pub fn verify_mode(required: bool) -> SslVerifyMode {
    if required {
        SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT
    } else {
        SslVerifyMode::PEER
    }
}

/// The certificate that a client proved to hold, in this handshake or in the one that its session
/// began with.
pub fn presented(ssl: &SslRef) -> Result<Option<ClientCertificate>, Fault> {
    let Some(leaf) = ssl.peer_certificate() else {
        return Ok(None);
    };
    let sent = ssl.peer_cert_chain();
    let chain = sent.map(|all| all.iter().filter_map(|c| c.to_der().ok()).collect());
    let read = read(&leaf, chain.unwrap_or_default());
    let bad = || Fault::new(HandshakeFault::BadClientCertificate, "it cannot be read");
    read.map(Some).ok_or_else(bad)
}

fn read(leaf: &X509Ref, chain: Vec<Vec<u8>>) -> Option<ClientCertificate> {
    let digest = leaf.digest(MessageDigest::sha256()).ok()?;
    let serial = leaf.serial_number().to_bn().ok()?.to_hex_str().ok()?;
    let names = leaf.subject_alt_names();
    let all = |of: fn(&GeneralNameRef) -> Option<&str>| {
        let texts = names.iter().flatten().filter_map(of);
        texts.filter(|t| plain(t)).map(ToOwned::to_owned).collect()
    };
    Some(ClientCertificate {
        subject: rfc4514(leaf.subject_name()),
        issuer: rfc4514(leaf.issuer_name()),
        common_name: common_name(leaf.subject_name()),
        serial: serial.trim_start_matches('0').to_ascii_lowercase(),
        fingerprint: digest.as_ref().try_into().ok()?,
        dns: all(GeneralNameRef::dnsname),
        uris: all(GeneralNameRef::uri),
        emails: all(GeneralNameRef::email),
        not_after: certificate::unix_s(leaf.not_after().as_ref().as_slice()),
        der: leaf.to_der().ok()?,
        chain,
    })
}

/// A name as filters compare it and headers may carry it.
fn plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The one common name of a subject; of several, nobody can say which counts.
fn common_name(name: &X509NameRef) -> Option<String> {
    let mut all = name.entries_by_nid(Nid::COMMONNAME);
    let text = all.next()?.data().as_utf8().ok()?;
    let text = text.to_string();
    (all.next().is_none() && plain(&text.replace(' ', "-"))).then_some(text)
}

/// A distinguished name as text, in ASCII: the library escapes the rest.
fn rfc4514(name: &X509NameRef) -> String {
    name.print_ex(XN_FLAG_RFC2253).unwrap_or_default()
}
