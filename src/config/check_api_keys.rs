//! What has to go together in lists of API keys.

use std::collections::HashMap;
use std::hash::Hash;

use super::api_keys::{ApiKeysConf, KeyFile};
use super::auth::AuthConf;
use super::check::Findings;
use super::check_identity::{exactly_one, not_an_identity_header};
use super::decode::Spanned;
use super::error::message;
use super::file::FileConf;

/// Judges `identity.api_keys`.
pub(super) fn check(conf: &FileConf, f: &mut Findings) {
    for list in &conf.identity.api_keys {
        not_an_identity_header(&list.header, &conf.identity.headers, f);
        source(list, conf, f);
        if let Some(file) = list.file.as_ref().and_then(Spanned::sound) {
            alike(file, f);
            rates(file, conf, f);
        }
    }
    queries(conf, f);
}

/// Warns of keys with a rate of their own that no limit looks at.
fn rates(file: &KeyFile, conf: &FileConf, f: &mut Findings) {
    if conf.limits.iter().any(|limit| limit.own_rate.is_some()) {
        return;
    }
    let mut records = file.keys.records.iter();
    if let Some(at) = records.position(|record| record.rate_limit.is_some()) {
        f.warn(&file.keys.place(at, "id"), message!("has a `rate_limit` that no limit looks at (found no limit with `own_rate`, want one on the routes that take the key)"));
    }
}

fn source(list: &Spanned<ApiKeysConf>, conf: &FileConf, f: &mut Findings) {
    let ways = [
        ("file", list.file.is_some()),
        ("redis", list.redis.is_some()),
    ];
    if list.sound().is_some() {
        exactly_one(&ways, &list.place, f);
    }
    if let (Some(redis), None) = (&list.redis, &conf.redis) {
        let text = message!(
            "has no Redis to ask (found no `redis` at the top of the file, want one with the server's `url`)"
        );
        f.fault(&redis.place, text);
    }
}

/// Notes routes that take keys in the query, of which no list names a parameter for that.
fn queries(conf: &FileConf, f: &mut Findings) {
    let in_query = |name: &Spanned<String>| {
        let mut lists = conf.identity.api_keys.iter();
        lists.any(|list| *list.name.value == *name.value && list.query.is_some())
    };
    for route in &conf.routes {
        let AuthConf::Required(auth) = &route.auth.value else {
            continue;
        };
        let known = auth.identities().all(|name| name.sound().is_some());
        if auth.key_in_query.value && known && !auth.identities().any(in_query) {
            let text = message!(
                "has no effect (found no list with a `query` among the identities here, want one, or this left out)"
            );
            f.fault(&auth.key_in_query.place, text);
        }
    }
}

/// Notes keys of a file that have the name or the digest of an earlier one.
fn alike(file: &KeyFile, f: &mut Findings) {
    let keys = file.keys.records.iter();
    for (at, first) in repeated(keys.clone().map(|key| &key.id)) {
        let found = format!("`{}`", file.keys.records[at].id);
        let [place, earlier] = [at, first].map(|at| file.keys.place(at, "id"));
        f.taken(&place, &found, &earlier);
    }
    for (at, first) in repeated(keys.map(|key| &key.digest)) {
        let [place, earlier] = [at, first].map(|at| file.keys.place(at, "hash"));
        f.taken(&place, "the same key", &earlier);
    }
}

/// The positions of values that came before, each with the first one's.
fn repeated<T: Eq + Hash>(values: impl Iterator<Item = T>) -> Vec<(usize, usize)> {
    let mut first = HashMap::new();
    let place = |(at, value)| Some((at, *first.entry(value).or_insert(at)));
    let all = values.enumerate().filter_map(place);
    all.filter(|(at, first)| at != first).collect()
}
