//! Asks an issuer about one token (RFC 7662 §2.1), and takes no more of its answer than it may send.

use super::answer::NoAnswer;
use super::circuit::Health;
use crate::base::secret::Secret;
use crate::identity::discovery::{address, is_loopback};
use crate::identity::fetch::chain;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, InvalidHeaderValue,
};
use reqwest::{Client, Response, Url, redirect};
use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::time::Duration;
use thiserror::Error;

/// The largest answer, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// Connections that are kept for the next query.
const IDLE: usize = 32;
/// How long; most servers keep them longer, and one that is closed under a query costs a second try.
const IDLE_FOR: Duration = Duration::from_secs(15);

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub struct QueryRules {
    /// Where; `https`, or `http` for a loopback host or with `insecure_http`.
    pub url: String,
    /// Whether `http` may be used for any host.
    pub insecure_http: bool,
    /// Our name at the issuer.
    pub client_id: String,
    /// What proves it.
    pub client_secret: Secret,
    /// Where the two stand in a query.
    pub client_auth: ClientAuth,
    /// How long a query may take.
    pub timeout: Duration,
}

/// Where our own credentials stand (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// In `Authorization`.
    Basic,
    /// In the body.
    Post,
}

/// Why a query brought nothing. Holds nothing of what was sent or answered but a status.
#[derive(Debug, Error)]
pub(super) enum QueryFault {
    #[error("{0}")]
    Transport(String),
    #[error(
        "it refuses our own client credentials (answered {0}): see client_id, client_secret, client_auth"
    )]
    Credentials(u16),
    #[error("it answered {0}")]
    Unable(u16),
    #[error("it answered {0}, want 200 (redirects are not followed)")]
    Status(u16),
    #[error("its answer is not application/json")]
    MediaType,
    #[error("it answered with more than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
}

impl QueryFault {
    /// What it says of the issuer's health.
    pub fn health(&self) -> Health {
        match self {
            // 500 and the like may be about this one token.
            Self::Transport(_)
            | Self::Credentials(_)
            | Self::Unable(408 | 429 | 502 | 503 | 504) => Health::Bad,
            _ => Health::Unclear,
        }
    }

    /// Whether the issuer gave an answer, and one that is none.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Credentials(_) | Self::Unable(_) => false,
            Self::Status(_) | Self::MediaType | Self::TooLarge | Self::NoAnswer(_) => true,
        }
    }
}

/// Asks one issuer.
pub(super) struct Query {
    client: Client,
    url: Url,
    /// The field of [`ClientAuth::Basic`].
    basic: Option<HeaderValue>,
    /// What of the body is the same each time.
    body: String,
    timeout: Duration,
}

impl Query {
    /// Prepares asking. The error says what is wrong with the rules.
    pub fn new(rules: &QueryRules) -> Result<Self, String> {
        let url = address(&rules.url, rules.insecure_http).map_err(|e| format!("url: {e}"))?;
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build();
        let client = client.map_err(|fault| format!("url: {}", chain(&fault)))?;
        let secret = std::str::from_utf8(rules.client_secret.expose());
        let secret = secret.map_err(|_| "client_secret: want text".to_owned())?;
        let mut fixed = vec![("token_type_hint", "access_token")];
        let mut basic = None;
        match rules.client_auth {
            ClientAuth::Basic => {
                let field = authorization(&rules.client_id, secret);
                basic = Some(field.map_err(|e| format!("client_secret: {e}"))?);
            }
            ClientAuth::Post => {
                fixed.push(("client_id", &rules.client_id));
                fixed.push(("client_secret", secret));
            }
        }
        Ok(Self {
            client,
            url,
            basic,
            body: form(&fixed),
            timeout: rules.timeout,
        })
    }

    /// Asks about a token; gives the body of an answer in JSON.
    pub async fn ask(&self, token: &str) -> Result<Vec<u8>, QueryFault> {
        let asked = tokio::time::timeout(self.timeout, self.within(token));
        let late = || QueryFault::Transport(format!("no answer within {:?}", self.timeout));
        asked.await.unwrap_or_else(|_| Err(late()))
    }

    async fn within(&self, token: &str) -> Result<Vec<u8>, QueryFault> {
        let answer = match self.send(token).await {
            // It was closed under the query, as kept connections are. Asking changes nothing at the
            // issuer, so it may be done twice (RFC 9110 §9.2.2).
            Err(fault) if was_closed(&fault) => self.send(token).await,
            sent => sent,
        };
        let mut answer = answer.map_err(transport)?;
        check_head(&answer)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(QueryFault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn send(&self, token: &str) -> reqwest::Result<Response> {
        let mut headers = HeaderMap::new();
        let named = |text| HeaderValue::from_static(text);
        headers.insert(ACCEPT, named("application/json"));
        headers.insert(CONTENT_TYPE, named("application/x-www-form-urlencoded"));
        if let Some(basic) = &self.basic {
            headers.insert(AUTHORIZATION, basic.clone());
        }
        let body = format!("{}&{}", form(&[("token", token)]), self.body);
        let query = self.client.post(self.url.clone());
        query.headers(headers).body(body).send().await
    }
}

fn check_head(answer: &Response) -> Result<(), QueryFault> {
    match answer.status().as_u16() {
        200 => {}
        status @ (401 | 403) => return Err(QueryFault::Credentials(status)),
        status @ (408 | 429 | 500..) => return Err(QueryFault::Unable(status)),
        status => return Err(QueryFault::Status(status)),
    }
    let mut types = answer.headers().get_all(CONTENT_TYPE).iter();
    let (first, more) = (types.next(), types.next());
    let text = first.and_then(|t| t.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if more.is_none() && essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(QueryFault::MediaType)
    }
}

/// Pairs as a form has them (RFC 6749 appendix B).
fn form(pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        let mut url = Url::parse("form:").ok()?;
        url.query_pairs_mut().append_key_only(text);
        url.query().map(str::to_owned)
    };
    let encoded = |text| encoded(text).unwrap_or_default();
    let pairs = pairs.iter();
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

/// Both parts are encoded as in a form before they are joined (RFC 6749 §2.3.1): a colon in the id
/// would else move the border between them.
fn authorization(id: &str, secret: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let encoded = |text| form(&[("", text)])[1..].to_owned();
    let pair = format!("{}:{}", encoded(id), encoded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether the connection ended before the first byte of an answer.
fn was_closed(fault: &reqwest::Error) -> bool {
    let mut cause = fault.source();
    while let Some(inner) = cause {
        if let Some(http) = inner.downcast_ref::<hyper::Error>()
            && (http.is_incomplete_message() || http.is_closed())
        {
            return true;
        }
        let io = inner.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(io, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)) {
            return true;
        }
        cause = inner.source();
    }
    false
}

fn transport(fault: reqwest::Error) -> QueryFault {
    QueryFault::Transport(chain(&fault.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let pairs = [("token", "a+b/c=="), ("x", "p w&é"), ("y", "~-._")];
        let want = "token=a%2Bb%2Fc%3D%3D&x=p+w%26%C3%A9&y=%7E-._";
        assert_eq!(form(&pairs), want);
        assert_eq!(form(&[("token", "")]), "token=");
    }

    /// What is sent where an id or a secret holds what stands between them.
    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        let field = authorization("a:b c", "s%+é:").expect("a field");
        let text = field.to_str().expect("text").strip_prefix("Basic ");
        let pair = STANDARD.decode(text.expect("Basic")).expect("base64");
        assert_eq!(pair, b"a%3Ab+c:s%25%2B%C3%A9%3A");
        assert!(field.is_sensitive());
    }
}
