//! The edge: our own listening service in front of Pingora's proxying. Accepts, holds idle
//! connections cheaply, reads request headers strictly, drains.
//!
//! Pingora's `Service` is not used: it can neither close one listener nor refuse framing with a
//! reason, sets no deadline on a header and holds tens of KiB for an idle connection.

pub mod accept;
pub mod bare;
pub mod body;
pub mod connection;
pub mod frames;
pub mod front;
pub mod guard;
pub mod head;
pub mod http2;
mod linger;
pub mod open;
pub mod proxy_protocol;
pub mod request;
pub mod stream;
pub mod sweep;
pub mod tls;
pub mod transport;
