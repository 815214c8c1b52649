//! Limits of a request header: RFC 9113 §10.5.1.

use super::fields::{field, refused};
use super::frame::{Code, flag, headers};
use super::hpack::{Field, block};
use super::peer::Peer;
use super::site::{Case, Site, case, run_at};

/// §6.5.2, §10.5.1: the limits of the listener, told like any refusal.
pub const LIMITS: &[Case] = &[
    case("9113 §10.5.1", "", "a header that is too large", |d| {
        let large = field("x-large", &"l".repeat(1500));
        refused(d, ("GET", "/bad"), &[large], &[431])
    }),
    case("9113 §10.5.1", "", "too many fields", |d| {
        let many: Vec<Field> = (0..9).map(|n| field(&format!("x-{n}"), "f")).collect();
        refused(d, ("GET", "/bad"), &many, &[431])
    }),
    case("9110 §15.5.15", "", "a path that is too long", |d| {
        let path = format!("/{}", "b".repeat(100));
        refused(d, ("GET", &path), &[], &[414])
    }),
    case(
        "9113 §10.5.1",
        "",
        "a small block that is a large header",
        |d| {
            // Each octet a field of 250 (§10.5.1, RFC 7541 §7.3).
            let mut c = Peer::new(d)?;
            let long = super::hpack::Literal::Indexed;
            let entry = long.field(b"x-bomb", &[b'b'; 250], super::hpack::Text::Plain);
            let fields = block(&c.fields("GET", "/bad"));
            let bomb = vec![0x80 | super::hpack::DYNAMIC as u8; 10_000];
            c.send([headers(1, flag::WHOLE, [fields, entry, bomb].concat())]);
            c.next = 3;
            match c.reply(1) {
                Ok(reply) if reply.status == 431 => c.serves(),
                Ok(reply) => Err(c.told(&reply.status.to_string())),
                Err(_) if c.seen.reply(1).reset.is_some() => c.serves(),
                Err(_) => c.dies(&[Code::Calm, Code::Protocol]),
            }
        },
    ),
];

#[test]
fn limits_of_headers() {
    run_at(
        &Site::with("max_header_bytes: 1KiB, max_headers: 8, max_uri_bytes: 100B"),
        LIMITS,
    );
}
