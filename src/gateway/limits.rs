//! What a client is told of its limits.

use crate::exchange::{Exchange, LimitHeaders, Reset};
use http::HeaderName;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The fields that tell of the limit nearest to exhaustion.
pub fn limit_fields(exchange: &Exchange) -> impl Iterator<Item = (HeaderName, u64)> {
    let report = exchange.limit.filter(|r| r.headers != LimitHeaders::None);
    let now_ms = exchange.started.steady_ms;
    let fields = report.map(|r| {
        let d = r.decision;
        let reset = match r.reset {
            Reset::EpochS => d.reset_ms.div_ceil(1000),
            Reset::EpochMs => d.reset_ms,
            Reset::Delta => d.reset_ms.saturating_sub(now_ms).div_ceil(1000),
        };
        [(LIMIT, d.limit), (REMAINING, d.remaining), (RESET, reset)]
    });
    fields.into_iter().flatten()
}
