//! What the edge asks before Pingora has a session: what becomes of a request, decided as for any
//! other and answered on the spot where it goes no further; and the answer to what was no request.

use super::answer::{self, Answer};
use super::record::{self, Sent};
use super::screen::{self, Case, Progress};
use super::{Ctx, Shared, receive};
use crate::base::clock::{Now, http_date};
use crate::base::decimal;
use crate::exchange::connection::Connection;
use crate::exchange::fields::Field;
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, RequestId};
use crate::observe::reason::Reason;
use crate::observe::trace::TraceContext;
use crate::snapshot::{ErrorShape, Snapshot};
use http::{HeaderName, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

/// What becomes of a request.
pub enum Judged {
    /// It is answered.
    Answer(Answered),
    /// It goes on to Pingora, to which this is handed over.
    Session(Box<Decided>),
    /// A lookup has to be awaited.
    Later(Pin<Box<dyn Future<Output = Judged> + Send>>),
}

/// An answer that the edge writes.
pub struct Answered {
    /// The whole answer.
    pub bytes: Vec<u8>,
    /// Whether the connection ends with it.
    pub last: bool,
    status: u16,
    exchange: Box<Exchange>,
}

impl Answered {
    /// An answer that was made.
    fn new(answer: &Answer, exchange: Box<Exchange>, last: bool) -> Self {
        let mut wire = Wire::begin(answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            wire.field(name, |out| out.extend_from_slice(value.as_bytes()));
        }
        wire.end(answer.status, &answer.body, exchange, last)
    }

    /// The answer to a refusal.
    fn refused(
        refusal: Refusal,
        mut exchange: Box<Exchange>,
        shape: ErrorShape,
        last: bool,
    ) -> Self {
        let mut body = Vec::new();
        answer::body(&refusal, &exchange, shape, &mut body);
        let status = answer::status(refusal.reason).0;
        let mut wire = Wire::refusal(&refusal, shape, body.len());
        answer::particular(&refusal, &exchange, |name, said| {
            wire.field(&name, |out| said.write(out));
        });
        exchange.refusal = Some(refusal);
        wire.end(status, &body, exchange, last)
    }
}

/// Writes the access line of an answer, and counts; `written`: all of it has gone out.
pub fn tell(shared: &Shared, answered: Answered, written: bool) {
    let Answered {
        mut status,
        mut exchange,
        ..
    } = answered;
    if !written {
        (status, exchange.bytes_out) = (0, 0);
        let slow = exchange.conn.is_slow_reader();
        exchange.refusal.get_or_insert_with(|| {
            Refusal::new(if slow {
                Reason::ClientTooSlow
            } else {
                Reason::ClientClosed
            })
        });
    }
    let sent = Sent {
        status,
        bytes_in: 0,
        protocol: exchange.conn.protocol(),
    };
    record::tell(shared, &exchange, &sent, shared.clock.now());
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
    now: Now,
) -> Judged {
    let snapshot = shared.snapshot.load_full();
    let mut case = Case::new(conn.clone(), &header, now);
    let begun = screen::begin(shared, &snapshot, &mut header, &mut case.exchange, now);
    let outcome = match begun {
        Ok(Progress::Done(outcome)) => Ok(outcome),
        Err(refusal) => Err(refusal),
        Ok(Progress::Ask(question)) => {
            let shared = shared.clone();
            return Judged::Later(Box::pin(async move {
                let exchange = &mut case.exchange;
                let answer =
                    screen::answer(question, &shared, &snapshot, &mut header, exchange, now);
                let outcome = answer.await;
                conclude(&shared, case, outcome, header, snapshot, has_body)
            }));
        }
    };
    conclude(shared, case, outcome, header, snapshot, has_body)
}

fn conclude(
    shared: &Shared,
    mut case: Case,
    outcome: Result<screen::Outcome, Refusal>,
    header: RequestHeader,
    snapshot: Arc<Snapshot>,
    has_body: bool,
) -> Judged {
    let fields = case.exchange.fields;
    let last = fields.has(Field::Connection) && receive::is_last(&header.headers);
    case.screened(shared);
    let ends = last || case.exchange.is_last();
    match outcome {
        Ok(screen::Outcome::Answer(answer)) if !has_body => {
            Judged::Answer(Answered::new(&answer, case.exchange, ends))
        }
        Err(refusal) if !has_body => {
            let shape = snapshot.errors;
            Judged::Answer(Answered::refused(refusal, case.exchange, shape, ends))
        }
        outcome => {
            let path = header.uri.authority().is_none();
            let bare = path && !has_body && !fields.has(Field::Upgrade);
            case.exchange.bare = bare;
            let mut ctx = Ctx::default();
            case.close(outcome, snapshot, &mut ctx);
            Judged::Session(Box::new(Decided {
                header: Some(header),
                bare,
                last,
                ctx,
            }))
        }
    }
}

/// Takes over what the edge has decided of a session's request.
pub fn take_over(session: &mut Session, ctx: &mut Ctx, decided: Decided) {
    if let Some(header) = decided.header {
        *session.req_header_mut() = header;
    }
    *ctx = decided.ctx;
}

/// The answer to what is no request; counts it.
pub fn refuse(
    shared: &Shared,
    conn: &Arc<Connection>,
    reason: Reason,
    detail: &'static str,
    header: &[u8],
) -> Answered {
    let now = shared.clock.now();
    let trace = TraceContext::continue_or_start(None);
    let mut exchange = Exchange::new(conn.clone(), now, RequestId::random(), trace);
    if let Some((method, path)) = request_line(header) {
        exchange.method = method;
        exchange.path = path;
    }
    let refusal = Refusal::new(reason).because(detail);
    let shape = shared.snapshot.load().errors;
    conn.listener.refused();
    Answered::refused(refusal, Box::new(exchange), shape, true)
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

/// An answer as it goes out over HTTP/1.1: never that to a gRPC call.
struct Wire(Vec<u8>);

impl Wire {
    /// One with a body of so many bytes.
    fn begin(status: u16, body: usize) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let phrase = status.canonical_reason().unwrap_or("Error");
        let mut out = Vec::with_capacity(512 + body);
        for part in ["HTTP/1.1 ", status.as_str(), " ", phrase, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        Self(out)
    }

    /// One for a refusal with a body of so many bytes: what is the same for all of its reason is made
    /// once.
    fn refusal(refusal: &Refusal, shape: ErrorShape, body: usize) -> Self {
        static BEGINS: [[OnceLock<Box<[u8]>>; 2]; Reason::COUNT] =
            [const { [const { OnceLock::new() }; 2] }; _];
        let begin = BEGINS[refusal.reason.index()][shape as usize].get_or_init(|| {
            let mut wire = Self::begin(answer::status(refusal.reason).0, 0);
            answer::general(shape, |name, said| wire.field(&name, |out| said.write(out)));
            wire.0.into()
        });
        let mut out = Vec::with_capacity(512 + body);
        out.extend_from_slice(begin);
        Self(out)
    }

    fn field(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(name.as_str().as_bytes());
        self.0.extend_from_slice(b": ");
        write(&mut self.0);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Delimits the answer. `last`: the connection ends with it.
    fn end(self, status: u16, body: &[u8], mut exchange: Box<Exchange>, last: bool) -> Answered {
        let mut out = self.0;
        out.extend_from_slice(b"date: ");
        http_date(exchange.started, &mut out);
        out.extend_from_slice(b"\r\ncontent-length: ");
        decimal::push(&mut out, body.len() as u64);
        out.extend_from_slice(if last {
            b"\r\nconnection: close\r\n\r\n"
        } else {
            b"\r\n\r\n"
        });
        if exchange.method != http::Method::HEAD {
            out.extend_from_slice(body);
            exchange.bytes_out = body.len() as u64;
        }
        Answered {
            bytes: out,
            last,
            status,
            exchange,
        }
    }
}
