//! gRPC over HTTP/2, as its PROTOCOL-HTTP2 document has it: who speaks it, how long a call may take,
//! and the status that says what became of it.
//!
//! A call is proxied like any request; a service's answer passes as it is, also one that is no gRPC
//! (its status is what gRPC's own libraries go by). Only what the gateway says itself is put in gRPC's
//! words.

use super::answer;
use crate::base::clock::Now;
use crate::exchange::Exchange;
use crate::exchange::call::{Call, Status};
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use std::fmt::Write as _;
use std::time::Duration;

/// What became of a call, as a number.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same for a human being, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Milliseconds that a client is asked to let pass before it tries again (gRFC A6).
pub const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// How long the client waits.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const MEDIA: &[u8] = b"application/grpc";

/// A timer may fire this much before its time, and a service may end a call as much before ours.
const EARLY: Duration = Duration::from_millis(20);

/// What a request says of its call, none where it is not gRPC, and whether its deadline could be
/// read. Over HTTP/1.1 there are no trailers, and with them no gRPC.
pub fn call(version: Version, headers: &HeaderMap) -> (Option<Call>, Result<(), Refusal>) {
    let media = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if version != Version::HTTP_2 || !media.is_some_and(is_grpc) {
        return (None, Ok(()));
    }
    let mut sent = headers.get_all(&TIMEOUT).iter();
    let deadline = match (sent.next(), sent.next()) {
        (None, _) => Ok(None),
        (Some(text), None) => duration(text.as_bytes()).map(Some).ok_or(()),
        (Some(_), Some(_)) => Err(()),
    };
    let call = Call::new(deadline.unwrap_or_default());
    let bad = || Refusal::new(Reason::BadRequest).because("grpc-timeout is not a timeout");
    (Some(call), deadline.map(drop).map_err(|()| bad()))
}

/// `application/grpc`, alone or with the form of its messages behind a `+`.
fn is_grpc(media: &[u8]) -> bool {
    let Some((media, rest)) = media.split_at_checked(MEDIA.len()) else {
        return false;
    };
    media.eq_ignore_ascii_case(MEDIA) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// At most eight digits and a unit.
fn duration(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// A duration as gRPC writes it: in the smallest unit whose number has at most eight digits, never
/// more than it is.
fn written(left: Duration) -> String {
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (left.as_secs().into(), 'S'),
        ((left.as_secs() / 60).into(), 'M'),
    ];
    let fits = units.into_iter().find(|(n, _)| *n < 100_000_000);
    let (n, unit) = fits.unwrap_or(((left.as_secs() / 3600).into(), 'H'));
    format!("{n}{unit}")
}

/// The milliseconds from a request's admission to its client's deadline, at least 1.
///
/// # Errors
/// The deadline has passed.
pub fn deadline_ms(exchange: &Exchange) -> Result<Option<u64>, Refusal> {
    match left(exchange, exchange.admitted) {
        None => Ok(None),
        Some(left) if left.is_zero() => Err(Reason::DeadlineExceeded.into()),
        Some(left) => {
            let ms = left.as_nanos().div_ceil(1_000_000);
            Ok(Some(u64::try_from(ms).unwrap_or(u64::MAX)))
        }
    }
}

/// What is left until the client's deadline.
fn left(exchange: &Exchange, now: Now) -> Option<Duration> {
    let deadline = exchange.call.as_ref()?.deadline?;
    let spent = Duration::from_nanos(now.since_ns(exchange.started));
    Some(deadline.saturating_sub(spent))
}

/// What a service is told of the deadline: what is left of it, or of `total`, the time that the
/// gateway gives, if that is less. Nothing where the client told us nothing.
pub fn timeout(
    exchange: &Exchange,
    now: Now,
    total: Option<Duration>,
) -> Option<(HeaderName, String)> {
    let left = left(exchange, now)?;
    let spent = Duration::from_nanos(now.since_ns(exchange.admitted));
    let left = total.map_or(left, |total| left.min(total.saturating_sub(spent)));
    // None is no timeout to gRPC: what is over is as good as over.
    Some((TIMEOUT, written(left.max(Duration::from_nanos(1)))))
}

/// What a client is told of a failure for which `blamed` is the reason.
///
/// What ends with the client's own deadline ends by it: how long a client waits says nothing of the
/// service, so that nobody can open its circuit by being impatient. And a client may pause as long as
/// it likes: a service that breaks off meanwhile is gone, even if it is not to blame.
pub fn reason(blamed: Reason, by_service: bool, exchange: &Exchange, now: Now) -> Reason {
    let over = left(exchange, now).is_some_and(|left| left <= EARLY);
    let paused = exchange.call.is_some() && by_service && !exchange.conn.expired();
    match blamed {
        Reason::UpstreamTimeout
        | Reason::UpstreamReset
        | Reason::UpstreamInvalid
        | Reason::BodyTimeout
            if over =>
        {
            Reason::DeadlineExceeded
        }
        Reason::BodyTimeout if paused => Reason::UpstreamReset,
        _ => blamed,
    }
}

/// The status in the trailers of an answer, or in its header if it has nothing else.
pub fn told(fields: &HeaderMap) -> Option<Status> {
    let text = fields.get(&STATUS)?.to_str().ok()?;
    text.parse().ok().map(Status)
}

/// Whether a service's status means that it is in trouble. Not UNKNOWN: that is what libraries make
/// of any error that a handler returns, also of those that a client provokes. Not
/// `DEADLINE_EXCEEDED` where the client set the deadline.
pub fn is_failure(call: &Call, status: Status) -> bool {
    match status {
        Status::INTERNAL | Status::UNAVAILABLE | Status::DATA_LOSS => true,
        Status::DEADLINE_EXCEEDED => call.deadline.is_none(),
        _ => false,
    }
}

/// The status that the gateway gives for each reason. gRPC's mapping of HTTP statuses is for those
/// who know nothing else of an answer; where we know more, the meaning of the codes goes before it.
pub fn status(reason: Reason) -> Status {
    match reason {
        Reason::BadRequest
        | Reason::AmbiguousPath
        | Reason::TenantMissing
        | Reason::ExpectationFailed
        | Reason::WebSocketVersion => Status::INVALID_ARGUMENT,
        Reason::CredentialsMalformed | Reason::CredentialsRepeated => Status::UNAUTHENTICATED,
        Reason::TenantUnknown => Status::NOT_FOUND,
        // To a client, a method that leads nowhere is one that is not there.
        Reason::RouteNotFound
        | Reason::MethodNotAllowed
        | Reason::MethodUnsupported
        | Reason::CodingUnsupported
        | Reason::VersionUnsupported => Status::UNIMPLEMENTED,
        Reason::BodyTooLarge
        | Reason::UriTooLong
        | Reason::HeadersTooLarge
        | Reason::RateLimited
        | Reason::FloodLimited => Status::RESOURCE_EXHAUSTED,
        Reason::HeaderTimeout
        | Reason::BodyTimeout
        | Reason::IdleTimeout
        | Reason::UpstreamTimeout
        | Reason::DeadlineExceeded => Status::DEADLINE_EXCEEDED,
        Reason::ClientClosed | Reason::ClientTooSlow => Status::CANCELLED,
        Reason::InternalError => Status::INTERNAL,
        // What may have reached a service and what has not are told apart nowhere in gRPC: clients
        // try again by their own policy, method by method.
        Reason::UpstreamConnectFailed
        | Reason::UpstreamTlsFailed
        | Reason::UpstreamReset
        | Reason::UpstreamInvalid
        | Reason::ProxyLoop
        | Reason::CircuitOpen
        | Reason::NoHealthyTarget
        | Reason::Overloaded
        | Reason::Misdirected
        | Reason::GoingAway => Status::UNAVAILABLE,
        // What has to do with who calls is told alike by HTTP.
        _ => match answer::status(reason).0 {
            401 => Status::UNAUTHENTICATED,
            403 => Status::PERMISSION_DENIED,
            429 => Status::RESOURCE_EXHAUSTED,
            503 => Status::UNAVAILABLE,
            _ => Status::INTERNAL,
        },
    }
}

/// A text as `grpc-message` has it: printable ASCII as it is, `%` and all else percent-encoded.
pub fn message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::RequestId;
    use crate::exchange::admission::Caps;
    use crate::exchange::connection::Connection;
    use crate::exchange::listener::{Listener, Terms};
    use crate::observe::trace::TraceContext;
    use std::sync::Arc;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        });
        fields.collect()
    }

    fn call_of(media: &str) -> Option<Call> {
        call(Version::HTTP_2, &headers(&[("content-type", media)])).0
    }

    /// An exchange that began at 1000 ms and was admitted at 1100 ms.
    fn exchange(deadline: Option<Duration>) -> Exchange {
        let metrics = crate::observe::metrics::Metrics::new("0", 0).listener("public");
        let (terms, caps) = (Terms::default(), Caps::default());
        let listener = Arc::new(Listener::new("public", metrics, terms, caps));
        let pass = listener.admission.enter().expect("a place");
        let conn = Connection::new(listener, ([127, 0, 0, 1], 5000).into(), None, pass);
        let trace = TraceContext::continue_or_start(None);
        let mut made = Exchange::new(Arc::new(conn), Now::at_ms(1000), RequestId::random(), trace);
        made.admitted = Now::at_ms(1100);
        made.call = Some(Call::new(deadline));
        made
    }

    #[test]
    fn a_call_is_known_by_its_media_type() {
        for media in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "application/grpc;charset=utf-8",
        ] {
            assert_eq!(call_of(media), Some(Call::new(None)), "{media}");
        }
        for media in [
            "application/grpc-web",
            "application/grp",
            "application/json",
        ] {
            assert_eq!(call_of(media), None, "{media}");
        }
        let grpc = headers(&[("content-type", "application/grpc")]);
        assert_eq!(call(Version::HTTP_11, &grpc).0, None, "no trailers there");
    }

    #[test]
    fn deadlines_in_each_unit() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("00000006n", Duration::from_nanos(6)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ];
        for (text, want) in cases {
            assert_eq!(duration(text.as_bytes()), Some(want), "{text}");
        }
        for text in [
            "",
            "1",
            "S",
            "1s",
            "1 S",
            "-1S",
            "+1S",
            "1.5S",
            "100000000n",
            "1mS",
        ] {
            assert_eq!(duration(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_deadline_that_cannot_be_read_is_refused_in_grpcs_words() {
        for sent in [&["soon"][..], &["1S", "1S"], &[""]] {
            let mut fields = headers(&[("content-type", "application/grpc")]);
            for value in sent {
                fields.append(TIMEOUT, HeaderValue::from_static(value));
            }
            let (known, deadline) = call(Version::HTTP_2, &fields);
            assert!(known.is_some(), "it is a call all the same");
            let reason = deadline.map_err(|refusal| refusal.reason);
            assert_eq!(reason, Err(Reason::BadRequest), "{sent:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_never_more() {
        let cases = [
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(99_999), "99999000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(99_999_999 * 3600 + 3599), "99999999H"),
        ];
        for (left, want) in cases {
            assert_eq!(written(left), want);
            let read = duration(want.as_bytes()).expect("well-formed");
            assert!(read <= left && left.saturating_sub(read) < Duration::from_secs(3600));
        }
    }

    #[test]
    fn a_deadline_runs_from_the_begin_of_the_request() {
        let ms = Duration::from_millis;
        let due = |deadline| deadline_ms(&exchange(deadline)).map_err(|r| r.reason);
        assert_eq!(due(None), Ok(None));
        assert_eq!(due(Some(ms(3000))), Ok(Some(2900)), "a lookup took 100 ms");
        let late = Err(Reason::DeadlineExceeded);
        assert_eq!(due(Some(ms(100))), late);
        assert_eq!(due(Some(ms(100) + Duration::from_nanos(1))), Ok(Some(1)));

        let told = |deadline, now, total| {
            let total = (total > 0).then(|| ms(total));
            let told = timeout(&exchange(deadline), Now::at_ms(now), total);
            told.map(|(_, text)| text)
        };
        let (long, short) = (Some(ms(9000)), Some(ms(3000)));
        assert_eq!(told(None, 1500, 5000), None);
        assert_eq!(told(short, 1500, 5000).as_deref(), Some("2500000u"));
        assert_eq!(told(long, 1500, 5000).as_deref(), Some("4600000u"));
        assert_eq!(told(long, 1500, 0).as_deref(), Some("8500000u"));
        assert_eq!(told(Some(ms(400)), 1500, 5000).as_deref(), Some("1n"));
    }

    #[test]
    fn an_impatient_client_blames_nobody() {
        let call = exchange(Some(Duration::from_millis(500)));
        let late = |blamed, ms| reason(blamed, true, &call, Now::at_ms(ms));
        for blamed in [Reason::UpstreamTimeout, Reason::UpstreamReset] {
            assert_eq!(late(blamed, 1470), blamed);
            assert_eq!(late(blamed, 1490), Reason::DeadlineExceeded);
        }
        let other = Reason::UpstreamConnectFailed;
        assert_eq!(late(other, 1600), other);
        let patient = exchange(None);
        let blamed = Reason::UpstreamTimeout;
        assert_eq!(reason(blamed, true, &patient, Now::at_ms(9000)), blamed);

        let (hasty, patient) = (Call::new(Some(Duration::ZERO)), Call::new(None));
        let fails = |call, n| is_failure(call, Status(n));
        assert!(fails(&patient, 4) && !fails(&hasty, 4));
        let bad: Vec<u16> = (0..20).filter(|n| fails(&hasty, *n)).collect();
        assert_eq!(bad, [13, 14, 15]);
    }

    #[test]
    fn a_service_that_breaks_off_in_a_pause_is_gone() {
        let now = Now::at_ms(2000);
        let mut call = exchange(None);
        let told = |by_service, call: &Exchange| reason(Reason::BodyTimeout, by_service, call, now);
        assert_eq!(told(true, &call), Reason::UpstreamReset);
        assert_eq!(told(false, &call), Reason::BodyTimeout);
        call.call = None;
        assert_eq!(
            told(true, &call),
            Reason::BodyTimeout,
            "an upload that stalls"
        );
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("Required: 'a b'"), "Required: 'a b'");
        assert_eq!(message("50% ü\n"), "50%25 %C3%BC%0A");
    }

    #[test]
    fn every_reason_has_a_status_that_is_an_error() {
        for reason in Reason::ALL {
            assert!((1..=16).contains(&status(*reason).0), "{reason:?}");
        }
        assert_eq!(told(&headers(&[("grpc-status", "14")])), Some(Status(14)));
        assert_eq!(told(&headers(&[("grpc-status", "x")])), None);
    }
}
