//! Two gateways that share a Redis: what is revoked is refused by both within a second, out of their caches
//! too.

use super::support::redis::RedisServer;
use super::support::*;
use serde_json::json;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(1);
const API_KEY: &str = "an-api-key-of-the-tests-alone";

struct Place {
    redis: RedisServer,
    origin: Origin,
}

impl Place {
    fn start() -> Self {
        Self {
            redis: RedisServer::start(),
            origin: Origin::start(),
        }
    }

    fn config(&self, revocation: &str) -> String {
        let (url, issuer, origin) = (self.redis.url(), mint::ISSUER, &self.origin);
        format!(
            "redis: {{ url: \"{url}\", timeout: 250ms }}\n\
             identity:\n\
             \x20 failures: off\n\
             \x20 revocation: {{ {revocation} }}\n\
             \x20 jwt: [{{ name: corp, issuer: \"{issuer}\", audiences: [api], algorithms: [RS256], keys: [{{ kid: a, alg: RS256, public_key: \"file:a.pem\" }}] }}]\n\
             \x20 api_keys: [{{ name: partners, file: keys.yaml }}]\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes:\n\
             - {{ name: r, match: {{ path: / }}, auth: {{ any: [corp, partners] }}, to: up }}\n\
             - {{ name: open, match: {{ path: /open }}, auth: none, to: up }}\n"
        )
    }

    /// A gateway that knows all that is revoked.
    fn gateway(&self, revocation: &str) -> Gateway {
        let keys = format!("keys:\n{}", mint::api_key("acme-1", API_KEY, ""));
        let files = [("a.pem", mint::public("rsa-a")), ("keys.yaml", &keys)];
        let gateway = Gateway::with_files(&self.config(revocation), &files);
        eventually("complete", || state(&gateway)["lag_s"] == json!(0));
        gateway
    }
}

fn state(gateway: &Gateway) -> serde_json::Value {
    gateway.admin(&Req::get("/revocations")).json()
}

/// Has the command do it, with one of the gateways' own configs.
#[track_caller]
fn revoke(place: &Place, gateway: &Gateway, args: &[&str]) -> String {
    let path = gateway.dir().join("gateway.yaml");
    let text = format!(
        "listeners: [{{ name: l, address: \"127.0.0.1:0\" }}]\n{}",
        place.config("")
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("revoke").arg("-c").arg(path).args(args);
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn two_gateways_refuse_what_is_revoked_within_a_second() {
    let place = Place::start();
    let both = [place.gateway(""), place.gateway("")];
    let now_s = both[0].now_s();
    let claims = |jti: &str| mint::claims_but(now_s, json!({ "jti": jti, "iat": now_s - 10 }));
    let token = |jti: &str| mint::sign("rsa-a", "RS256", Some("a"), &claims(jti));
    let of = |jti| Req::get("/").bearer(&token(jti));
    let by_key = Req::get("/").header("X-API-Key", API_KEY);
    let issuer = ["--issuer", mint::ISSUER];
    for (args, request, reason) in [
        (
            vec!["token", issuer[0], issuer[1], "--jti", "t-1"],
            of("t-1"),
            "token_revoked",
        ),
        (vec!["key", "acme-1"], by_key, "api_key_revoked"),
        (
            vec!["subject", issuer[0], issuer[1], "--sub", "alice"],
            of("t-2"),
            "token_revoked",
        ),
        (
            vec!["signing-key", issuer[0], issuer[1], "--kid", "a"],
            of("t-3"),
            "token_revoked",
        ),
    ] {
        for gateway in &both {
            // Twice: the second time out of the cache.
            assert_eq!(gateway.ask(&request).status, 200, "{args:?}");
            assert_eq!(gateway.ask(&request).status, 200, "{args:?}");
        }
        let said = revoke(&place, &both[0], &args);
        let watch = Stopwatch::start();
        assert!(said.contains("heard by 2 gateways"), "{said}");
        for gateway in &both {
            let mut answer = gateway.ask(&request);
            while answer.status == 200 && watch.passed() < SOON {
                answer = gateway.ask(&request);
            }
            assert_eq!(answer.status, 401, "{args:?}");
            assert_eq!(gateway.line(&answer)["reason"], reason);
            assert!(!answer.text().contains("t-1"));
        }
        assert!(
            watch.passed() < SOON * 2,
            "both were asked: {:?}",
            watch.passed()
        );
        revoke(&place, &both[0], &[&args[..], &["--undo"]].concat());
        for gateway in &both {
            eventually("taken back", || gateway.ask(&request).status == 200);
        }
    }
}

#[test]
fn while_redis_is_away_what_was_revoked_stays_so() {
    let place = Place::start();
    let (lenient, strict) = (place.gateway(""), place.gateway("on_lag: refuse"));
    let claims = mint::claims_but(
        lenient.now_s(),
        json!({ "jti": "t-1", "exp": lenient.now_s() + 3600 }),
    );
    let revoked = Req::get("/").bearer(&mint::sign("rsa-a", "RS256", Some("a"), &claims));
    let good = Req::get("/").header("X-API-Key", API_KEY);
    revoke(
        &place,
        &lenient,
        &["token", "--issuer", mint::ISSUER, "--jti", "t-1"],
    );
    eventually("revoked", || {
        [&lenient, &strict]
            .iter()
            .all(|g| g.ask(&revoked).status == 401)
    });
    place.redis.kill();
    for gateway in [&lenient, &strict] {
        eventually("noticed", || state(gateway)["listening"] == json!(false));
        assert_eq!(gateway.ask(&revoked).status, 401);
        assert_eq!(gateway.ask(&good).status, 200);
        gateway.advance_s(61);
        assert_eq!(gateway.ask(&revoked).status, 401);
        assert_eq!(gateway.get("/open").status, 200);
    }
    assert_eq!(lenient.ask(&good).status, 200);
    let answer = strict.ask(&good);
    assert_eq!(answer.status, 503);
    assert_eq!(strict.line(&answer)["reason"], "revocations_unavailable");
    assert_eq!(state(&strict)["stale"], json!(true));
}

#[test]
fn a_reload_forgets_nothing() {
    let place = Place::start();
    let gateway = place.gateway("");
    let by_key = Req::get("/").header("X-API-Key", API_KEY);
    revoke(&place, &gateway, &["key", "acme-1"]);
    eventually("revoked", || gateway.ask(&by_key).status == 401);
    place.redis.kill();
    // Other rules, another connection: nothing can be read there.
    for (was, with) in [
        ("revocation: {  }", "revocation: { max_lag: 2m }"),
        ("250ms", "251ms"),
    ] {
        let text = place.config("").replace(was, with);
        gateway.reload(&text).expect("taken up");
        assert_eq!(gateway.ask(&by_key).status, 401, "{with}");
    }
    let without = place.config("").replace("  revocation: {  }\n", "");
    gateway.reload(&without).expect("taken up");
    assert_eq!(gateway.ask(&by_key).status, 200, "nothing can be revoked");
    assert_eq!(gateway.admin(&Req::get("/revocations")).status, 404);
    assert!(!gateway.metrics().contains("tollgate_revocations"));
}
