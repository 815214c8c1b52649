//! What is known of a gRPC call besides its being a request.

use std::time::Duration;

/// A gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// How long the client waits, from the begin of the request; none: for ever.
    pub deadline: Option<Duration>,
    /// What became of it: what the service said, or the gateway.
    pub status: Option<Status>,
}

impl Call {
    /// A call of which nothing has become yet.
    pub fn new(deadline: Option<Duration>) -> Self {
        Self {
            deadline,
            status: None,
        }
    }
}

/// A status code of gRPC. Services may send numbers that have no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// The caller gave up.
    pub const CANCELLED: Self = Self(1);
    /// The request is wrong, whatever the state of the service.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// It took too long.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// What was asked for is not there.
    pub const NOT_FOUND: Self = Self(5);
    /// The caller is known and may not.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// A limit or a quota is used up.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// There is no such method.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// Something that must hold does not.
    pub const INTERNAL: Self = Self(13);
    /// The service cannot be had now; it is worth trying again.
    pub const UNAVAILABLE: Self = Self(14);
    /// Data is lost or spoilt.
    pub const DATA_LOSS: Self = Self(15);
    /// The caller is not known.
    pub const UNAUTHENTICATED: Self = Self(16);
}
