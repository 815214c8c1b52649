//! Compiles issuers that are asked about tokens (RFC 7662).

use super::compile::{Tools, missed, unready};
use super::identity::{claim_map, texts};
use crate::config::identity::ProfileConf;
use crate::config::introspection::{ClientAuthConf, IntrospectionConf};
use crate::config::{Fault, Spanned};
use crate::identity::claims::Wanted;
use crate::identity::introspect::{ClientAuth, Introspection, IntrospectionRules};
use crate::redis::Redis;
use std::sync::Arc;

/// Compiles one; one that is in use under the same settings goes on with what it knows.
pub fn compile(
    conf: &Spanned<IntrospectionConf>,
    wanted: &Arc<[Wanted]>,
    redis: Option<&Arc<Redis>>,
    tools: &Tools<'_>,
) -> Result<Arc<Introspection>, Fault> {
    let IntrospectionConf {
        name,
        url,
        insecure_http,
        client_id,
        client_secret,
        client_auth,
        issuer,
        audiences,
        any_audience,
        leeway,
        timeout,
        ttl,
        negative_ttl,
        max_cached,
        shared,
        claims,
    } = &conf.value;
    let claims = claim_map(claims, ProfileConf::Jwt, wanted)?;
    let redis = redis.filter(|_| shared.value);
    let kept = tools.before.and_then(|b| b.introspection(&conf.value));
    if let Some(kept) = kept.filter(|kept| *kept.claims() == claims && kept.shares_through(redis)) {
        return Ok(kept);
    }
    if audiences.is_none() && !any_audience.value {
        return Err(missed(&conf.place, "no audience"));
    }
    let rules = IntrospectionRules {
        name: name.value.to_string(),
        url: url.value.as_str().to_owned(),
        insecure_http: insecure_http.value,
        client_id: client_id.value.clone(),
        client_secret: client_secret.value.clone(),
        client_auth: match client_auth.value {
            ClientAuthConf::Basic => ClientAuth::Basic,
            ClientAuthConf::Post => ClientAuth::Post,
        },
        issuer: issuer.as_ref().map(|i| i.value.clone()),
        audiences: audiences.as_deref().map(texts),
        leeway: leeway.value.0,
        timeout: timeout.value.0,
        ttl: ttl.value.0,
        negative_ttl: negative_ttl.value.0,
        max_cached: max_cached.value as usize,
        claims,
        shared: redis.cloned(),
    };
    let metrics = tools.metrics.introspection(&name.value);
    let made = Introspection::new(rules, tools.clock.clone(), metrics);
    made.map(Arc::new).map_err(|e| unready(&conf.place, e))
}
