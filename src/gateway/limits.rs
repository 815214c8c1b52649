//! What a client is told of its limits: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10), and the older `X-RateLimit-*`.

use crate::base::decimal;
use crate::exchange::Exchange;
use crate::exchange::limits::{LimitReport, Policy, Reset};
use crate::limit::Decision;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-tokens-remaining");
const CAPACITY: HeaderName = HeaderName::from_static("x-ratelimit-capacity");

/// Gives the fields of an answer of this status that tell of limits: the policies all of them, the older
/// fields of the one that is nearest to exhaustion.
pub fn limit_fields(
    exchange: &Exchange,
    status: u16,
    mut put: impl FnMut(HeaderName, HeaderValue),
) {
    let now_ms = exchange.started.steady_ms;
    let (mut policies, mut left) = (Vec::new(), Vec::new());
    for (policy, report) in exchange.limits.all().filter(|(p, _)| p.headers.draft) {
        let remaining = report.decision.remaining;
        // §5 of the draft: whoever follows a redirection would be told to wait for nothing.
        if remaining == 0 && (300..400).contains(&status) {
            continue;
        }
        add(
            &mut policies,
            policy,
            &[(b"q", report.quota), (b"w", report.window_s)],
        );
        let wait_s = wait_s(&report.decision, now_ms);
        add(&mut left, policy, &[(b"r", remaining), (b"t", wait_s)]);
    }
    for (name, list) in [(POLICY, policies), (LEFT, left)] {
        // Names of limits have no characters that a structured text escapes (RFC 9651 §3.3.3).
        if !list.is_empty()
            && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(list))
        {
            put(name, value);
        }
    }
    if let Some((policy, report)) = exchange.limits.nearest() {
        older(policy, report, now_ms, put);
    }
}

/// Adds an item to a list of structured fields, with its parameters.
fn add(list: &mut Vec<u8>, policy: &Policy, parameters: &[(&[u8], u64)]) {
    if list.is_empty() {
        list.reserve(48);
    } else {
        list.extend_from_slice(b", ");
    }
    list.push(b'"');
    list.extend_from_slice(policy.name.as_bytes());
    list.push(b'"');
    for (name, number) in parameters {
        list.push(b';');
        list.extend_from_slice(name);
        list.push(b'=');
        decimal::push(list, *number);
    }
}

/// Seconds until there is more: after a refusal until the request would pass, so that `Retry-After` is not
/// earlier (§5 of the draft).
fn wait_s(decision: &Decision, now_ms: u64) -> u64 {
    match decision.retry_after_ms {
        0 | Decision::NEVER => decision.reset_ms.saturating_sub(now_ms).div_ceil(1000),
        wait_ms => wait_ms.div_ceil(1000),
    }
}

fn older(
    policy: &Policy,
    report: &LimitReport,
    now_ms: u64,
    mut put: impl FnMut(HeaderName, HeaderValue),
) {
    let decision = &report.decision;
    let reset = match policy.reset {
        Reset::EpochS => decision.reset_ms.div_ceil(1000),
        Reset::EpochMs => decision.reset_ms,
        Reset::Delta => decision.reset_ms.saturating_sub(now_ms).div_ceil(1000),
    };
    put(LIMIT, report.quota.into());
    put(REMAINING, decision.remaining.into());
    put(RESET, reset.into());
    if policy.has_tokens {
        put(TOKENS, decision.remaining.into());
        put(CAPACITY, report.quota.into());
    }
}
