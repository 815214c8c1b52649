//! Keys in Redis. A record lies under the list's prefix and the digest of its key; under the prefix,
//! `id:` and a key's id lies that digest, so that a key is found by its id without looking at all of
//! them. Records that others wrote have no such entry: for those all are looked at.

use crate::base::clock::Clock;
use crate::config::redis::RedisConf;
use crate::identity::json;
use crate::identity::key_record::{KeyDigest, KeyRecord};
use crate::identity::rfc3339;
use crate::observe::metrics::Metrics;
use crate::redis::{Cmd, FromRedisValue, Redis, cmd};
use crate::snapshot::redis::rules;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many records are asked for at once.
const BATCH: usize = 500;

/// A list of keys in Redis, connected.
pub struct RedisStore {
    runtime: Runtime,
    redis: Arc<Redis>,
    prefix: String,
    /// Ends the connection when it is dropped.
    _stop: watch::Sender<bool>,
}

impl RedisStore {
    /// Connects.
    pub fn open(conf: &RedisConf, prefix: &str) -> Result<Self, String> {
        let rules = rules(conf).map_err(|fault| fault.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| format!("cannot start a thread: {e}"))?;
        let metrics = Metrics::new("", 0).redis(&rules.address());
        let redis = Arc::new(Redis::new(rules, Clock::system(), metrics)?);
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(redis.clone().run(stopped));
        runtime.block_on(redis.first());
        let address = redis.address();
        if !redis.is_up() {
            return Err(format!("redis {address}: cannot be reached"));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            runtime,
            redis,
            _stop: stop,
        })
    }

    fn call<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, String> {
        let answer = self.redis.query_within(cmd, PATIENCE);
        let answer = self.runtime.block_on(answer);
        answer.map_err(|fault| format!("redis {}: {fault}", self.redis.address()))
    }

    fn under(&self, digest: &KeyDigest) -> String {
        format!("{}{}", self.prefix, digest.hex())
    }

    fn index(&self, id: &str) -> String {
        format!("{}id:{id}", self.prefix)
    }

    /// All keys, by client and id. Says of what is no record that it is none.
    pub fn all(&self) -> Result<Vec<KeyRecord>, String> {
        let mut all = BTreeMap::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(format!("{}*", self.prefix));
            scan.arg("COUNT").arg(BATCH);
            let (next, names): (u64, Vec<Vec<u8>>) = self.call(&scan)?;
            for record in self.read(&names)? {
                let place = (record.client.clone(), record.id.clone(), record.digest);
                all.insert(place, record);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(all.into_values().collect());
            }
        }
    }

    /// The records among what has these names.
    fn read(&self, names: &[Vec<u8>]) -> Result<Vec<KeyRecord>, String> {
        let digest = |name: &Vec<u8>| {
            let hex = name.strip_prefix(self.prefix.as_bytes());
            hex.and_then(KeyDigest::from_hex)
        };
        let digests: Vec<_> = names.iter().filter_map(digest).collect();
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("MGET");
        for digest in &digests {
            get.arg(self.under(digest));
        }
        let texts: Vec<Option<Vec<u8>>> = self.call(&get)?;
        let texts = digests.iter().zip(texts);
        let records = texts.filter_map(|(digest, text)| {
            let read = KeyRecord::from_json(&text?, *digest);
            let told = |why| eprintln!("{}{}… {why}: passed over", self.prefix, digest.short());
            read.map_err(told).ok()
        });
        Ok(records.collect())
    }

    /// The keys with this id.
    pub fn with_id(&self, id: &str) -> Result<Vec<KeyRecord>, String> {
        let digest: Option<Vec<u8>> = self.call(cmd("GET").arg(self.index(id)))?;
        if let Some(digest) = digest.as_deref().and_then(KeyDigest::from_hex) {
            let mut found = self.read(&[self.under(&digest).into_bytes()])?;
            found.retain(|record| *record.id == *id);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let mut all = self.all()?;
        all.retain(|record| *record.id == *id);
        Ok(all)
    }

    /// Adds a key.
    pub fn add(&self, record: &KeyRecord) -> Result<(), String> {
        let (place, digest) = (self.index(&record.id), record.digest.hex());
        let () = self.call(cmd("SET").arg(place).arg(digest))?;
        let text = Value::from(record.to_json()).to_string();
        self.call(cmd("SET").arg(self.under(&record.digest)).arg(text))
    }

    /// Takes a key out.
    pub fn remove(&self, record: &KeyRecord) -> Result<(), String> {
        let mut del = cmd("DEL");
        let _: u64 = self.call(del.arg(self.under(&record.digest)))?;
        let _: u64 = self.call(cmd("DEL").arg(self.index(&record.id)))?;
        Ok(())
    }

    /// Has a key end. Nothing else of its record changes, and one that was taken out meanwhile stays
    /// out.
    pub fn end(&self, record: &KeyRecord) -> Result<(), String> {
        let name = self.under(&record.digest);
        let text: Option<Vec<u8>> = self.call(cmd("GET").arg(&name))?;
        let Some(Value::Object(mut members)) = text.as_deref().and_then(json::strict) else {
            return Err("the key is not there any more".to_owned());
        };
        let expires = record.expires_unix_s.map(rfc3339::format);
        members.insert("expires".to_owned(), expires.into());
        let text = Value::from(members).to_string();
        let mut set = cmd("SET");
        set.arg(name).arg(text).arg("XX").arg("KEEPTTL");
        let _: Option<String> = self.call(&set)?;
        Ok(())
    }
}
