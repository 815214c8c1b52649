//! Plays curl's part: sends a request exactly as written, path and all, on a connection of its own.

use super::script::{Body, Request};
use super::words;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// Sends `request`, substitutions put in first, as a shell would.
///
/// # Errors
/// There was no answer, or not in time.
pub async fn send(request: &Request) -> Result<Answer, String> {
    let mut sent = request.clone();
    for (_, value) in &mut sent.headers {
        if let Some((before, address, after)) = words::substitution(value) {
            let inner = Request {
                method: "GET".to_owned(),
                url: address.to_owned(),
                ..Request::default()
            };
            let answer = exchange(&inner).await?;
            *value = format!("{before}{}{after}", answer.body.trim_end());
        }
    }
    exchange(&sent).await
}

async fn exchange(request: &Request) -> Result<Answer, String> {
    match tokio::time::timeout(PATIENCE, attempt(request)).await {
        Ok(answer) => answer.map_err(|why| format!("{}: {why}", request.url)),
        Err(_) => Err(format!("{}: no answer within {PATIENCE:?}", request.url)),
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn attempt(request: &Request) -> Result<Answer, Fault> {
    let address = request.url.strip_prefix("http://").unwrap_or_default();
    let at = address.find('/').ok_or("an address without a path")?;
    let (host, target) = address.split_at(at);
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(build(request, host, target)?).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn build(request: &Request, host: &str, target: &str) -> Result<http::Request<Full<Bytes>>, Fault> {
    let body = Full::from(request.body.bytes().unwrap_or_default());
    let mut built = http::Request::builder()
        .method(request.method.as_str())
        .uri(target)
        .body(body)?;
    let headers = built.headers_mut();
    headers.insert(HOST, host.parse()?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if request.body != Body::None {
        // As curl does.
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
    }
    for (name, value) in &request.headers {
        let name: HeaderName = name.parse()?;
        // A field given once replaces curl's own.
        if name == CONTENT_TYPE {
            headers.remove(CONTENT_TYPE);
        }
        headers.append(name, value.parse()?);
    }
    Ok(built)
}
