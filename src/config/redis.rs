//! The Redis server that gateways share.

use std::fmt;
use std::net::IpAddr;

use super::decode::{Spanned, Value};
use super::error::message;
use super::fields::{conf, default, optional, required};
use super::material::PemFile;
use super::tls::KeyPairConf;
use crate::base::secret::Secret;
use crate::base::units::Span;

conf! {
    /// A Redis server, version 6 or newer.
    pub struct RedisConf {
        /// Where it is: `rediss://` with TLS, `redis://` without; host, port and number of the database.
        url: Spanned<RedisUrl> = required("its address such as `rediss://redis.internal:6379`");
        /// The user to log in as (ACL). Left out: the default user.
        username: Option<Spanned<String>> = optional();
        /// The password; may be `file:` and a path. Left out: nobody logs in.
        password: Option<Spanned<Secret>> = optional();
        /// PEM file with the authorities that may have signed its certificate. Default: the system's.
        ca: Option<Spanned<PemFile>> = optional();
        /// What we present ourselves. Left out: nothing.
        client_certificate: Option<Spanned<KeyPairConf>> = optional();
        /// Whether it may be spoken to without TLS on another machine. Default false.
        insecure_plaintext: Spanned<bool> = default("false");
        /// How long one command of a request may take, 1ms to 5s. Default 20ms.
        timeout: Spanned<Span> = default("20ms").range("1ms", "5s");
        /// How long a connection may take, 10ms to 1m. Default 2s.
        connect_timeout: Spanned<Span> = default("2s").range("10ms", "1m");
    }
}

/// Where a Redis server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of the database.
    pub db: u32,
}

impl RedisUrl {
    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|a| a.is_loopback())
    }

    fn read(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text).ok()?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        if url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let db = match url.path().strip_prefix('/').unwrap_or_default() {
            "" => 0,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            _ => return None,
        };
        Some(Self {
            tls,
            host,
            port: url.port().unwrap_or(6379),
            db,
        })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}", self.host)
    }
}

impl Value for RedisUrl {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return Err(message!(
                "is an address with a user's name or password in it (found one, want the address alone: those have the keys `username` and `password`)"
            ));
        }
        Self::read(text).ok_or_else(|| {
            message!("is not the address of a Redis server (found `{text}`, want one such as `rediss://redis.internal:6379` or `redis://127.0.0.1:6379/0`)")
        })
    }

    fn stand_in() -> Self {
        Self {
            tls: true,
            host: String::new(),
            port: 0,
            db: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(tls: bool, host: &str, port: u16, db: u32) -> RedisUrl {
        let host = host.to_owned();
        RedisUrl {
            tls,
            host,
            port,
            db,
        }
    }

    #[test]
    fn addresses() {
        for (text, want) in [
            ("redis://127.0.0.1", url(false, "127.0.0.1", 6379, 0)),
            ("redis://127.0.0.1:7000/", url(false, "127.0.0.1", 7000, 0)),
            (
                "rediss://Redis.Internal:6380/15",
                url(true, "redis.internal", 6380, 15),
            ),
            ("rediss://[::1]:6379/2", url(true, "::1", 6379, 2)),
        ] {
            assert_eq!(RedisUrl::parse(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "127.0.0.1:6379",
            "http://a",
            "redis://",
            "redis:///0",
            "redis://a:70000",
            "redis://a/x",
            "redis://a/-1",
            "redis://a/0/1",
            "redis://a?db=1",
            "redis://a#b",
            "redis://a/99999999999",
        ] {
            assert!(RedisUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for text in [
            "redis://:hunter2@a",
            "redis://u:hunter2@a",
            "redis://u:hunt@er2@a:x",
            "x:hunter2@",
        ] {
            let told = RedisUrl::parse(text).unwrap_err();
            assert!(
                told.contains("`password`") && !told.contains("er2"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_is_on_this_machine() {
        for (host, want) in [
            ("localhost", true),
            ("127.0.0.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(url(false, host, 1, 0).is_loopback(), want, "{host}");
        }
    }
}
