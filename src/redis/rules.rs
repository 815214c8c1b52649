//! Where a Redis server is, how one logs in, and how long one waits for it.

use crate::base::secret::Secret;
use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
};
use std::time::Duration;

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisRules {
    /// A name, looked up anew for each connection, or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub db: u32,
    /// TLS; none: what is said there can be read on the way.
    pub tls: Option<TlsRules>,
    /// The user (ACL); none: the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// How long one command of a request may take.
    pub timeout: Duration,
    /// How long a connection may take, from its name to its first answer.
    pub connect_timeout: Duration,
}

/// What a server is verified with. Its certificate must bear its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsRules {
    /// Who may have signed it, in PEM; none: the system's authorities.
    pub ca: Option<String>,
    /// The certificate and the private key that we present, in PEM.
    pub client: Option<(String, Secret)>,
}

impl RedisRules {
    /// Host and port as they are written.
    pub fn address(&self) -> String {
        Self::written(&self.host, self.port)
    }

    /// Host and port as they are written.
    pub fn written(host: &str, port: u16) -> String {
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// A client that speaks this version of the protocol.
    pub(super) fn client(&self, protocol: ProtocolVersion) -> RedisResult<Client> {
        let (host, port) = (self.host.clone(), self.port);
        let address = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut login = RedisConnectionInfo::default()
            .set_protocol(protocol)
            .set_db(i64::from(self.db))
            .set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
        if let Some(name) = &self.username {
            login = login.set_username(name);
        }
        if let Some(password) = &self.password {
            let text = std::str::from_utf8(password.expose());
            let text = text.map_err(|_| unusable("password: found bytes that are no text"))?;
            login = login.set_password(text);
        }
        let info = address.into_connection_info()?.set_redis_settings(login);
        match &self.tls {
            None => Client::open(info),
            Some(TlsRules { ca, client }) => {
                let client_tls = client.as_ref().map(|(cert, key)| ClientTlsConfig {
                    client_cert: cert.clone().into_bytes(),
                    client_key: key.expose().to_vec(),
                });
                let root_cert = ca.clone().map(String::into_bytes);
                Client::build_with_tls(
                    info,
                    TlsCertificates {
                        client_tls,
                        root_cert,
                    },
                )
            }
        }
    }
}

fn unusable(why: &'static str) -> RedisError {
    (::redis::ErrorKind::InvalidClientConfig, why).into()
}
