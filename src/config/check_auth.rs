//! What has to go together in a route's `auth`.

use super::auth::{ModeConf, RequiredAuthConf};
use super::check::{Findings, Known};
use super::check_identity::claim_path;
use super::check_route::each_reference_once;
use super::decode::Spanned;
use super::error::{Place, message};
use super::file::FileConf;
use super::spelling::{choice, hint};
use std::collections::BTreeSet;

/// Judges who may pass a route.
pub(super) fn check(
    auth: &RequiredAuthConf,
    place: &Place,
    conf: &FileConf,
    known: &mut Known,
    f: &mut Findings,
) {
    for name in auth.identities() {
        known.refer(name, f);
    }
    each_reference_once(&auth.any, f);
    each_reference_once(&auth.all, f);
    if auth.any.is_empty() && auth.all.is_empty() {
        f.fault(place, message!("is without an identity (found neither `any` nor `all`, want one of them, such as `any: [corp]`, or `auth: none` if the route is meant to be open to everyone)"));
    }
    for name in auth.any.iter().filter(|n| n.sound().is_some()) {
        if auth.all.iter().any(|other| other.value == name.value) {
            f.fault(
                &name.place,
                message!(
                    "stands under `all` too (found `{}` in both, want it in one of them)",
                    name.value
                ),
            );
        }
    }
    issuers_differ(auth, conf, f);
    all_at_once(auth, conf, f);
    one_is_asked(&auth.any, conf, f);
    nobody_in_particular(auth, f);
    permissions(auth, conf, f);
    claims(auth, place, conf, f);
    if auth.mode.sound() == Some(&ModeConf::DryRun) {
        f.warn(&auth.mode.place, message!("lets everyone pass (found `dry_run`, which only counts and logs who would be refused, want `enforce` once that is as it should be)"));
    }
}

/// A token is judged by the identity of its issuer, so there can be one only.
fn issuers_differ(auth: &RequiredAuthConf, conf: &FileConf, f: &mut Findings) {
    let issuer = |name: &str| {
        let mut all = conf.identity.jwt.iter();
        let named = all.find(|jwt| &*jwt.name.value == name);
        named.map(|jwt| jwt.issuer.value.as_str())
    };
    let names: Vec<_> = auth.identities().collect();
    for (n, name) in names.iter().enumerate() {
        let Some(own) = issuer(&name.value) else {
            continue;
        };
        let same = |other: &&&Spanned<String>| {
            other.value != name.value && issuer(&other.value) == Some(own)
        };
        if let Some(other) = names[..n].iter().find(same) {
            let text = message!(
                "is of the same issuer as `{}` (found `{own}` twice, want one identity an issuer, with all its audiences and keys)",
                other.value
            );
            f.fault(&name.place, text);
        }
    }
}

/// A request bears one token, and one key in one header: no two identities can have judged it.
fn all_at_once(auth: &RequiredAuthConf, conf: &FileConf, f: &mut Findings) {
    let is_token = |name: &str| conf.identity.token_names().any(|n| *n.value == *name);
    let header = |name: &str| {
        let mut lists = conf.identity.api_keys.iter();
        let list = lists.find(|k| *k.name.value == *name)?;
        Some(list.header.sound()?.as_str().to_ascii_lowercase())
    };
    let (mut token, mut headers) = (None, Vec::new());
    for name in auth.all.iter().filter(|n| n.sound().is_some()) {
        let header = header(&name.value);
        if is_token(&name.value) && token.replace(&name.value).is_some() {
            f.fault(&name.place, message!("cannot hold beside another (found two issuers of tokens under `all`, want one: a request bears one token)"));
        }
        if header.is_some() && headers.contains(&header) {
            f.fault(&name.place, message!("cannot hold beside another (found two lists of keys in the same header under `all`, want a `header` of its own for each)"));
        }
        headers.push(header);
    }
    let tokens_alone = auth.any.iter().all(|n| is_token(&n.value));
    let other = auth
        .any
        .iter()
        .find(|n| token.is_some_and(|t| *t != n.value));
    if let (true, Some(first)) = (tokens_alone, other) {
        f.fault(&first.place, message!("cannot hold beside `all` (found issuers of tokens alone here and one there, want another kind of identity: a request bears one token)"));
    }
}

/// A token that names no issuer does not say which one to ask.
fn one_is_asked(any: &[Spanned<String>], conf: &FileConf, f: &mut Findings) {
    let asked = |name: &&Spanned<String>| {
        let mut all = conf.identity.introspection.iter();
        name.sound().is_some() && all.any(|i| *i.name.value == *name.value)
    };
    let mut all = any.iter().filter(asked);
    if let (Some(first), Some(other)) = (all.next(), all.next())
        && first.value != other.value
    {
        f.fault(&other.place, message!("cannot stand beside `{}` (found two issuers that are asked about tokens under `any`, want one: a token does not say which of them to ask)", first.value));
    }
}

/// Whoever is nobody has nothing that could be asked of him.
fn nobody_in_particular(auth: &RequiredAuthConf, f: &mut Findings) {
    if auth.anonymous.sound() != Some(&true) {
        return;
    }
    let asked = [
        ("all", auth.all.is_empty()),
        ("scopes", auth.scopes.is_empty()),
        ("roles", auth.roles.is_empty()),
        ("permissions", auth.permissions.is_empty()),
        ("claims", auth.claims.0.is_empty()),
    ];
    if let Some((key, _)) = asked.iter().find(|(_, empty)| !empty) {
        f.fault(&auth.anonymous.place, message!("lets those pass who show nothing, of whom something is asked (found it beside `{key}`, want one of them)"));
    }
}

/// A permission that no role gives is one that nobody has.
fn permissions(auth: &RequiredAuthConf, conf: &FileConf, f: &mut Findings) {
    let given = conf.identity.roles.0.iter().flat_map(|(_, p)| p);
    let given: BTreeSet<&str> = given
        .filter_map(|p| p.sound())
        .map(String::as_str)
        .collect();
    for wanted in auth.permissions.iter().filter(|p| p.sound().is_some()) {
        if given.contains(wanted.as_str()) {
            continue;
        }
        let all = given.iter().copied();
        let text = if given.is_empty() {
            message!(
                "is a permission that no role gives (found `{}`, want it under `identity.roles`, which has none)",
                wanted.value
            )
        } else {
            let (hint, want) = (hint(wanted, all.clone()), choice(all));
            message!(
                "is a permission that no role gives{hint} (found `{}`, want {want}, or a role with it under `identity.roles`)",
                wanted.value
            )
        };
        f.fault(&wanted.place, text);
    }
}

/// Claims are what tokens have.
fn claims(auth: &RequiredAuthConf, place: &Place, conf: &FileConf, f: &mut Findings) {
    for (path, _) in &auth.claims.0 {
        claim_path(path, f);
    }
    let token = |name: &Spanned<String>| {
        let known = conf
            .identity
            .token_names()
            .any(|n| n.sound().is_none_or(|n| **n == **name));
        known || name.sound().is_none()
    };
    if !auth.claims.0.is_empty() && !auth.identities().any(token) {
        f.fault(place, message!("asks for claims that nobody has (found no issuer of tokens beside `claims`, want one in `any` or `all`)"));
    }
}
