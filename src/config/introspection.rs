//! Issuers that are asked about their tokens (RFC 7662), as tokens that only they can read ask for.

use super::decode::Spanned;
use super::fields::{conf, default, optional, required, words};
use super::identity::ClaimsConf;
use super::value::{Name, Url};
use crate::base::secret::Secret;
use crate::base::units::Span;

conf! {
    /// An issuer that is asked about each token. Whom its tokens are for has to be said: `audiences`
    /// or `any_audience`.
    pub struct IntrospectionConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `sso`");
        /// Where it is asked.
        url: Spanned<Url> = required("an address such as `https://auth.example.com/introspect`");
        /// Whether it may be asked without TLS on another machine. Default false.
        insecure_http: Spanned<bool> = default("false");
        /// The gateway's own name there.
        client_id: Spanned<String> = required("the gateway's name at the issuer");
        /// What proves it; may be `file:` and a path.
        client_secret: Spanned<Secret> = required("the gateway's secret at the issuer, such as `file:keys/introspection.secret`");
        /// Where the two stand in a query. Default `basic`.
        client_auth: Spanned<ClientAuthConf> = default("basic");
        /// The only `iss` believed, character by character. Left out: any, or none.
        issuer: Option<Spanned<String>> = optional();
        /// What a token must be meant for: any of these in its `aud`. At least one.
        audiences: Option<Vec<Spanned<String>>> = optional().some();
        /// Whether tokens for whomever are taken. Default false.
        any_audience: Spanned<bool> = default("false");
        /// How far clocks may differ, 0s to 60s. Default 30s.
        leeway: Spanned<Span> = default("30s").range("0s", "60s");
        /// How long an answer may take, 100ms to 10s. Default 2s.
        timeout: Spanned<Span> = default("2s").range("100ms", "10s");
        /// How long a token counts as good before its issuer is asked again, 0s to 60s; never beyond
        /// its `exp`. Default 60s.
        ttl: Spanned<Span> = default("60s").range("0s", "60s");
        /// How long a refusal counts, 0s to 10s. Default 5s.
        negative_ttl: Spanned<Span> = default("5s").range("0s", "10s");
        /// Good tokens that are remembered, 64 to 1048576; of refused ones a quarter as many.
        /// Default 16384.
        max_cached: Spanned<u32> = default("16384").range("64", "1048576");
        /// Whether good answers are shared with other gateways through `redis`. Default false.
        shared: Spanned<bool> = default("false");
        /// Which member of an answer gives what.
        claims: ClaimsConf = default("{}");
    }
}

words! {
    /// Where our own credentials stand (RFC 6749 §2.3.1).
    pub enum ClientAuthConf {
        /// In the header `Authorization`.
        Basic = "basic",
        /// In the body, for issuers that know no better.
        Post = "post",
    }
}
