//! Why the gateway itself answered, or gave up on, a request: one closed list, used by the
//! answer's `code`, the access log and the metrics, so that the three can be joined.

use std::fmt;

/// Defines [`Reason`], its codes and [`Reason::ALL`] from one list, so that none can be missed.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $code:literal,)+) => {
        /// Why a request did not get the upstream's answer. Which status belongs to a reason is
        /// decided elsewhere; the code is stable and may be relied on by clients and alerts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of [`Reason::index`].
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The stable name: lower-case words joined by `_`.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Reason::$name => $code,)+
                }
            }
        }
    };
}

reasons! {
    /// The request breaks HTTP's rules (RFC 9110, RFC 9112).
    BadRequest = "bad_request",
    /// The path could be read in two ways by the gateway and a service (RFC 3986 §6).
    AmbiguousPath = "ambiguous_path",
    /// The request header did not arrive whole within the listener's deadline.
    HeaderTimeout = "header_timeout",
    /// The request target is longer than the listener allows.
    UriTooLong = "uri_too_long",
    /// The request header has more bytes or fields than the listener allows.
    HeadersTooLarge = "headers_too_large",
    /// The protocol version is not one the listener speaks.
    VersionUnsupported = "version_unsupported",
    /// The method is one the gateway never forwards (TRACE, CONNECT) or does not know.
    MethodUnsupported = "method_unsupported",
    /// The body is in a transfer coding other than `chunked` (RFC 9112 §6.1).
    CodingUnsupported = "coding_unsupported",
    /// The request expects something other than `100-continue` (RFC 9110 §10.1.1).
    ExpectationFailed = "expectation_failed",
    /// The request has been here before (RFC 9110 §7.6.3, RFC 9209 §2.3.14).
    ProxyLoop = "proxy_loop",
    /// No route matches host and path.
    RouteNotFound = "route_not_found",
    /// A route matches host and path, but not with this method.
    MethodNotAllowed = "method_not_allowed",
    /// The route chooses by tenant and the request names none.
    TenantMissing = "tenant_missing",
    /// The route chooses by tenant and does not know the one named.
    TenantUnknown = "tenant_unknown",
    /// No credentials of any kind that the route accepts.
    CredentialsMissing = "credentials_missing",
    /// Credentials came, but not as a bearer token (RFC 6750 §2.1).
    BearerRequired = "bearer_required",
    /// The credentials cannot be read as what they claim to be (RFC 6750 §3.1).
    CredentialsMalformed = "credentials_malformed",
    /// A header that may come once came more than once, or a credential came in two places
    /// (RFC 6750 §2).
    CredentialsRepeated = "credentials_repeated",
    /// The token is not three segments of base64url with JSON in them (RFC 7515 §5.2, RFC 7519 §7.2).
    TokenMalformed = "token_malformed",
    /// The token is longer than any that is looked at.
    TokenTooLarge = "token_too_large",
    /// The token is of another type than tokens for us are (RFC 8725 §3.11).
    TokenType = "token_type_wrong",
    /// The token marks something as critical that is not known here (RFC 7515 §4.1.11).
    TokenCritical = "token_critical_unknown",
    /// The token's algorithm is not one of its issuer's, or not its key's (RFC 8725 §3.1).
    TokenAlgorithm = "token_algorithm_not_allowed",
    /// The token's key is not one of its issuer's.
    TokenKey = "token_key_unknown",
    /// The token's signature is wrong.
    TokenSignature = "token_signature_invalid",
    /// The token was good and is over.
    TokenExpired = "token_expired",
    /// The token is not good yet (RFC 7519 §4.1.5).
    TokenNotYetValid = "token_not_yet_valid",
    /// The token is from nobody whom the route believes (RFC 8725 §3.8).
    TokenIssuer = "token_issuer_unknown",
    /// The token is meant for somebody else (RFC 8725 §3.9).
    TokenAudience = "token_audience_wrong",
    /// The token lacks a claim that its issuer's tokens must have.
    TokenClaimMissing = "token_claim_missing",
    /// A claim of the token is of a wrong type, or has a value that is not accepted.
    TokenClaim = "token_claim_invalid",
    /// The token's issuer says that it is not good, or not any more (RFC 7662 §2.2).
    TokenInactive = "token_inactive",
    /// The token was revoked.
    TokenRevoked = "token_revoked",
    /// The token is bound to a certificate that its bearer has not proved to hold (RFC 8705 §3).
    TokenUnproven = "token_binding_unproven",
    /// The route takes API keys only and none came.
    ApiKeyRequired = "api_key_required",
    /// The API key cannot be one: it is too long, or its checksum is wrong.
    ApiKeyMalformed = "api_key_malformed",
    /// The API key is unknown.
    ApiKeyUnknown = "api_key_unknown",
    /// The API key was good and is over.
    ApiKeyExpired = "api_key_expired",
    /// The API key is switched off.
    ApiKeyDisabled = "api_key_disabled",
    /// The API key was revoked.
    ApiKeyRevoked = "api_key_revoked",
    /// The route asks for a client certificate and none came.
    CertificateRequired = "certificate_required",
    /// The client certificate is good, and nobody's that the route knows.
    CertificateUnknown = "certificate_unknown",
    /// The client is known but lacks a scope the route asks for (RFC 6750 §3.1).
    ScopeInsufficient = "scope_insufficient",
    /// The client is known but lacks a role the route asks for.
    RoleInsufficient = "role_insufficient",
    /// No role of the client gives a permission the route asks for.
    PermissionInsufficient = "permission_insufficient",
    /// A claim of the client's token has none of the values the route asks for.
    ClaimInsufficient = "claim_insufficient",
    /// Too many credentials from this address were refused.
    AuthFailuresLimited = "auth_failures_limited",
    /// The list of API keys could not be asked, so the key could be neither trusted nor refused.
    ApiKeysUnavailable = "api_keys_unavailable",
    /// The token's issuer could not be asked, so the token could be neither trusted nor refused.
    IntrospectionUnavailable = "introspection_unavailable",
    /// The token's issuer was asked and gave no answer that can be used (RFC 7662 §2.2).
    IntrospectionInvalid = "introspection_invalid",
    /// It is not known for too long what was revoked, and the config wants nobody to pass then.
    RevocationsUnavailable = "revocations_unavailable",
    /// The issuer's keys could not be had, so the token could be neither trusted nor refused.
    KeysUnavailable = "keys_unavailable",
    /// A WebSocket of a version that is not spoken here (RFC 6455 §4.4).
    WebSocketVersion = "websocket_version_unsupported",
    /// A limit of the route is used up (RFC 6585 §4).
    RateLimited = "rate_limited",
    /// The pre-limit of the client's address is used up.
    FloodLimited = "flood_limited",
    /// The request body is larger than the route allows.
    BodyTooLarge = "body_too_large",
    /// The client stopped sending its request body.
    BodyTimeout = "body_timeout",
    /// The upstream's circuit breaker is open.
    CircuitOpen = "circuit_open",
    /// No target of the upstream is healthy.
    NoHealthyTarget = "no_healthy_target",
    /// No connection to a target could be made.
    UpstreamConnectFailed = "upstream_connect_failed",
    /// No TLS with a target: its certificate is not good for its name, it refused the handshake, or
    /// nothing that may be spoken was agreed on.
    UpstreamTlsFailed = "upstream_tls_failed",
    /// The target closed the connection before its answer was whole.
    UpstreamReset = "upstream_reset",
    /// The target's answer breaks HTTP's rules.
    UpstreamInvalid = "upstream_invalid",
    /// The target did not answer in time.
    UpstreamTimeout = "upstream_timeout",
    /// The client took nothing of its answer for too long.
    ClientTooSlow = "client_too_slow",
    /// The host is not one that the connection's certificate is for (RFC 9110 §15.5.20).
    Misdirected = "misdirected",
    /// Nothing moved through a tunnel for too long.
    IdleTimeout = "idle_timeout",
    /// A WebSocket was closed because what it came by ends (RFC 6455 §7.4.1).
    GoingAway = "going_away",
    /// The client's own deadline passed (gRPC's `grpc-timeout`).
    DeadlineExceeded = "deadline_exceeded",
    /// The client left before its answer was whole.
    ClientClosed = "client_closed",
    /// The gateway is at a bound of its own.
    Overloaded = "overloaded",
    /// A fault of the gateway itself.
    InternalError = "internal_error",
    /// A probe asked from outside the networks it is open to.
    ProbeDenied = "probe_denied",
}

impl Reason {
    /// How many reasons there are; the length of an array indexed by [`Reason::index`].
    pub const COUNT: usize = Self::ALL.len();

    /// The place of this reason in [`Reason::ALL`], below [`Reason::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn index_is_the_place_in_all() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
    }

    #[test]
    fn codes_are_distinct_snake_case() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::COUNT);
        for code in codes {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }
}
