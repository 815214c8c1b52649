//! What the edge asks before Pingora has a session: what becomes of a request, decided as for any
//! other and answered on the spot where it goes no further; and the answer to what was no request.

use super::record::{self, Sent};
use super::screen::{self, Case, Progress};
use super::{Ctx, Shared, fail, receive};
use crate::base::clock::http_date;
use crate::exchange::connection::Connection;
use crate::exchange::fields::Field;
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, RequestId};
use crate::observe::reason::Reason;
use crate::observe::trace::TraceContext;
use crate::snapshot::{ErrorShape, Snapshot};
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::pin::Pin;
use std::sync::Arc;

/// What becomes of a request.
pub enum Judged {
    /// It is answered.
    Answer {
        /// The whole answer.
        bytes: Vec<u8>,
        /// Whether the connection ends with it.
        last: bool,
    },
    /// It goes on to Pingora, to which this is handed over.
    Session(Box<Decided>),
    /// A lookup has to be awaited.
    Later(Pin<Box<dyn Future<Output = Judged> + Send>>),
}

/// A request and what was decided of it.
pub struct Decided {
    /// Its header; nothing if the session has it already.
    pub header: Option<RequestHeader>,
    /// Whether all there is of it is an answer to be written: no body comes, no protocol is switched.
    pub bare: bool,
    /// Whether its client says that no other comes on the connection.
    pub last: bool,
    ctx: Ctx,
}

/// Decides what becomes of a request without a body, or of one with: what is not proxied is answered
/// on the spot only if there is no body to be read before the next request.
pub fn judge(
    shared: &Arc<Shared>,
    conn: &Arc<Connection>,
    mut header: RequestHeader,
    has_body: bool,
) -> Judged {
    let snapshot = shared.snapshot.load_full();
    let mut case = Case::new(shared, conn.clone(), &header);
    let begun = screen::begin(shared, &snapshot, &mut header, &mut case.exchange, case.now);
    let outcome = match begun {
        Ok(Progress::Done(outcome)) => Ok(outcome),
        Err(refusal) => Err(refusal),
        Ok(Progress::Ask(question)) => {
            let shared = shared.clone();
            return Judged::Later(Box::pin(async move {
                let Case { exchange, now } = &mut case;
                let answer =
                    screen::answer(question, &shared, &snapshot, &mut header, exchange, *now);
                let outcome = answer.await;
                conclude(&shared, case, outcome, header, snapshot, has_body)
            }));
        }
    };
    conclude(shared, case, outcome, header, snapshot, has_body)
}

fn conclude(
    shared: &Shared,
    case: Case,
    outcome: Result<screen::Outcome, Refusal>,
    header: RequestHeader,
    snapshot: Arc<Snapshot>,
    has_body: bool,
) -> Judged {
    let shape = snapshot.errors;
    let mut ctx = Ctx::default();
    case.close(shared, outcome, snapshot, &mut ctx);
    let fields = ctx.exchange.as_ref().map(|e| e.fields).unwrap_or_default();
    let last = fields.has(Field::Connection) && receive::is_last(&header.headers);
    if has_body || ctx.flight.is_some() {
        let path = header.uri.authority().is_none();
        return Judged::Session(Box::new(Decided {
            header: Some(header),
            bare: path && !has_body && !fields.has(Field::Upgrade),
            last,
            ctx,
        }));
    }
    answer(shared, ctx, shape, last)
}

/// Answers a request that goes no further.
fn answer(shared: &Shared, ctx: Ctx, shape: ErrorShape, last: bool) -> Judged {
    let (refused, said) = (ctx.exchange, ctx.answer);
    let Some(mut exchange) = refused else {
        return Judged::Answer {
            bytes: Vec::new(),
            last: true,
        };
    };
    let made = said.or_else(|| Some(fail::answer(exchange.refusal.as_ref()?, &exchange, shape)));
    let last = last || exchange.is_last();
    let bytes = made.map_or_else(Vec::new, |answer| {
        if exchange.method != http::Method::HEAD {
            exchange.bytes_out = answer.body.len() as u64;
        }
        let sent = Sent {
            status: answer.status,
            bytes_in: 0,
            protocol: exchange.conn.protocol(),
        };
        record::tell(shared, &exchange, &sent);
        wire(&answer, &exchange, last)
    });
    Judged::Answer { bytes, last }
}

/// Takes over what the edge has decided of a session's request.
pub fn take_over(session: &mut Session, ctx: &mut Ctx, decided: Decided) {
    if let Some(header) = decided.header {
        *session.req_header_mut() = header;
    }
    *ctx = decided.ctx;
}

/// Makes the bytes of the answer, counts, and writes the access line.
pub fn refuse(
    shared: &Shared,
    conn: &Arc<Connection>,
    reason: Reason,
    detail: &'static str,
    header: &[u8],
) -> Vec<u8> {
    let now = shared.clock.now();
    let trace = TraceContext::continue_or_start(None);
    let mut exchange = Exchange::new(conn.clone(), now, RequestId::random(), trace);
    if let Some((method, path)) = request_line(header) {
        exchange.method = method;
        exchange.path = path;
    }
    let refusal = Refusal::new(reason).because(detail);
    let shape = shared.snapshot.load().errors;
    let answer = fail::answer(&refusal, &exchange, shape);
    exchange.refusal = Some(refusal);
    exchange.bytes_out = answer.body.len() as u64;
    conn.listener.refused();
    let sent = Sent {
        status: answer.status,
        bytes_in: 0,
        protocol: exchange.conn.protocol(),
    };
    record::tell(shared, &exchange, &sent);
    wire(&answer, &exchange, true)
}

/// What can be read of a request line, for the log: the method, and the path without its query.
fn request_line(header: &[u8]) -> Option<(http::Method, String)> {
    let line = header.split(|b| matches!(b, b'\r' | b'\n')).next()?;
    let mut words = line.split(|b| *b == b' ');
    let method = http::Method::from_bytes(words.next()?).ok()?;
    let target = words.next().unwrap_or_default();
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    let shown = &path[..path.len().min(256)];
    Some((method, String::from_utf8_lossy(shown).into_owned()))
}

/// An answer as it goes out.
fn wire(answer: &fail::Answer, exchange: &Exchange, last: bool) -> Vec<u8> {
    let status = StatusCode::from_u16(answer.status).unwrap_or_default();
    let phrase = status.canonical_reason().unwrap_or("Error");
    let mut out = Vec::with_capacity(512 + answer.body.len());
    for part in ["HTTP/1.1 ", status.as_str(), " ", phrase, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &answer.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"date: ");
    http_date(exchange.started, &mut out);
    out.extend_from_slice(b"\r\ncontent-length: ");
    out.extend_from_slice(HeaderValue::from(answer.body.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    if last {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if exchange.method != http::Method::HEAD {
        out.extend_from_slice(&answer.body);
    }
    out
}
