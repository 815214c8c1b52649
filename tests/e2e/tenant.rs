//! Choice by tenant: never another tenant's upstream.

use super::support::*;
use std::fmt::Write as _;

#[test]
fn a_thousand_tenants_each_reach_their_own_upstream_only() {
    let origin = Origin::start();
    let (mut upstreams, mut values) = (String::from("upstreams:\n"), String::new());
    for n in 0..1000 {
        let _ = writeln!(upstreams, "- {{ name: up-{n}, targets: [\"{origin}\"] }}");
        let _ = write!(values, "t{n}: up-{n}, ");
    }
    let gateway = Gateway::start(&format!(
        "{upstreams}routes: [{{ name: r, match: {{ path: / }}, auth: none, \
         to: {{ tenant: X-Tenant-ID, values: {{ {values} }} }} }}]\n"
    ));
    let mut client = gateway.connect();
    for n in (0..1000).step_by(37).chain([999]) {
        let answer = client.ask(&Req::get("/").header("X-Tenant-ID", &format!("t{n}")));
        assert_eq!(answer.status, 200);
        assert_eq!(gateway.line(&answer)["upstream"], format!("up-{n}"));
    }
    let before = origin.hits();
    for (tenant, want) in [
        (None, (400, "tenant_missing")),
        (Some(""), (400, "tenant_missing")),
        (Some("t1000"), (404, "tenant_unknown")),
        (Some("T1"), (404, "tenant_unknown")),
        (Some("t1, t2"), (404, "tenant_unknown")),
    ] {
        let req = Req::get("/");
        let req = tenant.map_or(req.clone(), |t| req.header("X-Tenant-ID", t));
        assert_eq!(client.ask(&req).is(), (want.0, want.1.into()), "{tenant:?}");
    }
    let twice = Req::get("/")
        .header("X-Tenant-ID", "t1")
        .header("X-Tenant-ID", "t2");
    assert_eq!(
        client.ask(&twice).is(),
        (400, "tenant_missing".into()),
        "two tenants are none"
    );
    assert_eq!(
        origin.hits(),
        before,
        "and none of these reaches any upstream"
    );
}

#[test]
fn a_verified_claim_chooses_and_a_header_does_not_matter() {
    let (acme, globex) = (Origin::start(), Origin::start());
    let gateway = Gateway::start(&format!(
        "identity:\n\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{iss}\", audiences: [api], algorithms: [HS256],\n\
         \x20     keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n\
         upstreams:\n\
         - {{ name: acme, targets: [\"{acme}\"] }}\n\
         - {{ name: globex, targets: [\"{globex}\"] }}\n\
         routes:\n\
         - {{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }},\n\
         \x20   to: {{ tenant: claim, values: {{ acme: acme, globex: globex }} }} }}\n",
        iss = mint::ISSUER
    ));
    let token = |tenant: serde_json::Value| {
        let claims = mint::claims_but(gateway.now_s(), serde_json::json!({ "tenant": tenant }));
        mint::sign(mint::SECRET, "HS256", None, &claims)
    };
    let ask = |tenant: serde_json::Value| {
        gateway.ask(
            &Req::get("/")
                .bearer(&token(tenant))
                .header("X-Tenant-ID", "globex"),
        )
    };
    assert_eq!(ask("acme".into()).status, 200);
    assert_eq!((acme.hits(), globex.hits()), (1, 0));
    assert_eq!(ask("initech".into()).is(), (404, "tenant_unknown".into()));
    assert_eq!(
        ask(serde_json::Value::Null).is(),
        (400, "tenant_missing".into())
    );
    assert_eq!(
        gateway.get("/").status,
        401,
        "who nobody knows has no tenant"
    );
    assert_eq!((acme.hits(), globex.hits()), (1, 0));
}
