//! A gateway with an HTTP/2 listener of each kind in front of a recording origin.

use super::peer::Verdict;
use crate::support::pki::{Authority, Trust};
use crate::support::wire::Wire;
use crate::support::{Act, Gateway, Origin, Seen};
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use std::thread;

/// The name that the tests ask for.
pub const NAME: &str = "api.example.com";

/// How HTTP/2 is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Cleartext with prior knowledge (RFC 9113 §3.3).
    H2c,
    /// TLS with ALPN (§3.2).
    Tls,
}

impl Over {
    pub const BOTH: [Self; 2] = [Self::H2c, Self::Tls];
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H2c => "h2c",
            Self::Tls => "TLS",
        })
    }
}

/// Gateway, origin and what it takes to reach them.
pub struct Site {
    pub gateway: Gateway,
    pub origin: Origin,
    authority: Authority,
    client: Arc<ClientConfig>,
}

impl Site {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With further keys of both listeners.
    pub fn with(listener: &str) -> Self {
        Self::routed(listener, "", "")
    }

    /// With one more upstream, which may name the `ORIGIN`, and one more route as well.
    pub fn routed(listener: &str, upstream: &str, route: &str) -> Self {
        let authority = Authority::new("tests");
        let leaf = authority.server(&[NAME]);
        let origin = Origin::scripted(script);
        let keys = if listener.is_empty() { "" } else { ", " };
        let tls = "tls: { certificates: [{ cert: cert.pem, key: key.pem }] }";
        let both = format!("address: \"127.0.0.1:0\"{keys}{listener}");
        let [upstream, route] = [upstream, route].map(|item| match item {
            "" => String::new(),
            item => format!("- {item}\n").replace("ORIGIN", &origin.to_string()),
        });
        let config = format!(
            "listeners:\n\
             - {{ name: h2c, protocol: h2c, {both} }}\n\
             - {{ name: tls, {tls}, {both} }}\n\
             upstreams:\n- {{ name: up, targets: [\"{origin}\"] }}\n{upstream}\
             routes:\n- {{ name: all, match: {{ path: / }}, auth: none, to: up }}\n{route}"
        );
        let files = [("cert.pem", leaf.cert.as_str()), ("key.pem", &leaf.key)];
        Self {
            gateway: Gateway::with_files(&config, &files),
            origin,
            client: Trust::all().only(&authority).alpn(&["h2"]).client(),
            authority,
        }
    }

    /// A client that offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        Trust::all().only(&self.authority).alpn(protocols).client()
    }

    pub fn door(&self, over: Over) -> Door<'_> {
        Door { site: self, over }
    }

    /// Both ways in.
    pub fn doors(&self) -> [Door<'_>; 2] {
        Over::BOTH.map(|over| self.door(over))
    }
}

/// One way into a site.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    pub site: &'a Site,
    pub over: Over,
}

impl Door<'_> {
    /// Opens a connection.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn connect(&self) -> Result<Wire, String> {
        let gateway = &self.site.gateway;
        let wire = match self.over {
            Over::H2c => Wire::plain(gateway.listener("h2c")),
            Over::Tls => Wire::tls(gateway.listener("tls"), &self.site.client, NAME),
        };
        wire.map_err(|e| format!("does not connect: {e}"))
    }

    pub fn scheme(&self) -> &'static str {
        match self.over {
            Over::H2c => "http",
            Over::Tls => "https",
        }
    }

    /// The last request at the origin whose header holds this.
    ///
    /// # Errors
    /// There is none.
    pub fn arrived(&self, with: &str) -> Result<Seen, String> {
        let seen = self.site.origin.seen();
        let found = seen.into_iter().rev().find(|s| s.head.contains(with));
        found.ok_or_else(|| format!("nothing with {with:?} at the origin"))
    }
}

/// `/size/N` is answered with N bytes, `/echo` with the request's body, `/status/N` with that
/// status and nothing, `/hops` with fields that end here, all else with its own target.
fn script(seen: &Seen) -> Act {
    let number = |prefix: &str| -> Option<u64> {
        let text = seen.target.strip_prefix(prefix)?;
        text.parse().ok()
    };
    if let Some(size) = number("/size/") {
        return Act::ok(vec![b'x'; size as usize]);
    }
    if let Some(status) = number("/status/") {
        return Act::status(status as u16);
    }
    match seen.target.as_str() {
        "/echo" => Act::ok(seen.body.clone()),
        "/hops" => Act::Raw(HOPS.as_bytes().to_vec()),
        "/torn" => Act::RawThenClose(TORN.as_bytes().to_vec()),
        target => Act::ok(target),
    }
}

/// An answer with everything that must not leave HTTP/1.1.
const HOPS: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
     Proxy-Connection: keep-alive\r\nX-Hop: 1\r\nX-Kept: 1\r\nTE: gzip\r\nUpgrade: h2c\r\n\
     Transfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";

/// An answer that ends too early.
const TORN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";

/// One rule and how it is tried.
pub struct Case {
    /// Where the rule stands.
    pub section: &'static str,
    /// Its number in the public suite of these RFCs; empty for what that does not try.
    pub suite: &'static str,
    pub name: &'static str,
    pub run: fn(&Door) -> Verdict,
}

pub const fn case(
    section: &'static str,
    suite: &'static str,
    name: &'static str,
    run: fn(&Door) -> Verdict,
) -> Case {
    Case {
        section,
        suite,
        name,
        run,
    }
}

/// Marks a request that no origin may ever see.
pub const BAD: (&str, &str) = ("x-bad", "1");

/// Runs each case over each kind of connection, and tells of all that fail.
#[track_caller]
pub fn run(cases: &[Case]) {
    run_at(&Site::start(), cases);
}

#[track_caller]
pub fn run_at(site: &Site, cases: &[Case]) {
    let tried = chosen(cases).flat_map(|case| site.doors().map(|door| attempt(case, &door)));
    conclude(site, tried.flatten().collect());
}

/// The same all at once, for cases that wait most of the time.
#[track_caller]
pub fn run_at_once(site: &Site, cases: &[Case]) {
    let tried = thread::scope(|s| {
        let begin = |case, door| s.spawn(move || attempt(case, &door));
        let begun: Vec<_> = chosen(cases)
            .flat_map(|case| site.doors().map(|door| begin(case, door)))
            .collect();
        let ended = begun.into_iter().map(|t| t.join().expect("no panic"));
        ended.flatten().collect()
    });
    conclude(site, tried);
}

fn chosen(cases: &[Case]) -> impl Iterator<Item = &Case> {
    let only = std::env::var("TOLLGATE_TEST_CASE").unwrap_or_default();
    cases.iter().filter(move |case| case.name.contains(&only))
}

/// What went wrong.
fn attempt(case: &Case, door: &Door) -> Option<String> {
    let Case { section, name, .. } = case;
    let wrong = (case.run)(door).err()?;
    Some(format!(
        "RFC {section}: {name}, over {}: {wrong}",
        door.over
    ))
}

#[track_caller]
fn conclude(site: &Site, mut wrong: Vec<String>) {
    let seen = site.origin.seen();
    let bad = seen.iter().filter(|s| s.header(BAD.0).is_some());
    wrong.extend(bad.map(|s| format!("the origin got what no client plainly sent: {}", s.head)));
    let all = wrong.join("\n\n");
    assert!(wrong.is_empty(), "{} faults\n{all}", wrong.len());
}
