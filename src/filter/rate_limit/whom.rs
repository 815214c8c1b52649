//! What requests are counted by.

use crate::base::net::prefix;
use crate::exchange::Exchange;
use crate::identity::principal::{Method, Principal};
use crate::limit::{Key, KeyHasher};
use http::{HeaderMap, HeaderName};
use serde_json::Value;

/// One thing that requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The verified caller: the user of a token, else its client, the client of an API key.
    Client,
    /// The user of a token; without one as [`Part::Client`].
    User,
    /// The API key itself.
    ApiKey,
    /// The tenant.
    Tenant,
    /// The claim at this place of [`Principal::claims`].
    Claim(usize),
    /// The address, by so many of its first bits.
    Address {
        /// Of an IPv4 address.
        ipv4: u8,
        /// Of an IPv6 address.
        ipv6: u8,
    },
    /// All values of this header.
    Header(HeaderName),
    /// Nothing: everybody together.
    Route,
}

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whom {
    /// All of it together.
    pub parts: Box<[Part]>,
    /// What stands in where one of them is not there; is always there itself.
    pub fallback: Box<[Part]>,
}

impl Whom {
    /// The key of a request under the limit `id`. Kinds are told apart, so that no address or user equals
    /// a client, and no fallback what it stands in for.
    pub fn key(&self, id: u64, exchange: &Exchange, headers: &HeaderMap) -> Key {
        let mut key = Key::begin(id);
        let all = |parts: &[Part], key: &mut KeyHasher| {
            parts.iter().all(|part| part.add(exchange, headers, key))
        };
        if !all(&self.parts, &mut key) {
            key = Key::begin(id);
            key.part(b"fallback");
            all(&self.fallback, &mut key);
        }
        key.finish()
    }
}

impl Part {
    /// Adds it to the key; false if the request is without it.
    fn add(&self, exchange: &Exchange, headers: &HeaderMap, key: &mut KeyHasher) -> bool {
        let caller = exchange.principal.as_deref();
        match self {
            Part::Client => caller.is_some_and(|caller| client(caller, key)),
            Part::User => caller.is_some_and(|caller| client(caller, key)),
            Part::ApiKey => {
                let by_key = caller.filter(|p| p.method == Method::ApiKey);
                named(b"k", by_key, |p| p.key_id.as_deref(), key)
            }
            // One tenant, whoever says that it is.
            Part::Tenant => match caller.and_then(|p| p.tenant.as_deref()) {
                Some(tenant) => {
                    key.part(b"t");
                    key.part(tenant.as_bytes());
                    true
                }
                None => false,
            },
            Part::Claim(place) => {
                let claim = caller.and_then(|p| p.claims.get(*place)?.as_ref());
                claim.is_some_and(|claim| claimed(claim, key))
            }
            Part::Address { ipv4, ipv6 } => {
                key.part(b"a");
                key.part(&prefix(exchange.client, *ipv4, *ipv6));
                true
            }
            Part::Header(name) => {
                let mut values = headers.get_all(name).iter().peekable();
                let is_there = values.peek().is_some();
                key.part(b"h");
                values.for_each(|value| key.part(value.as_bytes()));
                is_there
            }
            Part::Route => {
                key.part(b"r");
                true
            }
        }
    }
}

fn client(caller: &Principal, key: &mut KeyHasher) -> bool {
    match (&caller.user, &caller.client_id) {
        (Some(user), _) => {
            key.part(b"u");
            key.part(caller.provider.as_bytes());
            key.part(user.as_bytes());
        }
        (None, client) => {
            key.part(b"c");
            key.part(caller.provider.as_bytes());
            key.part(client.as_deref().unwrap_or_default().as_bytes());
        }
    }
    true
}

/// What only its provider gives out: two of one name are not the same.
fn named<'a>(
    kind: &[u8],
    caller: Option<&'a Principal>,
    name: impl Fn(&'a Principal) -> Option<&'a str>,
    key: &mut KeyHasher,
) -> bool {
    let Some((caller, name)) = caller.and_then(|caller| Some((caller, name(caller)?))) else {
        return false;
    };
    key.part(kind);
    key.part(caller.provider.as_bytes());
    key.part(name.as_bytes());
    true
}

fn claimed(claim: &Value, key: &mut KeyHasher) -> bool {
    match claim {
        Value::Null => return false,
        Value::String(text) => {
            key.part(b"s");
            key.part(text.as_bytes());
        }
        other => {
            key.part(b"j");
            key.part(other.to_string().as_bytes());
        }
    }
    true
}
