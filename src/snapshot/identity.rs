//! Compiles who may be believed: token issuers, their keys, API keys, and the headers that tell a
//! service who calls.

use super::compile::{Findings, Tools, missed, unready};
use super::{IdentityHeaders, ListForm};
use crate::config::api_keys::{ApiKeysConf, KeyFile, RedisKeysConf};
use crate::config::identity::{
    ClaimsConf, IdentityConf, IdentityHeadersConf, JwksConf, JwtConf, JwtKeyConf,
    ListForm as FormConf,
};
use crate::config::{Fault, Spanned};
use crate::identity::api_key::ApiKeys;
use crate::identity::claims::{ClaimMap, ClaimPath};
use crate::identity::fetch::{RemoteKeys, RemoteRules};
use crate::identity::jwt::{Issuer, IssuerRules};
use crate::identity::key_cache::CacheRules;
use crate::identity::key_format::KeyFormat;
use crate::identity::key_list::{KeyList, KeySource as ListSource};
use crate::identity::key_redis::{RedisKeys, RedisList};
use crate::identity::keyset::{KeySet, Material, Origin, StaticKey};
use crate::identity::provider::{KeySource, Provider};
use crate::identity::seen::Seen;
use crate::redis::Redis;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

/// Verified tokens that are remembered, in all.
const SEEN: usize = 16_384;

/// Everything that callers are verified with, by the names that routes use.
pub struct Identities {
    /// Token issuers.
    pub jwt: HashMap<String, Arc<Provider>>,
    /// The lists of API keys.
    pub api_keys: HashMap<String, Arc<KeyList>>,
    /// Tokens verified a moment ago.
    pub seen: Arc<Seen>,
    /// The issuers, in the order of the config.
    pub providers: Vec<Arc<Provider>>,
    /// The names of those that could not be compiled.
    pub failed: HashSet<String>,
}

impl Identities {
    /// Compiles all of them.
    pub fn compile(
        conf: &IdentityConf,
        redis: Option<&Arc<Redis>>,
        tools: &Tools<'_>,
        findings: &mut Findings,
    ) -> Self {
        let IdentityConf {
            headers: _,
            jwt,
            api_keys,
        } = conf;
        let mut all = Self {
            jwt: HashMap::new(),
            api_keys: HashMap::new(),
            // Each entry says for which issuer and which keys it holds.
            seen: tools.before.map_or_else(
                || Arc::new(Seen::new(SEEN)),
                |before| before.snapshot.kept.seen.clone(),
            ),
            providers: Vec::new(),
            failed: HashSet::new(),
        };
        for issuer in jwt {
            let name = &issuer.value.name.value;
            let Some(provider) = findings.keep(provider(issuer, tools)) else {
                all.failed.insert(name.to_string());
                continue;
            };
            let metrics = tools.metrics.issuer(name);
            if let KeySource::Remote(keys) = provider.source() {
                keys.count_in(metrics.clone());
            }
            all.providers.push(provider.clone());
            all.jwt.insert(name.to_string(), provider);
        }
        for keys in api_keys {
            let name = keys.value.name.value.to_string();
            match findings.keep(key_list(keys, redis, tools)) {
                Some(list) => drop(all.api_keys.insert(name, list)),
                None => drop(all.failed.insert(name)),
            }
        }
        all
    }
}

fn texts<T: ToString>(items: &[Spanned<T>]) -> Vec<String> {
    items.iter().map(|item| item.value.to_string()).collect()
}

fn provider(conf: &Spanned<JwtConf>, tools: &Tools<'_>) -> Result<Arc<Provider>, Fault> {
    if let Some(kept) = tools.before.and_then(|b| b.provider(&conf.value)) {
        return Ok(kept);
    }
    let JwtConf {
        name,
        issuer,
        audiences,
        algorithms,
        leeway,
        jwks,
        keys,
        claims,
    } = &conf.value;
    let fault = |text: String| missed(&conf.place, text);
    let rules = IssuerRules {
        name: name.value.to_string(),
        issuer: issuer.value.clone(),
        audiences: texts(audiences),
        algorithms: algorithms.iter().map(|a| a.value).collect(),
        leeway: leeway.value.0,
        claims: claim_map(claims)?,
    };
    let issuer = Issuer::new(rules).map_err(fault)?;
    let kept = tools.before.and_then(|b| b.published(&conf.value));
    let source = match (kept, jwks, keys) {
        (Some(keys), ..) => KeySource::Remote(keys),
        (None, Some(jwks), _) => published(jwks, &issuer, tools)?,
        (None, None, keys) => written(conf, keys.as_deref().unwrap_or_default())?,
    };
    Provider::new(issuer, source).map(Arc::new).map_err(fault)
}

fn claim_map(conf: &ClaimsConf) -> Result<ClaimMap, Fault> {
    let ClaimsConf {
        user,
        scopes,
        roles,
        email,
        tenant,
        client,
        tier,
    } = conf;
    let path = |text: &Spanned<String>| {
        let parsed = text.value.parse::<ClaimPath>();
        parsed.map_err(|e| missed(&text.place, e))
    };
    Ok(ClaimMap {
        user: path(user)?,
        scopes: scopes.iter().map(path).collect::<Result<_, _>>()?,
        roles: path(roles)?,
        email: path(email)?,
        tenant: path(tenant)?,
        client: path(client)?,
        tier: path(tier)?,
        wanted: Arc::default(),
    })
}

fn published(
    conf: &Spanned<JwksConf>,
    issuer: &Issuer,
    tools: &Tools<'_>,
) -> Result<KeySource, Fault> {
    let JwksConf {
        url,
        file,
        refresh,
        insecure_http,
    } = &conf.value;
    if let Some(file) = file {
        let text = file.value.text.as_bytes();
        let keys = KeySet::from_jwks(text, Origin::File, issuer.algorithms());
        let keys = keys.map_err(|e| missed(&file.place, e))?;
        return Ok(KeySource::Fixed(Arc::new(keys)));
    }
    let Some(url) = url else {
        return Err(missed(&conf.place, "no source of keys"));
    };
    let rules = RemoteRules {
        provider: issuer.name().to_owned(),
        url: url.value.as_str().to_owned(),
        refresh: refresh.value.0,
        insecure_http: insecure_http.value,
        algorithms: issuer.algorithms(),
    };
    let keys = RemoteKeys::new(rules, tools.clock.clone());
    let keys = keys.map_err(|e| unready(&url.place, e))?;
    Ok(KeySource::Remote(Arc::new(keys)))
}

fn written(conf: &Spanned<JwtConf>, keys: &[Spanned<JwtKeyConf>]) -> Result<KeySource, Fault> {
    let mut all = Vec::with_capacity(keys.len());
    for key in keys {
        let JwtKeyConf {
            kid,
            alg,
            secret,
            secret_base64,
            public_key,
        } = &key.value;
        let secret = secret.as_ref().map(|s| s.value.clone());
        let decoded = secret_base64.as_ref().map(|s| s.value.0.clone());
        let pem = public_key.as_ref().map(|p| p.value.0.clone().into_bytes());
        let material = secret
            .or(decoded)
            .map(Material::Secret)
            .or(pem.map(Material::PublicPem));
        let missing = || missed(&key.place, "no key");
        all.push(StaticKey {
            kid: kid.as_ref().map(|k| k.value.clone()),
            alg: alg.value,
            material: material.ok_or_else(missing)?,
        });
    }
    let keys = KeySet::from_static(&all);
    let keys = keys.map_err(|e| missed(&conf.place, e))?;
    Ok(KeySource::Fixed(Arc::new(keys)))
}

fn key_list(
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

/// Compiles the headers that tell a service who calls.
pub fn headers(conf: &IdentityHeadersConf, keys: &[Spanned<ApiKeysConf>]) -> IdentityHeaders {
    let IdentityHeadersConf {
        user,
        scopes,
        roles,
        email,
        client,
        scopes_form,
        roles_form,
    } = conf;
    let mut mark = DefaultHasher::new();
    for name in [user, scopes, roles, email, client] {
        name.value.name().hash(&mut mark);
    }
    for form in [scopes_form, roles_form] {
        discriminant(&form.value).hash(&mut mark);
    }
    IdentityHeaders {
        mark: mark.finish(),
        user: user.value.name(),
        scopes: scopes.value.name(),
        roles: roles.value.name(),
        email: email.value.name(),
        client: client.value.name(),
        scopes_form: form(scopes_form.value),
        roles_form: form(roles_form.value),
        credentials: keys.iter().map(|k| k.value.header.value.name()).collect(),
    }
}

fn form(conf: FormConf) -> ListForm {
    match conf {
        FormConf::Space => ListForm::Space,
        FormConf::Comma => ListForm::Comma,
        FormConf::Json => ListForm::Json,
    }
}
