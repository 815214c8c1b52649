//! The gateway from end to end: one binary, one module per room of `src/`.

#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    clippy::match_bool,
    clippy::needless_for_each,
    clippy::cast_possible_wrap,
    clippy::naive_bytecount,
    clippy::large_stack_arrays,
    clippy::doc_markdown,
    clippy::semicolon_if_nothing_returned,
    clippy::trivially_copy_pass_by_ref,
    reason = "a test may fail where it stands, and reads better for being brief"
)]

mod answers;
mod authorisation;
mod blame;
mod breaker;
mod certificates;
mod discovery;
mod doors;
mod drain;
mod edge;
mod exposure;
mod failures;
mod grpc;
mod grpc_deadline;
mod h2;
mod http1;
mod identity;
mod introspection;
mod introspection_core;
mod issuers;
mod keys;
mod keys_redis;
mod limits;
mod limits_rules;
mod paths;
mod plain;
mod redis;
mod reload;
mod retry;
mod revocation;
mod revoked;
mod rfc_tokens;
mod rotation;
mod route;
mod security;
mod smuggling;
mod streaming;
mod support;
mod telling;
mod tenant;
mod tls;
mod tls_accept;
mod tls_clients;
mod tls_reload;
mod tls_told;
mod tokens;
mod tunnel;
mod tunnel_end;
mod upload;
mod upstream;
mod upstream_h2;
mod upstream_h2_bodies;
mod upstream_old_tls;
mod upstream_tls;
mod websocket;
