//! Between HTTP/2 in front and HTTP/1.1 behind: nothing is added, lost, or read twice.

use super::frame::{self, Code, MAX_FRAME, data, flag, headers};
use super::hpack::block;
use super::peer::{Peer, Verdict};
use super::site::{Case, Door, Over, Site, case, run};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

/// A request whose `cookie` fields are these; what becomes of them.
fn cookies(d: &Door, mark: &str, pieces: &[&str]) -> Result<Option<String>, String> {
    let mut c = Peer::new(d)?;
    let path = format!("/cookies/{mark}/{}", d.over);
    let mut fields = c.fields("GET", &path);
    fields.extend(
        pieces
            .iter()
            .map(|p| ("cookie".to_owned(), (*p).to_owned())),
    );
    let stream = c.ask(&fields, flag::END_STREAM);
    c.answers(stream, 200)?;
    // `Seen::header` wants it once at most.
    Ok(d.arrived(&path)?.header("cookie").map(str::to_owned))
}

/// A body of so many octets, in frames of at most `most`, comes back as it was sent.
fn echo(d: &Door, size: usize, most: usize, said: bool) -> Verdict {
    let mut c = Peer::new(d)?;
    let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    let mut fields = c.fields("POST", "/echo");
    if said {
        fields.push(("content-length".into(), size.to_string()));
    }
    let stream = c.ask(&fields, flag::NONE);
    match size {
        0 => c.end(stream, b""),
        _ => c.upload(stream, &body, most)?,
    }
    let mut given = 0;
    loop {
        let reply = c.seen.reply(stream);
        if reply.ended {
            break;
        }
        let taken = reply.body.len() - given;
        if taken > 0 {
            c.send([0, stream].map(|s| frame::window_update(s, taken as u32)));
            given += taken;
        }
        if reply.reset.is_some() || !c.step()? {
            return Err(c.told(&format!("{size} in {most}: {:?}", reply.reset)));
        }
    }
    match c.seen.reply(stream).body == body {
        true => c.serves(),
        false => Err(format!("{size} in {most}: not what was sent")),
    }
}

pub const BETWEEN: &[Case] = &[
    case(
        "9113 §8.2.3",
        "",
        "pieces of a cookie are one field again",
        |d| {
            let joined = cookies(d, "three", &["a=b", "c=d", "e=f"])?;
            match joined.as_deref() {
                Some("a=b; c=d; e=f") => (),
                other => return Err(format!("{other:?}")),
            }
            match cookies(d, "one", &["a=b; c=d"])?.as_deref() {
                Some("a=b; c=d") => (),
                other => return Err(format!("{other:?}")),
            }
            match cookies(d, "none", &[])? {
                None => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    ),
    case(
        "9113 §8.2.2",
        "",
        "fields of the origin's connection end here",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.get("/hops");
            // `Seen::take` wants none that §8.2.2 names.
            let reply = c.reply(stream)?;
            match (
                reply.field("x-kept"),
                reply.field("x-hop"),
                reply.text().as_str(),
            ) {
                ("1", "", "whole") => c.serves(),
                other => Err(c.told(&format!("{other:?}"))),
            }
        },
    ),
    case(
        "9113 §8.1",
        "",
        "an answer that is torn is no whole answer",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.get("/torn");
            match c.reply(stream) {
                // A refusal made instead is whole.
                Ok(reply) if reply.status == 502 => c.serves(),
                Ok(reply) => Err(c.told(&format!("{} {}", reply.status, reply.text()))),
                Err(_) => match c.seen.reply(stream).reset {
                    None | Some(Code::No) => Err(c.told("want a reset that says so")),
                    Some(_) => c.serves(),
                },
            }
        },
    ),
    case(
        "9110 §7.6.3",
        "",
        "the origin is told of the connection in front",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.get("/forwarded");
            c.answers(stream, 200)?;
            match d.arrived("/forwarded")?.header("x-forwarded-proto") {
                Some(scheme) if scheme == c.scheme => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    ),
    case(
        "9113 §8.1",
        "",
        "a request is not begun before it is read",
        |d| {
            let mut c = Peer::new(d)?;
            let path = format!("/slowly/{}", d.over);
            let mut fields = c.fields("GET", &path);
            fields.push(("x-late".into(), "field".into()));
            let request = block(&fields);
            c.send([headers(1, flag::END_STREAM, &request[..10])]);
            thread::sleep(std::time::Duration::from_millis(100));
            if d.arrived(&path).is_ok() {
                return Err("it was".into());
            }
            c.send([frame::continuation(1, flag::END_HEADERS, &request[10..])]);
            c.answers(1, 200)
        },
    ),
    case(
        "9113 §8.1",
        "",
        "bodies of any size in frames of any size",
        |d| {
            for said in [false, true] {
                for size in [0, 1, 100, MAX_FRAME, MAX_FRAME + 1, 300_000] {
                    echo(d, size, MAX_FRAME, said)?;
                }
                echo(d, 3000, 1, said)?;
                echo(d, 100_000, 999, said)?;
            }
            Ok(())
        },
    ),
    case(
        "9110 §15.5",
        "",
        "a refusal says what it does over HTTP/1.1",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.get("/%2f");
            let reply = c.reply(stream)?;
            let problem: serde_json::Value =
                serde_json::from_slice(&reply.body).map_err(|e| e.to_string())?;
            if reply.status != 400 || problem["code"] != "ambiguous_path" {
                return Err(c.told(&problem.to_string()));
            }
            let id = reply.field("x-request-id").to_owned();
            let line = d
                .site
                .gateway
                .line_where(|line| line["request_id"] == id.as_str());
            match (line["protocol"].as_str(), line["status_code"].as_u64()) {
                (Some("HTTP/2"), Some(400)) => c.serves(),
                other => Err(format!("{other:?}: {line}")),
            }
        },
    ),
];

#[test]
fn between_http_2_and_http_1() {
    run(BETWEEN);
}

/// A POST without a length, whose body ends with an empty frame, used to reach the origin with two
/// last chunks: the second was read as a next, bad request, and what was said of it could meet
/// another client's.
#[test]
fn a_body_that_ends_with_an_empty_frame_ends_once() {
    const POSTS: usize = 300;
    let site = Site::start();
    for door in site.doors() {
        let before = site.origin.begun();
        let mut c = Peer::new(&door).expect("a connection");
        for n in 0..POSTS {
            let stream = c.post("/echo");
            let body = format!("body {n}");
            c.send([
                data(stream, flag::NONE, body.as_bytes()),
                data(stream, flag::END_STREAM, ""),
            ]);
            let reply = c.reply(stream).expect("an answer");
            assert_eq!(
                (reply.status, reply.text()),
                (200, body),
                "over {}",
                door.over
            );
        }
        let seen = &site.origin.seen()[before..];
        assert_eq!(site.origin.begun() - before, POSTS, "{:?}", seen.last());
        let mut bodies: HashMap<&[u8], usize> = HashMap::new();
        seen.iter()
            .for_each(|s| *bodies.entry(&s.body).or_default() += 1);
        assert_eq!(bodies.len(), POSTS, "each came once");
        assert!(seen.iter().all(|s| s.method == "POST"));
    }
}

/// The held end of a body had been kept for a retry as well: the second target got it before the stream
/// had ended, and once more when it did. The route takes no byte more than was announced.
#[test]
fn a_retry_sends_no_end_that_is_held() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = mpsc::channel();
    let (go, on) = mpsc::channel();
    let target = thread::spawn(move || {
        let (mut first, _) = listener.accept().expect("a connection");
        read_until(&mut first, b"\r\n\r\n");
        tell.send(()).expect("the test waits");
        on.recv().expect("a word");
        drop(first);
        let (mut second, _) = listener.accept().expect("another");
        read_until(&mut second, b"\r\n\r\n");
        tell.send(()).expect("the test waits");
        on.recv().expect("a word");
        second.set_nonblocking(true).expect("a socket");
        let early = second.peek(&mut [0; 1]);
        assert!(early.is_err(), "the stream has not ended yet: {early:?}");
        second.set_nonblocking(false).expect("a socket");
        tell.send(()).expect("the test waits");
        let body = read_until(&mut second, b"hello");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        second.write_all(answer).expect("an answer");
        body
    });
    let upstream = format!("{{ name: torn, targets: [\"{address}\"], retries: 1 }}");
    let route = "{ name: torn, match: { path: /torn }, auth: none, to: torn, max_body: 5B }";
    let site = Site::routed("", &upstream, route);
    let mut c = Peer::new(&site.door(Over::H2c)).expect("a connection");
    let mut fields = c.fields("PUT", "/torn");
    fields.push(("content-length".into(), "5".into()));
    let stream = c.ask(&fields, flag::NONE);
    c.send([data(stream, flag::NONE, "hello")]);
    for _ in 0..2 {
        told.recv().expect("a header");
        // By then all that was sent has been read.
        c.serves().expect("time passes");
        go.send(()).expect("the target waits");
    }
    told.recv().expect("nothing early");
    c.end(stream, b"");
    c.answers(stream, 200).expect("the second one's");
    assert_eq!(target.join().expect("what it asserts"), b"hello");
}

/// Reads octet by octet, so that nothing behind it is taken.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut all, mut one) = (Vec::new(), [0; 1]);
    while !all.ends_with(end) {
        stream.read_exact(&mut one).expect("more");
        all.push(one[0]);
    }
    all
}
