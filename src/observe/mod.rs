//! What is told about requests: why one was refused, what was counted, one line for each, and
//! the trace they belong to.
//!
//! - [`reason`]: the closed list of refusal codes, shared by answers, logs and metrics
//! - [`metrics`]: every metric, its name and its handles; text for Prometheus
//! - [`access_log`]: one JSON line a request, written behind a bounded queue
//! - [`trace`]: request ids and W3C Trace Context

pub mod access_log;
pub mod metrics;
pub mod reason;
pub mod trace;
