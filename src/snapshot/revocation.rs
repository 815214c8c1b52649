//! Compiles what is not believed any more.

use super::compile::Tools;
use crate::config::revocation::{OnLagConf, RevocationConf};
use crate::identity::revoke::{RevocationRules, Revocations};
use crate::redis::Redis;
use std::sync::Arc;

/// The set; the one in use where nothing of it changed, and what that one knows where something did.
pub fn compile(conf: &RevocationConf, redis: &Arc<Redis>, tools: &Tools<'_>) -> Arc<Revocations> {
    let rules = rules(conf);
    let before = tools.before.and_then(|b| b.snapshot.revocations.as_ref());
    if let Some(kept) = before.filter(|kept| kept.is(&rules, redis)) {
        return kept.clone();
    }
    let metrics = tools.metrics.revocations(&rules.key);
    let (redis, clock) = (redis.clone(), tools.clock.clone());
    let before = before.map(|before| &**before);
    Arc::new(Revocations::new(rules, redis, clock, metrics, before))
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
