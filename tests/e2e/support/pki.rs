//! Certificates for tests, made on the spot, and a TLS client that is not the gateway's own library.

use rcgen::{
    CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    SignatureAlgorithm,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

/// RSA keys take long to make: one for all.
static RSA: LazyLock<String> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    key.serialize_pem()
});

/// Who signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// One that this one signed.
    pub fn below(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        self.as_signer(params)
    }

    /// Whoever these say, signing others.
    pub fn as_signer(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate of a server with these names and a key of P-256.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.sign(&PKCS_ECDSA_P256_SHA256, server(names))
    }

    /// The same with a key of another kind.
    pub fn server_with(&self, kind: &'static SignatureAlgorithm, names: &[&str]) -> Leaf {
        self.sign(kind, server(names))
    }

    /// A certificate of a client.
    pub fn client(&self, name: &str) -> Leaf {
        self.sign(&PKCS_ECDSA_P256_SHA256, client(name))
    }

    pub fn sign(&self, kind: &'static SignatureAlgorithm, params: CertificateParams) -> Leaf {
        let key = if *kind == PKCS_RSA_SHA256 {
            KeyPair::from_pem(&RSA).unwrap()
        } else if *kind == PKCS_ED25519 {
            // Those that rcgen makes are of a form (RFC 5958) that OpenSSL does not write either.
            KeyPair::from_pem(include_str!("../../keys/test-ed25519.key.pem")).unwrap()
        } else {
            KeyPair::generate_for(kind).unwrap()
        };
        let cert = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            cert: cert.pem(),
            key: key.serialize_pem(),
            der: cert.der().clone(),
            chain: Vec::new(),
        }
    }
}

/// What a server's certificate says.
pub fn server(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    CertificateParams::new(names).unwrap()
}

/// What a client's certificate says.
pub fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Ärzte, \"GmbH\"");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let text = |text: &str| text.to_owned().try_into().unwrap();
    params.subject_alt_names = vec![
        SanType::DnsName(text(&format!("{name}.clients.test"))),
        SanType::URI(text(&format!("spiffe://test/{name}"))),
        SanType::Rfc822Name(text(&format!("{name}@clients.test"))),
    ];
    params
}

/// Sets how long it is valid, in seconds since the Unix epoch.
pub fn valid(mut params: CertificateParams, from_s: u64, to_s: u64) -> CertificateParams {
    let at = |s| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(s);
    (params.not_before, params.not_after) = (at(from_s), at(to_s));
    params
}

/// A certificate with its key.
pub struct Leaf {
    pub cert: String,
    pub key: String,
    pub der: CertificateDer<'static>,
    /// What a client sends along with it.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Leaf {
    /// A server that presents it.
    pub fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth();
        Arc::new(
            config
                .with_single_cert(vec![self.der.clone()], key)
                .unwrap(),
        )
    }

    /// Writes both as `{stem}.pem` and `{stem}.key`.
    pub fn write(&self, dir: &Path, stem: &str) {
        std::fs::write(path(dir, stem, "pem"), &self.cert).unwrap();
        std::fs::write(path(dir, stem, "key"), &self.key).unwrap();
    }
}

pub fn path(dir: &Path, stem: &str, extension: &str) -> PathBuf {
    dir.join(format!("{stem}.{extension}"))
}

/// What a client speaks and whom it trusts; everybody, until told otherwise.
#[derive(Clone)]
pub struct Trust {
    versions: &'static [&'static SupportedProtocolVersion],
    ciphers: Vec<SupportedCipherSuite>,
    groups: Vec<&'static dyn SupportedKxGroup>,
    schemes: Vec<SignatureScheme>,
    authorities: Vec<CertificateDer<'static>>,
    alpn: Vec<Vec<u8>>,
    own: Option<(Vec<CertificateDer<'static>>, String)>,
    reckless: bool,
}

impl Trust {
    pub fn all() -> Self {
        let provider = aws_lc_rs::default_provider();
        Self {
            versions: rustls::ALL_VERSIONS,
            ciphers: provider.cipher_suites,
            groups: provider.kx_groups,
            schemes: provider
                .signature_verification_algorithms
                .supported_schemes(),
            authorities: Vec::new(),
            alpn: Vec::new(),
            own: None,
            reckless: false,
        }
    }

    /// Verifies the server, its name included.
    pub fn only(mut self, authority: &Authority) -> Self {
        self.authorities.push(authority.der());
        self
    }

    pub fn tls12(mut self) -> Self {
        static ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
        self.versions = ONLY;
        self
    }

    pub fn tls13(mut self) -> Self {
        static ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        self.versions = ONLY;
        self
    }

    /// Leaves the ciphers whose names hold this.
    pub fn ciphers(mut self, part: &str) -> Self {
        self.ciphers
            .retain(|c| format!("{:?}", c.suite()).contains(part));
        self
    }

    /// Leaves these groups, in this order.
    pub fn groups(mut self, names: &[&str]) -> Self {
        let all = std::mem::take(&mut self.groups);
        let named = |name: &&str| {
            let found = all.iter().find(|g| format!("{:?}", g.name()) == **name);
            *found.expect("a group")
        };
        self.groups = names.iter().map(named).collect();
        self
    }

    /// Leaves the signatures whose names begin so.
    pub fn schemes(mut self, begin: &str) -> Self {
        self.schemes.retain(|s| format!("{s:?}").starts_with(begin));
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }

    /// Presents a certificate if it is asked for one.
    pub fn present(mut self, leaf: &Leaf) -> Self {
        let chain = std::iter::once(&leaf.der).chain(&leaf.chain);
        self.own = Some((chain.cloned().collect(), leaf.key.clone()));
        self
    }

    /// Offers its sessions to whomever it meets, under any name.
    pub fn reckless(mut self) -> Self {
        self.reckless = true;
        self
    }

    /// A client that remembers its sessions.
    pub fn client(self) -> Arc<ClientConfig> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: self.ciphers,
            kx_groups: self.groups,
            ..aws_lc_rs::default_provider()
        });
        let config = ClientConfig::builder_with_provider(provider.clone());
        let config = config.with_protocol_versions(self.versions).unwrap();
        let config = if self.authorities.is_empty() {
            let schemes = self.schemes;
            let anybody = Arc::new(Anybody { schemes, provider });
            config.dangerous().with_custom_certificate_verifier(anybody)
        } else {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(self.authorities);
            config.with_root_certificates(roots)
        };
        let mut config = match self.own {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn;
        if self.reckless {
            let store = Arc::new(OneName(ClientSessionMemoryCache::new(8)));
            config.resumption = Resumption::store(store);
        }
        Arc::new(config)
    }
}

/// Takes any certificate, but checks the proof that the server holds its key.
#[derive(Debug)]
struct Anybody {
    schemes: Vec<SignatureScheme>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _cert: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Keeps the sessions of all servers as if they were one.
#[derive(Debug)]
struct OneName(ClientSessionMemoryCache);

fn one() -> ServerName<'static> {
    ServerName::try_from("one").unwrap()
}

impl ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(one(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&one())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one())
    }
}
