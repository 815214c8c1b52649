//! Pure cores against naive twins: one module a core.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may fail where it stands, and looks at a clock of its own"
)]

mod balance;
mod breaker;
mod frames;
mod guard;
mod identity;
mod limit;
mod limit_rules;
mod proxy_protocol;
mod revoke;
mod route;
