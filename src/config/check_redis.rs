//! What has to go together in `redis`, and what has to be in the files that it names.

use super::check::Findings;
use super::check_upstream_tls::pair;
use super::error::message;
use super::file::FileConf;
use super::redis::RedisConf;

/// Judges `redis`, and whether it is there for those who need it.
pub(super) fn check(conf: &FileConf, f: &mut Findings) {
    match (&conf.redis, &conf.identity.revocation) {
        (Some(redis), _) => server(redis, f),
        (None, Some(revocation)) => f.fault(
            &revocation.place,
            message!("needs a Redis server (found no `redis`, want one: it holds what is revoked, for all gateways)"),
        ),
        (None, None) => {}
    }
}

fn server(redis: &RedisConf, f: &mut Findings) {
    if let (Some(username), None) = (&redis.username, &redis.password) {
        f.fault(
            &username.place,
            message!("logs nobody in (found no `password` with it, want both or neither)"),
        );
    }
    let files = (redis.ca.as_ref(), redis.client_certificate.as_ref());
    pair(files.0, files.1.map(|c| &c.value), f);
    let Some(url) = redis.url.sound() else { return };
    if url.tls {
        if redis.insecure_plaintext.value {
            f.idle(&redis.insecure_plaintext, "rediss://");
        }
        return;
    }
    if let Some(ca) = files.0 {
        f.idle(ca, "redis://");
    }
    if let Some(client) = files.1 {
        f.idle(client, "redis://");
    }
    if !url.is_loopback() && redis.insecure_plaintext.sound() == Some(&false) {
        f.fault(&redis.url.place, message!("can be read and changed on its way (found `{url}`, want `rediss://`, or `insecure_plaintext: true` if nobody else is there: whoever is could hand out keys)"));
    }
}
