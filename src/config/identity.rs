//! Who clients are: issuers of tokens, and how backends are told. Lists of API keys are in
//! [`super::api_keys`].

use super::api_keys::ApiKeysConf;
use super::certificates::CertificatesConf;
use super::decode::{Decode, Entries, Spanned};
use super::decoder::Decoder;
use super::error::Place;
use super::fields::{conf, default, optional, required, words};
use super::introspection::IntrospectionConf;
use super::material::{Base64Secret, KeySetFile, Pem};
use super::revocation::RevocationConf;
use super::value::{Header, Name, Url};
use super::yaml::{Content, Node};
use crate::base::secret::Secret;
use crate::base::units::{Rate, Span};
use crate::identity::alg::Alg;

conf! {
    /// Everything about identity.
    pub struct IdentityConf {
        /// How backends are told who is calling.
        headers: IdentityHeadersConf = default("{}");
        /// Issuers whose tokens (RFC 7519) are believed. Default: none.
        jwt: Vec<Spanned<JwtConf>> = default("[]");
        /// Issuers that are asked about tokens (RFC 7662). Default: none.
        introspection: Vec<Spanned<IntrospectionConf>> = default("[]");
        /// Lists of API keys. Default: none.
        api_keys: Vec<Spanned<ApiKeysConf>> = default("[]");
        /// Client certificates. Default: none.
        certificates: Vec<Spanned<CertificatesConf>> = default("[]");
        /// Which permissions each role gives. Default: none.
        roles: Entries<Vec<Spanned<String>>> = default("{}");
        /// How many credentials of one address may be refused before its further ones are not looked
        /// at for a while, or `off`. Those that were found good a moment ago pass all the same.
        failures: FailuresConf = default("{}");
        /// What is not believed any more, as Redis says. Left out: nothing can be revoked.
        revocation: Option<Spanned<RevocationConf>> = optional();
    }
}

impl IdentityConf {
    /// The names of all who may be asked who somebody is.
    pub fn names(&self) -> impl Iterator<Item = &Spanned<Name>> {
        let keys = self.api_keys.iter().map(|k| &k.name);
        let certificates = self.certificates.iter().map(|c| &c.name);
        self.token_names().chain(keys).chain(certificates)
    }

    /// Those who judge bearer tokens.
    pub fn token_names(&self) -> impl Iterator<Item = &Spanned<Name>> {
        let asked = self.introspection.iter().map(|i| &i.name);
        self.jwt.iter().map(|j| &j.name).chain(asked)
    }
}

/// How many failures are borne.
#[derive(Clone, Debug, PartialEq)]
pub enum FailuresConf {
    /// Any number.
    Off,
    /// So many.
    Limit(FailureLimitConf),
}

conf! {
    /// How many credentials of one address (IPv4 /32, IPv6 /64) may be refused.
    pub struct FailureLimitConf {
        /// So many in so long. Default 600/1m.
        rate: Spanned<Rate> = default("600/1m");
        /// Addresses that are counted at a time, 1 to 10000000. Default 100000.
        max_addresses: Spanned<u64> = default("100000").range("1", "10000000");
    }
}

impl Decode for FailuresConf {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        match &node.content {
            Content::Text { text, .. } if text == "off" => Some(Self::Off),
            Content::Map(_) => FailureLimitConf::decode(node, d).map(Self::Limit),
            _ => {
                d.wrong_form(node, "`off`, or a limit such as `{ rate: 600/1m }`");
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self::Off
    }
}

conf! {
    /// The headers that backends read. Taken out of every request a client sends, and set only
    /// from what was verified.
    pub struct IdentityHeadersConf {
        /// The user. Default `X-User-ID`.
        user: Spanned<Header> = default("X-User-ID");
        /// The scopes. Default `X-User-Scopes`.
        scopes: Spanned<Header> = default("X-User-Scopes");
        /// The roles. Default `X-User-Roles`.
        roles: Spanned<Header> = default("X-User-Roles");
        /// The user's email address. Default `X-User-Email`.
        email: Spanned<Header> = default("X-User-Email");
        /// The client. Default `X-Client-ID`.
        client: Spanned<Header> = default("X-Client-ID");
        /// How several scopes are written in one header. Default `space`.
        scopes_form: Spanned<ListForm> = default("space");
        /// How several roles are written in one header. Default `json`.
        roles_form: Spanned<ListForm> = default("json");
        /// Further claims of tokens, each in a header of its own. Default: none.
        claims: Vec<Spanned<ClaimHeaderConf>> = default("[]");
    }
}

conf! {
    /// A claim that backends are told. A text, a number and a truth value are written as they are.
    pub struct ClaimHeaderConf {
        /// The header.
        header: Spanned<Header> = required("a header such as `X-Department`");
        /// The claim, by its name or by names joined by dots.
        claim: Spanned<String> = required("a claim such as `department` or `org.id`");
        /// How a list is written. Default `json`.
        form: Spanned<ListForm> = default("json");
        /// What becomes of control characters and of characters beyond ASCII: `encode`, or `refuse`
        /// a token that has any. Default `encode`.
        odd: Spanned<OddConf> = default("encode");
    }
}

words! {
    /// What becomes of characters that a header must not hold.
    pub enum OddConf {
        /// They are percent-encoded, as `%` itself is.
        Encode = "encode",
        /// A token whose claim has any is refused.
        Refuse = "refuse",
    }
}

words! {
    /// How several values are written in one header.
    pub enum ListForm {
        /// With spaces between them.
        Space = "space",
        /// With commas between them.
        Comma = "comma",
        /// As a JSON array.
        Json = "json",
    }
}

conf! {
    /// An issuer of tokens. Its keys are a published set (`jwks`) or are given here (`keys`).
    pub struct JwtConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `corp`");
        /// The only `iss` believed, character by character.
        issuer: Spanned<String> = required("the issuer as its tokens have it in `iss`");
        /// What a token must be meant for: any of these in its `aud`. At least one.
        audiences: Vec<Spanned<String>> = required("a list such as `[api.example.com]`").some();
        /// The signature algorithms accepted. At least one; HS256 to HS512 never together with
        /// others.
        algorithms: Vec<Spanned<Alg>> = required("a list such as `[RS256]`").some();
        /// How far clocks may differ, 0s to 60s. Default 30s.
        leeway: Spanned<Span> = default("30s").range("0s", "60s");
        /// A published key set.
        jwks: Option<Spanned<JwksConf>> = optional();
        /// Keys that never change.
        keys: Option<Vec<Spanned<JwtKeyConf>>> = optional().some();
        /// Which other rules its tokens follow: `at+jwt` for those of RFC 9068. Default `jwt`: none.
        profile: Spanned<ProfileConf> = default("jwt");
        /// Claims that a token must have, each by its name or with the values it may have. Default: none.
        require: Vec<Spanned<RequiredClaimConf>> = default("[]");
        /// Which claim gives what.
        claims: ClaimsConf = default("{}");
    }
}

words! {
    /// Which rules tokens follow besides those that hold for all.
    pub enum ProfileConf {
        /// None.
        Jwt = "jwt",
        /// Those for access tokens (RFC 9068).
        AccessToken = "at+jwt",
    }
}

conf! {
    /// A claim that a token must have.
    pub struct RequiredClaimConf {
        /// Its name, or names joined by dots for one further inside.
        claim: Spanned<String> = required("a claim such as `tenant`").short();
        /// What it may be; of a list one item has to be among them. Left out: anything but null.
        values: Option<Vec<Spanned<String>>> = optional().some();
    }
}

conf! {
    /// Where a key set (RFC 7517) is: at a `url`, where the issuer says (`discovery`) or in a `file`.
    pub struct JwksConf {
        /// Where it is published.
        url: Option<Spanned<Url>> = optional();
        /// Which document of the issuer says where: `oidc` for `/.well-known/openid-configuration`
        /// behind its path, `oauth` for `/.well-known/oauth-authorization-server` in front of it.
        discovery: Option<Spanned<DiscoveryConf>> = optional();
        /// A file, from the config's folder.
        file: Option<Spanned<KeySetFile>> = optional();
        /// How long fetched keys are good for, 1m to 7d; they are fetched again before. Default 1h.
        refresh: Spanned<Span> = default("1h").range("1m", "7d");
        /// How long the last good keys stay in use while no newer ones can be had, 1m to 30d and at
        /// least `refresh`. Default 24h.
        max_stale: Spanned<Span> = default("24h").range("1m", "30d");
        /// Whether it may be fetched without TLS from another machine. Default false.
        insecure_http: Spanned<bool> = default("false");
    }
}

words! {
    /// How an issuer says where its keys are.
    pub enum DiscoveryConf {
        /// `OpenID` Connect Discovery 1.0 §4.
        Oidc = "oidc",
        /// RFC 8414 §3.
        Oauth = "oauth",
    }
}

conf! {
    /// A key that never changes: a shared secret for HS algorithms, a public key for the others.
    pub struct JwtKeyConf {
        /// Its `kid`. Left out: it is for tokens without one.
        kid: Option<Spanned<String>> = optional();
        /// The one algorithm it is for.
        alg: Spanned<Alg> = required("an algorithm such as `RS256`");
        /// A shared secret, as it is; may be `file:` and a path.
        secret: Option<Spanned<Secret>> = optional();
        /// A shared secret in base64; may be `file:` and a path.
        secret_base64: Option<Spanned<Base64Secret>> = optional();
        /// A public key or certificate in PEM; may be `file:` and a path.
        public_key: Option<Spanned<Pem>> = optional();
    }
}

conf! {
    /// Which claim of a token gives what.
    pub struct ClaimsConf {
        /// The user. Default `sub`.
        user: Spanned<String> = default("sub");
        /// The scopes, a text with spaces or a list; the first claim that is there. Default
        /// `scope`, `scp`, `scopes`.
        scopes: Vec<Spanned<String>> = default("[scope, scp, scopes]");
        /// The roles. Default `roles`.
        roles: Spanned<String> = default("roles");
        /// The user's email address. Default `email`.
        email: Spanned<String> = default("email");
        /// The tenant. Default `tenant`.
        tenant: Spanned<String> = default("tenant");
        /// The client. Default `client_id`.
        client: Spanned<String> = default("client_id");
        /// The client's tier. Default `tier`.
        tier: Spanned<String> = default("tier");
    }
}
