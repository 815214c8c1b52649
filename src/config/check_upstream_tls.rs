//! What has to go with the `tls` of an upstream, and what has to be in the files that it names.

use super::check::Findings;
use super::decode::{Spanned, Value};
use super::error::message;
use super::expand;
use super::material::{MAX_PEM, PemFile};
use super::tls::{KeyPairConf, ServerName, UpstreamTlsConf};
use super::upstream::{TargetAddress, UpstreamConf, UpstreamProtocolConf};
use crate::upstream::tls::{Pair, authorities, key_pair};

/// Judges one upstream.
pub(super) fn check(upstream: &UpstreamConf, f: &mut Findings) {
    let protocol = &upstream.protocol;
    if let Some(tls) = &upstream.tls {
        server_name(upstream, tls, f);
        files(tls, f);
    } else if protocol.sound() == Some(&UpstreamProtocolConf::Auto) {
        f.fault(&protocol.place, message!("is agreed on within TLS (found `auto` without `tls`, want `tls`, or `http1` or `http2`)"));
    }
}

/// A certificate is verified against a name. Without one it would not be verified at all, so a
/// target that is no DNS name needs one written.
fn server_name(upstream: &UpstreamConf, tls: &Spanned<UpstreamTlsConf>, f: &mut Findings) {
    if tls.sound().is_none() || tls.server_name.is_some() {
        return;
    }
    let unnamed = |a: &&TargetAddress| ServerName::parse(&a.host).is_err();
    let mut targets = upstream.targets.iter().filter_map(|t| t.address.sound());
    if let Some(target) = targets.find(unnamed) {
        f.fault(&tls.place.field("server_name"), message!("is missing (found the target `{target}`, which is no DNS name, want the one that its certificate bears, such as `users.internal`)"));
    }
}

fn files(tls: &UpstreamTlsConf, f: &mut Findings) {
    pair(tls.ca.as_ref(), tls.client_certificate.as_ref(), f);
}

/// Judges files of authorities and of what we present ourselves.
pub(super) fn pair(ca: Option<&Spanned<PemFile>>, client: Option<&KeyPairConf>, f: &mut Findings) {
    if let Some(ca) = ca {
        certificates(ca, f);
    }
    if let Some(KeyPairConf { cert, key }) = client
        && let Some(chain) = certificates(cert, f)
        && let Some(private) = text(key)
    {
        let (chain, private) = (chain.as_bytes(), private.as_bytes());
        if let Err(why) = key_pair(Pair {
            chain,
            key: private,
        }) {
            f.fault(
                &key.place,
                message!("is of no use with its certificate ({why})"),
            );
        }
    }
}

/// The text of a file that holds certificates.
fn certificates(file: &Spanned<PemFile>, f: &mut Findings) -> Option<String> {
    let text = text(file)?;
    if let Err(why) = authorities(text.as_bytes()) {
        f.fault(&file.place, message!("is no file of certificates ({why})"));
        return None;
    }
    Some(text)
}

/// The text of a file; what cannot be read has its fault already.
fn text(file: &Spanned<PemFile>) -> Option<String> {
    expand::read(&file.sound()?.0, MAX_PEM).ok()
}
