//! Where an issuer says that its keys are: `OpenID` Connect Discovery 1.0 and RFC 8414. Pure: an
//! address comes out of an issuer's name, another one out of the document found there.

use super::json;
use reqwest::Url;
use serde_json::Value;
use std::net::IpAddr;
use thiserror::Error;

/// Which document an issuer publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// `/.well-known/openid-configuration` behind the issuer's path (OIDC Discovery §4).
    Oidc,
    /// `/.well-known/oauth-authorization-server` in front of it (RFC 8414 §3.1).
    Oauth,
}

/// Why a document does not lead to keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiscoveryFault {
    /// Not a JSON object, or a member is repeated.
    #[error("not strict JSON, an object with each member once")]
    NotJson,
    /// `issuer` or `jwks_uri` is not there or not a text.
    #[error("without a text {0}")]
    Incomplete(&'static str),
    /// The document is another issuer's (OIDC Discovery §4.3, RFC 8414 §3.3).
    #[error("its issuer is not the configured one, character by character")]
    IssuerMismatch,
    /// The keys are where whoever is on the way could put in some of his own, or nowhere.
    #[error(
        "its jwks_uri is not an address that may be fetched: want https, without a user's name"
    )]
    InsecureKeys,
}

impl Discovery {
    /// Where the document of this issuer is. The error says what is wrong with the issuer.
    pub fn address(self, issuer: &str, insecure_http: bool) -> Result<Url, String> {
        let mut url = address(issuer, insecure_http)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("want no query or fragment in it".to_owned());
        }
        let path = url.path().trim_end_matches('/');
        let path = match self {
            Self::Oidc => format!("{path}/.well-known/openid-configuration"),
            Self::Oauth => format!("/.well-known/oauth-authorization-server{path}"),
        };
        url.set_path(&path);
        Ok(url)
    }
}

/// Where the keys are, as the document `text` of `issuer` has it, which came from `from`.
pub fn keys_address(
    text: &[u8],
    issuer: &str,
    from: &Url,
    insecure_http: bool,
) -> Result<Url, DiscoveryFault> {
    let document = json::object(text).ok_or(DiscoveryFault::NotJson)?;
    let said = |name| {
        let found = document.get(name).and_then(Value::as_str);
        found.ok_or(DiscoveryFault::Incomplete(name))
    };
    if said("issuer")? != issuer {
        return Err(DiscoveryFault::IssuerMismatch);
    }
    let url = address(said("jwks_uri")?, insecure_http);
    let url = url.map_err(|_| DiscoveryFault::InsecureKeys)?;
    // What came over TLS must not lead out of it, not even to this machine.
    if from.scheme() == "https" && url.scheme() != "https" {
        return Err(DiscoveryFault::InsecureKeys);
    }
    Ok(url)
}

/// An address that may be fetched: `https`, or `http` to this machine or with `insecure_http`.
pub(super) fn address(text: &str, insecure_http: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|fault| format!("found {text:?}: {fault}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("want no user name or password in it".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if insecure_http || is_loopback(&url) => Ok(url),
        "http" => Err(format!(
            "found {text:?}, want https (or insecure_http: true): whoever is on the way could \
             publish keys of his own"
        )),
        _ => Err(format!("found {text:?}, want https")),
    }
}

/// Whether the host is this machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "https://a.example/k",
            "http://127.0.0.1:1/k",
            "http://[::1]/",
            "http://localhost/k",
        ] {
            assert!(address(good, false).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example/k",
            "http://localhost.example/",
            "file:///etc/keys",
            "k",
            "",
            "https://user:pw@a.example/",
            "ftp://127.0.0.1/",
        ] {
            assert!(address(bad, false).is_err(), "{bad}");
        }
        assert!(address("http://a.example/k", true).is_ok());
        assert!(address("ftp://a.example/k", true).is_err());
    }

    #[test]
    fn documents_are_where_the_standards_have_them() {
        let at = |how: Discovery, issuer| how.address(issuer, false).map(|url| url.to_string());
        for (issuer, oidc, oauth) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example:8443/realms/x",
                "https://a.example:8443/realms/x/.well-known/openid-configuration",
                "https://a.example:8443/.well-known/oauth-authorization-server/realms/x",
            ),
        ] {
            assert_eq!(at(Discovery::Oidc, issuer).unwrap(), oidc);
            assert_eq!(at(Discovery::Oauth, issuer).unwrap(), oauth);
        }
        for bad in [
            "corp",
            "http://a.example",
            "https://a.example/?x",
            "https://a.example/#x",
        ] {
            assert!(at(Discovery::Oidc, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn documents() {
        let issuer = "https://a.example/x";
        let from = Discovery::Oidc.address(issuer, false).unwrap();
        let read = |text: &str| keys_address(text.as_bytes(), issuer, &from, false);
        let good =
            r#"{"issuer":"https://a.example/x","jwks_uri":"https://keys.example/k?v=1","y":[1]}"#;
        assert_eq!(read(good).unwrap().as_str(), "https://keys.example/k?v=1");
        let with = |name: &str, value: &str| {
            let mut all: Value = serde_json::from_str(good).unwrap();
            all[name] = serde_json::from_str(value).unwrap();
            read(&all.to_string()).unwrap_err()
        };
        for other in [
            "https://a.example/x/",
            "https://A.example/x",
            "https://a.example",
            "",
        ] {
            let other = format!("{other:?}");
            assert_eq!(with("issuer", &other), DiscoveryFault::IssuerMismatch);
        }
        for other in [
            "http://keys.example/",
            "http://127.0.0.1/",
            "https://u@keys.example/",
            "file:///k",
            "/keys",
            "",
        ] {
            let found = with("jwks_uri", &format!("{other:?}"));
            assert_eq!(found, DiscoveryFault::InsecureKeys, "{other}");
        }
        for name in ["issuer", "jwks_uri"] {
            for none in ["null", "1", "[]"] {
                assert_eq!(with(name, none), DiscoveryFault::Incomplete(name));
            }
        }
        let twice = good.replace(r#""y""#, r#""issuer""#);
        for text in ["", "[]", "<html>", twice.as_str(), &format!("{good}x")] {
            assert_eq!(read(text), Err(DiscoveryFault::NotJson), "{text}");
        }
        let local = Url::parse("http://127.0.0.1:1/").unwrap();
        let plain = good.replace("https://keys.example", "http://127.0.0.1:2");
        assert!(keys_address(plain.as_bytes(), issuer, &local, false).is_ok());
    }
}
