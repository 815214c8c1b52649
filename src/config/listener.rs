//! Where clients come in.

use std::net::SocketAddr;

use super::decode::Spanned;
use super::fields::{conf, default, optional, required};
use super::value::Name;
use crate::base::net::Network;
use crate::base::units::{ByteSize, Span};

conf! {
    /// One address that is listened on, and how much a client may ask of it.
    pub struct ListenerConf {
        /// Its name, shown in logs and metrics.
        name: Spanned<Name> = required("a name such as `public`");
        /// IP address and port. Port 0 takes a free one.
        address: Spanned<SocketAddr> = required("an address such as `0.0.0.0:8080`");
        /// How long a whole request header may take to arrive, 100ms to 5m. Default 10s.
        header_timeout: Spanned<Span> = default("10s").range("100ms", "5m");
        /// How long a connection is kept open between requests, 100ms to 1h. Default 60s.
        idle_timeout: Spanned<Span> = default("60s").range("100ms", "1h");
        /// The largest request header, 1KiB to 64KiB. Default 16KiB.
        max_header_bytes: Spanned<ByteSize> = default("16KiB").range("1KiB", "64KiB");
        /// The most header fields, 1 to 200. Default 100.
        max_headers: Spanned<u16> = default("100").range("1", "200");
        /// The longest request target, 64B up to `max_header_bytes`. Default 8KiB, or
        /// `max_header_bytes` if that is less.
        max_uri_bytes: Spanned<ByteSize> = default("8KiB").range("64B", "64KiB");
        /// Left out: an ordinary listener. Given: it answers probes only.
        probes: Option<ProbesConf> = optional();
    }
}

impl ListenerConf {
    /// Fits what was left out to what was written.
    pub(super) fn settle(&mut self) {
        if !self.max_uri_bytes.is_written() {
            let most = self.max_header_bytes.value;
            self.max_uri_bytes.value = self.max_uri_bytes.value.min(most);
        }
    }
}

conf! {
    /// A listener that answers `/health` and `/ready` and nothing else.
    pub struct ProbesConf {
        /// Who is answered. At least one network.
        networks: Vec<Spanned<Network>> = required("a list of networks such as `[10.0.0.0/8]`").some();
        /// Whether `/metrics` is answered too. Default false.
        metrics: Spanned<bool> = default("false");
    }
}
