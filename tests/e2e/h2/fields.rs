//! Fields and pseudo-header fields of requests: RFC 9113 §8.2, §8.3, §8.5.

use super::frame::flag;
use super::hpack::Field;
use super::peer::{Peer, Verdict};
use super::site::{BAD, Case, Door, case, run};

pub fn field(name: &str, value: &str) -> Field {
    (name.into(), value.into())
}

/// A GET that is marked as one that no origin may see, after this change, is malformed.
fn bad(d: &Door, change: impl FnOnce(&mut Vec<Field>)) -> Verdict {
    let mut c = Peer::new(d)?;
    let mut fields = c.fields("GET", "/bad");
    fields.push(field(BAD.0, BAD.1));
    change(&mut fields);
    let stream = c.ask(&fields, flag::END_STREAM);
    c.malformed(stream).map_err(|e| format!("{fields:?}: {e}"))
}

/// With this field as well.
fn with(d: &Door, name: &str, value: &str) -> Verdict {
    bad(d, |fields| fields.push(field(name, value)))
}

/// With another value of a pseudo-header field.
fn pseudo(d: &Door, name: &str, value: &str) -> Verdict {
    bad(d, |fields| {
        let found = fields.iter_mut().find(|(n, _)| n == name);
        found.expect("a field of every request").1 = value.into();
    })
}

fn without(d: &Door, name: &str) -> Verdict {
    bad(d, |fields| fields.retain(|(n, _)| n != name))
}

fn twice(d: &Door, name: &str) -> Verdict {
    bad(d, |fields| {
        let at = fields.iter().position(|(n, _)| n == name);
        let at = at.expect("a field of every request");
        fields.insert(at, fields[at].clone());
    })
}

/// A request that no origin may see is answered with one of these statuses.
pub fn refused(d: &Door, line: (&str, &str), more: &[Field], statuses: &[u16]) -> Verdict {
    let mut c = Peer::new(d)?;
    let mut fields = c.fields(line.0, line.1);
    fields.extend_from_slice(more);
    fields.push(field(BAD.0, BAD.1));
    let stream = c.ask(&fields, flag::END_STREAM);
    let reply = c.reply(stream)?;
    match statuses.contains(&reply.status) {
        true => c.serves(),
        false => Err(c.told(&format!("{} {}", reply.status, reply.text()))),
    }
}

pub const NAMES: &[Case] = &[
    case(
        "9113 §8.2.1",
        "http2/8.1.2/1",
        "a name with a capital letter",
        |d| {
            with(d, "X-TEST", "ok")?;
            with(d, "x-tesT", "ok")
        },
    ),
    case("9113 §8.2.1", "", "a name with an illegal octet", |d| {
        for octet in (0..=0x20).chain([0x7f, 0x80, 0xff]) {
            let odd = char::from(octet);
            with(d, &format!("x-o{odd}dd"), "ok")?;
        }
        for name in [
            "", "x:y", "x-y:", "x\"y", "x(y", "x,y", "x/y", "x;y", "x@y", "x{y",
        ] {
            with(d, name, "ok")?;
        }
        Ok(())
    }),
    case("9113 §8.2.1", "", "a value with CR, LF or NUL", |d| {
        for value in [
            "\r",
            "\n",
            "\0",
            "a\r\nx-other: b",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\n",
        ] {
            with(d, "x-value", value)?;
        }
        Ok(())
    }),
    case("9113 §8.2.1", "", "a value between white space", |d| {
        for value in [" a", "a ", "\ta", "a\t", " ", "\t"] {
            with(d, "x-value", value)?;
        }
        Ok(())
    }),
    case(
        "9113 §8.2.2",
        "http2/8.1.2.2/1",
        "fields of the connection",
        |d| {
            let fields = [
                ("connection", "keep-alive"),
                ("connection", "x-test"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", ""),
                ("upgrade", "websocket"),
            ];
            fields.iter().try_for_each(|(n, v)| with(d, n, v))
        },
    ),
    case(
        "9113 §8.2.2",
        "http2/8.1.2.2/2",
        "TE with anything but trailers",
        |d| {
            for value in [
                "trailers, deflate;q=0.5",
                "gzip",
                "",
                "trailers,",
                "chunked",
            ] {
                with(d, "te", value)?;
            }
            bad(d, |fields| {
                fields.extend(["trailers", "gzip"].map(|v| field("te", v)))
            })
        },
    ),
    case("9113 §8.2.2", "", "TE with trailers", |d| {
        let mut c = Peer::new(d)?;
        let mut fields = c.fields("GET", "/");
        fields.push(field("te", "trailers"));
        let stream = c.ask(&fields, flag::END_STREAM);
        c.answers(stream, 200)?;
        c.serves()
    }),
    case(
        "9113 §8.2.1",
        "",
        "names and values that are unusual and good",
        |d| {
            let mut c = Peer::new(d)?;
            let mut fields = c.fields("GET", "/unusual");
            let good = [
                ("x!#$%&'*+-.^`|~9", "tchar"),
                ("x-empty", ""),
                ("x-inner", "a \t b"),
                ("x-high", "\u{fc}"),
            ];
            fields.extend(good.map(|(n, v)| field(n, v)));
            let stream = c.ask(&fields, flag::END_STREAM);
            c.answers(stream, 200)?;
            let arrived = d.arrived("/unusual")?;
            for (name, value) in good {
                if arrived.header(name) != Some(value) {
                    return Err(format!("{name}: {}", arrived.head));
                }
            }
            c.serves()
        },
    ),
];

pub const PSEUDO: &[Case] = &[
    case(
        "9113 §8.3",
        "http2/8.1.2.1/1",
        "an unknown pseudo-header field",
        |d| {
            bad(d, |fields| fields.insert(0, field(":test", "ok")))?;
            bad(d, |fields| fields.insert(4, field(":", "ok")))?;
            bad(d, |fields| fields.insert(4, field(":host", "a")))
        },
    ),
    case(
        "9113 §8.3",
        "http2/8.1.2.1/2",
        "a pseudo-header field of answers",
        |d| {
            bad(d, |fields| fields.insert(4, field(":status", "200")))?;
            bad(d, |fields| fields.insert(0, field(":status", "x")))
        },
    ),
    case(
        "9113 §8.3",
        "http2/8.1.2.1/4",
        "a pseudo-header field behind others",
        |d| {
            for at in 0..4 {
                bad(d, |fields| {
                    let late = fields.remove(at);
                    fields.push(late);
                })?;
            }
            // One more behind, whatever came before.
            bad(d, |fields| fields.push(field(":path", "/other")))
        },
    ),
    case("9113 §8.3.1", "http2/8.1.2.3/1", "an empty path", |d| {
        pseudo(d, ":path", "")
    }),
    case("9113 §8.3.1", "http2/8.1.2.3/2", "no method", |d| {
        without(d, ":method")
    }),
    case("9113 §8.3.1", "http2/8.1.2.3/3", "no scheme", |d| {
        without(d, ":scheme")
    }),
    case("9113 §8.3.1", "http2/8.1.2.3/4", "no path", |d| {
        without(d, ":path")
    }),
    case("9113 §8.3.1", "http2/8.1.2.3/5", "two methods", |d| {
        twice(d, ":method")
    }),
    case("9113 §8.3.1", "http2/8.1.2.3/6", "two schemes", |d| {
        twice(d, ":scheme")
    }),
    case("9113 §8.3.1", "http2/8.1.2.3/7", "two paths", |d| {
        twice(d, ":path")
    }),
    case("9113 §8.3.1", "", "two authorities", |d| {
        twice(d, ":authority")
    }),
    case("9113 §8.3", "", "two of a kind with other values", |d| {
        for (name, value) in [
            (":path", "/other"),
            (":method", "POST"),
            (":authority", "b"),
        ] {
            bad(d, |fields| fields.insert(4, field(name, value)))?;
        }
        Ok(())
    }),
    case("9113 §8.3.1", "", "a path that is none", |d| {
        for path in [
            "bad",
            "bad/",
            "?x",
            "#x",
            "*",
            "*x",
            "//a.b:c@d/..%2f%00",
            "http://api.example.com/bad",
            "https://api.example.com/bad",
            "http:/bad",
            "/bad#fragment",
            "/bad?x#y",
        ] {
            pseudo(d, ":path", path)?;
        }
        Ok(())
    }),
    case("9113 §8.3.1", "", "an illegal octet in the path", |d| {
        let odd = "\0\x01\t\n\r \x1f\"#<>\x7f\u{80}\u{fc}";
        for octet in odd.chars() {
            pseudo(d, ":path", &format!("/bad{octet}x"))?;
            if octet != '#' {
                pseudo(d, ":path", &format!("/bad?q={octet}x"))?;
            }
        }
        Ok(())
    }),
    case("9113 §8.3.1", "", "a method that is none", |d| {
        for method in [
            "",
            "GE T",
            "GET\r\n",
            "G\0T",
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T",
        ] {
            pseudo(d, ":method", method)?;
        }
        Ok(())
    }),
    case(
        "9113 §8.3.1",
        "",
        "a scheme that is not spoken here",
        |d| {
            for scheme in ["", "ftp", "ws", "http:", "ht tp", "http\r\nx: y", "//"] {
                pseudo(d, ":scheme", scheme)?;
            }
            Ok(())
        },
    ),
];

pub const AUTHORITY: &[Case] = &[
    case(
        "9113 §8.3.1",
        "",
        "an authority with user information",
        |d| {
            pseudo(d, ":authority", "user@api.example.com")?;
            pseudo(d, ":authority", "user:secret@api.example.com")?;
            pseudo(d, ":authority", "@api.example.com")
        },
    ),
    case("9113 §8.3.1", "", "an authority that is none", |d| {
        for authority in [
            "",
            ":",
            ":80",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:80:80",
            "a:65536",
            "[::1",
            "[a]",
            "a\r\nx: y",
            "a\0",
            "a,b",
            "<a>",
            "a:-1",
            "\u{fc}",
        ] {
            pseudo(d, ":authority", authority)?;
        }
        Ok(())
    }),
    case("9113 §8.3.1", "", "Host differs from the authority", |d| {
        for host in [
            "other.example.com",
            "api.example.com.",
            "api.example.com:8080",
            "",
        ] {
            with(d, "host", host)?;
        }
        Ok(())
    }),
    case("9110 §7.2", "", "two of Host", |d| {
        let two = |fields: &mut Vec<Field>| {
            fields.extend([
                field("host", "api.example.com"),
                field("host", "api.example.com"),
            ]);
        };
        bad(d, two)?;
        bad(d, |fields| {
            fields.retain(|(n, _)| n != ":authority");
            two(fields);
        })
    }),
    case("9113 §8.3.1", "", "neither Host nor authority", |d| {
        without(d, ":authority")
    }),
    case(
        "9113 §8.3.1",
        "",
        "Host instead of the authority, or the same",
        |d| {
            let mut c = Peer::new(d)?;
            for gone in [":authority", ""] {
                let mut fields = c.fields("GET", "/hosted");
                fields.retain(|(n, _)| n != gone);
                fields.push(field("host", "api.example.com"));
                let stream = c.ask(&fields, flag::END_STREAM);
                c.answers(stream, 200)?;
                let arrived = d.arrived("/hosted")?;
                if arrived.header("host") != Some("api.example.com") {
                    return Err(arrived.head);
                }
            }
            c.serves()
        },
    ),
    case("9113 §8.3.1", "", "the authority becomes Host", |d| {
        let mut c = Peer::new(d)?;
        let mut fields = c.fields("GET", "/authority");
        fields[2].1 = "api.example.com:8443".into();
        let stream = c.ask(&fields, flag::END_STREAM);
        c.answers(stream, 200)?;
        match d.arrived("/authority")?.header("host") {
            Some("api.example.com:8443") => c.serves(),
            other => Err(c.told(&format!("{other:?}"))),
        }
    }),
];

pub const METHODS: &[Case] = &[
    case("9113 §8.5", "", "CONNECT", |d| {
        let connect = [
            (":method", "CONNECT"),
            (":authority", "api.example.com:443"),
            BAD,
        ];
        let mut c = Peer::new(d)?;
        let stream = c.ask(&connect, flag::NONE);
        c.malformed(stream)
    }),
    case("9113 §8.5", "", "CONNECT with a scheme and a path", |d| {
        pseudo(d, ":method", "CONNECT")
    }),
    case(
        "8441 §4",
        "",
        "CONNECT with a protocol that nobody announced",
        |d| {
            bad(d, |fields| {
                fields[0].1 = "CONNECT".into();
                fields.insert(1, field(":protocol", "websocket"));
            })
        },
    ),
    case("8441 §4", "", "a protocol without CONNECT", |d| {
        bad(d, |fields| {
            fields.insert(1, field(":protocol", "websocket"))
        })
    }),
    case("9110 §9.3.8", "", "TRACE", |d| {
        refused(d, ("TRACE", "/bad"), &[], &[405, 501])
    }),
    case(
        "9110 §9.3.7",
        "",
        "OPTIONS for the server as a whole",
        |d| {
            // As over HTTP/1.1: answered by the gateway, and never forwarded as a path.
            refused(d, ("OPTIONS", "*"), &[], &[200])
        },
    ),
];

#[test]
fn names_and_values() {
    run(NAMES);
}

#[test]
fn pseudo_header_fields() {
    run(PSEUDO);
}

#[test]
fn authorities() {
    run(AUTHORITY);
}

#[test]
fn methods() {
    run(METHODS);
}
