//! One bounded request to an issuer: no redirects, no connection kept, a limit on time and size.

use crate::identity::discovery::DiscoveryFault;
use crate::identity::keyset::{KeySetFault, MAX_SET_BYTES};
use crate::observe::metrics::FetchResult;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Client, Url, redirect};
use std::time::Duration;
use thiserror::Error;

/// How long one request may take, and how long a client's request waits for a fetch.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there are no new keys.
#[derive(Debug, Error)]
pub(super) enum FetchFault {
    #[error("{0}")]
    Transport(String),
    #[error("no whole answer in {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("answered {0}, want 200 (redirects are not followed)")]
    Status(u16),
    #[error("answered with more than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("{0}")]
    Set(#[from] KeySetFault),
    #[error("its discovery document: {0}")]
    Document(#[from] DiscoveryFault),
    #[error("its discovery document: {0}")]
    Discovery(Box<FetchFault>),
}

impl FetchFault {
    /// The fault as metrics have it.
    pub fn result(&self) -> FetchResult {
        match self {
            Self::Transport(_) => FetchResult::Transport,
            Self::Timeout => FetchResult::Timeout,
            Self::Status(_) => FetchResult::Status,
            Self::TooLarge | Self::Set(KeySetFault::TooLarge(_)) => FetchResult::TooLarge,
            Self::Set(KeySetFault::NotJson) => FetchResult::NotJson,
            Self::Set(KeySetFault::NotASet) => FetchResult::NotASet,
            Self::Set(KeySetFault::TooMany(_)) => FetchResult::TooManyKeys,
            Self::Set(
                KeySetFault::NoKeys(_) | KeySetFault::SameKid(_) | KeySetFault::BadKey(..),
            ) => FetchResult::NoUsableKey,
            Self::Document(DiscoveryFault::NotJson) => FetchResult::DiscoveryNotJson,
            Self::Document(DiscoveryFault::Incomplete(_)) => FetchResult::DiscoveryIncomplete,
            Self::Document(DiscoveryFault::IssuerMismatch) => FetchResult::IssuerMismatch,
            Self::Document(DiscoveryFault::InsecureKeys) => FetchResult::InsecureJwksUri,
            Self::Discovery(fault) => match **fault {
                Self::Timeout => FetchResult::DiscoveryTimeout,
                Self::Status(_) => FetchResult::DiscoveryStatus,
                Self::TooLarge => FetchResult::DiscoveryTooLarge,
                _ => FetchResult::DiscoveryTransport,
            },
        }
    }
}

/// Makes the requests to one issuer.
pub(super) struct Fetcher(Client);

impl Fetcher {
    /// What is on this machine is never asked through a proxy.
    pub fn new(loopback: bool) -> Result<Self, String> {
        let mut client = Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if loopback {
            client = client.no_proxy();
        }
        let client = client.build();
        client.map(Self).map_err(|fault| chain(&fault))
    }

    /// The body of a JSON document, and how long it may be kept.
    pub async fn get(&self, url: &Url) -> Result<(Vec<u8>, Option<Duration>), FetchFault> {
        let asked = self.0.get(url.clone());
        let asked = asked.header(ACCEPT, "application/json, application/jwk-set+json");
        let mut answer = asked.send().await.map_err(transport)?;
        if answer.status().as_u16() != 200 {
            return Err(FetchFault::Status(answer.status().as_u16()));
        }
        let max_age = max_age(answer.headers());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > MAX_SET_BYTES {
                return Err(FetchFault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, max_age))
    }
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|field| field.to_str().ok());
    let mut ages = fields
        .flat_map(|field| field.split(','))
        .filter_map(|directive| {
            let (name, value) = directive.trim().split_once('=')?;
            let age = name
                .eq_ignore_ascii_case("max-age")
                .then(|| value.trim_matches('"').parse());
            age?.ok().map(Duration::from_secs)
        });
    ages.next()
}

fn transport(fault: reqwest::Error) -> FetchFault {
    if fault.is_timeout() {
        return FetchFault::Timeout;
    }
    FetchFault::Transport(chain(&fault.without_url()))
}

/// An error and what caused it, in one line.
pub(in crate::identity) fn chain(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
