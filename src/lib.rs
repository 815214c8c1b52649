//! Tollgate: an API gateway and edge proxy on Pingora.

pub mod base;
pub mod edge;
pub mod exchange;
/// What the gateway tells.
pub mod observe {
    pub mod reason;
}
