//! Compiles what is not believed any more.

use super::compile::Tools;
use crate::config::Spanned;
use crate::config::revocation::{OnLagConf, RevocationConf};
use crate::identity::revoke::{RevocationRules, Revocations};
use crate::redis::Redis;
use std::sync::Arc;

/// The set, where there is to be one; the one in use where nothing of it changed, and what that one knows
/// where something did.
pub fn compile(
    conf: Option<&Spanned<RevocationConf>>,
    redis: Option<&Arc<Redis>>,
    tools: &Tools<'_>,
) -> Option<Arc<Revocations>> {
    let (conf, redis) = conf.zip(redis)?;
    let rules = rules(&conf.value);
    let before = tools.before.and_then(|b| b.snapshot.revocations.as_ref());
    if let Some(kept) = before.filter(|kept| kept.is(&rules, redis)) {
        return Some(kept.clone());
    }
    let metrics = tools.metrics.revocations(&rules.key);
    let (redis, clock) = (redis.clone(), tools.clock.clone());
    let before = before.map(|before| &**before);
    let made = Revocations::new(rules, redis, clock, metrics, before);
    Some(Arc::new(made))
}

fn rules(conf: &RevocationConf) -> RevocationRules {
    let RevocationConf {
        key,
        scan,
        max_lag,
        on_lag,
        max_entries,
    } = conf;
    RevocationRules {
        key: key.value.clone(),
        scan: scan.value.0,
        max_lag: max_lag.value.0,
        refuse: on_lag.value == OnLagConf::Refuse,
        max_entries: max_entries.value as usize,
    }
}
