//! The admin port: what the gateway is doing, for operators. Loopback or a Unix socket only.

use crate::base::secret::{self, Secret};
use crate::breaker::State;
use crate::gateway::answer::Answer;
use crate::gateway::{Shared, probe};
use crate::identity::provider::KeySource;
use crate::identity::revoke::RevocationStatus;
use crate::route::host;
use async_trait::async_trait;
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The app behind the admin listener.
pub struct Admin {
    /// The gateway.
    pub shared: Arc<Shared>,
    /// The bearer token that changes of state ask for; without one nothing can be changed.
    pub token: Option<Secret>,
    /// Where the process is asked for a reload.
    pub asks: mpsc::Sender<Ask>,
}

/// What is asked of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What a reload would change.
    Plan,
    /// A reload.
    Reload,
    /// To have another process take this one's place, within this time.
    Upgrade(Duration),
}

/// Something that is asked of the process.
pub struct Ask {
    /// What.
    pub what: Asked,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Told>,
}

/// What came of it.
pub struct Told {
    /// The file that was read.
    pub config: String,
    /// What came of it; or why nothing did.
    pub done: Result<Done, String>,
}

/// What was done.
pub enum Done {
    /// What changed, or would.
    Changes(Vec<String>),
    /// The process of this number serves now.
    Upgraded(u32),
}

/// How long a reload may take; an upgrade says so itself, and takes this longer to be told of.
const PATIENCE: Duration = Duration::from_secs(50);

/// How long an upgrade may take, unless its `timeout` says otherwise: 1 to 600 seconds.
const UPGRADE: u64 = 60;

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let header = session.req_header();
        let (method, path) = (header.method.clone(), header.uri.path());
        let query = header.uri.query();
        let answer = match self.asked(&method, path, query, &header.headers) {
            Some(Ok(what)) => self.ask(what).await,
            Some(Err(fault)) => json(400, &json!({ "fault": fault })),
            None => self.answer(&method, path, &header.headers),
        };
        let mut response = Response::new(answer.body.to_vec());
        *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, answer.body.len().into());
        headers.extend(answer.headers);
        response
    }
}

impl Admin {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        if is_foreign(headers) {
            return probe::text(403, "this port answers local names only\n");
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            // What changes state asks for the token first.
            let (mut answer, field) = if self.may_change(headers) {
                let allow = (ALLOW, HeaderValue::from_static("GET, HEAD"));
                (probe::text(405, "only GET is served here\n"), allow)
            } else {
                let ask = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                (probe::text(401, "a bearer token is required\n"), ask)
            };
            answer.headers.push(field);
            return answer;
        }
        match path {
            probe::HEALTH => probe::text(200, "ok\n"),
            probe::READY => probe::ready(&self.shared),
            probe::METRICS => probe::metrics(&self.shared),
            "/status" => status(&self.shared),
            "/revocations" => revocations(&self.shared),
            _ => probe::text(
                404,
                "there is /health, /ready, /metrics, /status, /revocations, /reload and /upgrade\n",
            ),
        }
    }

    /// What a request asks of the process, if it may.
    fn asked(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Result<Asked, String>> {
        if is_foreign(headers) {
            return None;
        }
        let changes = || *method == Method::POST && self.may_change(headers);
        match path {
            "/reload" if *method == Method::GET => Some(Ok(Asked::Plan)),
            "/reload" => changes().then_some(Ok(Asked::Reload)),
            "/upgrade" => changes().then(|| timeout(query).map(Asked::Upgrade)),
            _ => None,
        }
    }

    async fn ask(&self, what: Asked) -> Answer {
        let patience = match what {
            Asked::Upgrade(within) => within + PATIENCE,
            Asked::Plan | Asked::Reload => PATIENCE,
        };
        let (reply, told) = oneshot::channel();
        let asked = self.asks.send(Ask { what, reply }).await;
        let told = match (asked, tokio::time::timeout(patience, told).await) {
            (Ok(()), Ok(Ok(told))) => told,
            (Ok(()), Err(_)) => return json(504, &json!({ "fault": "it takes too long" })),
            _ => return json(503, &json!({ "fault": "the process is ending" })),
        };
        let Told { config, done } = told;
        match done {
            Ok(Done::Changes(changes)) => {
                json(200, &json!({ "config": config, "changes": changes }))
            }
            Ok(Done::Upgraded(pid)) => json(200, &json!({ "config": config, "pid": pid })),
            Err(fault) => json(422, &json!({ "config": config, "fault": fault })),
        }
    }

    fn may_change(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let sent = sent.and_then(|v| v.strip_prefix(b"Bearer "));
        match (&self.token, sent) {
            (Some(token), Some(sent)) => secret::same(token.expose(), sent),
            _ => false,
        }
    }
}

/// How long an upgrade may take, as its query has it: `timeout=SECONDS`.
fn timeout(query: Option<&str>) -> Result<Duration, String> {
    let Some(query) = query else {
        return Ok(Duration::from_secs(UPGRADE));
    };
    let seconds = query.strip_prefix("timeout=").and_then(|s| s.parse().ok());
    match seconds {
        Some(seconds @ 1..=600) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "found `{query}`, want `timeout=` and 1 to 600 seconds"
        )),
    }
}

/// A page elsewhere can make a browser on this machine ask here: under a foreign name (DNS
/// rebinding), or with its own `Origin`.
fn is_foreign(headers: &HeaderMap) -> bool {
    let local = |text: &str| {
        host::normalise(text).is_ok_and(|name| {
            let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|a| a.is_loopback())
        })
    };
    let named = headers.get(HOST).and_then(|h| h.to_str().ok());
    let origin = headers.get(ORIGIN).map(|o| o.to_str().unwrap_or_default());
    let origin_host = origin.map(|o| o.split_once("://").map_or(o, |(_, host)| host));
    !named.is_some_and(local) || origin_host.is_some_and(|o| !local(o))
}

fn status(shared: &Shared) -> Answer {
    let snapshot = shared.snapshot.load_full();
    let upstreams: Vec<Value> = snapshot
        .pools
        .iter()
        .map(|pool| {
            let endpoints = pool.endpoints();
            let targets: Vec<Value> = endpoints
                .list
                .iter()
                .map(|e| {
                    json!({
            "target": *e.target, "address": e.address.to_string(), "weight": e.weight,
            "healthy": e.health.usable(), "in_flight": e.in_flight() })
                })
                .collect();
            let breaker = pool.breaker.as_ref().map(|b| state(b.state()));
            json!({ "name": *pool.spec.name, "circuit": breaker, "targets": targets })
        })
        .collect();
    let issuers: Vec<Value> = snapshot
        .providers
        .iter()
        .map(|provider| match provider.source() {
            KeySource::Fixed(keys) => {
                json!({ "name": provider.issuer().name(), "keys": keys.count() })
            }
            KeySource::Remote(keys) => {
                let s = keys.status();
                let fault = s.last_fault.map(|fault| {
                    json!({ "at": fault.unix_s, "result": fault.result.code(), "text": fault.text })
                });
                json!({ "name": provider.issuer().name(), "keys": s.keys, "age_s": s.age_s,
                    "fetches_ok": s.fetches_ok, "fetches_failed": s.fetches_failed,
                    "last_fault": fault })
            }
        })
        .collect();
    let introspection: Vec<Value> = snapshot
        .introspections
        .iter()
        .map(|issuer| {
            let s = issuer.status();
            json!({ "name": issuer.name(), "answered": s.answered, "failed": s.failed,
                "given_up": s.given_up })
        })
        .collect();
    let routes: Vec<&str> = snapshot.routes.iter().map(|r| &*r.name).collect();
    let in_use = shared.in_use.load();
    let config = json!({ "hash": in_use.hash, "loaded_at": in_use.since_s,
        "last_reload_fault": in_use.fault });
    let all = json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
        "ready": shared.is_ready(), "config": config,
        "upstreams": upstreams, "issuers": issuers, "introspection": introspection, "routes": routes,
        "access_log_dropped": shared.access_log.dropped() });
    json(200, &all)
}

/// How well it is known what is revoked.
fn revocations(shared: &Shared) -> Answer {
    let snapshot = shared.snapshot.load();
    let Some(revocations) = &snapshot.revocations else {
        return probe::text(404, "`identity.revocation` is not in the config\n");
    };
    let RevocationStatus {
        entries,
        lag_s,
        listening,
        last_scan_s,
        stale,
    } = revocations.status();
    let all = json!({ "entries": entries, "lag_s": lag_s, "listening": listening,
        "last_scan_at": last_scan_s, "stale": stale });
    json(200, &all)
}

fn json(status: u16, all: &Value) -> Answer {
    let mut answer = probe::text(status, "");
    answer.headers[0] = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.body = format!("{all:#}\n").into();
    answer
}

fn state(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::HalfOpen => "half_open",
        State::Open => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        is_foreign(&headers)
    }

    #[test]
    fn foreign_names_and_pages_are_told_from_local_ones() {
        for host in [
            "127.0.0.1:9901",
            "localhost",
            "LOCALHOST:9901",
            "[::1]:9901",
            "[::1]",
        ] {
            assert!(!foreign(host, None), "{host}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com:9901",
            "10.0.0.1:9901",
            "",
        ] {
            assert!(foreign(host, None), "{host}");
        }
        assert!(!foreign("localhost", Some("http://localhost:9901")));
        for origin in ["https://example.com", "null", ""] {
            assert!(foreign("localhost", Some(origin)), "{origin}");
        }
    }
}
