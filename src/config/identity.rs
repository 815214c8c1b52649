//! Who clients are: issuers of tokens, lists of API keys, and how backends are told.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::certificates::CertificatesConf;
use super::decode::{Decode, Entries, Spanned, Value};
use super::decoder::Decoder;
use super::error::{Fault, Faults, Place, message};
use super::expand;
use super::fields::{conf, default, optional, required, words};
use super::introspection::IntrospectionConf;
use super::material::{Base64Secret, KeySetFile, Pem};
use super::revocation::RevocationConf;
use super::value::{Header, Name, Scope, Timestamp, Url};
use super::yaml::{self, Content, Node};
use crate::base::secret::{Secret, sha256};
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
        /// OpenID Connect Discovery 1.0 §4.
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

conf! {
    /// A list of API keys.
    pub struct ApiKeysConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `partners`");
        /// The header that bears the key. Default `X-API-Key`.
        header: Spanned<Header> = default("X-API-Key");
        /// The file that lists them, from the config's folder.
        file: Spanned<KeyFile> = required("a file such as `keys.yaml`");
    }
}

/// A file of API keys and what it holds.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Where it is, as seen from the working directory.
    pub path: PathBuf,
    /// The keys in it.
    pub keys: Arc<Keys>,
}

type Keys = Vec<Spanned<ApiKeyConf>>;

impl PartialEq for KeyFile {
    fn eq(&self, other: &Self) -> bool {
        let same = || Arc::ptr_eq(&self.keys, &other.keys) || self.keys == other.keys;
        self.path == other.path && same()
    }
}

conf! {
    /// What a file of API keys may hold at its top.
    pub struct KeyListConf {
        /// The keys.
        keys: Vec<Spanned<ApiKeyConf>> = required("a list of keys");
    }
}

conf! {
    /// One API key. The key itself is written nowhere, only its digest.
    pub struct ApiKeyConf {
        /// Its own name, shown in logs; unique in the file.
        id: Spanned<Name> = required("a name such as `acme-2027`");
        /// The SHA-256 digest of the key.
        hash: Spanned<KeyHash> = required("`sha256:` and the 64 hexadecimal digits of the key's digest");
        /// The client it belongs to.
        client: Spanned<String> = required("the client's name");
        /// The client's tier. Left out: none.
        tier: Option<Spanned<String>> = optional();
        /// What it may do. Default: nothing in particular.
        scopes: Vec<Spanned<Scope>> = default("[]");
        /// Which roles it has. Default: none.
        roles: Vec<Spanned<String>> = default("[]");
        /// When it ends, in UTC (RFC 3339). Left out: never.
        expires: Option<Spanned<Timestamp>> = optional();
    }
}

/// The SHA-256 digest of an API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// As it is written: `sha256:` and 64 hexadecimal digits.
    pub fn to_text(self) -> String {
        let digits = self.0.iter().map(|byte| format!("{byte:02x}"));
        format!("sha256:{}", digits.collect::<String>())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:***")
    }
}

impl Value for KeyHash {
    fn parse(text: &str) -> Result<Self, String> {
        digest(text).map(Self).ok_or_else(|| {
            // Someone may have put the key itself here.
            let length = text.chars().count();
            message!("is not a digest (found a text of {length} characters, want `sha256:` and 64 hexadecimal digits)")
        })
    }

    fn stand_in() -> Self {
        Self([0; 32])
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:")?.as_bytes();
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(digest)
}

/// The largest file of API keys, in bytes.
const MAX_KEY_FILE: u64 = 256 * 1024 * 1024;

impl Decode for KeyFile {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = d.text(node)?;
        let path = d.path(&text);
        let read = expand::read(&path, MAX_KEY_FILE);
        let text = read.map_err(|e| d.fault(node, e)).ok()?;
        let keys = remembered(&path, &text, || {
            let name: Arc<str> = path.display().to_string().into();
            let before = d.faults.len();
            let keys = d.within(name.clone(), |d| key_list(&text, &name, d))?;
            Some((Arc::new(keys), d.faults.len() == before))
        })?;
        Some(Self { path, keys })
    }

    fn stand_in(_place: &Place) -> Self {
        let (path, keys) = Default::default();
        Self { path, keys }
    }
}

/// What this text of this file was read as, if a config still holds it; else what is read now. Of a
/// hundred thousand keys that is most of the time of a reload, which seldom changes one of them.
/// `read` says too whether it found no fault.
fn remembered(
    path: &Path,
    text: &str,
    read: impl FnOnce() -> Option<(Arc<Keys>, bool)>,
) -> Option<Arc<Keys>> {
    type Read = HashMap<PathBuf, ([u8; 32], Weak<Keys>)>;
    static READ: LazyLock<Mutex<Read>> = LazyLock::new(Mutex::default);
    let all = || READ.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = sha256(text.as_bytes());
    let known = all().get(path).filter(|(of, _)| *of == digest).cloned();
    if let Some(keys) = known.and_then(|(_, keys)| keys.upgrade()) {
        return Some(keys);
    }
    let (keys, sound) = read()?;
    // A variable stands for what the environment says, not the text.
    if sound && !text.contains("${") {
        let mut all = all();
        all.retain(|_, (_, keys)| keys.strong_count() > 0);
        all.insert(path.to_owned(), (digest, Arc::downgrade(&keys)));
    }
    Some(keys)
}

/// Reads the text of a key file, which messages call `name`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_keys(text: &str, name: &str) -> Result<Vec<Spanned<ApiKeyConf>>, Faults> {
    let file: Arc<str> = name.into();
    let mut decoder = Decoder::new(file.clone(), Path::new(""), &|_| None);
    let keys = key_list(text, &file, &mut decoder);
    match keys {
        Some(keys) if decoder.faults.is_empty() => Ok(keys),
        _ => Err(Faults::sorted(decoder.faults)),
    }
}

fn key_list(text: &str, name: &Arc<str>, d: &mut Decoder) -> Option<Vec<Spanned<ApiKeyConf>>> {
    let root: Option<Rc<Node>> = match yaml::read(text, name) {
        Ok(root) => root,
        Err(fault) => {
            d.faults.push(fault);
            return None;
        }
    };
    let Some(root) = root else {
        let place = Place::start_of(name, "keys");
        let text =
            message!("is missing (found an empty file, want `keys: []` if there are none yet)");
        d.faults.push(Fault::new(&place, text));
        return None;
    };
    KeyListConf::decode(&root, d).map(|KeyListConf { keys }| keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The keys of a config whose key file holds these clients.
    fn keys(folder: &Path, clients: &[&str]) -> Arc<Keys> {
        let digest = |n: usize| sha256(&n.to_le_bytes());
        let entry = |(n, client): (usize, &&str)| {
            let hash = KeyHash(digest(n)).to_text();
            format!("  - {{ id: k{n}, hash: \"{hash}\", client: \"{client}\" }}\n")
        };
        let entries: String = clients.iter().enumerate().map(entry).collect();
        std::fs::write(folder.join("keys.yaml"), format!("keys:\n{entries}")).expect("writes");
        let text = "listeners: [{ name: l, address: \"127.0.0.1:0\" }]\n\
                    upstreams: [{ name: u, targets: [\"127.0.0.1:1\"] }]\n\
                    identity: { api_keys: [{ name: k, file: keys.yaml }] }\n\
                    routes: [{ name: r, match: { path: / }, auth: { any: [k] }, to: u }]\n";
        let env = |name: &str| (name == "CLIENT").then(|| "somebody".to_owned());
        let loaded = config::parse(text, "test.yaml", folder, &env);
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        loaded.conf.identity.api_keys[0]
            .value
            .file
            .value
            .keys
            .clone()
    }

    #[test]
    fn a_key_file_is_read_again_only_if_it_says_something_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = keys(folder.path(), &["a", "b"]);
        let again = keys(folder.path(), &["a", "b"]);
        assert!(Arc::ptr_eq(&first, &again));
        let other = keys(folder.path(), &["a", "c"]);
        assert_eq!(other[1].value.client.value, "c");
        let back = keys(folder.path(), &["a", "b"]);
        assert!(!Arc::ptr_eq(&first, &back) && first == back);
        let forgotten = Arc::downgrade(&back);
        drop((first, again, other, back));
        assert!(forgotten.upgrade().is_none(), "nothing is held for later");
        // What the environment says may be another thing next time.
        let one = keys(folder.path(), &["${CLIENT}"]);
        assert_eq!(one[0].value.client.value, "somebody");
        assert!(!Arc::ptr_eq(&one, &keys(folder.path(), &["${CLIENT}"])));
    }
}
