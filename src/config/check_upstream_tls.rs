//! What has to be in the files that the `tls` of an upstream names.

use super::check::Findings;
use super::decode::Spanned;
use super::error::message;
use super::expand;
use super::material::{MAX_PEM, PemFile};
use super::tls::{KeyPairConf, UpstreamTlsConf};
use crate::upstream::tls::{Pair, authorities, key_pair};

/// Judges the files of one upstream.
pub(super) fn check(tls: &UpstreamTlsConf, f: &mut Findings) {
    if let Some(ca) = &tls.ca {
        certificates(ca, f);
    }
    if let Some(KeyPairConf { cert, key }) = &tls.client_certificate
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
