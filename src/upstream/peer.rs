//! How Pingora is told to reach an endpoint. The one place that makes an `HttpPeer`, so that none
//! goes without time limits, and none resolves a name on a worker.

use super::pool::{Spec, Timeouts};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

/// The peer of one endpoint, made once.
pub fn template(address: SocketAddr, spec: &Spec) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    // Upstreams never share connections: their settings may differ.
    let mut hasher = DefaultHasher::new();
    spec.name.hash(&mut hasher);
    peer.group_key = hasher.finish();
    let options = &mut peer.options;
    options.connection_timeout = Some(spec.timeouts.connect);
    options.total_connection_timeout = Some(spec.timeouts.connect);
    options.read_timeout = Some(spec.timeouts.read);
    options.write_timeout = Some(spec.timeouts.read);
    options.idle_timeout = Some(spec.timeouts.idle);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}

/// The template with its limits cut to what is left of the request's time.
pub fn within(template: &HttpPeer, timeouts: &Timeouts, left: Duration) -> HttpPeer {
    let mut peer = template.clone();
    if left < timeouts.connect {
        peer.options.connection_timeout = Some(left);
        peer.options.total_connection_timeout = Some(left);
    }
    peer
}
