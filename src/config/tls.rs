//! TLS: the certificates of a listener, who may present one, and how backends are verified.

use super::decode::{Spanned, Value};
use super::error::message;
use super::fields::{conf, default, optional, required, words};
use super::material::PemFile;
use crate::base::units::Span;
use crate::route::{HostPattern, host};

conf! {
    /// TLS on a listener.
    pub struct TlsConf {
        /// Its certificates. At least one; the first serves names that none covers.
        certificates: Vec<Spanned<CertificateConf>> = required("a list such as `[{ cert: api.pem, key: api.key }]`").some();
        /// What a client gets that asks for a name no certificate covers. Default `default`.
        unknown_names: Spanned<UnknownNamesConf> = default("default");
        /// The oldest version. Default `1.2`.
        min_version: Spanned<TlsVersionConf> = default("1.2");
        /// Whether HTTP/2 is offered (ALPN). Default true.
        http2: Spanned<bool> = default("true");
        /// Whether a client may take up an earlier session. Default true.
        resumption: Spanned<bool> = default("true");
        /// How long a handshake may take, 100ms to 5m. Default 10s.
        handshake_timeout: Spanned<Span> = default("10s").range("100ms", "5m");
        /// Whether a request for a host that its connection's certificate does not cover is refused
        /// with 421. Default false.
        strict_host: Spanned<bool> = default("false");
        /// Certificates of clients. Left out: none is asked for.
        client_certificates: Option<Spanned<ClientCertificatesConf>> = optional();
    }
}

conf! {
    /// One certificate of a listener; watched, and taken up anew when its files change.
    pub struct CertificateConf {
        /// PEM file: the certificate, then those that signed it.
        cert: Spanned<PemFile> = required("a PEM file with the certificate and its chain");
        /// PEM file: the private key.
        key: Spanned<PemFile> = required("a PEM file with the private key");
        /// Which names it serves. Default: those in the certificate.
        names: Vec<Spanned<HostPattern>> = default("[]").some();
    }
}

words! {
    /// What becomes of a client that asks for a name no certificate covers.
    pub enum UnknownNamesConf {
        /// It gets the first certificate.
        Default = "default",
        /// Its handshake is refused.
        Refuse = "refuse",
    }
}

words! {
    /// A TLS version.
    pub enum TlsVersionConf {
        /// TLS 1.2 (RFC 5246).
        Tls12 = "1.2",
        /// TLS 1.3 (RFC 8446).
        Tls13 = "1.3",
    }
}

conf! {
    /// Certificates of clients.
    pub struct ClientCertificatesConf {
        /// Whether a client must have one; one that is presented must always be good.
        mode: Spanned<ClientCertificateModeConf> = required("`required` or `optional`");
        /// PEM file with the authorities that may have signed it.
        ca: Spanned<PemFile> = required("a PEM file with the authorities that sign clients");
        /// Whether backends get it, in `Client-Cert` (RFC 9440). Default false.
        forward: Spanned<bool> = default("false");
    }
}

words! {
    /// Whether a client must have a certificate.
    pub enum ClientCertificateModeConf {
        /// Without one there is no connection.
        Required = "required",
        /// It may have one.
        Optional = "optional",
    }
}

conf! {
    /// TLS to a backend. What it presents is always verified.
    pub struct UpstreamTlsConf {
        /// The name asked for (SNI), which its certificate must bear. Default: the target's own, if
        /// it is a name.
        server_name: Option<Spanned<ServerName>> = optional();
        /// PEM file with the authorities that may have signed it. Default: the system's.
        ca: Option<Spanned<PemFile>> = optional();
        /// What we present ourselves. Left out: nothing.
        client_certificate: Option<KeyPairConf> = optional();
    }
}

conf! {
    /// A certificate and its key.
    pub struct KeyPairConf {
        /// PEM file: the certificate, then those that signed it.
        cert: Spanned<PemFile> = required("a PEM file with the certificate and its chain");
        /// PEM file: the private key.
        key: Spanned<PemFile> = required("a PEM file with the private key");
    }
}

/// The name of a server, as it is asked for in TLS (RFC 6066 §3): a DNS name in lower case, never
/// empty, since an empty one would mean that nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(pub String);

impl Value for ServerName {
    fn parse(text: &str) -> Result<Self, String> {
        let name = host::normalise(text).ok();
        let usable = |name: &str| {
            let numbers = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            name.len() <= 253 && !numbers && !name.contains([':', '[', '_'])
        };
        match name.filter(|name| !text.contains(':') && usable(name)) {
            Some(name) => Ok(Self(name.into_owned())),
            None => Err(message!(
                "is not a server's name (found `{text}`, want a DNS name such as `users.internal`)"
            )),
        }
    }

    fn stand_in() -> Self {
        Self("stand-in.invalid".to_owned())
    }
}
