//! Which fields a message has of those that somebody asks for: looked for once, in one pass, since
//! nearly all of them are nearly always absent and each lookup would hash its name.

use http::HeaderMap;

/// A field that is asked for, or a kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Field {
    /// `Connection`.
    Connection = 1,
    /// `Content-Length`.
    ContentLength = 1 << 1,
    /// `Expect`.
    Expect = 1 << 2,
    /// `Max-Forwards`.
    MaxForwards = 1 << 3,
    /// `traceparent`.
    Traceparent = 1 << 4,
    /// `tracestate`.
    Tracestate = 1 << 5,
    /// `Upgrade`.
    Upgrade = 1 << 6,
    /// `Via`.
    Via = 1 << 7,
    /// `X-Request-ID`.
    RequestId = 1 << 8,
    /// Any of those that tell where a request comes from: `Forwarded` and its predecessors.
    Origin = 1 << 9,
    /// `Transfer-Encoding`.
    TransferEncoding = 1 << 10,
    /// Any other that is between two neighbours alone (RFC 9110 §7.6.1).
    HopByHop = 1 << 11,
}

/// The fields of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u16);

impl Fields {
    /// Looks through a header.
    pub fn of(headers: &HeaderMap) -> Self {
        let each = headers.keys().map(|name| kind(name.as_str()));
        Self(each.fold(0, |all, kind| all | kind.map_or(0, |k| k as u16)))
    }

    /// Whether it was there. What is asked of a header that was changed since may be gone.
    #[inline]
    pub fn has(self, field: Field) -> bool {
        self.0 & field as u16 != 0
    }
}

/// Whether a field is between two neighbours alone; `Connection`, which may name others, aside.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(kind(name), Some(Field::HopByHop | Field::Upgrade))
}

#[inline]
fn kind(name: &str) -> Option<Field> {
    Some(match name {
        "via" => Field::Via,
        "expect" => Field::Expect,
        "upgrade" => Field::Upgrade,
        "connection" => Field::Connection,
        "tracestate" => Field::Tracestate,
        "traceparent" => Field::Traceparent,
        "max-forwards" => Field::MaxForwards,
        "x-request-id" => Field::RequestId,
        "content-length" => Field::ContentLength,
        "transfer-encoding" => Field::TransferEncoding,
        "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer" => Field::HopByHop,
        "forwarded" | "x-real-ip" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port"
        | "x-forwarded-proto" | "x-forwarded-prefix" => Field::Origin,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn what_is_there_is_seen_and_nothing_else() {
        let named = [
            ("connection", Field::Connection),
            ("Content-Length", Field::ContentLength),
            ("expect", Field::Expect),
            ("max-forwards", Field::MaxForwards),
            ("traceparent", Field::Traceparent),
            ("tracestate", Field::Tracestate),
            ("upgrade", Field::Upgrade),
            ("via", Field::Via),
            ("x-request-id", Field::RequestId),
            ("x-forwarded-port", Field::Origin),
            ("forwarded", Field::Origin),
            ("transfer-encoding", Field::TransferEncoding),
            ("trailer", Field::HopByHop),
        ];
        for (name, field) in named {
            let name: HeaderName = name.parse().expect("a name");
            let mut headers = HeaderMap::new();
            headers.insert("x-other", HeaderValue::from_static("1"));
            assert_eq!(Fields::of(&headers), Fields::default());
            headers.append(name.clone(), HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
            let seen = Fields::of(&headers);
            for (_, other) in named {
                assert_eq!(seen.has(other), other == field, "{other:?}");
            }
        }
    }
}
