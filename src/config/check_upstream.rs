//! What has to go together in `upstreams`.

use super::check::Findings;
use super::check_upstream_tls;
use super::decode::Spanned;
use super::error::message;
use super::upstream::{
    BreakerConf, CircuitBreakerConf, HealthCheckConf, TimeoutsConf, UpstreamConf,
};

/// Judges all upstreams.
pub(super) fn check(upstreams: &[Spanned<UpstreamConf>], f: &mut Findings) {
    for upstream in upstreams {
        let addresses = upstream.targets.iter().map(|t| &t.address);
        let sound = addresses.filter_map(|a| Some((a.sound()?, &a.place)));
        f.listed_once(sound.map(|(a, place)| ((&a.host, a.port), place)));
        check_upstream_tls::check(upstream, f);
        timeouts(&upstream.timeouts, f);
        if let Some(health) = &upstream.health_check {
            health_check(health, f);
        }
        if let CircuitBreakerConf::On(breaker) = &upstream.circuit_breaker {
            circuit_breaker(breaker, f);
        }
    }
}

fn timeouts(timeouts: &TimeoutsConf, f: &mut Findings) {
    let (connect, total) = (&timeouts.connect, &timeouts.total);
    if let (Some(found), Some(most)) = (connect.sound(), total.sound())
        && found > most
    {
        let place = if connect.is_written() {
            &connect.place
        } else {
            &total.place
        };
        f.fault(place, message!("leaves no time for an answer (found `connect` {found} and `total` {most}, want `connect` no longer than `total`)"));
    }
}

fn health_check(health: &Spanned<HealthCheckConf>, f: &mut Findings) {
    let found = match (&health.http, &health.tcp) {
        (Some(_), Some(_)) => Some("both"),
        (None, None) if health.sound().is_some() => Some("neither"),
        _ => None,
    };
    if let Some(found) = found {
        f.fault(&health.place, message!("does not say how to ask (found {found}, want either `http: /health` or `tcp: true`)"));
    }
    if let Some(tcp) = &health.tcp {
        if tcp.sound() == Some(&false) {
            f.fault(&tcp.place, message!("does not say how to ask (found `false`, want `true`, or `http: /health` instead)"));
        }
        if health.http.is_none() {
            f.idle(&health.status, "tcp");
        }
    }
    if let (Some(timeout), Some(interval)) = (health.timeout.sound(), health.interval.sound())
        && timeout > interval
    {
        f.fault(&health.timeout.place, message!("is longer than from one question to the next (found {timeout}, want at most `interval`, {interval})"));
    }
}

fn circuit_breaker(breaker: &BreakerConf, f: &mut Findings) {
    let ratio = &breaker.failure_ratio;
    let never = ratio.sound().is_some_and(|r| r.0 == 0.0);
    if never && breaker.consecutive_failures.sound() == Some(&0) {
        f.fault(&ratio.place, message!("never opens the circuit, nor does `consecutive_failures` (found 0% and 0, want one of them above 0, or `circuit_breaker: off`)"));
    }
}
