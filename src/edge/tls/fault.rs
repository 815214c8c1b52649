//! Why a handshake failed, in a closed list.

use super::context;
use crate::observe::metrics::HandshakeFault;
use pingora::tls::error::ErrorStack;
use pingora::tls::ssl::{Error, ErrorCode, SslRef};
use pingora::tls::ssl_sys as codes;
use std::fmt;

/// A handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why, from a closed list.
    pub cause: HandshakeFault,
    /// Why in words, for whoever looks into it.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.label(), self.detail)
    }
}

impl std::error::Error for Fault {}

/// Reasons of the library at and above this are alerts that the client sent.
const ALERTS: i32 = 1000;

impl Fault {
    pub(super) fn new(cause: HandshakeFault, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }

    /// A fault before the handshake began.
    pub(super) fn setup(why: &ErrorStack) -> Self {
        Self::new(HandshakeFault::Other, why.to_string())
    }

    /// What the library's error means.
    pub(super) fn of(error: &Error, ssl: &SslRef) -> Self {
        let Some(stack) = error.ssl_error() else {
            return Self::new(HandshakeFault::ClientClosed, error.to_string());
        };
        let unnamed = context::chosen(ssl).is_none();
        let reasons = stack.errors().iter();
        let mut causes = reasons.filter_map(|e| e.library_reason(codes::ERR_LIB_SSL));
        let cause = causes.find_map(|reason| cause(reason, unnamed));
        let closed = error.code() == ErrorCode::ZERO_RETURN;
        let otherwise = if closed {
            HandshakeFault::ClientClosed
        } else {
            HandshakeFault::Protocol
        };
        let cause = cause.unwrap_or(otherwise);
        let detail = match ssl.verify_result() {
            Err(why) if cause == HandshakeFault::BadClientCertificate => format!("{stack} {why}"),
            _ => stack.to_string(),
        };
        Self::new(cause, detail)
    }
}

/// What a reason of the library means; nothing if it says no more than that something failed.
/// `unnamed`: no certificate was chosen.
fn cause(reason: i32, unnamed: bool) -> Option<HandshakeFault> {
    Some(match reason {
        codes::SSL_R_CLIENTHELLO_TLSEXT if unnamed => HandshakeFault::UnknownName,
        codes::SSL_R_NO_APPLICATION_PROTOCOL => HandshakeFault::NoAlpn,
        codes::SSL_R_UNSUPPORTED_PROTOCOL => HandshakeFault::NoSharedVersion,
        codes::SSL_R_NO_SHARED_CIPHER
        | codes::SSL_R_NO_SHARED_GROUP
        | codes::SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS => HandshakeFault::NoSharedCipher,
        codes::SSL_R_CERTIFICATE_VERIFY_FAILED
        | codes::SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE
        | codes::SSL_R_NO_CERTIFICATES_RETURNED => HandshakeFault::BadClientCertificate,
        ALERTS.. => HandshakeFault::ClientAlert,
        _ => return None,
    })
}
