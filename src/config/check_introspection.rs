//! What has to go together in `identity.introspection`.

use super::check::Findings;
use super::check_identity::{claims, exactly_one};
use super::decode::Spanned;
use super::error::message;
use super::introspection::IntrospectionConf;

/// Judges one issuer that is asked about tokens.
pub(super) fn check(conf: &Spanned<IntrospectionConf>, has_redis: bool, f: &mut Findings) {
    if let (Some(_), Some(any)) = (conf.sound(), conf.any_audience.sound()) {
        let given = conf.audiences.is_some();
        let ways = [("audiences", given), ("any_audience: true", *any)];
        exactly_one(&ways, &conf.place, f);
    }
    without_tls(conf, f);
    plain_secret(conf, f);
    if conf.shared.sound() == Some(&true) && !has_redis {
        f.fault(
            &conf.shared.place,
            message!("has nowhere to share (found no `redis`, want it beside `identity`)"),
        );
    }
    claims(&conf.claims, f);
}

fn without_tls(conf: &IntrospectionConf, f: &mut Findings) {
    let Some(url) = conf.url.sound() else { return };
    if url.is_https() || url.is_loopback() {
        return;
    }
    match conf.insecure_http.sound() {
        Some(true) => f.warn(&conf.url.place, message!("is asked without TLS: whoever stands between reads the tokens and can call any of them good")),
        Some(false) => f.fault(&conf.url.place, message!("would be asked without TLS (found `{}`, want `https://`, or `insecure_http: true` beside it)", url.as_str())),
        None => {}
    }
}

/// A line break in a secret is one that a file was saved with, not one that an issuer gave.
fn plain_secret(conf: &IntrospectionConf, f: &mut Findings) {
    let Some(secret) = conf.client_secret.sound() else {
        return;
    };
    if secret.expose().iter().any(u8::is_ascii_control) {
        f.fault(&conf.client_secret.place, message!("holds a line break or another control character (found one in a secret of {} bytes, want a single line)", secret.expose().len()));
    }
}
