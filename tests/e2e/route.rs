//! Which request goes where: hosts, paths, methods, stripping, header choice, weights.

use super::support::*;

/// Routes that all lead to one origin; the access line tells which was taken.
fn gateway(origin: &Origin, routes: &str) -> Gateway {
    let up = format!("upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n");
    Gateway::start(&format!("{up}routes:\n{routes}"))
}

#[track_caller]
fn taken(gateway: &Gateway, req: &Req) -> String {
    let answer = gateway.ask(req);
    let line = gateway.line(&answer);
    line["route"].as_str().unwrap_or("-").to_owned()
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "- { name: any, match: { path: / }, auth: none, to: up }\n\
         - { name: prefix, match: { path: /users }, auth: none, to: up }\n\
         - { name: param, match: { path: \"/users/{id}\" }, auth: none, to: up }\n\
         - { name: below, match: { path: \"/users/{id}/*\" }, auth: none, to: up }\n\
         - { name: exact, match: { exact: /users/me }, auth: none, to: up }\n\
         - { name: wild, match: { hosts: [\"*.example.org\"], path: / }, auth: none, to: up }\n\
         - { name: host, match: { hosts: [api.example.org], path: / }, auth: none, to: up }\n",
    );
    for (target, want) in [
        ("/", "any"),
        ("/userss", "any"),
        ("/users", "prefix"),
        ("/users/", "prefix"),
        ("/users/42", "param"),
        ("/users/me", "exact"),
        ("/users/42/orders", "below"),
        ("/users?x=/me", "prefix"),
    ] {
        assert_eq!(taken(&gateway, &Req::get(target)), want, "{target}");
    }
    for (host, want) in [
        ("a.example.org", "wild"),
        ("API.Example.ORG:8080", "host"),
        ("api.example.org.", "host"),
        ("example.org", "any"),
        ("notexample.org", "any"),
    ] {
        assert_eq!(taken(&gateway, &Req::get("/").host(host)), want, "{host}");
    }
}

#[test]
fn no_route_is_404_and_no_method_405_with_allow() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "- { name: read, match: { path: /a, methods: [GET] }, auth: none, to: up }\n\
         - { name: write, match: { path: /a, methods: [POST, PUT] }, auth: none, to: up }\n",
    );
    let none = gateway.get("/b");
    assert_eq!(none.is(), (404, "route_not_found".into()));
    assert_eq!(none.json()["detail"], "Route not found");
    let wrong = gateway.ask(&Req::new("DELETE", "/a"));
    assert_eq!(wrong.is(), (405, "method_not_allowed".into()));
    let mut allow: Vec<&str> = wrong.header("allow").expect("Allow").split(", ").collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST", "PUT"], "HEAD goes with GET");
    assert_eq!(taken(&gateway, &Req::post("/a", "")), "write");
    assert_eq!(taken(&gateway, &Req::new("HEAD", "/a")), "read");
    assert_eq!(origin.hits(), 2);
}

#[test]
fn a_prefix_is_stripped_and_the_query_kept_byte_for_byte() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "- { name: strip, match: { path: /users }, auth: none, to: up }\n\
         - { name: deep, match: { path: /a/b }, auth: none, to: up }\n\
         - { name: keep, match: { path: /keep }, strip_prefix: false, auth: none, to: up }\n\
         - { name: param, match: { path: \"/p/{id}\" }, auth: none, to: up }\n\
         - { name: exact, match: { exact: /x }, auth: none, to: up }\n",
    );
    let query = "?a=%2F..%2f&b=%zz;c='|{}[]\\^~!*()+%20&&=?/../?";
    for (sent, got) in [
        ("/users/42", "/42"),
        ("/users", "/"),
        ("/users/", "/"),
        ("/users//42", "/42"),
        ("/users/a%41%2d/x", "/aA-/x"),
        ("/a/b/c", "/c"),
        ("/keep/42", "/keep/42"),
        ("/p/%c3%a9", "/p/%C3%A9"),
        ("/x", "/x"),
        ("/x/../users/7", "/7"),
    ] {
        assert_eq!(gateway.get(sent).text(), got, "{sent}");
        let sent = format!("{sent}{query}");
        assert_eq!(gateway.get(&sent).text(), format!("{got}{query}"), "{sent}");
    }
    assert_eq!(
        gateway.get("/users?").text(),
        "/?",
        "an empty query is a query"
    );
}

#[test]
fn the_host_goes_on_as_it_came() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "- { name: a, match: { path: / }, auth: none, to: up }\n",
    );
    gateway.ask(&Req::get("/").host("Shop.Example:8080"));
    assert_eq!(origin.last().header("host"), Some("Shop.Example:8080"));
}

#[test]
fn a_header_chooses_with_a_default() {
    let (one, two, three) = (Origin::start(), Origin::start(), Origin::start());
    let gateway = Gateway::start(&format!(
        "upstreams:\n\
         - {{ name: v1, targets: [\"{one}\"] }}\n\
         - {{ name: v2, targets: [\"{two}\"] }}\n\
         - {{ name: v3, targets: [\"{three}\"] }}\n\
         routes:\n\
         - name: users\n\
         \x20 match: {{ path: /users }}\n\
         \x20 auth: none\n\
         \x20 to: {{ header: X-API-Version, values: {{ v1: v1, v2: {{ weights: {{ v2: 3, v3: 1 }} }} }}, default: v1 }}\n"
    ));
    let versions = |version: &str, times: usize| {
        let before = [one.hits(), two.hits(), three.hits()];
        for _ in 0..times {
            let req = Req::get("/users/1").header("x-api-version", version);
            assert_eq!(gateway.ask(&req).text(), "/1");
        }
        [
            one.hits() - before[0],
            two.hits() - before[1],
            three.hits() - before[2],
        ]
    };
    assert_eq!(versions("v1", 2), [2, 0, 0]);
    assert_eq!(versions("v2", 8), [0, 6, 2]);
    assert_eq!(versions("v9", 2), [2, 0, 0]);
    assert_eq!(
        versions("V2", 1),
        [1, 0, 0],
        "values are compared as they are"
    );
    let before = one.hits();
    gateway.get("/users");
    let twice = Req::get("/users")
        .header("X-API-Version", "v2")
        .header("X-API-Version", "v1");
    gateway.ask(&twice);
    assert_eq!(one.hits(), before + 2, "none and several mean the default");
}

#[test]
fn a_weighted_split_is_exact_over_a_hundred() {
    let (stable, canary) = (Origin::start(), Origin::start());
    let gateway = Gateway::start(&format!(
        "upstreams:\n\
         - {{ name: stable, targets: [\"{stable}\"] }}\n\
         - {{ name: canary, targets: [\"{canary}\"] }}\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: {{ weights: {{ stable: 90, canary: 10 }} }} }}]\n"
    ));
    for _ in 0..100 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!((stable.hits(), canary.hits()), (90, 10));
}

#[test]
fn one_path_is_matched_and_forwarded_and_what_is_ambiguous_refused() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "- { name: a, match: { path: / }, auth: none, to: up }\n",
    );
    for (sent, got) in [
        ("/a//b///c", "/a/b/c"),
        ("/a/./b/../c", "/a/c"),
        ("/../../a", "/a"),
        ("/%7euser", "/~user"),
        ("/a%2db", "/a-b"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a/%2e%2e/b", "/b"),
    ] {
        assert_eq!(gateway.get(sent).text(), got, "{sent}");
    }
    let before = origin.hits();
    for sent in [
        "/a%2fb",
        "/a%5cb",
        "/a\\b",
        "/%00",
        "/a%0a",
        "/%zz",
        "/a/..;/b",
        "/a/..;x=y/b",
        "/%7f",
    ] {
        assert_eq!(
            gateway.get(sent).is(),
            (400, "ambiguous_path".into()),
            "{sent}"
        );
    }
    assert_eq!(origin.hits(), before);
}
