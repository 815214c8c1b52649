//! `Expect: 100-continue` where the target speaks HTTP/2: its interim answers cannot be read, so the
//! client is told to go on by us (RFC 9110 §10.1.1).

use http::Version;
use http::header::EXPECT;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, Result};

/// The hook: takes the expectation off a request to an HTTP/2 target, and meets it; true if it did.
///
/// # Errors
/// The client cannot be written to.
pub async fn meet(session: &mut Session, request: &mut RequestHeader) -> Result<bool> {
    let ours = request.version == Version::HTTP_2 && request.remove_header(&EXPECT).is_some();
    let client = session.as_downstream_mut();
    // An HTTP/2 client gets no interim answers either; it may begin after a while (§10.1.1).
    let waits = client.as_http1().is_some() && !client.is_body_empty();
    if ours && waits {
        let told = client.write_continue_response();
        told.await.map_err(Error::into_down)?;
    }
    Ok(ours && waits)
}
