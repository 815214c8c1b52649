//! Request limits that routes name.

use super::decode::Spanned;
use super::fields::{conf, default, required, words};
use super::value::Name;
use crate::base::units::Rate;

conf! {
    /// One limit: so many requests in so much time, for each of something.
    pub struct LimitConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `standard`");
        /// What requests are counted by.
        key: Spanned<LimitKey> = required("`client`, `user`, `route` or `address`");
        /// How requests are counted.
        algorithm: Spanned<AlgorithmConf> = required("`sliding_window`");
        /// 1 to 268435454 requests a window of 1s to 31d, whole seconds.
        rate: Spanned<Rate> = required("a rate such as `100/1m`");
        /// Where counts are kept. Default `exact`.
        store: Spanned<StoreConf> = default("exact");
        /// Keys an exact store holds, 1 to 100000000. Default 1000000.
        max_keys: Spanned<u64> = default("1000000").range("1", "100000000");
        /// Keys an estimating store expects within a window, 1 to 10000000. Default 100000.
        expected_clients: Spanned<u64> = default("100000").range("1", "10000000");
        /// Whether each route counts for itself. Default true; false: all routes that name the
        /// limit share it.
        per_route: Spanned<bool> = default("true");
        /// Which headers tell the client. Default `x_ratelimit`.
        headers: Spanned<LimitHeadersConf> = default("x_ratelimit");
        /// The form of `X-RateLimit-Reset`. Default `epoch_s`.
        reset: Spanned<ResetConf> = default("epoch_s");
    }
}

words! {
    /// What requests are counted by.
    pub enum LimitKey {
        /// The verified caller: a token's user, else its client, or the client of an API key; else the address.
        Client = "client",
        /// The identified user.
        User = "user",
        /// All requests of a route together.
        Route = "route",
        /// The client's address (IPv4 /32, IPv6 /64).
        Address = "address",
    }
}

words! {
    /// How requests are counted.
    pub enum AlgorithmConf {
        /// This window, and the one before weighed by how much of it still counts.
        SlidingWindow = "sliding_window",
    }
}

words! {
    /// Where counts are kept.
    pub enum StoreConf {
        /// A bounded table with a count of its own for each key.
        Exact = "exact",
        /// A sketch of fixed size: for keys anybody can make up.
        Estimate = "estimate",
    }
}

words! {
    /// Which headers tell the client about its limit.
    pub enum LimitHeadersConf {
        /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
        XRatelimit = "x_ratelimit",
        /// None.
        None = "none",
    }
}

words! {
    /// The form of `X-RateLimit-Reset`.
    pub enum ResetConf {
        /// Unix seconds.
        EpochS = "epoch_s",
        /// Unix milliseconds.
        EpochMs = "epoch_ms",
        /// Seconds from now.
        Delta = "delta",
    }
}
