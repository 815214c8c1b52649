//! The gateway that judges the corpus: a route for each kind of issuer, one service behind them.

use super::super::support::*;
use super::case::{Case, Rule};
use super::{key_sets, vectors};
use serde_json::Value;

pub struct Site {
    gateway: Gateway,
    origin: Origin,
    /// Publishes the key set of `/published`.
    _issuer: Origin,
    /// Listens where tokens say that keys are.
    pub stranger: Origin,
    pub now: u64,
}

/// The algorithms that have a route of their own, `/alg/NAME`.
pub const ALGS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// The issuer on `/published`, `/two` and in the RFC's own tokens are others than [`mint::ISSUER`].
pub const UNICODE: &str = "https://is\u{e9}.example/";

/// A header that is good on `/rs`.
pub const HEADER: &str = r#"{"alg":"RS256","kid":"a"}"#;

impl Site {
    pub fn open() -> Self {
        let (origin, stranger) = (Origin::start(), Origin::start());
        let issuer = Origin::scripted(|_| Act::ok(key_sets::published()));
        let (mut identities, mut routes) = (String::new(), String::new());
        let mut add = |name: &str, settings: &str| {
            identities += &format!("  - {{ name: {name}, {settings} }}\n");
            let path = name.replace('.', "/");
            routes += &format!(
                "- {{ name: {name}, match: {{ path: /{path} }}, auth: {{ any: [{name}] }}, to: up }}\n"
            );
        };
        let us = format!("issuer: \"{}\", audiences: [api, api2]", mint::ISSUER);
        for alg in ALGS {
            add(&format!("alg.{alg}"), &format!("{us}, {}", one_key(alg)));
        }
        let key =
            "algorithms: [RS256], keys: [{ kid: a, alg: RS256, public_key: \"file:rsa-a.pem\" }]";
        add("rs", &format!("{us}, {key}"));
        add("at", &format!("{us}, {key}, profile: at+jwt"));
        add(
            "claims",
            &format!(
                "{us}, {key}, require: [tenant, {{ claim: realm.groups, values: [staff, partner] }}]"
            ),
        );
        let unicode = format!("issuer: \"{UNICODE}\", audiences: [api]");
        add("unicode", &format!("{unicode}, {key}"));
        let file = "algorithms: [RS256, ES256], jwks: { file: set.json }";
        add("file", &format!("{us}, {file}"));
        let all = "algorithms: [RS256, PS256, ES256, ES384, EdDSA]";
        add(
            "published",
            &format!("{us}, {all}, jwks: {{ url: \"http://{issuer}/keys\" }}"),
        );
        vectors::issuers(&mut add);
        for (name, key) in [("one", "rsa-a"), ("two", "rsa-b")] {
            identities += &format!(
                "  - {{ name: {name}, issuer: {name}, audiences: [api], algorithms: [RS256], keys: [{{ kid: k, alg: RS256, public_key: \"file:{key}.pem\" }}] }}\n"
            );
        }
        routes += "- { name: both, match: { path: /both }, auth: { any: [one, two] }, to: up }\n";
        routes += "- { name: one, match: { path: /one }, auth: { any: [one] }, to: up }\n";
        let config = format!(
            "identity:\n  failures: off\n  jwt:\n{identities}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\nroutes:\n{routes}"
        );
        let mut files: Vec<(String, String)> = vectors::files();
        files.push(("set.json".into(), key_sets::in_file()));
        files.extend(mint::PUBLIC.map(|(name, pem)| (format!("{name}.pem"), pem.to_owned())));
        let files: Vec<_> = files
            .iter()
            .map(|(n, t)| (n.as_str(), t.as_str()))
            .collect();
        let gateway = Gateway::with_files(&config, &files);
        let now = gateway.now_s();
        Self {
            gateway,
            origin,
            _issuer: issuer,
            stranger,
            now,
        }
    }

    /// Claims that hold.
    pub fn claims(&self) -> Value {
        mint::claims(self.now)
    }

    /// The same with some of them changed.
    pub fn but(&self, changes: Value) -> Value {
        mint::claims_but(self.now, changes)
    }

    /// A request to `/rs` with these claims, well signed.
    pub fn saying(&self, changes: Value) -> Req {
        at(
            "/rs",
            &mint::sign_header("rsa-a", "RS256", HEADER, &self.but(changes)),
        )
    }

    /// A request to `/rs` with good claims and this header, well signed.
    pub fn headed(&self, header: impl AsRef<[u8]>) -> Req {
        let claims = self.claims().to_string();
        at("/rs", &mint::sign_text("rsa-a", "RS256", header, claims))
    }

    /// A request to `/rs` with exactly these claims, well signed.
    pub fn carrying(&self, claims: impl AsRef<[u8]>) -> Req {
        at("/rs", &mint::sign_text("rsa-a", "RS256", HEADER, claims))
    }

    /// A good token for `/rs`, in its three segments.
    pub fn segments(&self) -> [String; 3] {
        let token = mint::sign_header("rsa-a", "RS256", HEADER, &self.claims());
        let segments: Vec<String> = token.split('.').map(str::to_owned).collect();
        segments.try_into().expect("three segments")
    }

    /// What the gateway does otherwise than the rule wants.
    pub fn judge(&self, rule: &Rule) -> Vec<String> {
        let wrong = rule.cases.iter().filter_map(|case| {
            let found = self.differs(case)?;
            Some(format!("{rule}: {}: {found}", case.what))
        });
        wrong.collect()
    }

    fn differs(&self, case: &Case) -> Option<String> {
        let before = self.origin.hits();
        let answer = self.gateway.ask(&case.req);
        let reached = self.origin.hits() - before;
        let Some(want) = case.code else {
            let passed = answer.status == 200 && reached == 1;
            return (!passed).then(|| format!("refused, {:?}", answer.is()));
        };
        if answer.status != 401 || reached != 0 {
            return Some(format!(
                "{}, {reached} requests came through",
                answer.status
            ));
        }
        if answer.code() != want {
            return Some(format!("found {}, want {want}", answer.code()));
        }
        if answer.header("www-authenticate").is_none() {
            return Some("no challenge".to_owned());
        }
        let sent = case.req.bytes();
        let sent = String::from_utf8_lossy(&sent);
        let token = sent.split("Bearer ").nth(1).unwrap_or_default();
        let start = token.get(..24).unwrap_or("not so long a text");
        let head = format!("{answer:?}");
        (head.contains(start) || answer.text().contains(start)).then(|| "echoed".to_owned())
    }
}

/// A request to a route with this token.
pub fn at(route: &str, token: &str) -> Req {
    Req::get(route).bearer(token)
}

/// The settings of an issuer with one algorithm and its key.
fn one_key(alg: &str) -> String {
    let key = match mint::key_for(alg) {
        _ if alg.starts_with("HS") => "secret: \"${TEST_SECRET}\"".to_owned(),
        key => format!("public_key: \"file:{key}.pem\""),
    };
    format!("algorithms: [{alg}], keys: [{{ alg: {alg}, {key} }}]")
}
