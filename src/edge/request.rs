//! The request header that the gateway judges, made of the bytes that the strict parser let pass:
//! what Pingora would make of them, without the spelling of names, which means nothing
//! (RFC 9110 §5.1) and costs a second map to keep.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr};
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
    pub fn assemble(self, bytes: &Bytes) -> pingora::Result<RequestHeader> {
        let count = Some(self.fields.len());
        let target = bytes.get(self.target).unwrap_or_default();
        let mut header = RequestHeader::build_no_case(self.method, target, count)?;
        for (name, place) in self.fields {
            let value = bytes.slice(place);
            header.append_header(
                name,
                HeaderValue::from_maybe_shared(value)
                    .or_err(ErrorType::InvalidHTTPHeader, "a field value")?,
            )?;
        }
        Ok(header)
    }
}
