//! Where clients come in.

use std::net::SocketAddr;

use super::decode::Spanned;
use super::fields::{conf, default, optional, required, words};
use super::tls::TlsConf;
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
        /// What is spoken. Default `http`.
        protocol: Spanned<ProtocolConf> = default("http");
        /// TLS. Left out: none.
        tls: Option<Spanned<TlsConf>> = optional();
        /// The PROXY protocol that a load balancer in front begins each connection with. Left out:
        /// it is not understood.
        proxy_protocol: Option<Spanned<ProxyProtocolConf>> = optional();
        /// Answers every request with its https address. Left out: requests are served.
        redirect_to_https: Option<Spanned<RedirectConf>> = optional();
        /// Connections open at a time, 1 to 1000000; further ones are closed. Default 20000.
        max_connections: Spanned<u32> = default("20000").range("1", "1000000");
        /// Connections that one address (IPv4 /32, IPv6 /64) may have open, 1 to 1000000; trusted
        /// proxies may have all. Default 5000, or `max_connections` if that is less.
        max_connections_per_address: Spanned<u32> = default("5000").range("1", "1000000");
        /// Requests that a connection may carry, 1 to 1000000000; then it is closed in good order.
        /// Default 10000.
        max_requests_per_connection: Spanned<u32> = default("10000").range("1", "1000000000");
        /// How long a whole request header may take to arrive, 100ms to 5m. Default 10s.
        header_timeout: Spanned<Span> = default("10s").range("100ms", "5m");
        /// How long a connection is kept open between requests, 100ms to 1h. Default 60s.
        idle_timeout: Spanned<Span> = default("60s").range("100ms", "1h");
        /// How long an answer may wait for a client that reads nothing of it, 100ms to 1h. Default 30s.
        write_timeout: Spanned<Span> = default("30s").range("100ms", "1h");
        /// Bytes a second that a request body must come with, 0B to 1MiB, once it has let us wait for
        /// 5 seconds. 0B: it may come as slowly as it likes. Default 240B.
        min_body_rate: Spanned<ByteSize> = default("240B").range("0B", "1MiB");
        /// The largest request header, 1KiB to 64KiB. Default 16KiB.
        max_header_bytes: Spanned<ByteSize> = default("16KiB").range("1KiB", "64KiB");
        /// The most header fields, 1 to 200. Default 100.
        max_headers: Spanned<u16> = default("100").range("1", "200");
        /// The longest request target, 64B up to `max_header_bytes`. Default 8KiB, or
        /// `max_header_bytes` if that is less.
        max_uri_bytes: Spanned<ByteSize> = default("8KiB").range("64B", "64KiB");
        /// Limits of HTTP/2.
        http2: Http2Conf = default("{}");
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
        if !self.max_connections_per_address.is_written() {
            let most = self.max_connections.value;
            let per = &mut self.max_connections_per_address.value;
            *per = (*per).min(most);
        }
    }
}

words! {
    /// What a listener speaks.
    pub enum ProtocolConf {
        /// HTTP/1.1; over TLS also HTTP/2, if the client asks for it.
        Http = "http",
        /// HTTP/2 without TLS, by clients that know so beforehand; nothing else.
        H2c = "h2c",
    }
}

conf! {
    /// The PROXY protocol, version 1 or 2, at the begin of every connection.
    pub struct ProxyProtocolConf {
        /// Whose word is taken; connections of others are closed. At least one network.
        networks: Vec<Spanned<Network>> = required("a list of networks such as `[10.0.0.0/8]`").some();
        /// How long its header may take, 100ms to 1m. Default 5s.
        timeout: Spanned<Span> = default("5s").range("100ms", "1m");
    }
}

conf! {
    /// Sends clients to the https address of what they asked for.
    pub struct RedirectConf {
        /// The port there, 1 to 65535. Default 443.
        port: Spanned<u16> = default("443").range("1", "65535");
        /// The status: `301` and `302`, or `307` and `308`, which keep the method. Default `308`.
        status: Spanned<RedirectStatusConf> = default("308");
    }
}

words! {
    /// The status of a redirect.
    pub enum RedirectStatusConf {
        /// Moved Permanently.
        S301 = "301",
        /// Found.
        S302 = "302",
        /// Temporary Redirect.
        S307 = "307",
        /// Permanent Redirect.
        S308 = "308",
    }
}

conf! {
    /// Limits of an HTTP/2 connection.
    pub struct Http2Conf {
        /// Streams open at a time, 1 to 10000. Default 100.
        max_streams: Spanned<u32> = default("100").range("1", "10000");
        /// Body bytes that a stream may send before they are asked for, 64KiB to 16MiB. Default 256KiB.
        stream_window: Spanned<ByteSize> = default("256KiB").range("64KiB", "16MiB");
        /// The same for all streams of a connection, 64KiB to 64MiB; not less than `stream_window`.
        /// Default 1MiB, or `stream_window` if that is more.
        connection_window: Spanned<ByteSize> = default("1MiB").range("64KiB", "64MiB");
        /// Streams that a client may reset, or break the rules on, before its connection is closed,
        /// 1 to 100000. Default 200.
        max_resets: Spanned<u32> = default("200").range("1", "100000");
    }
}

impl Http2Conf {
    /// Fits what was left out to what was written.
    pub(super) fn settle(&mut self) {
        if !self.connection_window.is_written() {
            let least = self.stream_window.value;
            self.connection_window.value = self.connection_window.value.max(least);
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
