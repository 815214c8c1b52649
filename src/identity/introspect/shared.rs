//! Answers that gateways share through Redis, so that each asks less often.
//!
//! Only good tokens are shared, under the token's digest, never the token. Whoever can write there
//! could else make any text a good token, so each value is sealed with a key that only those have who
//! hold the same client secret for the same issuer; what was sealed otherwise, or for another token,
//! is as good as absent. How old an answer is counts from when the issuer was asked, wherever that was.

use super::known::Digest;
use crate::base::clock::Now;
use crate::base::secret::Secret;
use crate::redis::{Redis, RedisFault, cmd};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use std::fmt::Write;
use std::sync::Arc;

/// How far another gateway's clock may be ahead, in milliseconds.
const AHEAD_MS: u64 = 5000;

/// The place where answers about one issuer's tokens are shared.
pub(super) struct Shared {
    redis: Arc<Redis>,
    prefix: String,
    seal: Seal,
}

/// What was found there.
pub(super) enum Found {
    /// The body of an answer, and how many milliseconds ago it was asked for.
    Answer(Vec<u8>, u64),
    /// Nothing, or nothing young enough.
    Nothing,
    /// Something that is not ours.
    Foreign,
    /// Redis could not be asked.
    Unasked,
}

impl Shared {
    pub fn new(redis: Arc<Redis>, name: &str, seal: Seal) -> Self {
        let prefix = format!("tollgate:token:{name}:");
        Self {
            redis,
            prefix,
            seal,
        }
    }

    /// Whether this is the server.
    pub fn is_through(&self, redis: &Arc<Redis>) -> bool {
        Arc::ptr_eq(&self.redis, redis)
    }

    /// Looks for an answer about a token, not older than `ttl_ms`.
    pub async fn get(&self, digest: &Digest, now: Now, ttl_ms: u64) -> Found {
        let mut get = cmd("GET");
        get.arg(self.key(digest));
        let value: Option<Vec<u8>> = match self.redis.query(&get).await {
            Ok(value) => value,
            Err(_) => return Found::Unasked,
        };
        let Some(value) = value else {
            return Found::Nothing;
        };
        let Some((asked_ms, body)) = self.seal.open(digest, &value) else {
            return Found::Foreign;
        };
        let age_ms = now.unix_ms.saturating_sub(asked_ms);
        if age_ms >= ttl_ms || asked_ms > now.unix_ms.saturating_add(AHEAD_MS) {
            return Found::Nothing;
        }
        Found::Answer(body.to_vec(), age_ms)
    }

    /// Leaves an answer that was asked for at `asked_unix_ms` for as long as it counts.
    pub async fn put(&self, digest: &Digest, asked_unix_ms: u64, body: &[u8], life_ms: u64) {
        if life_ms == 0 {
            return;
        }
        let Some(value) = self.seal.close(digest, asked_unix_ms, body) else {
            return;
        };
        let mut set = cmd("SET");
        set.arg(self.key(digest)).arg(value).arg("PX").arg(life_ms);
        // Redis itself counts and tells its faults; here nothing depends on it.
        let _: Result<(), RedisFault> = self.redis.query(&set).await;
    }

    fn key(&self, digest: &Digest) -> String {
        self.prefix.clone() + &hex(digest)
    }
}

/// Seals what is shared: HMAC-SHA256 over the token's digest, the time and the answer, under a key
/// made of the client secret and of whom it is for.
pub(super) struct Seal {
    sign: EncodingKey,
    check: DecodingKey,
}

/// Tells our values from others, and this form from later ones.
const FORM: &str = "tollgate-introspection-1";

impl Seal {
    /// The error is the library's.
    pub fn new(url: &str, client_id: &str, client_secret: &Secret) -> Result<Self, String> {
        let whole = EncodingKey::from_secret(client_secret.expose());
        let of = format!("{FORM}\n{url}\n{client_id}");
        let key = mac(&whole, of.as_bytes()).ok_or("cannot make a key for what is shared")?;
        Ok(Self {
            sign: EncodingKey::from_secret(key.as_bytes()),
            check: DecodingKey::from_secret(key.as_bytes()),
        })
    }

    fn close(&self, digest: &Digest, asked_unix_ms: u64, body: &[u8]) -> Option<Vec<u8>> {
        let mac = mac(&self.sign, &sealed(digest, asked_unix_ms, body))?;
        let mut value = format!("{FORM} {mac} {asked_unix_ms} ").into_bytes();
        value.extend_from_slice(body);
        Some(value)
    }

    fn open<'a>(&self, digest: &Digest, value: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let mut parts = value.splitn(4, |b| *b == b' ');
        let mut next = || parts.next();
        let (form, mac, asked, body) = (next()?, next()?, next()?, next()?);
        let (mac, asked) = (std::str::from_utf8(mac).ok()?, std::str::from_utf8(asked));
        let asked: u64 = asked.ok()?.parse().ok()?;
        let sealed = sealed(digest, asked, body);
        let good = crypto::verify(mac, &sealed, &self.check, Algorithm::HS256);
        (form == FORM.as_bytes() && good.is_ok_and(|good| good)).then_some((asked, body))
    }
}

fn sealed(digest: &Digest, asked_unix_ms: u64, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{} {asked_unix_ms} ", hex(digest)).into_bytes();
    text.extend_from_slice(body);
    text
}

/// In base64url.
fn mac(key: &EncodingKey, text: &[u8]) -> Option<String> {
    crypto::sign(text, key, Algorithm::HS256).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::sha256;

    fn seal(url: &str, client: &str, secret: &str) -> Seal {
        Seal::new(url, client, &Secret::new(secret)).expect("a key")
    }

    #[test]
    fn what_was_sealed_for_another_is_none() {
        let ours = seal("https://a.example/i", "gateway", "hunter2");
        let (token, body) = (sha256(b"token"), b"{\"active\":true, \"sub\":\"u v\"}");
        let value = ours.close(&token, 17, body).expect("a value");
        assert_eq!(ours.open(&token, &value), Some((17, &body[..])));
        assert!(!value.windows(7).any(|w| w == b"hunter2"));
        let same = seal("https://a.example/i", "gateway", "hunter2");
        assert!(same.open(&token, &value).is_some());
        assert_eq!(ours.open(&sha256(b"other"), &value), None);
        for other in [
            seal("https://b.example/i", "gateway", "hunter2"),
            seal("https://a.example/i", "gateway2", "hunter2"),
            seal("https://a.example/i", "gateway", "hunter3"),
        ] {
            assert_eq!(other.open(&token, &value), None);
        }
        for at in 0..value.len() {
            let mut forged = value.clone();
            forged[at] ^= 1;
            assert_eq!(ours.open(&token, &forged), None, "{at}");
            assert_eq!(ours.open(&token, &value[..at]), None, "{at}");
        }
        for text in [
            "",
            " ",
            "   ",
            "{\"active\":true}",
            "tollgate-introspection-1 x 1 {}",
        ] {
            assert_eq!(ours.open(&token, text.as_bytes()), None, "{text}");
        }
    }
}
