//! Fetching: what is asked of an issuer, and how often.

use super::*;
use reqwest::header::HeaderValue;

#[test]
fn addresses() {
    for good in [
        "https://a.example/k",
        "http://127.0.0.1:1/k",
        "http://[::1]/",
        "http://localhost/k",
    ] {
        assert!(check_url(good, false).is_ok(), "{good}");
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
        assert!(check_url(bad, false).is_err(), "{bad}");
    }
    assert!(check_url("http://a.example/k", true).is_ok());
    assert!(check_url("ftp://a.example/k", true).is_err());
}

#[test]
fn intervals() {
    let s = Duration::from_secs;
    assert_eq!(next_refresh(s(3600), None), s(3600));
    assert_eq!(next_refresh(s(3600), Some(s(300))), s(300));
    assert_eq!(next_refresh(s(3600), Some(s(0))), s(60));
    assert_eq!(next_refresh(s(3600), Some(s(86_400))), s(3600));
    let waits: Vec<u64> = (1..=8).map(|n| back_off(n).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(back_off(u32::MAX), s(60));
}

#[test]
fn max_age_is_found() {
    for (value, want) in [
        ("max-age=300", Some(300)),
        ("public, Max-Age=\"5\" , must-revalidate", Some(5)),
        ("s-maxage=9", None),
        ("max-age=x", None),
        ("max-age=-1", None),
        ("no-store", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
        assert_eq!(max_age(&headers), want.map(Duration::from_secs), "{value}");
    }
}

/// Publishes a set with the key id `k0`, then `k1`, and so on, one a request.
async fn publish(listener: tokio::net::TcpListener) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for n in 0.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        // The public key of RFC 8037 §A.2.
        let body = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k{n}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}}"#
        );
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn keys_are_fetched_again_unasked() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = RemoteRules {
        provider: "corp".to_owned(),
        url: format!("http://{}/", listener.local_addr().unwrap()),
        refresh: MIN_REFRESH,
        insecure_http: false,
        algorithms: Algs::all(),
    };
    let mut keys = RemoteKeys::new(rules, Clock::system()).unwrap();
    keys.refresh = Duration::from_millis(20);
    let keys = Arc::new(keys);
    let (_stop, stopping) = watch::channel(false);
    let running = Arc::clone(&keys).run(stopping);
    let third = async {
        while !keys.holds("k2") {
            sleep(Duration::from_millis(5)).await;
        }
        // The start waits for the first, a request may look before a fetch is over: neither
        // asks for another one.
        let fetches = keys.status().fetches_ok;
        keys.first().await;
        keys.refetch(Some("k2")).await;
        assert_eq!(keys.status().fetches_ok, fetches);
    };
    tokio::select! {
        () = running => panic!("ended"),
        () = publish(listener) => panic!("ended"),
        over = timeout(Duration::from_secs(15), third) => over.expect("a third set"),
    }
    assert!(!keys.holds("k0"), "the newest set alone is in use");
}
