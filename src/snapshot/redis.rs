//! Compiles the Redis server that gateways share.

use super::compile::{Tools, missed, unready};
use crate::base::secret::Secret;
use crate::config::material::PemFile;
use crate::config::redis::{RedisConf, RedisUrl};
use crate::config::tls::KeyPairConf;
use crate::config::{Fault, Spanned};
use crate::redis::{Redis, RedisRules, TlsRules};
use std::sync::Arc;

/// The server, connected by nobody yet; the one in use where its settings are the same, those in files
/// too.
///
/// # Errors
/// A file that its TLS needs cannot be used.
pub fn compile(conf: &RedisConf, tools: &Tools<'_>) -> Result<Arc<Redis>, Fault> {
    let rules = rules(conf)?;
    let kept = tools
        .before
        .and_then(|before| before.snapshot.redis.as_ref());
    if let Some(kept) = kept.filter(|kept| *kept.rules() == rules) {
        return Ok(kept.clone());
    }
    let metrics = tools.metrics.redis(&rules.address());
    let made = Redis::new(rules, tools.clock.clone(), metrics);
    Ok(Arc::new(made.map_err(|why| missed(&conf.url.place, why))?))
}

/// How it is reached.
///
/// # Errors
/// A file that its TLS needs cannot be used.
pub fn rules(conf: &RedisConf) -> Result<RedisRules, Fault> {
    let RedisConf {
        url,
        username,
        password,
        ca,
        client_certificate,
        // Checked with the address.
        insecure_plaintext: _,
        timeout,
        connect_timeout,
    } = conf;
    let RedisUrl {
        tls,
        host,
        port,
        db,
    } = url.value.clone();
    let client = client_certificate.as_ref().map(|pair| {
        let KeyPairConf { cert, key } = &pair.value;
        Ok::<_, Fault>((text(cert)?, Secret::new(text(key)?)))
    });
    let verified = TlsRules {
        ca: ca.as_ref().map(text).transpose()?,
        client: client.transpose()?,
    };
    Ok(RedisRules {
        host,
        port,
        db,
        tls: tls.then_some(verified),
        username: username.as_ref().map(|name| name.value.clone()),
        password: password.as_ref().map(|p| p.value.clone()),
        timeout: timeout.value.0,
        connect_timeout: connect_timeout.value.0,
    })
}

/// Its address as metrics show it.
pub fn address(conf: &RedisConf) -> String {
    let RedisUrl { host, port, .. } = &conf.url.value;
    RedisRules::written(host, *port)
}

fn text(file: &Spanned<PemFile>) -> Result<String, Fault> {
    let read = file.value.read();
    read.map_err(|why| unready(&file.place, why))
}
