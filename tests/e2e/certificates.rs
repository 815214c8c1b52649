//! Clients by their certificates, and tokens that are good only from the holder of one (RFC 8705).

use super::support::pki::{Authority, Leaf, Trust};
use super::support::*;
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::sync::Arc;

const HOST: &str = "api.example.com";

/// A gateway that takes certificates of an authority, with these lists of them and these routes.
fn start(origin: &Origin, authority: &Authority, lists: &str, routes: &str) -> Gateway {
    let leaf = authority.server(&[HOST]);
    let yaml = format!(
        "listeners:\n\
         - name: public\n\
         \x20 address: \"127.0.0.1:0\"\n\
         \x20 tls: {{ certificates: [{{ cert: a.pem, key: a.key }}], client_certificates: {{ mode: optional, ca: ca.pem }} }}\n\
         - {{ name: plain, address: \"127.0.0.1:0\" }}\n\
         identity:\n\
         \x20 jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}]\n\
         \x20 certificates:\n{lists}\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n{routes}",
        mint::ISSUER
    );
    let ca = authority.pem();
    let files = [
        ("a.pem", &*leaf.cert),
        ("a.key", &*leaf.key),
        ("ca.pem", &*ca),
    ];
    Gateway::with_files(&yaml, &files)
}

fn client(authority: &Authority, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
    let trust = Trust::all().only(authority).alpn(&["http/1.1"]);
    match leaf {
        Some(leaf) => trust.present(leaf).client(),
        None => trust.client(),
    }
}

fn ask(gateway: &Gateway, client: &Arc<ClientConfig>, req: &Req) -> (u16, String) {
    let conn = Client::secure(gateway.listener("public"), client, HOST);
    conn.expect("TLS").ask(&req.clone().host(HOST)).is()
}

#[test]
fn each_kind_of_name_stands_for_the_client_it_is_listed_with() {
    let (origin, authority) = (Origin::start(), Authority::new("ca"));
    let kinds = [
        ("san_uri", "spiffe://test/alice"),
        ("san_dns", "Alice.clients.test"),
        ("san_email", "alice@clients.test"),
        ("common_name", "alice"),
        (
            "subject",
            "CN=alice,O=\\\\C3\\\\84rzte\\\\, \\\\\\\"GmbH\\\\\\\"",
        ),
    ];
    let list = |(kind, name): &(&str, &str)| {
        let tail = ", scopes: [read:a], roles: [service], tier: gold";
        format!(
            "  - {{ name: {kind}, from: {kind}, clients: [{{ names: [other, \"{name}\"], client: c-{kind} {tail} }}] }}\n"
        )
    };
    let route = |(kind, _): &(&str, &str)| {
        format!(
            "- {{ name: {kind}, match: {{ path: /{kind} }}, auth: {{ any: [{kind}], scopes: [read:a], roles: [service] }}, to: up }}\n"
        )
    };
    let lists: String = kinds.iter().map(list).collect();
    let token = "- { name: token, match: { path: /token }, auth: { any: [corp] }, to: up }\n";
    let routes: String = kinds.iter().map(route).collect::<String>() + token;
    let gateway = start(&origin, &authority, &lists, &routes);
    let alice = client(&authority, Some(&authority.client("alice")));
    let bob = client(&authority, Some(&authority.client("bob")));
    let nobody = client(&authority, None);
    for (kind, _) in kinds {
        let req = Req::get(&format!("/{kind}"));
        assert_eq!(ask(&gateway, &alice, &req).0, 200, "{kind}");
        let seen = origin.last();
        assert_eq!(seen.header("x-client-id"), Some(&*format!("c-{kind}")));
        assert_eq!(seen.header("x-user-id"), None);
        assert_eq!(seen.header("x-user-roles"), Some("[\"service\"]"));
        assert_eq!(
            ask(&gateway, &bob, &req),
            (403, "certificate_unknown".into())
        );
        assert_eq!(
            ask(&gateway, &nobody, &req),
            (401, "certificate_required".into())
        );
        // Whoever says it in the clear proves nothing.
        let mut plain = Client::open(gateway.listener("plain"));
        let said = req
            .header("Client-Cert", ":MII=:")
            .header("X-Client-ID", "x");
        assert_eq!(plain.ask(&said).is(), (401, "certificate_required".into()));
    }
    let line = gateway.line_where(|line| line["client_id"] == "c-san_uri");
    assert_eq!(
        (&line["tier"], &line["status_code"]),
        (&json!("gold"), &json!(200))
    );
}

#[test]
fn a_name_that_nobody_has_is_a_client_only_where_that_is_written() {
    let (origin, authority) = (Origin::start(), Authority::new("ca"));
    let lists = "  - { name: mesh, from: san_uri, unlisted: as_named, clients: [{ names: [\"spiffe://test/alice\"], client: alice }] }\n\
        \x20 - { name: bound, from: san_uri, unlisted: as_named, listeners: [public] }\n";
    let routes = "- { name: r, match: { path: / }, auth: { any: [mesh] }, to: up }\n\
        - { name: b, match: { path: /b }, auth: { any: [bound] }, to: up }\n\
        - { name: both, match: { path: /both }, auth: { all: [corp, mesh] }, to: up }\n";
    let gateway = start(&origin, &authority, lists, routes);
    let bob = client(&authority, Some(&authority.client("bob")));
    for target in ["/", "/b"] {
        assert_eq!(ask(&gateway, &bob, &Req::get(target)).0, 200);
        assert_eq!(
            origin.last().header("x-client-id"),
            Some("spiffe://test/bob")
        );
    }
    let claims = mint::claims(gateway.now_s());
    let token = mint::sign(mint::SECRET, "HS256", None, &claims);
    let both = Req::get("/both").bearer(&token);
    assert_eq!(ask(&gateway, &bob, &both).0, 200);
    assert_eq!(origin.last().header("x-user-id"), Some("alice"));
    let missing = ask(&gateway, &bob, &Req::get("/both"));
    assert_eq!(missing, (401, "credentials_missing".into()));
    let nobody = client(&authority, None);
    assert_eq!(
        ask(&gateway, &nobody, &both),
        (401, "certificate_required".into())
    );
}

#[test]
fn a_bound_token_is_good_from_the_holder_of_its_certificate_alone() {
    let (origin, authority) = (Origin::start(), Authority::new("ca"));
    let lists = "  - { name: mesh, from: san_uri, unlisted: as_named }\n";
    let routes = "- { name: r, match: { path: / }, auth: { any: [corp] }, to: up }\n\
        - { name: m, match: { path: /m }, auth: { any: [mesh] }, to: up }\n";
    let gateway = start(&origin, &authority, lists, routes);
    let leaf = authority.client("alice");
    let print = mint::encode(tollgate::base::secret::sha256(&leaf.der));
    let (alice, bob) = (
        client(&authority, Some(&leaf)),
        client(&authority, Some(&authority.client("bob"))),
    );
    let nobody = client(&authority, None);
    let token = |cnf: Value| {
        let claims = mint::claims_but(gateway.now_s(), json!({ "cnf": cnf }));
        Req::get("/").bearer(&mint::sign(mint::SECRET, "HS256", None, &claims))
    };
    let bound = token(json!({ "x5t#S256": print }));
    let refused = || (401, "token_binding_unproven".to_owned());
    for _ in 0..2 {
        assert_eq!(ask(&gateway, &nobody, &bound), refused());
        assert_eq!(ask(&gateway, &bob, &bound), refused());
        assert_eq!(ask(&gateway, &alice, &bound).0, 200, "its holder");
        let mut plain = Client::open(gateway.listener("plain"));
        assert_eq!(
            plain.ask(&bound).is(),
            refused(),
            "also once it is remembered"
        );
    }
    // RFC 7800 §3: what it is bound to otherwise nobody can prove here.
    for other in [
        json!({ "jkt": print }),
        json!({ "jwk": {} }),
        json!({ "x5t#S256": print, "jkt": print }),
        json!({ "x5t#S256": "AAAA" }),
        json!({ "x5t#S256": 7 }),
        json!({}),
        json!("x"),
    ] {
        assert_eq!(
            ask(&gateway, &alice, &token(other.clone())),
            refused(),
            "{other}"
        );
    }
    assert_eq!(origin.hits(), 2);
}
