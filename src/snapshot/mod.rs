//! A whole config, compiled: nothing left to look up, parse or fail on a request. One snapshot is
//! pinned by a request for as long as it lasts.

pub mod api_keys;
pub mod auth;
pub mod certificates;
pub mod compile;
pub mod identity;
pub mod introspection;
pub mod kept;
pub mod limits;
pub mod redis;
pub mod revocation;
pub mod routes;
pub mod upstreams;
pub mod via;

use crate::base::net::Networks;
use crate::filter::chain::Filter;
use crate::filter::flood::Flood;
use crate::filter::rate_limit::Counts;
use crate::identity::introspect::Introspection;
use crate::identity::provider::Provider;
use crate::identity::revoke::Revocations;
use crate::observe::metrics::{LimiterMetrics, RouteMetrics};
use crate::redis::Redis;
use crate::route::pattern::PathPattern;
use crate::route::table::Table;
use crate::upstream::pool::Pool;
use crate::upstream::split::Split;
use http::HeaderName;
use kept::Kept;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use via::Via;

/// A compiled config.
pub struct Snapshot {
    /// How refusals are written.
    pub errors: ErrorShape,
    /// Peers whose word counts on where a request came from.
    pub trusted_proxies: Networks,
    /// How a request's way is told.
    pub forwarded: Forwarded,
    /// Our name on it.
    pub via: Via,
    /// The limit in front of everything.
    pub flood: Option<Flood>,
    /// What several gateways share.
    pub redis: Option<Arc<Redis>>,
    /// What is not believed any more.
    pub revocations: Option<Arc<Revocations>>,
    /// Names that clients may not send, and how the caller is told to services.
    pub headers: IdentityHeaders,
    /// Which route a request belongs to.
    pub table: Table,
    /// The routes, by the table's ids.
    pub routes: Vec<Route>,
    /// Every upstream.
    pub pools: Vec<Arc<Pool>>,
    /// Every token issuer.
    pub providers: Vec<Arc<Provider>>,
    /// Every issuer that is asked about tokens.
    pub introspections: Vec<Arc<Introspection>>,
    /// Every exact limiter.
    pub stores: Vec<(Counts, Arc<LimiterMetrics>)>,
    /// What the next snapshot may go on with.
    pub kept: Kept,
}

/// How a refusal's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// `{"error": …, "retryAfter": …, "service": …}`.
    Plain,
}

/// Which headers tell where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// `X-Forwarded-For`, `-Proto`, `-Host`.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

/// How a list is written into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListForm {
    /// Joined by spaces.
    Space,
    /// Joined by commas.
    Comma,
    /// A JSON array.
    Json,
}

/// The headers that tell a service who calls.
pub struct IdentityHeaders {
    /// The user.
    pub user: HeaderName,
    /// The scopes.
    pub scopes: HeaderName,
    /// The roles.
    pub roles: HeaderName,
    /// The e-mail address.
    pub email: HeaderName,
    /// The client.
    pub client: HeaderName,
    /// Further claims of a token, each in a header of its own.
    pub claims: Vec<ClaimHeader>,
    /// How scopes are written.
    pub scopes_form: ListForm,
    /// How roles are written.
    pub roles_form: ListForm,
    /// What these make of a caller may be kept under it: another snapshot has the same mark if it says
    /// the same.
    pub mark: u64,
    /// Headers that carry API keys; never forwarded.
    pub credentials: Vec<HeaderName>,
}

/// A claim that services are told.
pub struct ClaimHeader {
    /// The header.
    pub header: HeaderName,
    /// The claim's place in [`Principal::claims`](crate::identity::principal::Principal::claims).
    pub claim: usize,
    /// How a list is written.
    pub form: ListForm,
}

impl IdentityHeaders {
    /// Whether a client may not send this name: it is one of ours in some spelling, or holds an
    /// underscore, which many services cannot tell from a hyphen.
    pub fn reserved(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        let spells = |our: &HeaderName| same_spelling(our.as_str().as_bytes(), name);
        has_underscore(name) || self.ours().any(spells)
    }

    /// Whether any of these is [reserved](Self::reserved). Nearly none is, which its length says.
    pub fn any_reserved<'a>(&self, mut names: impl Iterator<Item = &'a HeaderName>) -> bool {
        let bit = |name: &HeaderName| 1u64 << (name.as_str().len() % 64);
        let lengths = self.ours().fold(0, |all, our| all | bit(our));
        names.any(|name| {
            let maybe = lengths & bit(name) != 0 || has_underscore(name.as_str().as_bytes());
            maybe && self.reserved(name)
        })
    }

    fn ours(&self) -> impl Iterator<Item = &HeaderName> {
        let usual = [
            &self.user,
            &self.scopes,
            &self.roles,
            &self.email,
            &self.client,
        ];
        let claims = self.claims.iter().map(|claim| &claim.header);
        usual.into_iter().chain(claims)
    }
}

/// Looks at every byte, which for names is faster than to stop at the first.
fn has_underscore(name: &[u8]) -> bool {
    name.iter().fold(0, |found, b| found | u8::from(*b == b'_')) != 0
}

/// Equal once every separator is the same: services that turn headers into variables see no
/// difference.
#[inline]
fn same_spelling(our: &[u8], sent: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a == b || (*a == b'-' && !b.is_ascii_alphanumeric());
    our.len() == sent.len() && our.iter().zip(sent).all(same)
}

/// One route.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
    /// The path it matched by.
    pub pattern: PathPattern,
    /// Whether the prefix is cut off before the request goes on.
    pub strip: bool,
    /// Which of the caller's credentials go no further.
    pub ends: Ends,
    /// The parameters of the query that may hold a key.
    pub key_parameters: Box<[Box<str>]>,
    /// What stands between the request and its upstream.
    pub chain: Box<[Filter]>,
    /// The most body bytes.
    pub max_body: u64,
    /// Instead of the upstream's total, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long nothing may move in an exchange without a foreseeable end, in milliseconds; none: the
    /// time of the whole is bounded.
    pub streaming_ms: Option<u64>,
    /// How long nothing may move through a WebSocket, in milliseconds; none: there are none here.
    pub websocket_ms: Option<u64>,
    /// Where it goes.
    pub to: Destination,
}

/// Which credentials go no further than the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// `Authorization` and API keys: the gateway says who passes.
    All,
    /// API keys: `Authorization` is between the client and the service.
    Keys,
    /// None: the gateway only tries out whom it asks for, and somebody behind it may still have to see
    /// them.
    Nothing,
}

/// One upstream or a weighted choice.
pub enum Choice {
    /// Always the same.
    One(Arc<Pool>),
    /// By weight, with the turn it is at.
    Weighted(Split<Arc<Pool>>, AtomicU64),
}

impl Choice {
    /// The upstream for the next request.
    pub fn pick(&self) -> &Arc<Pool> {
        match self {
            Self::One(pool) => pool,
            Self::Weighted(split, turn) => split.pick(turn.fetch_add(1, Relaxed)),
        }
    }
}

/// Where a route leads.
pub enum Destination {
    /// Without a condition.
    Plain(Choice),
    /// By the value of a header.
    Header {
        /// The header.
        name: HeaderName,
        /// By value, as sent.
        values: HashMap<Box<str>, Choice>,
        /// For any other value, or none.
        default: Choice,
    },
    /// By tenant; there is no default.
    Tenant {
        /// Who says which tenant it is.
        from: TenantSource,
        /// By tenant.
        values: HashMap<Box<str>, Choice>,
    },
}

/// Who says which tenant a request is for.
pub enum TenantSource {
    /// A header, unverified.
    Header(HeaderName),
    /// The verified token.
    Claim,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_an_identity_header_passes() {
        let name = |n: &'static str| HeaderName::from_static(n);
        let headers = IdentityHeaders {
            user: name("x-user-id"),
            scopes: name("x-user-scopes"),
            roles: name("x-user-roles"),
            email: name("x-user-email"),
            client: name("x-client-id"),
            claims: vec![ClaimHeader {
                header: name("x-department"),
                claim: 0,
                form: ListForm::Json,
            }],
            scopes_form: ListForm::Space,
            roles_form: ListForm::Json,
            mark: 0,
            credentials: Vec::new(),
        };
        for sent in [
            "x-user-id",
            "x_user_id",
            "x-user_id",
            "x.user.id",
            "x_anything",
            "x-user-roles",
            "x-department",
            "x.department",
        ] {
            assert!(headers.reserved(&name(sent)), "{sent}");
            let among = [name("accept"), name(sent)];
            assert!(headers.any_reserved(among.iter()), "{sent}");
        }
        for sent in ["x-user", "x-user-idx", "x-userid", "accept"] {
            assert!(!headers.reserved(&name(sent)), "{sent}");
            assert!(!headers.any_reserved([name(sent)].iter()), "{sent}");
        }
    }
}
