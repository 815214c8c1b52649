//! Active health checks: asks every endpoint of a pool in turn whether it is well, in the way that
//! requests reach it.

use super::pool::{Endpoint, Pool};
use super::{peer, trouble};
use http::Uri;
use http::header::{HOST, USER_AGENT};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, ErrorType, OrErr as _, Result};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;
use tokio::net::TcpStream;

/// How an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A TCP connection must be made; whatever is spoken on it is not tried.
    Tcp,
    /// A GET of `path` must be answered with `status`, over TLS and HTTP/2 where requests are.
    Http {
        /// The path, query included.
        path: String,
        /// The status that counts as well.
        status: u16,
    },
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub ask: Ask,
    /// From the end of one round to the begin of the next.
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// Good answers in a row that bring an endpoint back.
    pub healthy: u32,
    /// Bad answers in a row that take an endpoint out.
    pub unhealthy: u32,
}

/// What the checks say of one endpoint. It begins as usable.
#[derive(Debug)]
pub struct Health {
    up: AtomicBool,
    streak: AtomicU32,
}

impl Health {
    /// Usable, nothing known.
    pub(super) fn new() -> Self {
        Self {
            up: AtomicBool::new(true),
            streak: AtomicU32::new(0),
        }
    }

    /// Whether requests may be sent there.
    pub fn usable(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Not usable any more, whatever was heard before.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.up.store(false, Relaxed);
    }

    /// Takes one answer; true if it changed the verdict. Called by one task at a time.
    fn heard(&self, well: bool, probe: &Probe) -> bool {
        if well == self.usable() {
            self.streak.store(0, Relaxed);
            return false;
        }
        let streak = self.streak.load(Relaxed) + 1;
        let needed = if well { probe.healthy } else { probe.unhealthy };
        let turned = streak >= needed;
        self.streak.store(if turned { 0 } else { streak }, Relaxed);
        if turned {
            self.up.store(well, Relaxed);
        }
        turned
    }
}

/// Asks until the pool is gone.
pub async fn run(pool: Weak<Pool>) {
    let Some(probe) = pool.upgrade().and_then(|p| p.spec.probe.clone()) else {
        return;
    };
    loop {
        match pool.upgrade() {
            Some(pool) => round(&pool, &probe).await,
            None => return,
        }
        tokio::time::sleep(probe.interval).await;
    }
}

/// Asks every endpoint once, all at the same time.
pub async fn first_round(pool: &Arc<Pool>) {
    if let Some(probe) = &pool.spec.probe {
        // One bad answer is enough at the start: nothing good is known that it could contradict.
        let hasty = Probe {
            unhealthy: 1,
            ..probe.clone()
        };
        round(pool, &hasty).await;
    }
}

async fn round(pool: &Arc<Pool>, probe: &Probe) {
    let mut asked = tokio::task::JoinSet::new();
    for endpoint in &pool.endpoints().list {
        let (endpoint, probe) = (endpoint.clone(), probe.clone());
        asked.spawn(async move { (ask(&endpoint, &probe).await, endpoint) });
    }
    let mut changed = false;
    while let Some(Ok((answer, endpoint))) = asked.join_next().await {
        if endpoint.health.heard(answer.is_ok(), probe) {
            changed = true;
            report(pool, &endpoint, answer).await;
        }
    }
    if changed {
        pool.refresh();
    }
}

async fn ask(endpoint: &Endpoint, probe: &Probe) -> Result<()> {
    let answer = async {
        match &probe.ask {
            Ask::Tcp => connect(endpoint).await,
            Ask::Http { path, status } => get(endpoint, path, *status, probe.timeout).await,
        }
    };
    let limit = probe.timeout;
    let late = |_| Error::explain(ErrorType::ReadTimedout, format!("no answer in {limit:?}"));
    let answer = tokio::time::timeout(limit, answer).await;
    answer.map_err(late)?
}

async fn connect(endpoint: &Endpoint) -> Result<()> {
    let made = TcpStream::connect(endpoint.address).await;
    made.or_err(ErrorType::ConnectError, "no connection")?;
    Ok(())
}

/// Makes the connections of all checks. One for all, since each reads the system's authorities.
static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| Connector::new(None));

/// Has Pingora look for the system's authorities, as its first connector does.
pub fn look_for_authorities() {
    LazyLock::force(&CONNECTOR);
}

async fn get(endpoint: &Endpoint, path: &str, status: u16, limit: Duration) -> Result<()> {
    let peer = peer::once(endpoint.peer(), limit);
    let (mut session, _) = CONNECTOR.get_http_session(&peer).await?;
    peer::judge(&peer, session.digest())?;
    session.set_read_timeout(peer.options.read_timeout);
    session.set_write_timeout(peer.options.write_timeout);
    let http2 = session.as_http2().is_some();
    let question = question(&peer, &endpoint.target, path, http2)?;
    session.write_request_header(Box::new(question)).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let found = session.response_header().map(|r| r.status.as_u16());
    if found != Some(status) {
        let found = found.unwrap_or_default();
        let unexpected = ErrorType::CustomCode("unexpected status", found);
        return Error::e_explain(unexpected, "in a health check");
    }
    while session.read_response_body().await?.is_some() {}
    Ok(())
}

/// The request of a check. In HTTP/2 the target's name is part of the URI, `:authority`.
fn question(peer: &HttpPeer, target: &str, path: &str, http2: bool) -> Result<RequestHeader> {
    let invalid = ErrorType::InvalidHTTPHeader;
    let mut question = RequestHeader::build("GET", path.as_bytes(), Some(2))?;
    if http2 {
        let uri = Uri::builder().authority(target).path_and_query(path);
        let uri = uri.scheme(if peer.tls() { "https" } else { "http" });
        question.set_uri(uri.build().or_err(invalid, "a health check's address")?);
    } else {
        question.insert_header(HOST, target)?;
    }
    question.insert_header(USER_AGENT, "tollgate-health-check")?;
    Ok(question)
}

async fn report(pool: &Pool, endpoint: &Arc<Endpoint>, answer: Result<()>) {
    let (name, target, address) = (&pool.spec.name, &endpoint.target, endpoint.address);
    match answer {
        Ok(()) => log::info!("upstream {name}: target {target} ({address}) is healthy again"),
        Err(error) => {
            let refused = trouble::is_refusal(&error);
            let why = trouble::explain(endpoint, error.to_string(), refused).await;
            log::warn!("upstream {name}: target {target} ({address}) is unhealthy: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_turns_after_enough_answers_in_a_row() {
        let probe = Probe {
            ask: Ask::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        };
        let health = Health::new();
        let answers = [
            false, false, true, false, false, false, true, false, true, true,
        ];
        let turned: Vec<bool> = answers.iter().map(|a| health.heard(*a, &probe)).collect();
        assert_eq!(
            turned,
            [
                false, false, false, false, false, true, false, false, false, true
            ]
        );
        assert!(health.usable());
    }
}
