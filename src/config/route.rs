//! Which requests go where, and under what conditions.

use super::auth::AuthConf;
use super::decode::{Decode, Entries, Spanned};
use super::decoder::Decoder;
use super::error::{Fault, Place, message};
use super::fields::{conf, default, optional, required};
use super::spelling::choice;
use super::value::{ExactPath, Header, Name};
use super::yaml::{Content, Entry, Node};
use crate::base::units::{ByteSize, Span};
use crate::route::{HostPattern, MethodSet, PathPattern};

conf! {
    /// One route.
    pub struct RouteConf {
        /// Its name, shown in logs and metrics.
        name: Spanned<Name> = required("a name such as `users`");
        /// Which requests it is for.
        matching as "match": Spanned<MatchConf> = required("the requests it takes, such as `{ path: /users }`");
        /// Whether the path's prefix is taken off before the request is sent on. Default true for
        /// a prefix; not for other paths.
        strip_prefix: Option<Spanned<bool>> = optional();
        /// Who may pass.
        auth: Spanned<AuthConf> = required("who may pass, such as `{ any: [corp] }`, or `auth: none` if it is meant to be open to everyone");
        /// The limits that hold, by name. Default: none.
        limits: Vec<Spanned<String>> = default("[]");
        /// How much one request counts to its limits, 1 to 1000000. Default 1.
        cost: Spanned<u32> = default("1").range("1", "1000000");
        /// The largest request body, 0B to 1024GiB. Default 10MiB.
        max_body: Spanned<ByteSize> = default("10MiB").range("0B", "1024GiB");
        /// How long the whole exchange with the upstream may take, 1ms to 24h. Default: the
        /// upstream's `total`.
        timeout: Option<Spanned<Span>> = optional().range("1ms", "24h");
        /// For answers or uploads without a foreseeable end (server-sent events, long downloads,
        /// gRPC streams): they last as long as bytes move. Left out: `timeout` bounds the whole.
        streaming: Option<Spanned<StreamingConf>> = optional();
        /// Allows WebSocket (RFC 6455). Left out: `Upgrade` is ignored.
        websocket: Option<Spanned<WebSocketConf>> = optional();
        /// Where requests go.
        to: ToConf = required("an upstream's name, or a choice by `header`, `tenant` or `weights`");
    }
}

conf! {
    /// An exchange without a foreseeable end. `timeout` then bounds the wait for the answer's header
    /// once the request is complete.
    pub struct StreamingConf {
        /// How long nothing may move in either direction, 1s to 24h. Default 5m.
        idle_timeout: Spanned<Span> = default("5m").range("1s", "24h");
    }
}

conf! {
    /// WebSocket connections. `timeout` bounds the wait for the handshake's answer.
    pub struct WebSocketConf {
        /// How long nothing may move in either direction, 1s to 24h. Default 5m.
        idle_timeout: Spanned<Span> = default("5m").range("1s", "24h");
    }
}

conf! {
    /// Which requests a route is for: all conditions hold. Either `path` or `exact`.
    pub struct MatchConf {
        /// Any of these hosts, `*.` in front for all below. Default: every host.
        hosts: Vec<Spanned<HostPattern>> = default("[]").some();
        /// A prefix by whole segments; with `{parameters}` the whole path, unless it ends in `/*`.
        path: Option<Spanned<PathPattern>> = optional();
        /// A path, character by character.
        exact: Option<Spanned<ExactPath>> = optional();
        /// Any of these methods. Default: every method.
        methods: Vec<Spanned<MethodSet>> = default("[]").some();
    }
}

impl MatchConf {
    /// The one path condition, `path` or `exact`.
    pub fn pattern(&self) -> Option<&PathPattern> {
        let exact = self.exact.as_ref().map(|e| &e.value.0);
        exact.or(self.path.as_ref().map(|p| &p.value))
    }
}

impl RouteConf {
    /// Whether the prefix is taken off: as written, else for every prefix.
    pub fn strips_prefix(&self) -> bool {
        let prefix = self.matching.pattern().is_some_and(PathPattern::is_prefix);
        self.strip_prefix.as_ref().map_or(prefix, |s| s.value)
    }
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq)]
pub enum ToConf {
    /// To one upstream, or to several by weight.
    Split(SplitConf),
    /// By what a header says.
    Header(HeaderChoiceConf),
    /// By whose request it is.
    Tenant(TenantChoiceConf),
}

/// One upstream, or several by weight.
#[derive(Clone, Debug, PartialEq)]
pub enum SplitConf {
    /// An upstream, by name.
    One(Spanned<String>),
    /// Several, by name, each with its relative weight.
    Weights(WeightsConf),
}

conf! {
    /// A split by weight.
    pub struct WeightsConf {
        /// Upstreams by name and their weights, 0 to 10000 each and 1 to 10000 together.
        weights: Entries<Spanned<u32>> = required("upstreams and weights, such as `{ users-v1: 90, users-v2: 10 }`").some();
    }
}

conf! {
    /// A choice by what a header says.
    pub struct HeaderChoiceConf {
        /// The header.
        header: Spanned<Header> = required("a header such as `X-API-Version`");
        /// Where each value goes.
        values: Entries<SplitConf> = required("values and upstreams, such as `{ v1: users-v1 }`").some();
        /// Where requests go that have no such header, or another value.
        default: SplitConf = required("the upstream for requests without the header");
    }
}

conf! {
    /// A choice by whose request it is. There is no default: an unknown tenant is refused.
    pub struct TenantChoiceConf {
        /// The header that names the tenant, or `claim` for the tenant that the token names.
        tenant: Spanned<TenantSource> = required("a header such as `X-Tenant-ID`, or `claim`");
        /// Where each tenant's requests go.
        values: Entries<SplitConf> = required("tenants and upstreams, such as `{ acme: acme-up }`").some();
    }
}

/// What names the tenant.
#[derive(Clone, Debug, PartialEq)]
pub enum TenantSource {
    /// A header.
    Header(Header),
    /// The verified token's tenant claim.
    Claim,
}

impl super::decode::Value for TenantSource {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "claim" {
            return Ok(Self::Claim);
        }
        Header::parse(text).map(Self::Header)
    }

    fn stand_in() -> Self {
        Self::Claim
    }
}

impl Decode for SplitConf {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        match &node.content {
            Content::Text { .. } if !node.is_nothing() => Spanned::decode(node, d).map(Self::One),
            Content::Map(_) => WeightsConf::decode(node, d).map(Self::Weights),
            _ => {
                d.wrong_form(
                    node,
                    "an upstream's name, or `{ weights: { a: 90, b: 10 } }`",
                );
                None
            }
        }
    }

    fn stand_in(place: &Place) -> Self {
        Self::One(Spanned::stand_in(place))
    }
}

impl Decode for ToConf {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        const WAYS: [&str; 3] = ["header", "tenant", "weights"];
        let Some(entries) = node.entries() else {
            return SplitConf::decode(node, d).map(Self::Split);
        };
        let ways: Vec<&str> = WAYS
            .into_iter()
            .filter(|way| node.get(way).is_some())
            .collect();
        match ways.as_slice() {
            ["header"] => HeaderChoiceConf::decode(node, d).map(Self::Header),
            ["tenant"] => tenant(node, entries, d).map(Self::Tenant),
            ["weights"] => SplitConf::decode(node, d).map(Self::Split),
            _ => {
                let found = if ways.is_empty() {
                    "none of them".to_owned()
                } else {
                    ways.iter()
                        .map(|w| format!("`{w}`"))
                        .collect::<Vec<_>>()
                        .join(" and ")
                };
                let want = choice(WAYS.into_iter());
                d.fault(
                    node,
                    message!("has to choose in one way (found {found}, want one of {want})"),
                );
                None
            }
        }
    }

    fn stand_in(place: &Place) -> Self {
        Self::Split(SplitConf::stand_in(place))
    }
}

/// Reads a choice by tenant, with a word of its own for a default.
fn tenant(node: &Node, entries: &[Entry], d: &mut Decoder) -> Option<TenantChoiceConf> {
    let (defaults, rest): (Vec<_>, Vec<_>) =
        entries.iter().cloned().partition(|e| e.key == "default");
    for entry in defaults {
        let place = d.spot(entry.line, entry.column, d.key().field("default"));
        let text = message!(
            "is not for tenants (found a default, want each tenant listed under `values`; another's request must not end up with any of them)"
        );
        d.faults.push(Fault::new(&place, text));
    }
    TenantChoiceConf::decode(&Node::new(node.line, node.column, Content::Map(rest)), d)
}

impl ToConf {
    /// Every split in it.
    pub fn splits(&self) -> Vec<&SplitConf> {
        match self {
            Self::Split(split) => vec![split],
            Self::Header(choice) => {
                let values = choice.values.0.iter().map(|(_, split)| split);
                values.chain([&choice.default]).collect()
            }
            Self::Tenant(choice) => choice.values.0.iter().map(|(_, split)| split).collect(),
        }
    }
}

impl SplitConf {
    /// The names of its upstreams.
    pub fn upstreams(&self) -> Vec<&Spanned<String>> {
        match self {
            Self::One(name) => vec![name],
            Self::Weights(split) => split.weights.0.iter().map(|(name, _)| name).collect(),
        }
    }
}
