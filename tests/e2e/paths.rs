//! Path tricks against an authenticated subtree beside an open one: whatever the spelling, nothing
//! below `/app/admin` reaches a service without credentials.

use super::support::*;

/// `/app` is open, `/app/admin` wants a key; the service sees whole paths. What `/public` is stripped
/// of goes to a service of its own.
fn gateway(origin: &Origin, public: &Origin) -> Gateway {
    let config = format!(
        "identity: {{ api_keys: [{{ name: keys, file: keys.yaml }}] }}\n\
         upstreams:\n\
         - {{ name: up, targets: [\"{origin}\"] }}\n\
         - {{ name: public, targets: [\"{public}\"] }}\n\
         routes:\n\
         - {{ name: open, match: {{ path: /app }}, strip_prefix: false, auth: none, to: up }}\n\
         - {{ name: admin, match: {{ path: /app/admin }}, strip_prefix: false, auth: {{ any: [keys] }}, to: up }}\n\
         - {{ name: stripped, match: {{ path: /public }}, auth: none, to: public }}\n"
    );
    let keys = format!("keys:\n{}", mint::api_key("a", "key-of-a", ""));
    Gateway::with_files(&config, &[("keys.yaml", &keys)])
}

/// Whether any server could take this target for something below `/app/admin`: decoded once,
/// with every separator that is known, parameters cut, dots resolved.
fn is_admin(target: &str) -> bool {
    let mut path = target
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_lowercase();
    for (escape, text) in [
        ("%2f", "/"),
        ("%5c", "/"),
        ("%2e", "."),
        ("%61", "a"),
        ("\\", "/"),
    ] {
        path = path.replace(escape, text);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => (),
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    kept.starts_with(&["app", "admin"])
}

/// Ways to write something below `/app/admin`, and near misses.
fn targets() -> Vec<String> {
    let dots = ["..", "%2e%2e", ".%2e", "%2E.", "%2e%2E"];
    let slashes = [
        "/", "//", "/./", "///", "/%2e/", "%2f", "%2F", "%5c", "\\", "/;/", "/;x=y/",
    ];
    let mut targets = vec![
        "/app/%61dmin".to_owned(),
        "/app/admin;x".into(),
        "/app;x/admin".into(),
        "/app/admin%00".into(),
        "/app/admin%20".into(),
        "/app/admin.".into(),
        "/app/admin/".into(),
        "/%61pp/admin/x".into(),
        "/app/x/..;/admin".into(),
        "/app/..;/app/admin".into(),
        "/app/.;/admin".into(),
        "/app/%2e;/admin".into(),
        "/app/%252e%252e/app/admin".into(),
        "/app/admin%2f..%2fx".into(),
        "/app/admin#x".into(),
        "/app/admin?/../../app/x".into(),
        "/app/%u0061dmin".into(),
        "/app/%c0%ae%c0%ae/app/admin".into(),
        "http://api.example.com/app/x/../admin".into(),
        "http://api.example.com//app/admin".into(),
    ];
    for slash in slashes {
        targets.push(format!("/app{slash}admin"));
        targets.push(format!("/app{slash}admin/x"));
        targets.push(format!("{slash}app{slash}admin"));
        for dots in dots {
            targets.push(format!("/app/x{slash}{dots}{slash}admin"));
            targets.push(format!(
                "/app/x{slash}{dots}{slash}{dots}{slash}app{slash}admin"
            ));
            targets.push(format!("/public{slash}{dots}{slash}app{slash}admin"));
            targets.push(format!(
                "/public{slash}x{slash}{dots}{slash}{dots}{slash}app{slash}admin"
            ));
            targets.push(format!("{slash}{dots}{slash}app{slash}admin"));
        }
    }
    targets
}

#[test]
fn no_spelling_gets_around_a_routes_authentication() {
    let (origin, public) = (Origin::start(), Origin::start());
    let gateway = gateway(&origin, &public);
    let targets = targets();
    for target in &targets {
        let answer = gateway.ask(&Req::get(target));
        let passed = answer.status == 200;
        let app = passed && gateway.line(&answer)["upstream"] == "up";
        assert!(
            passed || matches!(answer.status, 400 | 401 | 404),
            "{target}: {}",
            answer.head
        );
        if app {
            let seen = origin.last().target;
            assert!(!is_admin(&seen), "{target} reached the service as {seen}");
        }
    }
    let through = origin.hits();
    assert!(
        through < targets.len() / 4,
        "most are refused: {through} of {}",
        targets.len()
    );
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let (origin, public) = (Origin::start(), Origin::start());
    let gateway = gateway(&origin, &public);
    for target in [
        "/app/x/../y",
        "/app//y",
        "/app/%79",
        "/app/./y",
        "/x/../app/y",
    ] {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.text()), (200, "/app/y"), "{target}");
    }
    assert_eq!(gateway.get("/app/../secret").status, 404);
    assert_eq!(
        gateway.get("/application").status,
        404,
        "prefixes end at a segment"
    );
    assert_eq!(gateway.get("/app/administrator").status, 200);
    assert_eq!(gateway.get("/APP/ADMIN").status, 404, "paths have a case");
}

#[test]
fn stripping_never_yields_more_than_the_rest() {
    let (origin, public) = (Origin::start(), Origin::start());
    let gateway = gateway(&origin, &public);
    for (target, want) in [
        ("/public", "/"),
        ("/public//evil.example/x", "/evil.example/x"),
        ("/public/http://evil.example/", "/http:/evil.example/"),
        ("/public/@evil.example", "/@evil.example"),
        ("/public?http://evil.example/", "/?http://evil.example/"),
        ("/public/x/..", "/"),
    ] {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.text()), (200, want), "{target}");
        assert_eq!(public.last().header("host"), Some("api.example.com"));
    }
}

#[test]
fn hosts_have_one_spelling() {
    let origin = Origin::start();
    let config = format!(
        "identity: {{ api_keys: [{{ name: keys, file: keys.yaml }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: any, match: {{ path: / }}, auth: none, to: up }}\n\
         - {{ name: closed, match: {{ hosts: [admin.example.com], path: / }}, auth: {{ any: [keys] }}, to: up }}\n"
    );
    let keys = format!("keys:\n{}", mint::api_key("a", "key-of-a", ""));
    let gateway = Gateway::with_files(&config, &[("keys.yaml", &keys)]);
    for host in [
        "admin.example.com",
        "ADMIN.example.COM",
        "admin.example.com.",
        "admin.example.com:80",
        "admin.example.com.:8080",
    ] {
        assert_eq!(gateway.ask(&Req::get("/").host(host)).status, 401, "{host}");
    }
    for host in [
        "admin.example.com..",
        "admin.example.com@x",
        "x@admin.example.com",
        "admin.example.com:80:80",
        "admin%2eexample.com",
        "admin.example.com/",
        "admin.example.com#",
        "admin.example.com,x",
        "admin.example.com:x",
    ] {
        let status = gateway.ask(&Req::get("/").host(host)).status;
        assert!(status == 400 || status == 401, "{host}: {status}");
    }
    let absolute = Req::get("http://admin.example.com/").host("admin.example.com");
    assert_eq!(gateway.ask(&absolute).status, 401);
    let two = Req::get("http://admin.example.com/").host("other.example.com");
    assert_eq!(gateway.ask(&two).status, 400);
    let forwarded = Req::get("/")
        .host("admin.example.com")
        .header("X-Forwarded-Host", "other")
        .header("X-Original-URL", "/x");
    assert_eq!(gateway.ask(&forwarded).status, 401);
    assert_eq!(origin.begun(), 0);
}
