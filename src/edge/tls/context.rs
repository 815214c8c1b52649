//! The library's contexts: what every connection of a listener agrees on, and what a certificate
//! adds to it.

use super::certificate::Certificate;
use super::choose::{Abilities, Hello, Ready, Table};
use super::client::{self, Authorities};
use crate::exchange::tls::Names;
use arc_swap::ArcSwap;
use pingora::tls::error::ErrorStack;
use pingora::tls::ssl::{
    AlpnError, ClientHello, ExtensionType, NameType, SelectCertError, SniError, SslContext,
    SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef, SslSessionCacheMode, SslVersion,
};
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};

/// Ciphers of TLS 1.2 (those of TLS 1.3 are fixed): forward secret and authenticated. All are good,
/// so the client's order holds: it knows whether it has AES in hardware.
const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
                       ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
                       ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
/// Groups to agree on a key in. The client's order holds here too: what it likes best it has sent a
/// key for, and any other would cost it a round trip.
const GROUPS: &str = "X25519MLKEM768:X25519:P-256:P-384";

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What every connection of a listener agrees on.
pub struct Policy {
    /// The listener.
    pub listener: Arc<str>,
    /// Whether TLS 1.2 is refused.
    pub tls13_only: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Whether sessions may be taken up.
    pub resumption: bool,
    /// Whether clients are asked for a certificate, and whether they must have one.
    pub client_required: Option<bool>,
}

/// The context that a connection begins with. It chooses a certificate, of which it has none itself,
/// from the table of that moment. It lives as long as its listener, and the keys of session tickets
/// with it: the library makes new ones every two days and takes the old ones for two more.
pub fn base(policy: &Policy, table: &Arc<ArcSwap<Table>>) -> Result<SslContext, ErrorStack> {
    let mut context = common(policy, None)?;
    let table = table.clone();
    context.set_select_certificate_callback(move |mut hello| {
        let chosen = choose(&table.load(), &hello).cloned();
        let Some(ready) = chosen else {
            // The name callback refuses: only it can name the alert.
            return Ok(());
        };
        let set = hello.ssl_mut().set_ssl_context(&ready.context);
        set.map_err(|_| SelectCertError::ERROR)
    });
    context.set_servername_callback(|ssl, _| match chosen(ssl) {
        Some(_) => Ok(()),
        None => Err(SniError::ALERT_FATAL),
    });
    Ok(context.build())
}

/// The context that presents a certificate.
pub fn serving(
    policy: &Policy,
    authorities: Option<&Authorities>,
    certificate: &Certificate,
) -> Result<SslContext, ErrorStack> {
    let mut context = common(policy, authorities)?;
    let mut chain = certificate.chain.iter();
    if let Some(leaf) = chain.next() {
        context.set_certificate(leaf)?;
    }
    for signer in chain {
        context.add_extra_chain_cert(signer.clone())?;
    }
    context.set_private_key(&certificate.key)?;
    context.check_private_key()?;
    let session = session_id_context(policy, authorities, &certificate.names);
    context.set_session_id_context(&session)?;
    let mark = MARK.as_ref().map_err(Clone::clone)?;
    (mark.set)(&mut context, certificate.names.clone());
    Ok(context.build())
}

/// What all contexts of a listener have in common.
fn common(
    policy: &Policy,
    authorities: Option<&Authorities>,
) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls())?;
    let oldest = if policy.tls13_only {
        SslVersion::TLS1_3
    } else {
        SslVersion::TLS1_2
    };
    context.set_min_proto_version(Some(oldest))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_strict_cipher_list(CIPHERS)?;
    context.set_curves_list(GROUPS)?;
    context.set_options(SslOptions::NO_COMPRESSION);
    // A write that had to wait is made again with what has been added to it meanwhile, from
    // wherever that is by then.
    context.set_mode(
        SslMode::AUTO_RETRY | SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER,
    );
    // Sessions are kept by clients, in tickets, and take no memory here.
    context.set_session_cache_mode(SslSessionCacheMode::NO_INTERNAL);
    if !policy.resumption {
        context.set_options(SslOptions::NO_TICKET);
    }
    let http2 = policy.http2;
    context.set_alpn_select_callback(move |_, offered| select_protocol(offered, http2));
    if let Some(required) = policy.client_required {
        context.set_verify(client::verify_mode(required));
        context.set_verify_depth(client::MAX_DEPTH);
    }
    if let Some(authorities) = authorities {
        context.set_cert_store(authorities.store.clone());
        for authority in &authorities.certificates {
            context.add_client_ca(authority)?;
        }
    }
    Ok(context)
}

/// Sessions of one listener, one set of names (RFC 6066 §3) and one set of client authorities are of
/// no use for others. A certificate that is renewed keeps them.
fn session_id_context(
    policy: &Policy,
    authorities: Option<&Authorities>,
    names: &Names,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(policy.listener.as_bytes());
    hash.update([0, u8::from(policy.client_required == Some(true))]);
    for list in [&names.exact, &names.wildcards] {
        for name in list {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        hash.update([0]);
    }
    for authority in authorities.iter().flat_map(|a| &a.certificates) {
        hash.update(authority.to_der().unwrap_or_default());
    }
    hash.finalize().into()
}

/// What is spoken, of the list that a client offers; without one of ours there is no connection (RFC
/// 7301 §3.2).
pub(super) fn select_protocol(offered: &[u8], http2: bool) -> Result<&[u8], AlpnError> {
    let ours = |name: &&[u8]| protocols(offered).find(|p| p == name);
    let h2 = Some(H2).filter(|_| http2);
    let mut found = [h2, Some(HTTP_1_1)].into_iter().flatten();
    let agreed = found.find_map(|name| ours(&name));
    agreed.ok_or(AlpnError::ALERT_FATAL)
}

/// The names in a list as the extension has it: each behind a byte with its length.
fn protocols(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = list.split_first()?;
        let (name, after) = rest.split_at_checked(usize::from(*length))?;
        list = after;
        Some(name)
    })
}

fn choose<'a>(table: &'a Table, hello: &ClientHello<'_>) -> Option<&'a Arc<Ready>> {
    let name = hello.ssl().servername_raw(NameType::HOST_NAME);
    let extension = |kind| hello.get_extension(kind).unwrap_or_default();
    table.choose(name, || {
        Abilities::of(Hello {
            signatures: extension(ExtensionType::SIGNATURE_ALGORITHMS),
            groups: extension(ExtensionType::SUPPORTED_GROUPS),
            versions: extension(ExtensionType::SUPPORTED_VERSIONS),
            ciphers: hello.ciphers(),
        })
    })
}

/// What the certificate serves that was chosen for a connection.
pub fn chosen(ssl: &SslRef) -> Option<Arc<Names>> {
    (MARK.as_ref().ok()?.get)(ssl)
}

/// Whether HTTP/2 was agreed on.
pub fn speaks_http2(ssl: &SslRef) -> bool {
    ssl.selected_alpn_protocol() == Some(H2)
}

/// The names of a certificate in its context, from where a finished handshake reads them.
struct Mark {
    set: Box<Set>,
    get: Box<Get>,
}

type Set = dyn Fn(&mut SslContextBuilder, Arc<Names>) + Send + Sync;
type Get = dyn Fn(&SslRef) -> Option<Arc<Names>> + Send + Sync;

static MARK: LazyLock<Result<Mark, ErrorStack>> = LazyLock::new(|| {
    let slot = SslContext::new_ex_index::<Arc<Names>>()?;
    Ok(Mark {
        set: Box::new(move |context, names| context.set_ex_data(slot, names)),
        get: Box::new(move |ssl| ssl.ssl_context().ex_data(slot).cloned()),
    })
});
