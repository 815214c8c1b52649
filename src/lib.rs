//! Tollgate: an API gateway and edge proxy on Pingora.
//!
//! # Floors
//! A module names only modules of lower floors; `tests/architecture.rs` checks it.
//!
//! ```text
//! 11 cli        run check reload diff upgrade keys revoke demo
//! 10 server     listeners, reload, upgrade, drain, watchdog: the only wiring
//!  9 admin      own port: health, ready, metrics, status
//!  9 edge       accept, front (own HTTP/1 header reader), sweep of time limits
//!  8 gateway    receive screen choose send retry reply fail record   (impl ProxyHttp)
//!  7 snapshot   a whole config, compiled
//!  6 config     the file, its objects, its faults
//!  5 filter     auth, rate_limit, body_limit, flood; chain = enum Filter
//!  5 upstream   pool balance split health discovery peer
//!  4 exchange   what one request carries
//!  3 identity   tokens, key sets, API keys, revocations
//!  3 limit      sliding_window · exact, estimate
//!  3 breaker    state machine, permits
//!  2 redis      the store that gateways share: commands within a budget, changes heard of
//!  1 route      path, host, pattern, table
//!  1 observe    reason, trace, metrics, access log
//!  0 base       clock, net, units, secret
//! ```
//!
//! # The way of a request
//! `edge` accepts it and reads its header strictly, then Pingora's proxying calls, in order:
//! [`gateway::receive`] (who, what), [`gateway::screen`] (may it pass: flood limit, route,
//! the route's filters), [`gateway::choose`] (which upstream, breaker, target),
//! [`gateway::send`], [`gateway::retry`], [`gateway::reply`], [`gateway::fail`] where something
//! went wrong, and [`gateway::record`] always.
//!
//! # Adding a filter
//! Its file in `filter/`, a variant in `filter/chain.rs`, its keys in `config/` and their
//! compilation in `snapshot/`, an example in `conf/`, a module of end-to-end tests.

pub mod admin;
pub mod base;
pub mod breaker;
pub mod cli;
pub mod config;
pub mod edge;
pub mod exchange;
pub mod filter;
pub mod gateway;
pub mod identity;
pub mod limit;
pub mod observe;
pub mod redis;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod upstream;
