//! A bare stock Pingora proxy: one plain and one TLS listener, one upstream, nothing of Tollgate.
//!
//! All settings come from the environment; see the README beside `Cargo.toml`.

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Session};
use pingora::proxy::http_proxy_service;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends every request to one upstream.
struct Bare {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(
            self.upstream.as_str(),
            false,
            String::new(),
        )))
    }
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn main() {
    let threads = setting("BARE_THREADS", "1")
        .parse()
        .expect("BARE_THREADS is a number");
    let conf = ServerConf {
        threads,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let upstream = setting("BARE_UPSTREAM", "127.0.0.1:19080");
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    let plain = setting("BARE_LISTEN", "127.0.0.1:19081");
    if !plain.is_empty() {
        service.add_tcp(&plain);
    }
    let tls = setting("BARE_TLS_LISTEN", "127.0.0.1:19443");
    if !tls.is_empty() {
        let cert = setting("BARE_CERT", "cert.pem");
        let key = setting("BARE_KEY", "key.pem");
        let mut settings =
            TlsSettings::intermediate(&cert, &key).expect("the certificate and key load");
        if setting("BARE_H2", "0") == "1" {
            settings.enable_h2();
        }
        service.add_tls_with_settings(&tls, None, settings);
    }
    server.add_service(service);
    server.run_forever();
}
