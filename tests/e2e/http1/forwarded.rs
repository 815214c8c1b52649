//! RFC 7239: which headers tell a service where a request came from, and whose word is taken.

use super::super::support::recorder::{Recorder, Took};
use super::super::support::*;

fn gateway(origin: &Recorder, form: &str, trusted: &str) -> Gateway {
    Gateway::start(&format!(
        "server: {{ workers: 1, forwarded: {form} }}\n\
         trusted_proxies: [{trusted}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    ))
}

const OLD: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
];

/// A client that says a lot about itself.
fn spoofed() -> Req {
    Req::get("/")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil")
        .header("X-Forwarded-Port", "1")
        .header("X-Forwarded-Prefix", "/evil")
        .header("X-Real-IP", "203.0.113.9")
        .header("Forwarded", "for=203.0.113.9;proto=https;host=evil")
}

fn told(gateway: &Gateway, origin: &Recorder, req: &Req) -> (Took, String) {
    let answer = gateway.ask(req);
    assert_eq!(answer.status, 200, "{req:?}");
    let client = gateway.line(&answer)["client_addr"]
        .as_str()
        .map(str::to_owned);
    (origin.take().remove(0), client.unwrap())
}

const NOW: &str = "for=127.0.0.1;host=api.example.com;proto=http";

#[test]
fn what_an_untrusted_client_says_is_replaced() {
    for (form, old, new) in [
        ("x_forwarded", true, false),
        ("forwarded", false, true),
        ("both", true, true),
    ] {
        let origin = Recorder::start();
        let gateway = gateway(&origin, form, "10.0.0.0/8");
        let (took, client) = told(&gateway, &origin, &spoofed());
        assert_eq!(client, "127.0.0.1", "{form}");
        let want: [&[&str]; 6] = if old {
            [
                &["127.0.0.1"],
                &["http"],
                &["api.example.com"],
                &[],
                &[],
                &[],
            ]
        } else {
            [&[]; 6]
        };
        for (name, want) in OLD.iter().zip(want) {
            assert_eq!(took.values(name), want, "{form}: {name}");
        }
        let want: &[&str] = if new { &[NOW] } else { &[] };
        assert_eq!(took.values("forwarded"), want, "{form}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_added_to() {
    for (form, old, new) in [
        ("x_forwarded", true, false),
        ("forwarded", false, true),
        ("both", true, true),
    ] {
        let origin = Recorder::start();
        let gateway = gateway(&origin, form, "127.0.0.0/8");
        let (took, client) = told(&gateway, &origin, &spoofed());
        assert_eq!(client, "203.0.113.9", "{form}");
        let hops = if old {
            "203.0.113.9, 127.0.0.1"
        } else {
            "203.0.113.9"
        };
        let want = [hops, "https", "evil", "1", "/evil", "203.0.113.9"];
        for (name, want) in OLD.iter().zip(want) {
            assert_eq!(took.values(name), [want], "{form}: {name}");
        }
        let said = "for=203.0.113.9;proto=https;host=evil";
        let want = if new {
            format!("{said}, {NOW}")
        } else {
            said.to_owned()
        };
        assert_eq!(took.values("forwarded"), [want], "{form}");
    }
}

#[test]
fn lists_in_several_lines_become_one() {
    let origin = Recorder::start();
    let gateway = gateway(&origin, "both", "127.0.0.0/8");
    let req = Req::get("/")
        .header("Forwarded", "for=203.0.113.9")
        .header("Forwarded", "for=127.0.0.7")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-For", "127.0.0.7");
    let (took, client) = told(&gateway, &origin, &req);
    assert_eq!(client, "203.0.113.9");
    let want = format!("for=203.0.113.9, for=127.0.0.7, {NOW}");
    assert_eq!(took.values("forwarded"), [want]);
    assert_eq!(
        took.values("x-forwarded-for"),
        ["203.0.113.9, 127.0.0.7, 127.0.0.1"]
    );
}

/// From the right, past trusted proxies; whoever hides is nobody we know.
#[test]
fn the_client_is_the_first_that_is_not_trusted() {
    let origin = Recorder::start();
    let gateway = gateway(&origin, "forwarded", "127.0.0.0/8, 198.51.100.0/24");
    for (forwarded, client) in [
        ("for=203.0.113.9", "203.0.113.9"),
        ("for=1.2.3.4, for=203.0.113.9", "203.0.113.9"),
        ("for=203.0.113.9, for=198.51.100.2", "203.0.113.9"),
        (
            "for=203.0.113.9,for=198.51.100.2 ;proto=http",
            "203.0.113.9",
        ),
        ("FOR=\"203.0.113.9:4711\"", "203.0.113.9"),
        ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
        ("for=\"[::ffff:203.0.113.9]\"", "203.0.113.9"),
        ("for=203.0.113.9;host=\"a, for=1.2.3.4\"", "203.0.113.9"),
        ("for=203.0.113.9;host=\"\\\", for=1.2.3.4\"", "203.0.113.9"),
        ("for=203.0.113.9, for=unknown", "127.0.0.1"),
        (
            "for=203.0.113.9, for=_gateway, for=198.51.100.2",
            "198.51.100.2",
        ),
        ("for=203.0.113.9, proto=http", "127.0.0.1"),
        ("for=203.0.113.9, for=\"1.2.3.4", "127.0.0.1"),
        ("for=203.0.113.9;for=1.2.3.4", "127.0.0.1"),
        ("203.0.113.9", "127.0.0.1"),
        ("by=203.0.113.9", "127.0.0.1"),
        ("for=198.51.100.2", "198.51.100.2"),
        ("", "127.0.0.1"),
    ] {
        let req = Req::get("/").header("Forwarded", forwarded);
        let (_, found) = told(&gateway, &origin, &req);
        assert_eq!(found, client, "{forwarded}");
    }
    let old = Req::get("/").header("X-Forwarded-For", "203.0.113.9");
    let (_, found) = told(&gateway, &origin, &old);
    assert_eq!(found, "127.0.0.1", "the other kind is not asked");
}

/// A proxy that writes one kind passes on what the client wrote in the other.
#[test]
fn two_kinds_that_disagree_are_both_disbelieved() {
    let origin = Recorder::start();
    let gateway = gateway(&origin, "both", "127.0.0.0/8");
    let with = |old: &str, new: &str| {
        let req = Req::get("/").header("X-Forwarded-For", old);
        told(&gateway, &origin, &req.header("Forwarded", new)).1
    };
    assert_eq!(with("203.0.113.9", "for=203.0.113.9"), "203.0.113.9");
    assert_eq!(with("203.0.113.9", "for=1.2.3.4"), "127.0.0.1");
    assert_eq!(with("1.2.3.4", "for=unknown"), "127.0.0.1");
    let one = Req::get("/").header("Forwarded", "for=203.0.113.9");
    assert_eq!(told(&gateway, &origin, &one).1, "203.0.113.9");
}

#[test]
fn ipv6_and_ports_stand_in_quotes() {
    let origin = Recorder::start();
    let gateway = Gateway::start(&format!(
        "server: {{ workers: 1, forwarded: both }}\n\
         listeners: [{{ name: public, address: \"[::1]:0\" }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    assert_eq!(
        gateway
            .ask(&Req::get("/").host("[2001:db8::1]:8443"))
            .status,
        200
    );
    let took = origin.take().remove(0);
    let want = "for=\"[::1]\";host=\"[2001:db8::1]:8443\";proto=http";
    assert_eq!(took.values("forwarded"), [want]);
    assert_eq!(took.values("x-forwarded-for"), ["::1"]);
    assert_eq!(gateway.ask(&Req::get("/").host("a.example:81")).status, 200);
    let want = "for=\"[::1]\";host=\"a.example:81\";proto=http";
    assert_eq!(origin.take()[0].values("forwarded"), [want]);
}

#[test]
fn no_nomination_takes_a_word_of_it_away() {
    let origin = Recorder::start();
    let gateway = gateway(&origin, "both", "10.0.0.0/8");
    let req = Req::get("/").header("Connection", "Forwarded, close");
    let (took, _) = told(&gateway, &origin, &req);
    assert_eq!(took.values("forwarded"), [NOW]);
    assert_eq!(took.values("x-forwarded-for"), ["127.0.0.1"]);
}
