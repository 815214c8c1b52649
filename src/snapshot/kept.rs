//! What one snapshot leaves to the next: whatever counts, remembers or is connected, by the name and
//! the settings that it stands for. Editing one part of a config touches nothing of another.

use super::Snapshot;
use crate::config::api_keys::ApiKeysConf;
use crate::config::identity::{FailureLimitConf, FailuresConf, JwtConf};
use crate::config::introspection::IntrospectionConf;
use crate::config::limit::LimitConf;
use crate::config::server::FloodConf;
use crate::config::upstream::UpstreamConf;
use crate::config::{FileConf, Spanned};
use crate::filter::auth::failures::Failures;
use crate::filter::flood::Flood;
use crate::filter::rate_limit::Counts;
use crate::identity::fetch::RemoteKeys;
use crate::identity::introspect::Introspection;
use crate::identity::key_list::{KeyList, KeySource as ListSource};
use crate::identity::provider::{KeySource, Provider};
use crate::identity::seen::Seen;
use crate::limit::exact::Store;
use crate::redis::Redis;
use crate::upstream::pool::Pool;
use std::collections::HashMap;
use std::sync::Arc;

/// What a snapshot holds for the one that follows it, besides what its routes use.
pub struct Kept {
    /// The counts of each limit.
    pub counts: HashMap<String, Counts>,
    /// The lists of API keys.
    pub api_keys: HashMap<String, Arc<KeyList>>,
    /// Tokens verified a moment ago.
    pub seen: Arc<Seen>,
    /// Refused credentials by address.
    pub failures: Option<Failures>,
}

/// The config in use, and what was made of it, while another one is to take its place.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// What it says.
    pub conf: &'a FileConf,
    /// What serves.
    pub snapshot: &'a Snapshot,
}

/// The item of a list that goes by a name.
fn named<T>(all: &[Spanned<T>], is: impl Fn(&T) -> bool) -> Option<&T> {
    all.iter().map(|item| &item.value).find(|item| is(item))
}

impl<'a> Before<'a> {
    /// The counts that a limit goes on with. Exact ones also where its rate is another: a client that
    /// is over its limit gains nothing by a change of the limit. An estimate is made for its rate.
    pub fn counts(self, conf: &LimitConf) -> Option<Counts> {
        let was = named(&self.conf.limits, |l| *l.name.value == *conf.name.value)?;
        if was.store != conf.store || was.algorithm != conf.algorithm {
            return None;
        }
        let counts = self.snapshot.kept.counts.get(&*conf.name.value)?;
        let same = match counts {
            Counts::Exact(..) | Counts::Log(..) => was.keys_held() == conf.keys_held(),
            Counts::Estimate(_) => {
                was.rate == conf.rate && was.expected_clients == conf.expected_clients
            }
        };
        same.then(|| counts.clone())
    }

    /// The flood limit that goes on.
    pub fn flood(self, conf: &FloodConf) -> Option<Flood> {
        let same = self.conf.flood.as_ref() == Some(conf);
        self.snapshot.flood.clone().filter(|_| same)
    }

    /// The counts of refused credentials, also where another number of them is borne: nobody gains by
    /// a change.
    pub fn failures(self, conf: &FailureLimitConf) -> Option<Arc<Store>> {
        let FailuresConf::Limit(was) = &self.conf.identity.failures else {
            return None;
        };
        let same =
            was.max_addresses == conf.max_addresses && was.rate.value.per == conf.rate.value.per;
        let kept = self.snapshot.kept.failures.as_ref().filter(|_| same);
        kept.map(|failures| failures.store.clone())
    }

    /// The upstream of this name, as it was written and made.
    pub fn upstream(self, name: &str) -> Option<(&'a UpstreamConf, &'a Arc<Pool>)> {
        let was = named(&self.conf.upstreams, |u| *u.name.value == *name)?;
        let mut pools = self.snapshot.pools.iter();
        Some((was, pools.find(|pool| *pool.spec.name == *name)?))
    }

    /// The issuer that goes on as it is.
    pub fn provider(self, conf: &JwtConf) -> Option<Arc<Provider>> {
        let (was, provider) = self.issuer(&conf.name.value)?;
        (was == conf).then(|| provider.clone())
    }

    /// The published keys of an issuer whose other settings changed.
    pub fn published(self, conf: &JwtConf) -> Option<Arc<RemoteKeys>> {
        let (was, provider) = self.issuer(&conf.name.value)?;
        let asks = conf
            .jwks
            .as_ref()
            .is_some_and(|jwks| jwks.discovery.is_some());
        let same = was.jwks == conf.jwks
            && was.algorithms == conf.algorithms
            && (!asks || was.issuer == conf.issuer);
        match provider.source() {
            KeySource::Remote(keys) if same => Some(keys.clone()),
            _ => None,
        }
    }

    fn issuer(self, name: &str) -> Option<(&'a JwtConf, &'a Arc<Provider>)> {
        let was = named(&self.conf.identity.jwt, |i| *i.name.value == *name)?;
        let mut all = self.snapshot.providers.iter();
        Some((was, all.find(|p| p.issuer().name() == name)?))
    }

    /// The issuer that is asked about tokens and goes on as it is, with what it knows.
    pub fn introspection(self, conf: &IntrospectionConf) -> Option<Arc<Introspection>> {
        let all = &self.conf.identity.introspection;
        let was = named(all, |i| *i.name.value == *conf.name.value)?;
        let mut kept = self.snapshot.introspections.iter();
        let kept = kept.find(|i| i.name() == &*conf.name.value)?;
        (was == conf).then(|| kept.clone())
    }

    /// The list of API keys that goes on as it is.
    pub fn api_keys(self, conf: &ApiKeysConf) -> Option<Arc<KeyList>> {
        let (was, list) = self.key_list(conf)?;
        (was == conf).then(|| list.clone())
    }

    /// The keys of a list that come another way from now on.
    pub fn key_source(self, conf: &ApiKeysConf) -> Option<ListSource> {
        let (was, list) = self.key_list(conf)?;
        let same = was.format == conf.format && was.file == conf.file && was.redis == conf.redis;
        same.then(|| list.source().clone())
    }

    /// Whether a list that asks Redis would go on asking the same one.
    pub fn same_redis(self, conf: &ApiKeysConf, redis: Option<&Arc<Redis>>) -> bool {
        let before = self.snapshot.redis.as_ref();
        let same = before.zip(redis).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        conf.redis.is_none() || same
    }

    fn key_list(self, conf: &ApiKeysConf) -> Option<(&'a ApiKeysConf, &'a Arc<KeyList>)> {
        let lists = &self.conf.identity.api_keys;
        let was = named(lists, |k| *k.name.value == *conf.name.value)?;
        Some((was, self.snapshot.kept.api_keys.get(&*conf.name.value)?))
    }
}
