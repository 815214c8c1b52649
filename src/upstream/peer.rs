//! How Pingora is told to reach an endpoint. The one place that makes an `HttpPeer`, so that none
//! goes without time limits, and none resolves a name on a worker.

use super::pool::{Spec, Timeouts};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

/// How much later than the request its last read or write ends.
const SLACK: Duration = Duration::from_millis(200);

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
    let step = spec.timeouts.read.unwrap_or(spec.timeouts.total);
    (options.read_timeout, options.write_timeout) = (Some(step), Some(step));
    options.idle_timeout = Some(spec.timeouts.idle);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}

/// The template with its limits cut to what is left of the request's time.
pub fn within(template: &HttpPeer, timeouts: &Timeouts, left: Duration) -> HttpPeer {
    let mut peer = template.clone();
    let options = &mut peer.options;
    if left < timeouts.connect {
        options.connection_timeout = Some(left);
        options.total_connection_timeout = Some(left);
    }
    // The request's own limit is the one that counts, and says so; this ends what it cannot reach.
    let most = left + SLACK;
    let step = timeouts.read.map_or(most, |read| read.min(most));
    (options.read_timeout, options.write_timeout) = (Some(step), Some(step));
    peer
}
