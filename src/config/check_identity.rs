//! What has to go together in `identity`.

use super::check::{Findings, rate};
use super::decode::{Spanned, Value};
use super::error::{Place, message};
use super::identity::{
    ClaimsConf, FailuresConf, IdentityConf, IdentityHeadersConf, JwksConf, JwtConf, JwtKeyConf,
};
use super::material::KeySetFile;
use super::spelling::choice;
use super::value::{Header, Url};
use crate::base::secret::Secret;
use crate::identity::alg::{Alg, Algs, KeyKind};
use crate::identity::claims::MAX_NAME;
use crate::identity::key::{Key, MAX_KID, MAX_RSA_BITS, MIN_RSA_BITS};
use crate::identity::keyset::{KeySet, KeySetFault, MAX_KEYS, Origin};
use crate::identity::pem::{self, PublicKey};

impl IdentityHeadersConf {
    /// All of the headers.
    pub fn all(&self) -> Vec<&Spanned<Header>> {
        let usual = [
            &self.user,
            &self.scopes,
            &self.roles,
            &self.email,
            &self.client,
        ];
        let claims = self.claims.iter().map(|c| &c.header);
        usual.into_iter().chain(claims).collect()
    }
}

/// Judges `identity`.
pub(super) fn check(identity: &IdentityConf, f: &mut Findings) {
    f.names(identity.names());
    distinct_headers(&identity.headers, f);
    for told in &identity.headers.claims {
        claim_path(&told.claim, f);
    }
    if let FailuresConf::Limit(limit) = &identity.failures {
        rate(&limit.rate, f);
    }
    for jwt in &identity.jwt {
        issuer(jwt, f);
        claims(&jwt.claims, f);
        for required in &jwt.require {
            not_longer(&required.claim, MAX_NAME, f);
        }
    }
}

fn distinct_headers(headers: &IdentityHeadersConf, f: &mut Findings) {
    let mut all: Vec<_> = headers
        .all()
        .into_iter()
        .filter(|h| h.sound().is_some())
        .collect();
    // Written ones last, so that of a clash with a default the written one is told about.
    all.sort_by_key(|h| h.is_written());
    let named = all
        .into_iter()
        .map(|h| (h.as_str().to_ascii_lowercase(), &h.place));
    f.unlike(named, |name| format!("`{name}`"));
}

/// Notes a header that is to be read from requests, but is taken out of them all.
pub(super) fn not_an_identity_header(
    header: &Spanned<Header>,
    headers: &IdentityHeadersConf,
    f: &mut Findings,
) {
    let Some(found) = header.sound() else { return };
    if headers.all().iter().any(|h| h.sound() == Some(found)) {
        let found = found.as_str();
        f.fault(&header.place, message!("is an identity header (found `{found}`, want another: these are taken out of every request that comes in)"));
    }
}

/// Notes that not exactly one of several keys is given.
pub(super) fn exactly_one(given: &[(&str, bool)], place: &Place, f: &mut Findings) {
    let found: Vec<_> = given
        .iter()
        .filter(|(_, g)| *g)
        .map(|(key, _)| format!("`{key}`"))
        .collect();
    if found.len() == 1 {
        return;
    }
    let want = choice(given.iter().map(|(key, _)| *key));
    let found = if found.is_empty() {
        "none of them".to_owned()
    } else {
        found.join(" and ")
    };
    f.fault(
        place,
        message!("has to hold exactly one of these (found {found}, want {want})"),
    );
}

fn issuer(jwt: &Spanned<JwtConf>, f: &mut Findings) {
    let ways = [("jwks", jwt.jwks.is_some()), ("keys", jwt.keys.is_some())];
    if jwt.sound().is_some() {
        exactly_one(&ways, &jwt.place, f);
    }
    let algorithms = jwt
        .algorithms
        .iter()
        .filter_map(|a| Some((a.sound()?, &a.place)));
    f.listed_once(algorithms);
    let shared = |a: &&Spanned<Alg>| a.sound().is_some_and(|a| a.kind() == KeyKind::Secret);
    let first = jwt.algorithms.iter().find(shared);
    if let Some(first) = first
        && jwt
            .algorithms
            .iter()
            .any(|a| a.sound().is_some() && !shared(&a))
    {
        f.fault(&first.place, message!("must not stand with algorithms of another kind (found `{}` among them, want an issuer of its own for it, as a public key could pass for its secret)", first.value));
    }
    if let Some(jwks) = &jwt.jwks {
        key_set(jwks, f);
        discovered(&jwt.issuer, jwks, f);
        if let Some(file) = &jwks.file {
            set_in_file(file, &jwt.algorithms, f);
        }
        let published = jwks.url.as_ref().map(|url| &url.place);
        let published = published.or(jwks.discovery.as_ref().map(|how| &how.place));
        if let (Some(first), Some(place)) = (first, published) {
            f.fault(
                place,
                message!(
                    "is for public keys (found it with `{}`, want the secret under `keys`)",
                    first.value
                ),
            );
        }
    }
    if let Some(keys) = &jwt.keys {
        written_keys(keys, &jwt.algorithms, f);
    }
}

fn written_keys(keys: &[Spanned<JwtKeyConf>], algorithms: &[Spanned<Alg>], f: &mut Findings) {
    for key in keys {
        one_key(key, algorithms, f);
    }
    if let Some(key) = keys.get(MAX_KEYS) {
        let found = keys.len();
        f.fault(
            &key.place,
            message!("is one key too many (found {found} of them, want at most {MAX_KEYS})"),
        );
    }
    let kids = keys
        .iter()
        .filter_map(|k| k.kid.as_ref())
        .filter_map(|k| Some((k.sound()?, &k.place)));
    f.unlike(kids, |kid| format!("`{kid}`"));
}

fn key_set(jwks: &Spanned<JwksConf>, f: &mut Findings) {
    let ways = [
        ("url", jwks.url.is_some()),
        ("discovery", jwks.discovery.is_some()),
        ("file", jwks.file.is_some()),
    ];
    if jwks.sound().is_some() {
        exactly_one(&ways, &jwks.place, f);
    }
    if jwks.url.is_none() && jwks.discovery.is_none() && jwks.file.is_some() {
        f.idle(&jwks.refresh, "file");
        f.idle(&jwks.max_stale, "file");
        f.idle(&jwks.insecure_http, "file");
    } else if let (Some(refresh), Some(stale)) = (jwks.refresh.sound(), jwks.max_stale.sound())
        && stale.0 < refresh.0
    {
        let written = jwks.max_stale.is_written();
        let longer = if written {
            &jwks.max_stale
        } else {
            &jwks.refresh
        };
        let place = &longer.place;
        f.fault(place, message!("would leave no keys between two fetches (found a `max_stale` of {stale} and a `refresh` of {refresh}, want `max_stale` at least as long)"));
    }
    let Some(place) = jwks.url.as_ref().map(|u| &u.place) else {
        return;
    };
    let Some(url) = jwks.url.as_ref().and_then(Spanned::sound) else {
        return;
    };
    over_tls(url, place, jwks, f);
}

/// Notes an address of keys that are fetched without TLS from another machine.
fn over_tls(url: &Url, place: &Place, jwks: &JwksConf, f: &mut Findings) {
    if url.is_https() || url.is_loopback() {
        return;
    }
    match jwks.insecure_http.sound() {
        Some(true) => f.warn(place, message!("is fetched without TLS: whoever stands between can put in keys")),
        Some(false) => f.fault(place, message!("would be fetched without TLS (found `{}`, want `https://`, or `insecure_http: true` beside it)", url.as_str())),
        None => {}
    }
}

/// Notes an issuer that cannot be asked where its keys are.
fn discovered(issuer: &Spanned<String>, jwks: &JwksConf, f: &mut Findings) {
    let Some(text) = issuer.sound().filter(|_| jwks.discovery.is_some()) else {
        return;
    };
    match Url::parse(text) {
        Ok(url) if !text.contains('?') => over_tls(&url, &issuer.place, jwks, f),
        _ => f.fault(&issuer.place, message!("cannot be asked where its keys are (found `{text}`, want for `discovery` an address such as `https://auth.example.com`, without a query)")),
    }
}

/// Notes what keeps the key set in a file from being used, and the keys in it that are of no use.
fn set_in_file(file: &Spanned<KeySetFile>, algorithms: &[Spanned<Alg>], f: &mut Findings) {
    let Some(set) = file.sound() else { return };
    // A key for an algorithm that could not be read must not count as one for none.
    let allowed: Option<Algs> = algorithms.iter().map(|a| a.sound().copied()).collect();
    let Some(allowed) = allowed.filter(|algs| !algs.is_empty()) else {
        return;
    };
    match KeySet::from_jwks(set.text.as_bytes(), Origin::File, allowed) {
        Err(fault) => f.fault(&file.place, useless(&fault, allowed)),
        Ok(keys) => {
            for skipped in keys.warnings() {
                f.warn(
                    &file.place,
                    message!("holds a key that is of no use: {skipped}"),
                );
            }
        }
    }
}

/// How many skipped keys a message lists.
const LISTED: usize = 4;

fn useless(fault: &KeySetFault, allowed: Algs) -> String {
    match fault {
        KeySetFault::TooMany(found) => {
            message!("holds too many keys (found {found}, want at most {MAX_KEYS})")
        }
        KeySetFault::SameKid(kid) => {
            message!("holds two keys of one `kid` (found {kid:?} twice, want another for each)")
        }
        KeySetFault::NoKeys(skipped) => {
            let count = skipped.len();
            let more = (count > LISTED).then(|| format!("{} more", count - LISTED));
            let shown: Vec<_> = skipped.iter().take(LISTED).chain(&more).cloned().collect();
            let why = shown.join("; ");
            let names: Vec<_> = allowed.iter().map(Alg::name).collect();
            let want = choice(names.iter().copied());
            message!(
                "holds no key that can be used: {why} (found {count} of no use, want one for {want})"
            )
        }
        // Its size and form were judged when it was read, but for what strict JSON is.
        KeySetFault::NotJson
        | KeySetFault::NotASet
        | KeySetFault::TooLarge(_)
        | KeySetFault::BadKey(..) => message!(
            "is not strict JSON (found a member twice, or a number out of range, want each member once, RFC 7517 §4)"
        ),
    }
}

/// Notes names of claims that no token is read for.
pub(super) fn claims(conf: &ClaimsConf, f: &mut Findings) {
    let ClaimsConf {
        user,
        scopes,
        roles,
        email,
        tenant,
        client,
        tier,
    } = conf;
    let single = [user, roles, email, tenant, client, tier];
    for claim in single.into_iter().chain(scopes) {
        claim_path(claim, f);
    }
}

/// Notes what cannot be the name of a claim.
pub(super) fn claim_path(claim: &Spanned<String>, f: &mut Findings) {
    not_longer(claim, MAX_NAME, f);
    if claim.sound().is_some_and(String::is_empty) {
        f.fault(
            &claim.place,
            message!("is empty (found no name, want a claim's name, or names joined by dots)"),
        );
    }
}

/// Notes a text that is longer than what it is compared with may be.
fn not_longer(text: &Spanned<String>, most: usize, f: &mut Findings) {
    let found = text.sound().map_or(0, String::len);
    if found > most {
        f.fault(
            &text.place,
            message!("is too long (found {found} bytes, want at most {most})"),
        );
    }
}

fn one_key(key: &Spanned<JwtKeyConf>, algorithms: &[Spanned<Alg>], f: &mut Findings) {
    let ways = [
        ("secret", key.secret.is_some()),
        ("secret_base64", key.secret_base64.is_some()),
        ("public_key", key.public_key.is_some()),
    ];
    if key.sound().is_some() {
        exactly_one(&ways, &key.place, f);
    }
    if let Some(kid) = &key.kid {
        not_longer(kid, MAX_KID, f);
    }
    let Some(&alg) = key.alg.sound() else { return };
    let listed = |a: &Spanned<Alg>| a.sound().is_none_or(|a| *a == alg);
    if !algorithms.iter().any(listed) {
        f.fault(
            &key.alg.place,
            message!(
                "is not accepted from this issuer (found `{alg}`, want one of its `algorithms`)"
            ),
        );
    }
    if let Some(secret) = &key.secret {
        shared_secret(alg, secret.sound(), &secret.place, f);
    }
    if let Some(secret) = &key.secret_base64 {
        shared_secret(alg, secret.sound().map(|s| &s.0), &secret.place, f);
    }
    if let Some(key) = &key.public_key
        && let Some(Ok(found)) = key.sound().map(|pem| pem::public_key(pem.0.as_bytes()))
    {
        public_key(alg, &found, &key.place, f);
    }
}

fn shared_secret(alg: Alg, secret: Option<&Secret>, place: &Place, f: &mut Findings) {
    if alg.kind() != KeyKind::Secret {
        f.fault(
            place,
            message!(
                "does not go with its algorithm (found a secret with `{alg}`, want a `public_key`)"
            ),
        );
        return;
    }
    let (length, least) = (secret.map(|s| s.expose().len()), alg.min_secret());
    if let Some(length) = length.filter(|length| *length < least) {
        f.fault(place, message!("is too short for `{alg}` (found a secret of {length} bytes, want at least {least}, RFC 7518)"));
    }
}

fn public_key(alg: Alg, key: &PublicKey, place: &Place, f: &mut Findings) {
    let (kind, words) = match key {
        PublicKey::Rsa { .. } => (KeyKind::Rsa, "an RSA key"),
        PublicKey::P256(_) => (KeyKind::P256, "a P-256 key"),
        PublicKey::P384(_) => (KeyKind::P384, "a P-384 key"),
        PublicKey::Ed25519(_) => (KeyKind::Ed25519, "an Ed25519 key"),
    };
    if kind != alg.kind() {
        let want = match alg.kind() {
            KeyKind::Secret => "a `secret`",
            KeyKind::Rsa => "an RSA key",
            KeyKind::P256 => "a P-256 key",
            KeyKind::P384 => "a P-384 key",
            KeyKind::Ed25519 => "an Ed25519 key",
        };
        f.fault(
            place,
            message!("does not go with its algorithm (found {words}, want {want} for `{alg}`)"),
        );
    }
    match key {
        PublicKey::Rsa { n, .. } => rsa_key(key, n, place, f),
        PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Ed25519(_) => {}
    }
}

fn rsa_key(key: &PublicKey, n: &[u8], place: &Place, f: &mut Findings) {
    let zeros = n.first().map_or(0, |b| b.leading_zeros() as usize);
    let bits = n.len() * 8 - zeros;
    if bits < MIN_RSA_BITS {
        f.fault(
            place,
            message!("is too weak (found an RSA key of {bits} bits, want at least {MIN_RSA_BITS})"),
        );
    } else if bits > MAX_RSA_BITS {
        f.fault(place, message!("takes too long to verify with (found an RSA key of {bits} bits, want at most {MAX_RSA_BITS})"));
    } else if Key::public(None, key, Algs::all()).is_err() {
        f.fault(place, message!("is no key that anybody signs with (found an RSA key with an impossible modulus or exponent, want an odd modulus and an odd exponent from 3 to 4294967295)"));
    }
}
