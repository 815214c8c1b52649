//! Compiles who may pass a route.

use super::compile::missed;
use super::identity::{Identities, unknown};
use super::routes::Parts;
use crate::config::auth::{ModeConf, RequiredAuthConf, Values};
use crate::config::{Entries, Fault, Place, Spanned};
use crate::exchange::refusal::Challenge;
use crate::filter::auth::Auth;
use crate::filter::auth::demands::Demands;
use crate::filter::auth::gate::{Gate, KeyPlace};
use crate::identity::claims::ClaimPath;
use std::sync::Arc;

/// Compiles what a route asks of its callers.
pub fn compile(conf: &RequiredAuthConf, place: &Place, parts: &Parts<'_>) -> Result<Auth, Fault> {
    let RequiredAuthConf {
        any,
        all,
        anonymous,
        scopes,
        roles,
        permissions,
        claims,
        key_in_query,
        mode,
    } = conf;
    let ids = parts.identities;
    let mut gates = Vec::with_capacity(all.len() + 1);
    for name in all {
        gates.push(gate(std::slice::from_ref(name), key_in_query.value, ids)?);
    }
    if !any.is_empty() {
        gates.push(gate(any, key_in_query.value, ids)?);
    }
    if gates.is_empty() {
        return Err(missed(place, "nobody could pass"));
    }
    let scopes: Vec<String> = scopes.iter().map(|s| s.value.to_string()).collect();
    Ok(Auth {
        challenge: Arc::new(challenge(&gates, &scopes)),
        gates: gates.into(),
        anonymous: anonymous.value,
        demands: Demands {
            scopes,
            roles: roles.iter().map(|r| r.value.clone()).collect(),
            permissions: permissions.iter().map(|p| ids.giving(&p.value)).collect(),
            claims: demanded(claims, ids)?,
        },
        dry_run: mode.value == ModeConf::DryRun,
        seen: ids.seen.clone(),
        failures: ids.failures.clone(),
        revocations: ids.revocations.clone(),
        metrics: parts.tools.metrics.clone(),
    })
}

fn gate(names: &[Spanned<String>], in_query: bool, ids: &Identities) -> Result<Gate, Fault> {
    let mut gate = Gate::default();
    for name in names {
        if let Some(provider) = ids.jwt.get(&name.value) {
            gate.tokens.push(provider.clone());
        } else if let Some(issuer) = ids.introspection.get(&name.value) {
            gate.opaque = Some(issuer.clone());
        } else if let Some(list) = ids.api_keys.get(&name.value) {
            let list = list.clone();
            gate.keys.push(KeyPlace { in_query, list });
        } else if let Some(list) = ids.certificates.get(&name.value) {
            gate.certificates.push(list.clone());
        } else {
            return Err(unknown(&name.place, "identity", &name.value));
        }
    }
    Ok(gate)
}

fn demanded(conf: &Entries<Values>, ids: &Identities) -> Result<Vec<(usize, Vec<String>)>, Fault> {
    let claims = conf.0.iter().map(|(name, Values(values))| {
        let path: ClaimPath = name.value.parse().map_err(|e| missed(&name.place, e))?;
        let at = ids.wanted.iter().position(|wanted| wanted.path == path);
        let at = at.ok_or_else(|| missed(&name.place, "a claim that nobody keeps"))?;
        Ok((at, values.iter().map(|v| v.value.clone()).collect()))
    });
    claims.collect()
}

const BEARER: &str = "Bearer realm=\"tollgate\"";

/// RFC 6750 §3 for tokens; keys and certificates have no registered scheme, so theirs name what is
/// wanted.
fn challenge(gates: &[Gate], scopes: &[String]) -> Challenge {
    let scopes = scopes.join(" ");
    let keys = gates.iter().flat_map(|gate| &gate.keys);
    let mut headers: Vec<&str> = keys.map(|k| k.list.header.as_str()).collect();
    headers.sort_unstable();
    headers.dedup();
    let key = |header: &&str| format!("ApiKey realm=\"tollgate\", header=\"{header}\"");
    let mut others: Vec<String> = headers.iter().map(key).collect();
    if gates.iter().any(|gate| !gate.certificates.is_empty()) {
        others.push("ClientCertificate realm=\"tollgate\"".to_owned());
    }
    let tokens = gates.iter().any(Gate::takes_tokens);
    let with = |bearer: String| {
        let bearer = tokens.then_some(bearer);
        let all: Vec<_> = bearer.into_iter().chain(others.clone()).collect();
        all.join(", ")
    };
    let scope = match scopes.as_str() {
        "" => String::new(),
        scopes => format!(", scope=\"{scopes}\""),
    };
    Challenge {
        missing: with(BEARER.to_owned()),
        insufficient: with(format!("{BEARER}, error=\"insufficient_scope\"{scope}")),
        invalid: tokens.then(|| format!("{BEARER}, error=\"invalid_token\"")),
        others: others
            .iter()
            .fold(String::new(), |all, one| all + ", " + one),
        scopes,
    }
}
