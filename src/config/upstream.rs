//! Groups of backends: where they are, how they are chosen, watched and given up on.

use std::fmt;
use std::net::IpAddr;

use super::decode::{Decode, Spanned, Value};
use super::decoder::Decoder;
use super::error::{Place, message};
use super::fields::{conf, default, optional, required, words};
use super::tls::UpstreamTlsConf;
use super::value::{Name, RequestPath};
use super::yaml::{Content, Node};
use crate::base::units::{Percent, Span};
use crate::route::host;

conf! {
    /// A group of backends that serve the same.
    pub struct UpstreamConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `users-v1`");
        /// The backends. At least one; each an address, or an address and a weight.
        targets: Vec<Spanned<TargetConf>> = required("a list such as `[\"10.0.1.22:3001\"]`").some();
        /// What backends speak. Default `http1`.
        protocol: Spanned<UpstreamProtocolConf> = default("http1");
        /// TLS to them. Left out: none.
        tls: Option<Spanned<UpstreamTlsConf>> = optional();
        /// How a backend is chosen. Default `round_robin`.
        balance: Spanned<BalanceConf> = default("round_robin");
        /// How long to wait.
        timeouts: TimeoutsConf = default("{}");
        /// Asking backends how they are. Left out: they are not asked.
        health_check: Option<Spanned<HealthCheckConf>> = optional();
        /// When to stop sending for a while; `off`, or settings. Default: on, with its defaults.
        circuit_breaker: CircuitBreakerConf = default("{}");
        /// Further attempts after a failed connection, or a reset of an idempotent request, 0 to
        /// 5. Default 1.
        retries: Spanned<u16> = default("1").range("0", "5");
        /// How often names are looked up again, 1s to 1h. Default 30s.
        dns_refresh: Spanned<Span> = default("30s").range("1s", "1h");
    }
}

words! {
    /// What backends speak.
    pub enum UpstreamProtocolConf {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2; without TLS by prior knowledge. What gRPC needs.
        Http2 = "http2",
        /// HTTP/2 if they offer it (ALPN), else HTTP/1.1; only with TLS.
        Auto = "auto",
    }
}

words! {
    /// How a backend is chosen.
    pub enum BalanceConf {
        /// In turn, by weight, evenly spread.
        RoundRobin = "round_robin",
        /// The less loaded of two.
        LeastLoaded = "least_loaded",
    }
}

conf! {
    /// One backend; may be written as its address alone.
    pub struct TargetConf {
        /// Host (a name or an IP address) and port.
        address: Spanned<TargetAddress> = required("an address such as `10.0.1.22:3001`").short();
        /// Its share against the others, 1 to 1000. Default 1.
        weight: Spanned<u32> = default("1").range("1", "1000");
    }
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAddress {
    /// A name in lower case or an IP address, without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

impl TargetAddress {
    /// The address if no name has to be looked up.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl Value for TargetAddress {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err(message!(
                "is a web address (found one with `://`, want host and port only, such as `10.0.1.22:3001`)"
            ));
        }
        let host = host::normalise(text).ok();
        let port = text
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        match (host, port) {
            (Some(host), Some(port)) => {
                let host = host.trim_matches(['[', ']']).to_owned();
                Ok(Self { host, port })
            }
            _ => Err(message!(
                "is not a backend's address (found `{text}`, want host and port such as `10.0.1.22:3001`, `[2001:db8::1]:3001` or `users.internal:3001`)"
            )),
        }
    }

    fn stand_in() -> Self {
        Self {
            host: String::new(),
            port: 1,
        }
    }
}

conf! {
    /// How long to wait for a backend.
    pub struct TimeoutsConf {
        /// For a connection, 1ms to 5m. Default 2s.
        connect: Spanned<Span> = default("2s").range("1ms", "5m");
        /// Between two reads of a reply, or two writes of a body, 1ms to 24h; without it only the
        /// whole counts.
        read: Option<Spanned<Span>> = optional().range("1ms", "24h");
        /// For the whole of an exchange, further attempts included, 1ms to 24h; not less than
        /// `connect`. Default 10s.
        total: Spanned<Span> = default("10s").range("1ms", "24h");
        /// How long an idle connection is kept, 1ms to 1h. Default 50s.
        idle: Spanned<Span> = default("50s").range("1ms", "1h");
    }
}

conf! {
    /// How backends are asked how they are: by `http` or by `tcp`.
    pub struct HealthCheckConf {
        /// The path to GET.
        http: Option<Spanned<RequestPath>> = optional();
        /// `true`: a connection is enough.
        tcp: Option<Spanned<bool>> = optional();
        /// How often, 100ms to 1h. Default 5s.
        interval: Spanned<Span> = default("5s").range("100ms", "1h");
        /// How long an answer may take, 10ms up to `interval`. Default 1s, or `interval` if that
        /// is less.
        timeout: Spanned<Span> = default("1s").range("10ms", "1h");
        /// Good answers in a row that bring a backend back, 1 to 100. Default 1.
        healthy: Spanned<u32> = default("1").range("1", "100");
        /// Bad answers in a row that take a backend out, 1 to 100. Default 2.
        unhealthy: Spanned<u32> = default("2").range("1", "100");
        /// The status of a good answer, 100 to 599. Default 200.
        status: Spanned<u16> = default("200").range("100", "599");
    }
}

impl TimeoutsConf {
    /// Fits what was left out to what was written: no connecting outlasts the whole.
    pub(super) fn settle(&mut self) {
        if !self.connect.is_written() {
            self.connect.value = self.connect.value.min(self.total.value);
        }
    }
}

impl HealthCheckConf {
    /// Fits what was left out to what was written.
    pub(super) fn settle(&mut self) {
        if !self.timeout.is_written() {
            self.timeout.value = self.timeout.value.min(self.interval.value);
        }
    }
}

/// Whether a circuit breaker stands before an upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum CircuitBreakerConf {
    /// `circuit_breaker: off`.
    Off,
    /// Settings, or their defaults.
    On(Box<BreakerConf>),
}

impl Decode for CircuitBreakerConf {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        match &node.content {
            Content::Text { text, .. } if text == "off" => Some(Self::Off),
            Content::Map(_) => BreakerConf::decode(node, d).map(|b| Self::On(Box::new(b))),
            _ => {
                d.wrong_form(node, "`off`, or settings such as `{ failure_ratio: 50% }`");
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self::Off
    }
}

conf! {
    /// When a circuit opens, and how it closes again.
    pub struct BreakerConf {
        /// Opens at this share of failures within the window, 0% to 100%; 0% never. Default 50%.
        failure_ratio: Spanned<Percent> = default("50%").range("0%", "100%");
        /// Requests a window must have before the share counts, 1 to 1000000. Default 5.
        min_requests: Spanned<u32> = default("5").range("1", "1000000");
        /// The window, 1s to 1h. Default 10s.
        window: Spanned<Span> = default("10s").range("1s", "1h");
        /// Opens after so many failures in a row, 0 to 1000000; 0 never. A busy upstream that goes down is
        /// noticed by this long before its failures outweigh the successes of the window. Default 20.
        consecutive_failures: Spanned<u32> = default("20").range("0", "1000000");
        /// How long it stays open before probes are let through, 100ms to 1h. Default 30s.
        open_for: Spanned<Span> = default("30s").range("100ms", "1h");
        /// Probes at a time, and successes that close it, 1 to 1000. Default 2.
        probes: Spanned<u32> = default("2").range("1", "1000");
    }
}
