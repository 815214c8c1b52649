//! Compiles upstreams.

use super::compile::{Tools, missed, unready};
use crate::breaker::{Breaker, BreakerRule};
use crate::config::material::PemFile;
use crate::config::tls::{KeyPairConf, ServerName, UpstreamTlsConf};
use crate::config::upstream::{
    BalanceConf, BreakerConf, CircuitBreakerConf, HealthCheckConf, TargetConf, TimeoutsConf,
    UpstreamConf, UpstreamProtocolConf,
};
use crate::config::{Fault, Place, Spanned};
use crate::upstream::health::{self, Ask, Probe};
use crate::upstream::pool::{Balance, Pool, Protocol, Spec, TargetSpec, Timeouts};
use crate::upstream::tls::{self, Name, Pair, Secure, Tls};
use std::sync::Arc;

/// Compiles one; its names are resolved later, in the background.
///
/// # Errors
/// A file that its TLS needs cannot be used, or this machine has no authorities to verify with.
pub fn compile(conf: &UpstreamConf, tools: &Tools<'_>) -> Result<Arc<Pool>, Fault> {
    let UpstreamConf {
        name,
        targets,
        protocol,
        tls,
        balance,
        timeouts,
        health_check,
        circuit_breaker,
        retries,
        dns_refresh,
    } = conf;
    let security = tls.as_ref().map(security).transpose()?;
    let targets = targets.iter().map(|t| target(t, security.as_ref()));
    let spec = Spec {
        name: Arc::from(&*name.value),
        targets: targets.collect::<Result<_, Fault>>()?,
        protocol: match protocol.value {
            UpstreamProtocolConf::Http1 => Protocol::Http1,
            UpstreamProtocolConf::Http2 => Protocol::Http2,
            UpstreamProtocolConf::Auto => Protocol::Auto,
        },
        balance: match balance.value {
            BalanceConf::RoundRobin => Balance::RoundRobin,
            BalanceConf::LeastLoaded => Balance::LeastLoaded,
        },
        timeouts: times(timeouts),
        retries: u32::from(retries.value),
        probe: health_check.as_ref().map(|h| probe(&h.value)),
        dns_refresh: dns_refresh.value.0,
    };
    let before = tools.before.and_then(|before| before.upstream(&name.value));
    let same_breaker = before.filter(|(was, _)| was.circuit_breaker == *circuit_breaker);
    if let Some((_, pool)) = same_breaker
        && pool.spec == spec
    {
        return Ok(pool.clone());
    }
    let breaker = match (same_breaker, circuit_breaker) {
        (Some((_, pool)), _) => pool.breaker.clone(),
        (None, CircuitBreakerConf::Off) => None,
        (None, CircuitBreakerConf::On(on)) => Some(Arc::new(Breaker::new(rule(on)))),
    };
    let metrics = tools.metrics.upstream(&name.value);
    let before = before.map(|(_, pool)| &**pool);
    Ok(Arc::new(Pool::new(spec, breaker, metrics, before)))
}

/// What the targets have in common, and the name that is written for all of them.
type Security = (Arc<Tls>, Option<Name>);

fn security(conf: &Spanned<UpstreamTlsConf>) -> Result<Security, Fault> {
    let UpstreamTlsConf {
        server_name,
        ca,
        client_certificate,
    } = &conf.value;
    let authorities = ca.as_ref().map(read).transpose()?;
    if authorities.is_none() {
        system_authorities(&conf.place)?;
    }
    let mut pair = None;
    if let Some(KeyPairConf { cert, key }) = client_certificate {
        pair = Some((read(cert)?, read(key)?));
    }
    let client = pair.as_ref().map(|(chain, key)| Pair { chain, key });
    let made = Tls::new(authorities.as_deref(), client);
    let tls = made.map_err(|why| missed(&conf.place, why))?;
    let written = |name: &Spanned<ServerName>| {
        let made = Name::new(&name.value.0);
        made.ok_or_else(|| missed(&name.place, "no name"))
    };
    let name = server_name.as_ref().map(written).transpose()?;
    Ok((Arc::new(tls), name))
}

fn read(file: &Spanned<PemFile>) -> Result<Vec<u8>, Fault> {
    let PemFile(path) = &file.value;
    std::fs::read(path).map_err(|why| unready(&file.place, format!("{}: {why}", path.display())))
}

/// Without any, each handshake would fail, and none of them would say why.
fn system_authorities(place: &Place) -> Result<(), Fault> {
    health::look_for_authorities();
    if tls::system_has_authorities() {
        return Ok(());
    }
    let why = "it has no certificate authorities to verify with: install the package \
               `ca-certificates`, or write `ca`";
    Err(unready(place, why))
}

fn target(conf: &Spanned<TargetConf>, security: Option<&Security>) -> Result<TargetSpec, Fault> {
    let TargetConf { address, weight } = &conf.value;
    let secure = security.map(|(tls, name)| {
        let own = || Name::new(&address.value.host);
        let name = name.clone().or_else(own);
        let missing = || missed(&conf.place, "an address has no name to verify");
        let tls = tls.clone();
        Ok(Secure {
            name: name.ok_or_else(missing)?,
            tls,
        })
    });
    let (host, port) = (&address.value.host, address.value.port);
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Ok(TargetSpec {
        address: address.into(),
        weight: weight.value,
        secure: secure.transpose()?,
    })
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
