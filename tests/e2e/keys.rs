//! API keys from a file.

use super::support::*;

#[test]
fn api_keys_open_until_they_expire() {
    let origin = Origin::start();
    let config = format!(
        "identity: {{ api_keys: [{{ name: partners, header: X-Partner-Key, file: keys.yaml }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [partners], scopes: [read:a] }}, to: up }}]\n"
    );
    // 2100-01-01T00:00:00Z is far; the clock is moved there.
    let keys = format!(
        "keys:\n{}{}{}",
        mint::api_key(
            "ends",
            "key-that-ends",
            ", scopes: [read:a], expires: 2100-01-01T00:00:00Z"
        ),
        mint::api_key(
            "stays",
            "key-that-stays",
            ", scopes: [read:a], roles: [x], tier: gold"
        ),
        mint::api_key("poor", "key-without-scope", ""),
    );
    let gateway = Gateway::with_files(&config, &[("keys.yaml", &keys)]);
    let ask = |key: &str| {
        gateway
            .ask(&Req::get("/").header("x-partner-key", key))
            .is()
    };
    assert_eq!(ask("key-that-ends").0, 200);
    assert_eq!(ask("key-that-stays").0, 200);
    assert_eq!(ask("key-without-scope"), (403, "scope_insufficient".into()));
    assert_eq!(ask("key-that-stay"), (401, "api_key_unknown".into()));
    assert_eq!(ask(&"k".repeat(600)), (401, "api_key_malformed".into()));
    gateway.advance_s(4_102_444_800 - gateway.now_s());
    assert_eq!(ask("key-that-ends"), (401, "api_key_expired".into()));
    let answer = gateway.ask(&Req::get("/").header("X-Partner-Key", "key-that-stays"));
    let line = gateway.line(&answer);
    assert_eq!(
        (&line["client_id"], &line["tier"]),
        (&"stays".into(), &"gold".into())
    );
}
