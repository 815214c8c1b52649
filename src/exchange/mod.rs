//! What one request carries through the gateway.

pub mod connection;
