//! The request header that the gateway judges, made of the bytes that the strict parser let pass:
//! what Pingora would make of them, without the spelling of names, which means nothing
//! (RFC 9110 §5.1) and costs a second map to keep.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use pingora::ErrorType::InvalidHTTPHeader;
use pingora::http::RequestHeader;
use pingora::{OrErr, Result};
use std::ops::Range;

/// The parts of a request header, and where in its bytes they stand.
pub struct Parts {
    method: Method,
    target: Range<usize>,
    fields: Vec<(HeaderName, Range<usize>)>,
}

impl Parts {
    /// Of a header that begins somewhere in `bytes`; nothing if a part is none that can be held.
    pub fn of(request: &httparse::Request<'_, '_>, bytes: &[u8]) -> Option<Self> {
        let begin = bytes.as_ptr() as usize;
        let place = |part: &[u8]| {
            let at = part.as_ptr() as usize - begin;
            at..at + part.len()
        };
        let fields = request.headers.iter().map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name, place(field.value)))
        });
        Some(Self {
            method: Method::from_bytes(request.method?.as_bytes()).ok()?,
            target: place(request.path?.as_bytes()),
            fields: fields.collect::<Option<_>>()?,
        })
    }

    /// The header. Its values are views of `bytes`, which are those that the parts were found in.
    ///
    /// # Errors
    /// A part is none that can be held.
    pub fn assemble(self, bytes: &Bytes) -> Result<RequestHeader> {
        let target = bytes.slice(self.target);
        if !target.starts_with(b"/") {
            let mut header = RequestHeader::build_no_case(self.method, &target, None)?;
            for (name, place) in self.fields {
                header.append_header(name, value(bytes.slice(place))?)?;
            }
            return Ok(header);
        }
        // Pingora's own way makes every name twice. What it does for a path is this.
        let mut parts = http::Request::new(()).into_parts().0;
        parts.method = self.method;
        let target = PathAndQuery::from_maybe_shared(target);
        parts.uri = target.or_err(InvalidHTTPHeader, "a target")?.into();
        parts.headers.reserve(self.fields.len() + SPARE);
        for (name, place) in self.fields {
            parts.headers.append(name, value(bytes.slice(place))?);
        }
        Ok(parts.into())
    }
}

/// Room for the fields that a request is given on its way: the copy that goes to the service has it
/// too.
const SPARE: usize = 12;

fn value(bytes: Bytes) -> Result<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes).or_err(InvalidHTTPHeader, "a field value")
}
