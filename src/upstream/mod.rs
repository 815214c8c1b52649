//! Upstreams: which services there are, which of their targets are usable, and which one is next.

pub mod balance;
pub mod discovery;
pub mod health;
pub mod hold;
pub mod peer;
pub mod pool;
pub mod split;
pub mod tls;
pub mod trouble;
mod turn;
