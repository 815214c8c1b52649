//! WebSockets at both ends: a service that echoes, and a client. The handshake is made here by hand,
//! the frames are tungstenite's.

use super::{Act, Answer, Client, Gateway, Origin, Req, Seen};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::io::Write;
use std::net::TcpStream;
pub use tungstenite::protocol::frame::coding::CloseCode;
pub use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
pub use tungstenite::{Error, Message, WebSocket};

/// The key of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What answers it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Whether the long forms of tests are asked for.
pub fn long() -> bool {
    std::env::var_os("TOLLGATE_LONG").is_some()
}

/// A handshake.
pub fn handshake(target: &str) -> Req {
    Req::get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

/// The answer to the key of a request, as a service writes it.
pub fn switch(seen: &Seen) -> String {
    let key = seen.header("sec-websocket-key").unwrap_or_default();
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest.finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None)
}

/// The service's end of a WebSocket.
pub type Served<'a> = WebSocket<&'a TcpStream>;

/// A service that takes every handshake, and then does this.
pub fn serving(serve: impl Fn(&mut Served<'_>) + Clone + Send + Sync + 'static) -> Origin {
    Origin::scripted(move |_| {
        let serve = serve.clone();
        Act::take(move |mut stream, rest, seen| {
            if stream.write_all(switch(seen).as_bytes()).is_ok() {
                let role = Role::Server;
                let socket = WebSocket::from_partially_read(stream, rest, role, Some(config()));
                serve(&mut { socket });
            }
        })
    })
}

/// Sends every message back, until there are no more.
pub fn echo(socket: &mut Served<'_>) {
    while let Ok(message) = socket.read() {
        let sent = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message),
            // Answered by tungstenite; it leaves with the next flush.
            _ => socket.flush(),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The client's end of a WebSocket.
pub struct Socket {
    /// What is spoken.
    pub web: WebSocket<Client>,
    /// The answer that opened it.
    pub answer: Answer,
}

impl Socket {
    /// Opens one on the path `/ws`.
    #[track_caller]
    pub fn open(gateway: &Gateway) -> Self {
        Self::with(gateway.connect(), &handshake("/ws"))
    }

    #[track_caller]
    pub fn with(mut client: Client, handshake: &Req) -> Self {
        let answer = client.ask(handshake);
        assert_eq!(answer.status, 101, "{}{:?}", answer.head, answer.body);
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        let web = WebSocket::from_raw_socket(client, Role::Client, Some(config()));
        Self { web, answer }
    }

    /// Sends a message and reads the next.
    #[track_caller]
    pub fn ask(&mut self, message: Message) -> Message {
        self.web.send(message).expect("sends");
        self.read()
    }

    #[track_caller]
    pub fn read(&mut self) -> Message {
        self.web.read().expect("a message")
    }

    /// That a text comes back.
    #[track_caller]
    pub fn echoes(&mut self, text: &str) {
        assert_eq!(self.ask(Message::text(text)), Message::text(text));
    }

    /// That the connection ends without another word.
    #[track_caller]
    pub fn is_cut(&mut self) {
        match self.web.read() {
            Err(Error::Protocol(_) | Error::ConnectionClosed) => (),
            Err(Error::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionReset => (),
            other => panic!("want the end of the connection, got {other:?}"),
        }
    }
}

/// A config with an upstream `up`, and two open routes to it: `/ws` with WebSockets, and all else.
pub fn config_of(origin: &Origin, upstream: &str, route: &str) -> String {
    format!(
        "upstreams: [{{ name: up, targets: [\"{origin}\"], {upstream} }}]\n\
         routes:\n\
         - {{ name: ws, match: {{ path: /ws }}, auth: none, {route}, to: up }}\n\
         - {{ name: all, match: {{ path: / }}, auth: none, to: up }}\n"
    )
}

/// A gateway before an origin, with WebSockets on `/ws`.
#[track_caller]
pub fn before(origin: &Origin) -> Gateway {
    Gateway::start(&config_of(origin, "retries: 0", "websocket: {}"))
}
