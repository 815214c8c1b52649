//! A list of API keys as routes know it: where its keys come in a request, and what it says of one,
//! wherever it has them from.

use super::api_key::ApiKeys;
use super::key_record::KeyFault;
use super::key_redis::RedisKeys;
use super::principal::Principal;
use crate::base::clock::Now;
use http::HeaderName;
use std::sync::Arc;

/// A list of API keys.
pub struct KeyList {
    /// The header that its keys come in.
    pub header: HeaderName,
    /// The query parameter that they may come in, on routes that allow it.
    pub query: Option<String>,
    source: KeySource,
}

/// Where the keys of a list are.
#[derive(Clone)]
pub enum KeySource {
    /// In a file.
    File(Arc<ApiKeys>),
    /// In Redis.
    Redis(Arc<RedisKeys>),
}

/// What a list says of a key.
#[derive(Debug, PartialEq)]
pub enum KeyVerdict {
    /// It speaks for this caller.
    Found(Arc<Principal>),
    /// It is not to be used.
    Refused(KeyFault),
    /// To be said once it was looked up.
    Ask,
    /// Nobody can say.
    Unavailable,
}

impl KeyList {
    /// A list of these keys.
    pub fn new(header: HeaderName, query: Option<String>, source: KeySource) -> Self {
        Self {
            header,
            query,
            source,
        }
    }

    /// Where its keys are.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// What is to be said of a key without asking anybody. `asked`: it was looked up just now.
    pub fn judge(&self, presented: &[u8], now: Now, asked: bool) -> KeyVerdict {
        match &self.source {
            KeySource::File(keys) => match keys.find(presented, now.unix_s()) {
                Ok(principal) => KeyVerdict::Found(principal),
                Err(fault) => KeyVerdict::Refused(fault),
            },
            KeySource::Redis(keys) => keys.judge(presented, now, asked),
        }
    }

    /// Whether the key was found before and may be used, as far as is known here.
    pub fn is_cached(&self, presented: &[u8], now: Now) -> bool {
        match &self.source {
            KeySource::File(keys) => keys.is_known(presented, now.unix_s()),
            KeySource::Redis(keys) => keys.is_known(presented, now),
        }
    }

    /// Asks for a key; the answer is then there for [`KeyList::judge`].
    pub async fn look_up(&self, presented: &[u8]) {
        match &self.source {
            KeySource::File(_) => {}
            KeySource::Redis(keys) => keys.look_up(presented).await,
        }
    }

    /// Its name in our configuration.
    pub fn name(&self) -> &str {
        match &self.source {
            KeySource::File(keys) => keys.name(),
            KeySource::Redis(keys) => keys.name(),
        }
    }
}
