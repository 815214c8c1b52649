//! What is known of the TLS of one client connection: what was agreed on, for which name, and who
//! the client proved to be. Plain data for filters, hooks and logs.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt::Write;
use std::sync::Arc;

/// What a TLS handshake came to.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// The name the client asked for (SNI, RFC 6066 §3), in lower case.
    pub server_name: Option<Box<str>>,
    /// The version.
    pub version: Version,
    /// The cipher suite by its name in the IANA registry, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// Whether an earlier session was taken up.
    pub resumed: bool,
    /// Whether HTTP/2 was agreed on (ALPN, RFC 7301); else it is HTTP/1.1.
    pub http2: bool,
    /// What the client proved to be: verified, and not expired when the connection began.
    pub client: Option<Arc<ClientCertificate>>,
    /// What the certificate it was given serves.
    pub names: Arc<Names>,
}

impl TlsInfo {
    /// Whether the certificate that this connection was given covers a host in normal form; a
    /// request for another is misdirected (421, RFC 9110 §15.5.20).
    pub fn covers(&self, host: &str) -> bool {
        self.names.covers(host)
    }
}

/// A TLS version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl Version {
    /// `1.2` or `1.3`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// The names that a certificate serves, in normal form (lower case, no port, no trailing dot).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Whole names and IP addresses, IPv6 in brackets.
    pub exact: Box<[Box<str>]>,
    /// What follows the `*.` of each wildcard.
    pub wildcards: Box<[Box<str>]>,
}

impl Names {
    /// Whether a host in normal form is one of these. A wildcard stands for exactly one whole label,
    /// the first (RFC 6125 §6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        self.exact.iter().any(|name| **name == *host)
            || below(host).is_some_and(|parent| self.wildcards.iter().any(|w| **w == *parent))
    }

    /// The first name, as an operator knows the certificate by.
    pub fn first(&self) -> Option<String> {
        let exact = self.exact.first().map(ToString::to_string);
        exact.or_else(|| self.wildcards.first().map(|parent| format!("*.{parent}")))
    }
}

/// What a name stands below: all but its first label.
pub fn below(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    (!label.is_empty() && !parent.is_empty()).then_some(parent)
}

/// The certificate a client proved to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject (RFC 4514), in ASCII: other characters are written as escaped UTF-8.
    pub subject: String,
    /// Who signed it, likewise.
    pub issuer: String,
    /// The common name of its subject, if it has exactly one and that is printable ASCII.
    pub common_name: Option<String>,
    /// Its serial number in lower-case hexadecimal, without leading zeros.
    pub serial: String,
    /// SHA-256 over its DER form.
    pub fingerprint: [u8; 32],
    /// Its DNS names.
    pub dns: Vec<String>,
    /// Its URIs, such as a SPIFFE id.
    pub uris: Vec<String>,
    /// Its e-mail addresses.
    pub emails: Vec<String>,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after: u64,
    /// Itself in DER form.
    pub der: Vec<u8>,
    /// What the client sent along with it, in DER form, its signer first.
    pub chain: Vec<Vec<u8>>,
}

impl ClientCertificate {
    /// The fingerprint as a token's `cnf` claim has it (`x5t#S256`, RFC 8705 §3.1).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.fingerprint)
    }

    /// The fingerprint in lower-case hexadecimal.
    pub fn fingerprint_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.fingerprint {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The value of a `Client-Cert` field (RFC 9440 §2.2).
    pub fn field(&self) -> String {
        byte_sequence(&self.der)
    }

    /// The value of a `Client-Cert-Chain` field (RFC 9440 §2.3); none without a chain.
    pub fn chain_field(&self) -> Option<String> {
        let parts: Vec<_> = self.chain.iter().map(|der| byte_sequence(der)).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Bytes as a structured field has them (RFC 8941 §3.3.5).
fn byte_sequence(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(exact: &[&str], wildcards: &[&str]) -> Names {
        let boxed = |list: &[&str]| list.iter().map(|n| Box::from(*n)).collect();
        Names {
            exact: boxed(exact),
            wildcards: boxed(wildcards),
        }
    }

    #[test]
    fn a_wildcard_covers_one_label_and_no_more() {
        let names = names(&["example.org", "[::1]"], &["example.org", "a.example.net"]);
        for host in ["example.org", "[::1]", "x.example.org", "x.a.example.net"] {
            assert!(names.covers(host), "{host}");
        }
        for host in [
            "x.y.example.org",
            ".example.org",
            "badexample.org",
            "a.example.net",
            "x.b.example.net",
            "org",
            "",
        ] {
            assert!(!names.covers(host), "{host}");
        }
    }

    #[test]
    fn a_certificate_goes_by_its_first_name() {
        assert_eq!(names(&["a", "b"], &["c"]).first().as_deref(), Some("a"));
        assert_eq!(names(&[], &["c"]).first().as_deref(), Some("*.c"));
        assert_eq!(Names::default().first(), None);
    }

    #[test]
    fn a_client_certificate_is_written_as_the_rfcs_say() {
        let mut client = ClientCertificate {
            subject: "CN=a".to_owned(),
            issuer: "CN=ca".to_owned(),
            common_name: None,
            serial: "1f".to_owned(),
            fingerprint: [0xfb; 32],
            dns: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            not_after: 0,
            der: vec![0xfb, 0xef, 0xbe],
            chain: Vec::new(),
        };
        assert_eq!(client.field(), ":++++:");
        assert_eq!(client.chain_field(), None);
        client.chain = vec![vec![0], vec![1]];
        assert_eq!(client.chain_field().as_deref(), Some(":AA==:, :AQ==:"));
        assert_eq!(client.fingerprint_hex(), "fb".repeat(32));
        let thumbprint = client.thumbprint();
        assert_eq!(thumbprint.len(), 43);
        assert!(thumbprint.starts_with("-_v7"), "{thumbprint}");
    }
}
