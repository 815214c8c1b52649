//! Compiles upstreams.

use super::compile::Tools;
use crate::breaker::{Breaker, BreakerRule};
use crate::config::upstream::{
    BalanceConf, BreakerConf, CircuitBreakerConf, HealthCheckConf, TargetConf, TimeoutsConf,
    UpstreamConf,
};
use crate::upstream::health::{Ask, Probe};
use crate::upstream::pool::{Balance, Pool, Spec, TargetSpec, Timeouts};
use std::sync::Arc;

/// Compiles one; its names are resolved later, in the background.
pub fn compile(conf: &UpstreamConf, tools: &Tools<'_>) -> Pool {
    let UpstreamConf {
        name,
        targets,
        protocol: _,
        tls: _,
        balance,
        timeouts,
        health_check,
        circuit_breaker,
        retries,
        dns_refresh,
    } = conf;
    let spec = Spec {
        name: Arc::from(&*name.value),
        targets: targets.iter().map(|t| target(&t.value)).collect(),
        balance: match balance.value {
            BalanceConf::RoundRobin => Balance::RoundRobin,
            BalanceConf::LeastLoaded => Balance::LeastLoaded,
        },
        timeouts: times(timeouts),
        retries: u32::from(retries.value),
        probe: health_check.as_ref().map(|h| probe(&h.value)),
        dns_refresh: dns_refresh.value.0,
    };
    let breaker = match circuit_breaker {
        CircuitBreakerConf::Off => None,
        CircuitBreakerConf::On(on) => Some(Arc::new(Breaker::new(rule(on)))),
    };
    let metrics = tools.metrics.upstream(&name.value);
    Pool::new(spec, breaker, metrics)
}

fn target(conf: &TargetConf) -> TargetSpec {
    let TargetConf { address, weight } = conf;
    let (host, port) = (&address.value.host, address.value.port);
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    TargetSpec {
        address: address.into(),
        weight: weight.value,
    }
}

fn times(conf: &TimeoutsConf) -> Timeouts {
    let TimeoutsConf {
        connect,
        read,
        total,
        idle,
    } = conf;
    Timeouts {
        connect: connect.value.0,
        read: read.as_ref().map(|r| r.value.0),
        total: total.value.0,
        idle: idle.value.0,
    }
}

fn probe(conf: &HealthCheckConf) -> Probe {
    let HealthCheckConf {
        http,
        // One of the two is written; checked with the config.
        tcp: _,
        interval,
        timeout,
        healthy,
        unhealthy,
        status,
    } = conf;
    Probe {
        ask: http.as_ref().map_or(Ask::Tcp, |path| Ask::Http {
            path: path.value.to_string(),
            status: status.value,
        }),
        interval: interval.value.0,
        timeout: timeout.value.0,
        healthy: healthy.value,
        unhealthy: unhealthy.value,
    }
}

fn rule(conf: &BreakerConf) -> BreakerRule {
    let BreakerConf {
        failure_ratio,
        min_requests,
        window,
        consecutive_failures,
        open_for,
        probes,
    } = conf;
    BreakerRule {
        failure_ratio: failure_ratio.value.share(),
        min_requests: min_requests.value,
        window_ms: window.value.as_ms(),
        consecutive_failures: consecutive_failures.value,
        open_for_ms: open_for.value.as_ms(),
        probes: probes.value,
    }
}
