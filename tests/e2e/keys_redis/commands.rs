//! `tollgate keys` on keys in Redis.

use super::{Place, ask, is, keys, made, name};
use crate::support::*;
use serde_json::{Value, json};
use tollgate::redis::Value as Reply;

#[test]
fn keys_are_made_shown_rotated_and_taken_back() {
    let place = Place::new();
    let gateway = place.gateway();
    let keys = |args: &[&str]| keys(&gateway, &place.config(""), args);
    let list = || -> Vec<Value> {
        let text = keys(&["list", "--json"]).expect("a list");
        let all: Value = serde_json::from_str(&text).expect("JSON");
        all.as_array().expect("an array").clone()
    };
    let new = "new --client MobileApp --scope read --rate-limit 1000/hr";
    let new: Vec<&str> = new.split(' ').collect();
    let first = made(&keys(&new).expect("a key"));
    assert_eq!(
        gateway
            .ask(&Req::get("/scoped").header("X-API-Key", &first))
            .status,
        200
    );
    place.set("elsewhere", r#"{"client":"Other","scopes":["a"],"note":7}"#);
    place.set("no record", "[]");
    let id = first.split('_').nth(1).unwrap();
    let shown = list();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(shown[0]["id"], id);
    let want = json!({
        "id": id, "client": "MobileApp", "tier": null, "scopes": ["read"], "roles": [],
        "rate_limit": "1000/1h", "expires": null, "state": "live", "hash": mint::digest(&first)[..8],
    });
    assert_eq!(shown[0], want);
    let table = keys(&["list"]).expect("a table");
    assert!(table.starts_with("ID") && table.contains("Other") && !table.contains(&first));
    assert!(!table.contains(&mint::digest(&first)));

    // The old one and the new one are good until the grace is over.
    let second = made(&keys(&["rotate", id, "--grace", "1h"]).expect("a second key"));
    for key in [&first, &second] {
        let ask = || {
            gateway
                .ask(&Req::get("/scoped").header("X-API-Key", key))
                .status
        };
        eventually("both are good", || ask() == 200);
    }
    assert_eq!(
        list()
            .iter()
            .filter(|key| key["client"] == "MobileApp")
            .count(),
        2
    );
    eventually("the end of the first is known", || {
        list()
            .iter()
            .any(|key| key["id"] == id && key["expires"].is_string())
    });
    gateway.advance_s(3601);
    assert_eq!(ask(&gateway, &first), is(401, "api_key_expired"));
    assert_eq!(ask(&gateway, &second).0, 200);
    taken_back(&place, &gateway, &second);
}

/// A key is taken back by its id, and then nobody has it; without Redis that is said.
fn taken_back(place: &Place, gateway: &Gateway, second: &str) {
    let keys = |args: &[&str]| keys(gateway, &place.config(""), args);
    let watch = Stopwatch::start();
    let id = second.split('_').nth(1).unwrap();
    assert_eq!(
        keys(&["revoke", id]),
        Ok(format!("revoked: {id} of MobileApp\n"))
    );
    eventually("it is refused", || ask(gateway, second).0 == 401);
    watch.shows(0, 10_000);
    assert!(
        keys(&["revoke", id])
            .unwrap_err()
            .contains("no key has this id")
    );
    place.redis.kill();
    assert!(keys(&["list"]).unwrap_err().contains("cannot be reached"));
}

/// A record of somebody else's is found by looking at all of them; what we do not know of it stays.
#[test]
fn a_record_of_somebody_else_is_rotated_and_stays_theirs() {
    let place = Place::new();
    let gateway = place.gateway();
    let keys = |args: &[&str]| keys(&gateway, &place.config(""), args);
    place.set("elsewhere", r#"{"client":"Other","scopes":["a"],"note":7}"#);
    let other = mint::digest("elsewhere")[..12].to_owned();
    keys(&["rotate", &other, "--grace", "2h"]).expect("rotated");
    let Reply::BulkString(text) = place.redis.run(&["GET", &name("elsewhere")]) else {
        panic!("no text");
    };
    let record: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(
        (&record["note"], &record["client"]),
        (&json!(7), &json!("Other"))
    );
    assert!(record["expires"].is_string());
}
