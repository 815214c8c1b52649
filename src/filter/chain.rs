//! The filters of a route, in the one order there is.

use super::Verdict;
use super::auth::{Auth, Request};
use super::body_limit::BodyLimit;
use super::rate_limit::RateLimits;
use crate::base::clock::Now;
use crate::exchange::Exchange;
use http::HeaderMap;

/// A filter. An enum and not a trait object: what is added is wired everywhere or does not build.
pub enum Filter {
    /// Who calls, and whether they may.
    Auth(Auth),
    /// How much they may call.
    RateLimit(RateLimits),
    /// How large a body they may send.
    BodyLimit(BodyLimit),
}

impl Filter {
    /// Judges one request. `asked` is true once the lookup it asked for was made.
    pub fn request(
        &self,
        request: Request<'_>,
        exchange: &mut Exchange,
        now: Now,
        asked: bool,
    ) -> Verdict {
        match self {
            Self::Auth(auth) => auth.request(request, exchange, now, asked),
            Self::RateLimit(limits) => limits.request(request.headers, exchange, now),
            Self::BodyLimit(limit) => limit.request(request.headers),
        }
    }

    /// Adds what the answer should tell although a filter before this one refused the request.
    pub fn report(&self, headers: &HeaderMap, exchange: &mut Exchange, now: Now) {
        if let Self::RateLimit(limits) = self {
            limits.report(headers, exchange, now);
        }
    }
}
