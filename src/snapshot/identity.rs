//! Compiles who may be believed: token issuers, their keys, API keys, and the headers that tell a
//! service who calls.

use super::compile::{Findings, Tools, missed, unready};
use super::introspection;
use super::{ClaimHeader, IdentityHeaders, ListForm, revocation};
use super::{api_keys as key_lists, certificates};
use crate::config::auth::AuthConf;
use crate::config::identity::{
    ClaimHeaderConf, ClaimsConf, DiscoveryConf, FailureLimitConf, FailuresConf, IdentityConf,
    IdentityHeadersConf, JwksConf, JwtConf, JwtKeyConf, ListForm as FormConf, OddConf, ProfileConf,
    RequiredClaimConf,
};
use crate::config::introspection::IntrospectionConf;
use crate::config::{Entries, Fault, FileConf, Place, Spanned};
use crate::filter::auth::failures::Failures;
use crate::identity::certificate::Certificates;
use crate::identity::claims::{ClaimMap, ClaimPath, Wanted};
use crate::identity::discovery::Discovery;
use crate::identity::fetch::{self, RemoteKeys, RemoteRules};
use crate::identity::introspect::Introspection;
use crate::identity::jwt::{Issuer, IssuerRules, Profile, Required};
use crate::identity::key_list::KeyList;
use crate::identity::keyset::{KeySet, Material, Origin, StaticKey};
use crate::identity::provider::{KeySource, Provider};
use crate::identity::revoke::Revocations;
use crate::identity::seen::Seen;
use crate::limit::exact::Store;
use crate::limit::sliding_window::SlidingWindow;
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
    /// Issuers that are asked about tokens.
    pub introspection: HashMap<String, Arc<Introspection>>,
    /// The lists of API keys.
    pub api_keys: HashMap<String, Arc<KeyList>>,
    /// Tokens verified a moment ago.
    pub seen: Arc<Seen>,
    /// The issuers, in the order of the config.
    pub providers: Vec<Arc<Provider>>,
    /// The issuers that are asked about tokens, in the order of the config.
    pub asked: Vec<Arc<Introspection>>,
    /// The names of those that could not be compiled.
    pub failed: HashSet<String>,
    /// Client certificates.
    pub certificates: HashMap<String, Arc<Certificates>>,
    /// What of tokens is kept besides, for routes and services.
    pub wanted: Arc<[Wanted]>,
    /// What is not believed any more.
    pub revocations: Option<Arc<Revocations>>,
    /// How many refused credentials are borne.
    pub failures: Option<Failures>,
    /// Which roles give which permission.
    permissions: HashMap<String, Vec<String>>,
}

impl Identities {
    /// Compiles all of them.
    pub fn compile(
        conf: &FileConf,
        redis: Option<&Arc<Redis>>,
        tools: &Tools<'_>,
        findings: &mut Findings,
    ) -> Self {
        let IdentityConf {
            headers,
            jwt,
            introspection,
            api_keys,
            certificates,
            roles,
            failures,
            revocation,
        } = &conf.identity;
        let mut all = Self {
            jwt: HashMap::new(),
            introspection: HashMap::new(),
            api_keys: HashMap::new(),
            // Each entry says for which issuer and which keys it holds.
            seen: tools.before.map_or_else(
                || Arc::new(Seen::new(SEEN)),
                |before| before.snapshot.kept.seen.clone(),
            ),
            providers: Vec::new(),
            asked: Vec::new(),
            failed: HashSet::new(),
            certificates: certificates.iter().map(certificates::compile).collect(),
            wanted: wanted(headers, conf),
            revocations: revocation::compile(revocation.as_ref(), redis, tools),
            failures: findings.keep(failure_limit(failures, tools)).flatten(),
            permissions: permissions(roles),
        };
        for issuer in jwt {
            all.issuer(issuer, tools, findings);
        }
        for issuer in introspection {
            all.introspection(issuer, redis, tools, findings);
        }
        for keys in api_keys {
            let name = keys.value.name.value.to_string();
            match findings.keep(key_lists::compile(keys, redis, tools)) {
                Some(list) => drop(all.api_keys.insert(name, list)),
                None => drop(all.failed.insert(name)),
            }
        }
        all
    }

    fn issuer(&mut self, conf: &Spanned<JwtConf>, tools: &Tools<'_>, findings: &mut Findings) {
        let name = &conf.value.name.value;
        let Some(provider) = findings.keep(provider(conf, &self.wanted, tools)) else {
            self.failed.insert(name.to_string());
            return;
        };
        if let KeySource::Remote(keys) = provider.source() {
            keys.count_in(tools.metrics.issuer(name));
        }
        self.providers.push(provider.clone());
        self.jwt.insert(name.to_string(), provider);
    }

    fn introspection(
        &mut self,
        conf: &Spanned<IntrospectionConf>,
        redis: Option<&Arc<Redis>>,
        tools: &Tools<'_>,
        findings: &mut Findings,
    ) {
        let name = conf.value.name.value.to_string();
        let made = introspection::compile(conf, &self.wanted, redis, tools);
        match findings.keep(made) {
            Some(made) => {
                self.asked.push(made.clone());
                self.introspection.insert(name, made);
            }
            None => drop(self.failed.insert(name)),
        }
    }

    /// The roles that give a permission.
    pub fn giving(&self, permission: &str) -> Vec<String> {
        self.permissions
            .get(permission)
            .cloned()
            .unwrap_or_default()
    }
}

/// The fault of a name that leads nowhere, which the check of the config lets nobody write.
pub fn unknown(place: &Place, kind: &str, name: &str) -> Fault {
    missed(place, format!("no {kind} is called `{name}`"))
}

fn permissions(conf: &Entries<Vec<Spanned<String>>>) -> HashMap<String, Vec<String>> {
    let mut by: HashMap<String, Vec<String>> = HashMap::new();
    for (role, gives) in &conf.0 {
        for permission in gives {
            let roles = by.entry(permission.value.clone()).or_default();
            roles.push(role.value.clone());
        }
    }
    by
}

/// Everything that routes ask of claims, services are told of them, or limits count by, each once. A claim that one
/// place wants strictly is kept strictly for all.
fn wanted(headers: &IdentityHeadersConf, conf: &FileConf) -> Arc<[Wanted]> {
    let told = headers.claims.iter().map(|told| {
        let strict = told.odd.value == OddConf::Refuse;
        (&told.claim.value, strict)
    });
    let required = conf
        .routes
        .iter()
        .filter_map(|route| match &route.auth.value {
            AuthConf::Required(required) => Some(&required.claims.0),
            AuthConf::None => None,
        });
    let asked = required.flatten().map(|(name, _)| (&name.value, false));
    let counted = conf.limits.iter().flat_map(|limit| limit.value.claims());
    let counted = counted.map(|name| (name, false));
    let mut all: Vec<Wanted> = Vec::new();
    for (name, strict) in told.chain(asked).chain(counted) {
        // What is no path is a fault elsewhere.
        let Ok(path) = name.parse::<ClaimPath>() else {
            continue;
        };
        match all.iter_mut().find(|wanted| wanted.path == path) {
            Some(wanted) => wanted.strict |= strict,
            None => all.push(Wanted { path, strict }),
        }
    }
    all.into()
}

fn failure_limit(conf: &FailuresConf, tools: &Tools<'_>) -> Result<Option<Failures>, Fault> {
    let FailuresConf::Limit(limit) = conf else {
        return Ok(None);
    };
    let FailureLimitConf {
        rate,
        max_addresses,
    } = limit;
    let fault = |e: crate::limit::Fault| missed(&rate.place, e);
    let rule = SlidingWindow::new(rate.value.count, rate.value.per_ms())
        .map_err(fault)?
        .into();
    let kept = tools.before.and_then(|before| before.failures(limit));
    let store = match kept {
        Some(store) => store,
        None => Arc::new(Store::new(max_addresses.value).map_err(fault)?),
    };
    Ok(Some(Failures { store, rule }))
}

/// Values as the texts that they were written as.
pub(super) fn texts<T: ToString>(items: &[Spanned<T>]) -> Vec<String> {
    items.iter().map(|item| item.value.to_string()).collect()
}

fn provider(
    conf: &Spanned<JwtConf>,
    wanted: &Arc<[Wanted]>,
    tools: &Tools<'_>,
) -> Result<Arc<Provider>, Fault> {
    let kept = tools.before.and_then(|b| b.provider(&conf.value));
    // What was kept of tokens before must be what is looked for in them now.
    if let Some(kept) = kept.filter(|kept| *kept.issuer().wanted() == **wanted) {
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
        profile,
        require,
        claims,
    } = &conf.value;
    let fault = |text: String| missed(&conf.place, text);
    let rules = IssuerRules {
        name: name.value.to_string(),
        issuer: issuer.value.clone(),
        audiences: texts(audiences),
        algorithms: algorithms.iter().map(|a| a.value).collect(),
        leeway: leeway.value.0,
        profile: match profile.value {
            ProfileConf::Jwt => Profile::Jwt,
            ProfileConf::AccessToken => Profile::AccessToken,
        },
        require: require.iter().map(required).collect::<Result<_, _>>()?,
        claims: claim_map(claims, profile.value, wanted)?,
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

fn required(conf: &Spanned<RequiredClaimConf>) -> Result<Required, Fault> {
    let RequiredClaimConf { claim, values } = &conf.value;
    let path = claim.value.parse::<ClaimPath>();
    Ok(Required {
        path: path.map_err(|e| missed(&claim.place, e))?,
        values: texts(values.as_deref().unwrap_or_default()),
    })
}

/// Compiles which claim gives what.
pub(super) fn claim_map(
    conf: &ClaimsConf,
    profile: ProfileConf,
    wanted: &Arc<[Wanted]>,
) -> Result<ClaimMap, Fault> {
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
    // An access token of RFC 9068 has its scopes in one place (§2.2.3), unless somebody says otherwise.
    let only = profile == ProfileConf::AccessToken && !scopes.iter().any(Spanned::is_written);
    let scopes = &scopes[..if only { 1 } else { scopes.len() }];
    Ok(ClaimMap {
        user: path(user)?,
        scopes: scopes.iter().map(path).collect::<Result<_, _>>()?,
        roles: path(roles)?,
        email: path(email)?,
        tenant: path(tenant)?,
        client: path(client)?,
        tier: path(tier)?,
        wanted: wanted.clone(),
    })
}

fn published(
    conf: &Spanned<JwksConf>,
    issuer: &Issuer,
    tools: &Tools<'_>,
) -> Result<KeySource, Fault> {
    let JwksConf {
        url,
        discovery,
        file,
        refresh,
        max_stale,
        insecure_http,
    } = &conf.value;
    if let Some(file) = file {
        let text = file.value.text.as_bytes();
        let keys = KeySet::from_jwks(text, Origin::File, issuer.algorithms());
        let keys = keys.map_err(|e| missed(&file.place, e))?;
        return Ok(KeySource::Fixed(Arc::new(keys)));
    }
    let place = match (url, discovery) {
        (Some(url), _) => fetch::Place::Url(url.value.as_str().to_owned()),
        (None, Some(how)) => {
            let how = match how.value {
                DiscoveryConf::Oidc => Discovery::Oidc,
                DiscoveryConf::Oauth => Discovery::Oauth,
            };
            fetch::Place::Discovered(how, issuer.iss().to_owned())
        }
        (None, None) => return Err(missed(&conf.place, "no source of keys")),
    };
    let rules = RemoteRules {
        provider: issuer.name().to_owned(),
        place,
        refresh: refresh.value.0,
        max_stale: max_stale.value.0,
        insecure_http: insecure_http.value,
        algorithms: issuer.algorithms(),
    };
    let keys = RemoteKeys::new(rules, tools.clock.clone());
    let keys = keys.map_err(|e| unready(&conf.place, e))?;
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

/// Compiles the headers that tell a service who calls.
pub fn headers(conf: &IdentityConf, wanted: &[Wanted]) -> IdentityHeaders {
    let (keys, conf) = (&conf.api_keys, &conf.headers);
    let IdentityHeadersConf {
        user,
        scopes,
        roles,
        email,
        client,
        scopes_form,
        roles_form,
        claims,
    } = conf;
    let claims: Vec<_> = claims
        .iter()
        .filter_map(|c| claim_header(c, wanted))
        .collect();
    let mut mark = DefaultHasher::new();
    for name in [user, scopes, roles, email, client] {
        name.value.name().hash(&mut mark);
    }
    for form in [scopes_form, roles_form] {
        discriminant(&form.value).hash(&mut mark);
    }
    for told in &claims {
        (&told.header, told.claim, discriminant(&told.form)).hash(&mut mark);
    }
    for wanted in wanted {
        wanted.hash(&mut mark);
    }
    IdentityHeaders {
        mark: mark.finish(),
        user: user.value.name(),
        scopes: scopes.value.name(),
        roles: roles.value.name(),
        email: email.value.name(),
        client: client.value.name(),
        claims,
        scopes_form: form(scopes_form.value),
        roles_form: form(roles_form.value),
        credentials: keys.iter().map(|k| k.value.header.value.name()).collect(),
    }
}

fn claim_header(conf: &Spanned<ClaimHeaderConf>, wanted: &[Wanted]) -> Option<ClaimHeader> {
    let ClaimHeaderConf {
        header,
        claim,
        form: written,
        odd: _,
    } = &conf.value;
    let path: ClaimPath = claim.value.parse().ok()?;
    Some(ClaimHeader {
        header: header.value.name(),
        claim: wanted.iter().position(|wanted| wanted.path == path)?,
        form: form(written.value),
    })
}

fn form(conf: FormConf) -> ListForm {
    match conf {
        FormConf::Space => ListForm::Space,
        FormConf::Comma => ListForm::Comma,
        FormConf::Json => ListForm::Json,
    }
}
