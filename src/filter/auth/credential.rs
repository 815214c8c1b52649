//! The credentials that a request presents, read and not yet believed.

use super::Request;
use crate::observe::reason::Reason;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

/// How the value of an `Authorization` field with a bearer token begins.
const SCHEME: &[u8] = b"Bearer ";

/// The bearer token of a request (RFC 6750 §2.1); the scheme's case does not count. Whether it is a text
/// is for [`text`] to say: a token that is known need not be looked at byte by byte once more.
///
/// # Errors
/// There is none, or it cannot be told which one is meant.
pub fn bearer(headers: &HeaderMap) -> Result<&[u8], Reason> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Reason::CredentialsMissing)?;
    if values.next().is_some() {
        return Err(Reason::CredentialsRepeated);
    }
    let token = value.as_bytes().split_at_checked(SCHEME.len());
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    let token = token.map_or(&[][..], |(_, token)| token.trim_ascii());
    if token.is_empty() {
        return Err(Reason::BearerRequired);
    }
    Ok(token)
}

/// A token as a text.
///
/// # Errors
/// It has bytes beyond ASCII (RFC 6750 §2.1).
pub fn text(token: &[u8]) -> Result<&str, Reason> {
    let ascii = Some(token).filter(|token| token.is_ascii());
    let text = ascii.and_then(|token| std::str::from_utf8(token).ok());
    text.ok_or(Reason::CredentialsMalformed)
}

/// The API key of a request, in this header, or in this parameter of the query where there may be one.
///
/// # Errors
/// It is there more than once.
pub fn key<'a>(
    request: &Request<'a>,
    header: &HeaderName,
    parameter: Option<&str>,
) -> Result<Option<Cow<'a, [u8]>>, Reason> {
    let mut sent = request.headers.get_all(header).iter();
    let in_header = sent.next().map(|value| Cow::Borrowed(value.as_bytes()));
    let mut found = parameter.map(|name| parameters(request.query, name));
    let in_query = found.as_mut().and_then(Iterator::next);
    let more = sent.next().is_some() || found.is_some_and(|mut all| all.next().is_some());
    match (in_header, in_query) {
        _ if more => Err(Reason::CredentialsRepeated),
        (Some(_), Some(_)) => Err(Reason::CredentialsRepeated),
        (Some(key), None) => Ok(Some(key)),
        (None, key) => Ok(key),
    }
}

/// The values of a query's parameter, decoded.
fn parameters<'a>(query: Option<&'a str>, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let named = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let named = named.filter(move |(own, _)| *decoded(own) == *name.as_bytes());
    named.map(|(_, value)| decoded(value))
}

/// A query without these parameters, however their names are spelt; nothing if nothing is left.
pub fn without(query: &str, names: &[Box<str>]) -> Option<String> {
    let other = |pair: &&str| {
        let (own, _) = pair.split_once('=').unwrap_or((pair, ""));
        let own = decoded(own);
        names.iter().all(|name| *own != *name.as_bytes())
    };
    let left: Vec<&str> = query.split('&').filter(other).collect();
    (!left.is_empty()).then(|| left.join("&"))
}

/// Percent-decoded once (RFC 3986 §2.1); what is no encoding stands for itself.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let pair = behind.first_chunk().filter(|_| *first == b'%');
        let byte = pair.and_then(|[a, b]: &[u8; 2]| Some(digit(*a)? << 4 | digit(*b)?));
        out.push(byte.map_or(*first, |byte| byte as u8));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&'static str]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).and_then(text).map(str::to_owned)
    }

    #[test]
    fn a_bearer_token_and_what_is_none() {
        assert_eq!(of(&["Bearer abc"]), Ok("abc".into()));
        assert_eq!(of(&["bEARER  abc"]), Ok("abc".into()));
        assert_eq!(of(&[]), Err(Reason::CredentialsMissing));
        for other in ["Basic abc", "Bearer", "Bearer ", "Bearerabc", "abc", ""] {
            assert_eq!(of(&[other]), Err(Reason::BearerRequired), "{other:?}");
        }
        let twice = of(&["Bearer abc", "Bearer abc"]);
        assert_eq!(twice, Err(Reason::CredentialsRepeated));
    }

    #[test]
    fn a_key_comes_once_and_from_where_it_may() {
        let header = HeaderName::from_static("x-api-key");
        let ask = |in_headers: &[&'static str], query, parameter| {
            let mut headers = HeaderMap::new();
            for value in in_headers {
                headers.append(&header, HeaderValue::from_static(value));
            }
            let request = Request {
                headers: &headers,
                query,
            };
            let found = key(&request, &header, parameter)?;
            Ok(found.map(|key| String::from_utf8(key.into_owned()).expect("a text")))
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(ask(&["k"], None, None), some("k"));
        assert_eq!(ask(&["k"], Some("key=q"), None), some("k"), "not asked for");
        assert_eq!(
            ask(&[], Some("a=1&key=q%2d%zz&b"), Some("key")),
            some("q-%zz")
        );
        assert_eq!(ask(&[], Some("k%65y=q"), Some("key")), some("q"));
        for none in [None, Some(""), Some("keys=q&ey=q")] {
            assert_eq!(ask(&[], none, Some("key")), Ok(None));
        }
        let repeated = Err(Reason::CredentialsRepeated);
        assert_eq!(ask(&["k", "k"], None, None), repeated);
        assert_eq!(ask(&["k"], Some("key=k"), Some("key")), repeated);
        assert_eq!(ask(&[], Some("key=q&key=q"), Some("key")), repeated);
    }

    #[test]
    fn a_key_does_not_stay_in_the_query() {
        let without = |query| without(query, &["key".into()]);
        assert_eq!(without("key=s"), None);
        assert_eq!(without("a=1&key=s&b=2&k%65y=t&key"), Some("a=1&b=2".into()));
        assert_eq!(without("monkey=1&a=key"), Some("monkey=1&a=key".into()));
    }
}
