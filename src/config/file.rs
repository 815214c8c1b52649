//! The whole file.

use super::decode::Spanned;
use super::fields::{conf, default, optional, required};
use super::identity::IdentityConf;
use super::limit::LimitConf;
use super::listener::ListenerConf;
use super::redis::RedisConf;
use super::route::RouteConf;
use super::server::{AdminConf, FloodConf, LogConf, ServerConf};
use super::upstream::UpstreamConf;
use crate::base::net::Network;

conf! {
    /// Everything that one file says.
    pub struct FileConf {
        /// The process: threads, the form of refusals, how it stops.
        server: ServerConf = default("{}");
        /// Where clients come in. At least one.
        listeners: Vec<Spanned<ListenerConf>> = required("a list with at least one listener").some();
        /// The operator's own port or socket. Left out: none.
        admin: Option<AdminConf> = optional();
        /// Networks whose `X-Forwarded-For` is believed. Default: none, it is always replaced.
        trusted_proxies: Vec<Spanned<Network>> = default("[]");
        /// The access log.
        log: LogConf = default("{}");
        /// A first limit by client address, before anything else is looked at. Left out: none.
        flood: Option<FloodConf> = optional();
        /// What several gateways share. Left out: nothing.
        redis: Option<RedisConf> = optional();
        /// Who clients are, and how backends are told.
        identity: IdentityConf = default("{}");
        /// Request limits that routes name. Default: none.
        limits: Vec<Spanned<LimitConf>> = default("[]");
        /// Groups of backends that routes name. At least one.
        upstreams: Vec<Spanned<UpstreamConf>> = required("a list with at least one upstream").some();
        /// Which requests go where, and under what conditions. At least one.
        routes: Vec<Spanned<RouteConf>> = required("a list with at least one route").some();
    }
}
