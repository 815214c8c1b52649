//! Request limits that routes name.

use super::auth::ModeConf;
use super::decode::{Decode, Entries, Spanned};
use super::decoder::Decoder;
use super::error::{Place, message};
use super::fields::{conf, default, optional, required, word, words};
use super::value::{Header, Name};
use super::yaml::{Content, Node};
use crate::base::units::Rate;
use std::fmt;

conf! {
    /// One limit: so many requests in so much time, for each of something.
    pub struct LimitConf {
        /// Its name, for routes to refer to, and what clients are told that they have used up.
        name: Spanned<Name> = required("a name such as `standard`");
        /// What requests are counted by; of a list, by all of it together.
        key: Spanned<LimitKeys> = required("`client`, `user`, `api_key`, `tenant`, `address`, `route`, `{ claim: … }`, `{ header: … }`, or a list of these");
        /// What is counted by where a part of `key` is not there. Left out: the address, for `client`
        /// and `user`; has to be said for what else may be missing.
        fallback: Option<Spanned<LimitKeys>> = optional();
        /// How requests are counted.
        algorithm: Spanned<AlgorithmConf> = required("`fixed_window`, `sliding_window`, `sliding_log`, `token_bucket` or `leaky_bucket`");
        /// 1 to 268435454 requests a window of 1s to 31d, whole seconds.
        rate: Spanned<Rate> = required("a rate such as `100/1m`");
        /// Requests that a full bucket lets pass at a stroke, 1 to 268435454. Default: the requests of
        /// `rate` for `token_bucket`, 1 for `leaky_bucket`.
        capacity: Option<Spanned<u64>> = optional().range("1", "268435454");
        /// Other rates, by the caller's tier. A tier that is not here has `rate`.
        tiers: Entries<TierConf> = default("{}");
        /// Whether a caller's own rate, of its API key or a claim, holds instead. Left out: it does not.
        own_rate: Option<OwnRateConf> = optional();
        /// Where counts are kept. Default `exact`.
        store: Spanned<StoreConf> = default("exact");
        /// Keys an exact store holds, 1 to 100000000. Default 1000000; 100000 for `sliding_log`.
        max_keys: Option<Spanned<u64>> = optional().range("1", "100000000");
        /// Keys an estimating store expects within a window, 1 to 10000000. Default 100000.
        expected_clients: Spanned<u64> = default("100000").range("1", "10000000");
        /// Whether each route counts for itself. Default true; false: all routes that name the
        /// limit share it.
        per_route: Spanned<bool> = default("true");
        /// Whether requests over the limit are refused, or only counted and logged. Default `enforce`.
        mode: Spanned<ModeConf> = default("enforce");
        /// Which headers tell the client. Default `both`.
        headers: Spanned<LimitHeadersConf> = default("both");
        /// The form of `X-RateLimit-Reset`. Default `epoch_s`.
        reset: Spanned<ResetConf> = default("epoch_s");
    }
}

impl LimitConf {
    /// How many keys an exact store holds.
    pub fn keys_held(&self) -> u64 {
        let few = self.algorithm.value == AlgorithmConf::SlidingLog;
        let default = if few { 100_000 } else { 1_000_000 };
        self.max_keys.as_ref().map_or(default, |keys| keys.value)
    }

    /// The claims that it looks at.
    pub fn claims(&self) -> impl Iterator<Item = &String> {
        let LimitKeys(keys) = &self.key.value;
        let counted = keys.iter().filter_map(|key| match key {
            LimitKey::Claim(name) => Some(name),
            _ => None,
        });
        let own = self.own_rate.iter().filter_map(|own| own.claim.as_ref());
        counted.chain(own.map(|claim| &claim.value))
    }
}

conf! {
    /// What one tier may.
    pub struct TierConf {
        /// As the limit's `rate`.
        rate: Spanned<Rate> = required("a rate such as `1000/1m`").short();
        /// As the limit's `capacity`, 1 to 268435454.
        capacity: Option<Spanned<u64>> = optional().range("1", "268435454");
    }
}

conf! {
    /// Rates that callers bring with them.
    pub struct OwnRateConf {
        /// The most that any of them is believed: with more requests, or in less time, this holds.
        most: Spanned<Rate> = required("the highest rate that is believed, such as `10000/1m`");
        /// A claim that says it, as `1000/1h`. Left out: only the `rate_limit` of API keys counts.
        claim: Option<Spanned<String>> = optional();
    }
}

/// What requests are counted by: one thing, or several together.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitKeys(pub Vec<LimitKey>);

/// One thing that requests are counted by.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitKey {
    /// The verified caller: a token's user, else its client, or the client of an API key.
    Client,
    /// The identified user.
    User,
    /// The API key itself.
    ApiKey,
    /// The tenant.
    Tenant,
    /// The client's address, by so many of its first bits.
    Address(PrefixesConf),
    /// All requests of a route together.
    Route,
    /// What a verified token says there.
    Claim(String),
    /// What a header says; whoever sends the request chooses it.
    Header(Header),
}

conf! {
    /// Bits of an address that tell clients apart.
    pub struct PrefixesConf {
        /// Of an IPv4 address, 8 to 32. Default 32.
        ipv4: Spanned<u32> = default("32").range("8", "32");
        /// Of an IPv6 address, 16 to 128. Default 64.
        ipv6: Spanned<u32> = default("64").range("16", "128");
    }
}

const WORDS: [&str; 6] = ["client", "user", "api_key", "tenant", "address", "route"];
const MAPPINGS: &str = "`{ claim: … }`, `{ header: … }` or `{ address: { ipv4: 24 } }`";

impl LimitKey {
    /// Whether a request may be without it.
    pub fn may_be_missing(&self) -> bool {
        !matches!(self, Self::Address(_) | Self::Route)
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::User => f.write_str("user"),
            Self::ApiKey => f.write_str("api_key"),
            Self::Tenant => f.write_str("tenant"),
            Self::Address(_) => f.write_str("address"),
            Self::Route => f.write_str("route"),
            Self::Claim(name) => write!(f, "claim {name}"),
            Self::Header(name) => write!(f, "header {}", name.as_str()),
        }
    }
}

impl Decode for LimitKey {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        match &node.content {
            Content::Text { .. } if !node.is_nothing() => {
                let text = d.text(node)?;
                let at = word(&text, &WORDS).map_err(|e| d.fault(node, e)).ok()?;
                Some(match at {
                    0 => Self::Client,
                    1 => Self::User,
                    2 => Self::ApiKey,
                    3 => Self::Tenant,
                    4 => Self::Address(PrefixesConf::of_one_client(node, d)?),
                    _ => Self::Route,
                })
            }
            Content::Map(entries) if entries.len() == 1 => {
                let (name, value) = (entries[0].key.as_str(), &entries[0].value);
                let key = d.key().field(name);
                d.under(key, |d| match name {
                    "claim" => d.text(value).map(Self::Claim),
                    "header" => Header::decode(value, d).map(Self::Header),
                    "address" => PrefixesConf::decode(value, d).map(Self::Address),
                    _ => {
                        d.fault(
                            node,
                            message!("is nothing to count by (found `{name}`, want {MAPPINGS})"),
                        );
                        None
                    }
                })
            }
            _ => {
                d.wrong_form(
                    node,
                    &format!(
                        "`client`, `user`, `api_key`, `tenant`, `address`, `route`, {MAPPINGS}"
                    ),
                );
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self::Route
    }
}

impl PrefixesConf {
    /// The defaults.
    fn of_one_client(node: &Node, d: &mut Decoder) -> Option<Self> {
        let nothing = Node::new(node.line, node.column, Content::Map(Vec::new()));
        Self::decode(&nothing, d)
    }
}

impl Decode for LimitKeys {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let Content::List(items) = &node.content else {
            return LimitKey::decode(node, d).map(|one| Self(vec![one]));
        };
        if items.is_empty() {
            d.fault(
                node,
                message!("is empty (found no items, want at least one)"),
            );
            return None;
        }
        let all: Vec<LimitKey> = Vec::decode(node, d)?;
        // What could not be read has left a fault.
        (all.len() == items.len()).then_some(Self(all))
    }

    fn stand_in(_place: &Place) -> Self {
        Self(Vec::new())
    }
}

words! {
    /// How requests are counted.
    pub enum AlgorithmConf {
        /// In windows of the clock: cheap, and up to twice the rate around the boundary of two.
        FixedWindow = "fixed_window",
        /// This window, and the one before weighed by how much of it still counts.
        SlidingWindow = "sliding_window",
        /// The time of each request: exact in any window, for limits of up to 1000.
        SlidingLog = "sliding_log",
        /// A bucket of `capacity` that refills at `rate`: bursts, and a steady rate in the long run.
        TokenBucket = "token_bucket",
        /// As a queue of `capacity` that drains at `rate` (GCRA): by default one after another.
        LeakyBucket = "leaky_bucket",
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
        /// Both of the following.
        Both = "both",
        /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
        Draft = "draft",
        /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`; of buckets `X-RateLimit-Tokens-Remaining` and
        /// `-Capacity` besides.
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
