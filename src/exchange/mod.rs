//! What one request carries through the gateway: who asked for what, where it goes, what was
//! decided, and how long each step took.

pub mod admission;
pub mod call;
pub mod connection;
pub mod fields;
pub mod limits;
pub mod listener;
pub mod refusal;
pub mod tls;

use crate::base::clock::Now;
use crate::identity::principal::Principal;
use crate::observe::metrics::{RouteMetrics, UpstreamMetrics};
use crate::observe::reason::Reason;
use crate::observe::trace::{self, TraceContext};
use bytes::Bytes;
use call::Call;
use connection::Connection;
use fields::Fields;
use http::{HeaderValue, Method};
use limits::Limits;
use refusal::Refusal;
use std::net::IpAddr;
use std::sync::Arc;

/// One request on its way.
#[derive(Debug)]
pub struct Exchange {
    /// The connection it came in on.
    pub conn: Arc<Connection>,
    /// When its header was read.
    pub started: Now,
    /// When it was admitted: later than `started` if a lookup had to be awaited. The upstream's time
    /// begins here.
    pub admitted: Now,
    /// The client's address: the peer, or what a trusted proxy says.
    pub client: IpAddr,
    /// Whether the connection ends with this exchange: what comes behind a handshake that was refused
    /// may be meant for whoever would have taken it.
    pub closes: bool,
    /// Whether nothing of it comes but its header, and the edge waits for its answer itself.
    pub bare: bool,
    /// Whether the peer is a trusted proxy.
    pub trusted_peer: bool,
    /// What its header had of the fields that are asked for.
    pub fields: Fields,
    /// Identifies the request in answers and logs.
    pub request_id: RequestId,
    /// The trace it belongs to.
    pub trace: TraceContext,
    /// The method.
    pub method: Method,
    /// Set on a gRPC call.
    pub call: Option<Call>,
    /// The normalised host, without port.
    pub host: String,
    /// The normalised path, without query.
    pub path: String,
    /// The matched route.
    pub route: Option<RouteRef>,
    /// Who asked, once verified.
    pub principal: Option<Arc<Principal>>,
    /// Why it would have been refused, had its route not only tried out whom it asks for.
    pub would_refuse: Option<Reason>,
    /// What its limits said.
    pub limits: Limits,
    /// Why it was refused or failed.
    pub refusal: Option<Refusal>,
    /// The chosen upstream.
    pub upstream: Option<UpstreamRef>,
    /// Body bytes of the answer.
    pub bytes_out: u64,
    /// When what happened.
    pub times: Times,
}

/// Identifies a request; can stand in a field as it is. One of ours becomes a field's value only where
/// one is asked for.
#[derive(Clone, Debug)]
pub struct RequestId(Id);

#[derive(Clone, Debug)]
enum Id {
    Given(HeaderValue),
    Made([u8; trace::REQUEST_ID]),
}

impl RequestId {
    /// An id whose characters may all stand in a field; `None` if one may not.
    pub fn new(text: String) -> Option<Self> {
        let value = HeaderValue::from_maybe_shared(Bytes::from(text)).ok()?;
        value.to_str().is_ok().then_some(Self(Id::Given(value)))
    }

    /// A random one.
    pub fn random() -> Self {
        Self(Id::Made(trace::new_request_id()))
    }

    /// The id, all of it ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Id::Given(value) => value.as_bytes(),
            Id::Made(text) => text,
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Makes the value of a field of it once, for a request that is told of more than once.
    pub fn keep(&mut self) {
        self.0 = Id::Given(self.value());
    }

    /// The id as the value of a field.
    pub fn value(&self) -> HeaderValue {
        match &self.0 {
            Id::Given(value) => value.clone(),
            // Letters, digits and `-` may all stand in one.
            Id::Made(text) => {
                HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
            }
        }
    }
}

/// A route as logs and metrics know it.
#[derive(Clone, Debug)]
pub struct RouteRef {
    /// Its place in the snapshot.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
}

/// An upstream as logs and metrics know it.
#[derive(Clone, Debug)]
pub struct UpstreamRef {
    /// Its name.
    pub name: Arc<str>,
    /// The address the last attempt went to.
    pub target: Option<Arc<str>>,
    /// Attempts made, the first included.
    pub attempts: u32,
    /// Its metrics.
    pub metrics: Arc<UpstreamMetrics>,
}

/// Nanoseconds from the request's begin to each step; 0 where it was not reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Everything before an upstream is chosen.
    pub screened_ns: u64,
    /// The last attempt began to connect.
    pub connecting_ns: u64,
    /// The last attempt was connected.
    pub connected_ns: u64,
    /// The first byte of the answer came.
    pub first_byte_ns: u64,
}

impl Exchange {
    /// A request that just came in, under its id and in its trace.
    pub fn new(
        conn: Arc<Connection>,
        now: Now,
        request_id: RequestId,
        trace: TraceContext,
    ) -> Self {
        let client = crate::base::net::canonical(conn.peer.ip());
        Self {
            conn,
            started: now,
            admitted: now,
            client,
            closes: false,
            bare: false,
            trusted_peer: false,
            fields: Fields::default(),
            request_id,
            trace,
            method: Method::GET,
            call: None,
            host: String::new(),
            path: String::new(),
            route: None,
            principal: None,
            would_refuse: None,
            limits: Limits::default(),
            refusal: None,
            upstream: None,
            bytes_out: 0,
            times: Times::default(),
        }
    }

    /// Whether no further request is taken on its connection.
    pub fn is_last(&self) -> bool {
        self.closes || self.conn.is_last_request()
    }
}
