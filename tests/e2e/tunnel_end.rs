//! How a drain ends WebSockets: with a Close of its own at both ends, between two frames and nowhere
//! else (RFC 6455 §5.5.1, §7.4.1).

use super::support::pki::{Authority, Trust};
use super::support::websocket::*;
use super::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the client is sent at the end.
const GOODBYE: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// A gateway that gives WebSockets so long.
#[track_caller]
fn granting(max: &str, origin: &Origin) -> Gateway {
    let server = format!("server: {{ workers: 1, drain: {{ idle: 0s, max: {max} }} }}\n");
    let config = config_of(origin, "retries: 0", "websocket: {}");
    Gateway::start(&format!("{server}{config}"))
}

/// Bytes of a service that speaks them by itself.
type Heard = Arc<Mutex<Vec<u8>>>;

/// A service that switches, sends these bytes, and after the first bytes that it hears some more; what
/// it hears is kept.
fn speaking(first: &'static [u8], then: &'static [u8]) -> (Origin, Heard) {
    let heard = Heard::default();
    let keep = heard.clone();
    let origin = Origin::scripted(move |_| {
        let keep = keep.clone();
        Act::take(move |mut stream, rest, seen| {
            keep.lock().unwrap().extend(rest);
            let _ = stream.write_all(&[switch(seen).as_bytes(), first].concat());
            let mut part = [0; 4096];
            let mut then = Some(then);
            while let Ok(n @ 1..) = stream.read(&mut part) {
                keep.lock().unwrap().extend(&part[..n]);
                let _ = stream.write_all(then.take().unwrap_or_default());
            }
        })
    });
    (origin, heard)
}

/// What a masked Close says, if that is what these bytes are.
#[track_caller]
fn unmasked(bytes: &[u8]) -> [u8; 2] {
    assert_eq!((bytes.len(), &bytes[..2]), (8, &[0x88, 0x82][..]));
    assert_ne!(bytes[2..6], [0; 4], "a mask (RFC 6455 §5.3)");
    [bytes[6] ^ bytes[2], bytes[7] ^ bytes[3]]
}

/// Opens a WebSocket whose bytes are looked at one by one.
#[track_caller]
fn opened(gateway: &Gateway) -> (Client, Answer) {
    let mut client = gateway.connect();
    let answer = client.ask(&handshake("/ws"));
    assert_eq!(answer.status, 101);
    (client, answer)
}

/// Everything up to the end of the connection.
#[track_caller]
fn rest_of(client: &mut Client) -> Vec<u8> {
    let mut came = Vec::new();
    client.read_to_end(&mut came).expect("an end in good order");
    came
}

#[test]
fn a_websocket_is_closed_with_1001_at_the_end_of_a_drain() {
    let told: Arc<Mutex<Vec<Message>>> = Arc::default();
    let keep = told.clone();
    let origin = serving(move |socket| {
        while let Ok(message) = socket.read() {
            if message.is_close() {
                keep.lock().unwrap().push(message);
            } else {
                let _ = socket.send(message);
            }
        }
    });
    let gateway = granting("1s", &origin);
    let (mut used, mut silent) = (Socket::open(&gateway), Socket::open(&gateway));
    let began = Stopwatch::start();
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        eventually("no more accepting", || {
            TcpStream::connect(gateway.address()).is_err()
        });
        used.echoes("still here");
        for socket in [&mut used, &mut silent] {
            match socket.read() {
                Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Away),
                other => panic!("{other:?}"),
            }
            began.shows(990, 6000);
            // tungstenite has answered it.
            assert!(matches!(socket.web.read(), Err(Error::ConnectionClosed)));
        }
        assert!(draining.join().expect("no panic"), "nothing was cut off");
    });
    eventually("the service was told, too", || {
        origin.open_connections() == 0
    });
    let told = told.lock().unwrap();
    let away = |m: &Message| matches!(m, Message::Close(Some(f)) if f.code == CloseCode::Away);
    assert!(told.len() == 2 && told.iter().all(away), "{told:?}");
    for socket in [&used, &silent] {
        let line = gateway.line(&socket.answer);
        assert_eq!(line["status_code"], 101);
        assert_eq!(line["reason"], "going_away");
    }
    let counted = "tollgate_refusals_total{reason=\"going_away\"}";
    assert_eq!(gateway.metric(counted), 2);
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
}

#[test]
fn over_tls_as_well() {
    let authority = Authority::new("ca");
    let ours = authority.server(&["api.example.com"]);
    let trust = Trust::all().only(&authority).alpn(&["http/1.1"]).client();
    let origin = serving(echo);
    let config = format!(
        "server: {{ workers: 1, drain: {{ max: 300ms }} }}\n\
         listeners: [{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] }} }}]\n{}",
        config_of(&origin, "retries: 0", "websocket: {}")
    );
    let files = [("a.pem", &*ours.cert), ("a.key", &*ours.key)];
    let gateway = Gateway::with_files(&config, &files);
    let client = Client::secure(gateway.address(), &trust, "api.example.com").expect("TLS");
    let mut socket = Socket::with(client, &handshake("/ws"));
    socket.echoes("hello");
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        match socket.read() {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Away),
            other => panic!("{other:?}"),
        }
        assert!(matches!(socket.web.read(), Err(Error::ConnectionClosed)));
        assert!(draining.join().expect("no panic"), "nothing was cut off");
    });
}

/// The rest of the frame that the client has begun comes through, and nothing behind it.
#[test]
fn a_frame_of_the_client_is_not_torn() {
    let (origin, heard) = speaking(b"", b"");
    let gateway = granting("300ms", &origin);
    let (mut client, _) = opened(&gateway);
    // 300 bytes behind 8 of header: the cut is within the mask.
    let frame = [&[0x82, 0xfe, 0x01, 0x2c, 9, 9, 9, 9][..], &[b'm'; 300]].concat();
    let begun: Vec<u8> = [&frame[..], &frame[..6]].concat();
    client.send(&begun);
    eventually("half of it", || heard.lock().unwrap().len() == begun.len());
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        client.expect_bytes(&GOODBYE);
        client.send([&frame[6..], &frame[..]].concat());
        assert_eq!(rest_of(&mut client), b"");
        drop(client);
        assert!(draining.join().expect("no panic"), "nothing was cut off");
    });
    eventually("the service's end", || origin.open_connections() == 0);
    let heard = heard.lock().unwrap();
    let (frames, close) = heard.split_at(2 * frame.len());
    assert_eq!(frames, frame.repeat(2), "whole, and no third one");
    assert_eq!(unmasked(close), 1001u16.to_be_bytes());
}

/// The same for the service's, which comes in haste with what is said behind it.
#[test]
fn a_frame_of_the_service_is_not_torn() {
    let (origin, heard) = speaking(b"\x81\x02ok\x81\x05he", b"llo\x81\x05never\x88\x00");
    let gateway = granting("300ms", &origin);
    let (mut client, _) = opened(&gateway);
    client.expect_bytes(b"\x81\x02ok\x81\x05he");
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        // What has the service go on is the Close that it is sent.
        let want = [&b"llo"[..], &GOODBYE].concat();
        assert_eq!(rest_of(&mut client), want);
        drop(client);
        assert!(draining.join().expect("no panic"), "nothing was cut off");
    });
    eventually("the service's end", || origin.open_connections() == 0);
    assert_eq!(unmasked(&heard.lock().unwrap()), 1001u16.to_be_bytes());
}

#[test]
fn where_no_frame_ends_there_is_no_close() {
    for (first, what) in [
        (&b"\x81\x05he"[..], "a frame that stays half"),
        (b"\xff\xffno frames", "something else"),
    ] {
        let (origin, _) = speaking(first, b"");
        let gateway = granting("300ms", &origin);
        let (mut client, answer) = opened(&gateway);
        client.expect_bytes(first);
        let began = Stopwatch::start();
        assert!(!gateway.drain(), "{what}: it was cut off");
        began.shows(290, 8000);
        assert_eq!(rest_of(&mut client), b"", "{what}");
        eventually("the service's end", || origin.open_connections() == 0);
        assert_eq!(gateway.line(&answer)["reason"], "going_away");
    }
}

/// Under load in either direction the other end reads frames, whole ones, and the Close.
#[test]
fn streams_of_messages_end_between_two_of_them() {
    let over = Arc::new(AtomicBool::new(false));
    let noted = over.clone();
    let origin = serving(move |socket| match socket.read() {
        Ok(Message::Text(_)) => {
            for n in 0.. {
                let size = [0, 1, 125, 126, 4000, 70_000][n % 6];
                if socket.send(Message::binary(vec![7; size])).is_err() {
                    return;
                }
            }
        }
        mut other => loop {
            match other {
                Ok(Message::Close(Some(frame))) => {
                    noted.store(frame.code == CloseCode::Away, SeqCst);
                }
                Ok(_) => (),
                Err(Error::ConnectionClosed) => return,
                Err(e) => panic!("{e}"),
            }
            other = socket.read();
        },
    });
    let gateway = granting("300ms", &origin);
    let (mut down, mut up) = (Socket::open(&gateway), Socket::open(&gateway));
    down.web.send(Message::text("go")).expect("sends");
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        s.spawn(move || {
            for n in 0.. {
                let size = [0, 1, 125, 126, 4000, 70_000][n % 6];
                if up.web.send(Message::binary(vec![7; size])).is_err() {
                    return;
                }
            }
        });
        loop {
            match down.web.read() {
                Ok(Message::Binary(_)) => (),
                Ok(Message::Close(Some(frame))) => break assert_eq!(frame.code, CloseCode::Away),
                other => panic!("{other:?}"),
            }
        }
        drop(down);
        assert!(draining.join().expect("no panic"), "nothing was cut off");
    });
    assert!(over.load(SeqCst), "the service was told");
}

#[test]
fn a_listener_that_is_removed_ends_its_websockets_and_no_others() {
    let origin = serving(echo);
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr());
    let second = free.expect("an address");
    let text = |more: &str| {
        format!(
            "server: {{ workers: 1, drain: {{ idle: 0s, max: 300ms }} }}\n\
             listeners: [{{ name: public, address: \"127.0.0.1:0\" }}{more}]\n{}",
            config_of(&origin, "retries: 0", "websocket: {}")
        )
    };
    let both = text(&format!(", {{ name: second, address: \"{second}\" }}"));
    let gateway = Gateway::start(&both);
    let mut stays = Socket::open(&gateway);
    let mut goes = Socket::with(Client::open(second), &handshake("/ws"));
    goes.echoes("hello");
    assert!(gateway.reload(&text("")).is_ok());
    match goes.read() {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    stays.echoes("still here");
}

#[test]
fn a_drain_ends_with_the_last_tunnel() {
    let origin = serving(echo);
    let gateway = before(&origin);
    let mut socket = Socket::open(&gateway);
    let began = Stopwatch::start();
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        eventually("no more accepting", || {
            TcpStream::connect(gateway.address()).is_err()
        });
        socket.web.close(None).expect("closes");
        while socket.web.read().is_ok() {}
        assert!(draining.join().expect("no panic"), "all finished");
    });
    began.shows(0, 4500);
}
