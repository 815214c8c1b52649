//! Fetching: what is asked of an issuer, and how often.

use super::*;
use reqwest::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

#[test]
fn intervals() {
    let s = Duration::from_secs;
    // The lifetime less a tenth, and less up to another one by chance.
    assert_eq!(next_refresh(s(3600), None, 0), s(3240));
    assert_eq!(next_refresh(s(3600), None, 360_000), s(2880));
    assert_eq!(next_refresh(s(3600), None, 360_001), s(3240));
    assert_eq!(next_refresh(s(3600), Some(s(300)), 0), s(270));
    assert_eq!(next_refresh(s(3600), Some(s(0)), 0), s(54));
    assert_eq!(next_refresh(s(3600), Some(s(86_400)), 0), s(3240));
    let waits = |keys| (1..=8).map(move |n| back_off(n, keys).as_secs());
    assert!(waits(false).eq([1, 2, 4, 8, 16, 32, 60, 60]));
    assert!(waits(true).eq([10, 20, 40, 60, 60, 60, 60, 60]));
    assert_eq!(back_off(u32::MAX, false), s(60));
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
        assert_eq!(
            http::max_age(&headers),
            want.map(Duration::from_secs),
            "{value}"
        );
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
        place: Place::Url(format!("http://{}/", listener.local_addr().unwrap())),
        refresh: MIN_REFRESH,
        max_stale: MIN_REFRESH,
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
