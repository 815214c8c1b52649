//! The way of a request, step by step; each callback names the file where it happens.

pub mod answer;
pub mod blame;
pub mod choose;
pub mod expect;
pub mod fail;
pub mod forwarded;
pub mod front;
pub mod grpc;
pub mod http2;
pub mod identity;
pub mod limits;
pub mod parts;
pub mod probe;
pub mod receive;
pub mod record;
pub mod reply;
pub mod retry;
pub mod screen;
pub mod send;
pub mod tunnel;

use crate::base::clock::Clock;
use crate::exchange::Exchange;
use crate::exchange::connection::Connection;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::upstream::peer;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What is told of the config in use.
#[derive(Debug, Default)]
pub struct InUse {
    /// What tells its file from others.
    pub hash: String,
    /// When it was taken up, in seconds since the epoch.
    pub since_s: u64,
    /// Why the last one that was to take its place did not.
    pub fault: Option<String>,
}

/// What all workers share.
pub struct Shared {
    /// What is told of the config in use.
    pub in_use: ArcSwap<InUse>,
    /// The config in use.
    pub snapshot: ArcSwap<Snapshot>,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access_log: AccessLog,
    /// Whether new work is welcome; false from the begin of a drain.
    pub ready: AtomicBool,
}

impl Shared {
    /// Whether load balancers should send requests here.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

/// The proxying of one worker.
pub struct Gateway {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
}

/// What one request holds on to. Everything that must be given back is a guard in here, so that it
/// is given back however the request ends.
#[derive(Default)]
pub struct Ctx {
    /// Pinned for the whole request.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The request.
    pub exchange: Option<Box<Exchange>>,
    /// Where it goes.
    pub flight: Option<choose::Flight>,
    /// What is said to it, where it goes nowhere and nothing is wrong with it.
    pub answer: Option<answer::Answer>,
    /// Body bytes that have come.
    pub bytes_in: u64,
    /// Whether the client was told to go on with its body.
    pub told_to_go_on: bool,
    /// Whether the request ends with its body unsent: its answer did not need it.
    pub unsent: bool,
}

/// The connection that a session is on; every one comes from our own edge.
fn connection(session: &Session) -> Option<&Arc<Connection>> {
    let digest: &Digest = session.digest()?;
    let ours = digest.proxy_digest.as_ref()?.user_data.as_ref()?;
    ours.downcast_ref()
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::default()
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        screen::enter(&self.shared, session, ctx).await
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let peer = choose::target(&self.shared, ctx)?;
        choose::wait(ctx).await;
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        record::connected(&self.shared, ctx);
        tunnel::connected(ctx);
        let judged = peer::judge(peer, digest);
        choose::connected(ctx, judged.is_ok());
        judged
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        send::prepare(request, session.req_header().version, ctx)?;
        send::tell_call(&self.shared, request, ctx)?;
        ctx.told_to_go_on |= expect::meet(session, request).await?;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        send::body(&self.shared.clock, body, end, ctx)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        reply::received(&self.shared, response, ctx)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Ctx,
    ) -> Result<()> {
        reply::concluded(&self.shared, trailers, ctx);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        reply::prepare(session, response, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        reply::count(&self.shared, body.as_ref(), ctx)?;
        if end {
            reply::end(session, ctx);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        retry::connect(&self.shared, ctx, error)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        _reused: bool,
    ) -> Box<Error> {
        retry::replay(&self.shared, peer, session, ctx, error)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        fail::after(&self.shared, session, error, ctx).await
    }

    /// Failures are told by the access line with their reason; a second line a request, written
    /// under a lock, would let an attacker make logging the bottleneck.
    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Ctx,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        record::end(&self.shared, session, error, ctx);
    }
}
