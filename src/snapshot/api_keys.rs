//! Compiles lists of API keys.

use super::compile::{Tools, missed};
use crate::config::api_keys::{ApiKeysConf, KeyFile, RedisKeysConf};
use crate::config::{Fault, Spanned};
use crate::identity::api_key::ApiKeys;
use crate::identity::key_cache::CacheRules;
use crate::identity::key_format::KeyFormat;
use crate::identity::key_list::{KeyList, KeySource as ListSource};
use crate::identity::key_redis::{RedisKeys, RedisList};
use crate::redis::Redis;
use std::sync::Arc;

/// The list; the one in use, or what it remembers, where its settings are the same.
///
/// # Errors
/// What of it cannot be used.
pub fn compile(
    conf: &Spanned<ApiKeysConf>,
    shared: Option<&Arc<Redis>>,
    tools: &Tools<'_>,
) -> Result<Arc<KeyList>, Fault> {
    let before = tools.before.filter(|b| b.same_redis(conf, shared));
    if let Some(kept) = before.and_then(|b| b.api_keys(&conf.value)) {
        return Ok(kept);
    }
    let ApiKeysConf {
        name,
        header,
        query,
        format,
        file,
        redis,
    } = &conf.value;
    let format = format.value.format();
    let kept = before.and_then(|b| b.key_source(&conf.value));
    let source = match (kept, file, redis, shared) {
        (Some(kept), ..) => kept,
        (None, Some(file), ..) => ListSource::File(listed(&name.value, format, file)?),
        (None, None, Some(redis), Some(shared)) => {
            ListSource::Redis(asked(&name.value, format, redis, shared, tools))
        }
        (None, None, ..) => return Err(missed(&conf.place, "no source of keys")),
    };
    let query = query.as_ref().map(|query| query.value.to_string());
    Ok(Arc::new(KeyList::new(header.value.name(), query, source)))
}

fn asked(
    name: &str,
    format: KeyFormat,
    conf: &Spanned<RedisKeysConf>,
    shared: &Arc<Redis>,
    tools: &Tools<'_>,
) -> Arc<RedisKeys> {
    let RedisKeysConf {
        prefix,
        ttl,
        max_stale,
        negative_ttl,
        max_cached,
    } = &conf.value;
    let rules = CacheRules {
        ttl_ms: ttl.value.as_ms(),
        negative_ttl_ms: negative_ttl.value.as_ms(),
        max_stale_ms: max_stale.value.as_ms(),
        max_cached: max_cached.value as usize,
    };
    RedisKeys::new(
        RedisList {
            name: name.to_owned(),
            prefix: prefix.value.to_string(),
            format,
            cache: rules,
        },
        shared.clone(),
        tools.clock.clone(),
        tools.metrics.key_list(name),
    )
}

fn listed(name: &str, format: KeyFormat, file: &Spanned<KeyFile>) -> Result<Arc<ApiKeys>, Fault> {
    let keys = &file.value.keys;
    let made = ApiKeys::new(name, format, keys.records.clone());
    made.map(Arc::new).map_err(|faults| {
        let first = faults.into_iter().next();
        let (at, text) = first.unwrap_or((0, "no usable key".to_owned()));
        missed(&keys.place(at, "id"), text)
    })
}
