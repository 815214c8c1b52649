//! The answer to what the edge refused before it was a request: told like any other refusal.

use super::record::{self, Sent};
use super::{Shared, fail};
use crate::exchange::Exchange;
use crate::exchange::connection::Connection;
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use crate::observe::trace::{self, TraceContext};
use http::StatusCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

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
    let mut exchange = Exchange::new(conn.clone(), now, trace::new_request_id(), trace);
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
    wire(&answer, &exchange)
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

fn wire(answer: &fail::Answer, exchange: &Exchange) -> Vec<u8> {
    let phrase = StatusCode::from_u16(answer.status).ok();
    let phrase = phrase.and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let mut out = format!("HTTP/1.1 {} {phrase}\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let at = UNIX_EPOCH + Duration::from_millis(exchange.started.unix_ms);
    let end = format!(
        "date: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        httpdate::fmt_http_date(at),
        answer.body.len()
    );
    out.extend_from_slice(end.as_bytes());
    if exchange.method != http::Method::HEAD {
        out.extend_from_slice(&answer.body);
    }
    out
}
