//! One case of the corpus: exact bytes, and what must become of them, however they are cut up.

use super::super::support::recorder::{Framing, Recorder, Took};
use super::super::support::*;

/// What follows a refused request, and must never become one.
const INNER: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: smuggled\r\n\r\n";

/// A request as the origin must have got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    method: String,
    target: String,
    framing: Framing,
    body: Vec<u8>,
}

impl Plain {
    /// The same with another method.
    pub fn by(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// The same with this body, whatever it holds.
    pub fn holding(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }
}

impl From<Took> for Plain {
    fn from(took: Took) -> Self {
        Self {
            method: took.method,
            target: took.target,
            framing: took.framing,
            body: took.body,
        }
    }
}

/// A request without a body.
pub fn plain(method: &str, target: &str) -> Plain {
    Plain {
        method: method.into(),
        target: target.into(),
        framing: Framing::Nothing,
        body: Vec::new(),
    }
}

pub fn get(target: &str) -> Plain {
    plain("GET", target)
}

/// A request whose body is delimited by its length.
pub fn counted(target: &str, body: &str) -> Plain {
    Plain {
        framing: Framing::Length(body.len() as u64),
        body: body.into(),
        ..plain("POST", target)
    }
}

/// A request whose body is chunked.
pub fn chunked(target: &str, body: &str) -> Plain {
    Plain {
        framing: Framing::Chunked,
        body: body.into(),
        ..plain("POST", target)
    }
}

/// How it ends.
#[derive(Clone, Debug)]
enum End {
    /// The connection goes on.
    On,
    /// It is closed behind the answer.
    Closed,
    /// One more answer, a refusal, and it is closed.
    Refused(u16, &'static str),
    /// The same, 400 or 501: neither is told apart by the standard.
    RefusedSomehow,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The section of the standard, or the advisory.
    section: &'static str,
    what: String,
    sent: Vec<u8>,
    served: Vec<Plain>,
    end: End,
}

impl Case {
    fn new(section: &'static str, what: impl Into<String>, sent: impl AsRef<[u8]>) -> Self {
        Self {
            section,
            what: what.into(),
            sent: sent.as_ref().to_vec(),
            served: Vec::new(),
            end: End::On,
        }
    }

    /// Also these requests are served, before what is said already.
    pub fn after(mut self, served: impl IntoIterator<Item = Plain>) -> Self {
        self.served = served.into_iter().collect();
        self
    }

    /// The answer to the last request is the last one on the connection.
    pub fn last(mut self) -> Self {
        self.end = End::Closed;
        self
    }
}

/// Legal: passed on as this, and the connection goes on.
pub fn good(
    section: &'static str,
    what: impl Into<String>,
    sent: impl AsRef<[u8]>,
    served: impl IntoIterator<Item = Plain>,
) -> Case {
    Case::new(section, what, sent).after(served)
}

/// Illegal: 400, and the connection is closed.
pub fn bad(section: &'static str, what: impl Into<String>, sent: impl AsRef<[u8]>) -> Case {
    refused(section, what, sent, 400, "bad_request")
}

/// Refused in this way, and the connection is closed.
pub fn refused(
    section: &'static str,
    what: impl Into<String>,
    sent: impl AsRef<[u8]>,
    status: u16,
    code: &'static str,
) -> Case {
    Case {
        end: End::Refused(status, code),
        ..Case::new(section, what, sent)
    }
}

/// Refused with 400 or 501, and the connection is closed.
pub fn doubtful(section: &'static str, what: impl Into<String>, sent: impl AsRef<[u8]>) -> Case {
    Case {
        end: End::RefusedSomehow,
        ..Case::new(section, what, sent)
    }
}

/// How the bytes are cut up.
#[derive(Clone, Copy, Debug)]
pub enum Delivery {
    /// All at once.
    Whole,
    /// In pieces of a few bytes, with a pause behind each.
    Pieces,
    /// Byte by byte.
    Bytes,
}

impl Delivery {
    /// False if the other side has ended the connection meanwhile.
    fn send(self, client: &mut Client, bytes: &[u8]) -> bool {
        match self {
            Self::Whole => client.try_send(bytes),
            Self::Bytes => bytes.iter().all(|b| client.try_send([*b])),
            Self::Pieces => {
                let (mut rest, mut turn) = (bytes, bytes.len());
                while !rest.is_empty() {
                    turn = turn.wrapping_mul(31).wrapping_add(7);
                    let (now, later) = rest.split_at((1 + turn % 19).min(rest.len()));
                    if !client.try_send(now) {
                        return false;
                    }
                    std::thread::sleep(std::time::Duration::from_micros(200));
                    rest = later;
                }
                true
            }
        }
    }
}

/// A gateway in front of a recorder.
pub struct Bench {
    pub origin: Recorder,
    pub gateway: Gateway,
}

impl Bench {
    /// One worker, and with it one pool of connections to the origin.
    pub fn new() -> Self {
        Self::with("server: { workers: 1 }\n")
    }

    /// The same with more in its config.
    pub fn with(more: &str) -> Self {
        let origin = Recorder::start();
        let gateway = Gateway::start(&format!(
            "{more}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
        ));
        Self { origin, gateway }
    }

    /// Plays the cases in each delivery.
    #[track_caller]
    pub fn play(&self, cases: &[Case]) {
        assert!(!cases.is_empty());
        for delivery in [Delivery::Whole, Delivery::Pieces, Delivery::Bytes] {
            self.deliver(cases, delivery);
        }
    }

    /// Plays the cases in one delivery.
    #[track_caller]
    pub fn deliver(&self, cases: &[Case], delivery: Delivery) {
        for case in cases {
            let told = format!("{} {}, {delivery:?}", case.section, case.what);
            self.one(case, delivery, &told);
            self.follows(&mut self.gateway.connect(), &told);
            // Nothing is still on its way: what was refused came to nothing for good.
            let faults = self.origin.faults();
            assert!(faults.is_empty(), "{told}: {faults:?}");
            let cut = self.origin.cut();
            let ours = |c: &Took| c.target != "/smuggled";
            assert!(cut.iter().all(ours), "{told}: {cut:?}");
        }
    }

    #[track_caller]
    fn one(&self, case: &Case, delivery: Delivery, told: &str) {
        let mut client = self.gateway.connect();
        let mut bytes = case.sent.clone();
        if !matches!(case.end, End::On) {
            bytes.extend_from_slice(INNER);
        }
        let sent = delivery.send(&mut client, &bytes);
        for plain in &case.served {
            let answer = client.read_answer(plain.method == "HEAD");
            let answer = answer.unwrap_or_else(|e| panic!("{told}: no answer: {e:?}"));
            let text = format!("{} {} {}", plain.method, plain.target, plain.body.len());
            assert_eq!(answer.status, 200, "{told}: {}", answer.text());
            if plain.method != "HEAD" {
                assert_eq!(answer.text(), text, "{told}");
            }
        }
        match &case.end {
            End::On => assert!(sent, "{told}: closed too early"),
            End::Closed => ends(&mut client, told),
            End::Refused(status, code) => {
                let answer = client.try_read();
                let answer = answer.unwrap_or_else(|e| panic!("{told}: no answer: {e:?}"));
                assert_eq!(answer.is(), (*status, (*code).into()), "{told}");
                closes(&answer, told);
                ends(&mut client, told);
            }
            End::RefusedSomehow => {
                let answer = client.try_read();
                let answer = answer.unwrap_or_else(|e| panic!("{told}: no answer: {e:?}"));
                let known = [(400, "bad_request"), (501, "coding_unsupported")];
                let said = answer.is();
                assert!(
                    known.iter().any(|k| (k.0, k.1) == (said.0, &said.1)),
                    "{told}: {said:?}"
                );
                closes(&answer, told);
                ends(&mut client, told);
            }
        }
        let took: Vec<Plain> = self.origin.take().into_iter().map(Plain::from).collect();
        assert_eq!(took, case.served, "{told}");
        if matches!(case.end, End::On) {
            self.follows(&mut client, told);
        }
    }

    /// The next request, on this connection and on whatever connections to the origin there are,
    /// is read as what it is.
    #[track_caller]
    fn follows(&self, client: &mut Client, told: &str) {
        client.send(Req::get("/next").bytes());
        let answer = client.try_read();
        let answer = answer.unwrap_or_else(|e| panic!("{told}: no answer to the next: {e:?}"));
        assert_eq!(answer.text(), "GET /next 0", "{told}");
        let took: Vec<Plain> = self.origin.take().into_iter().map(Plain::from).collect();
        assert_eq!(took, [get("/next")], "{told}");
    }
}

#[track_caller]
fn closes(answer: &Answer, told: &str) {
    assert_eq!(answer.header("connection"), Some("close"), "{told}");
}

/// The end of the connection, with nothing more said.
#[track_caller]
fn ends(client: &mut Client, told: &str) {
    match client.try_read() {
        Err(Broken::Closed) => (),
        other => panic!("{told}: want the end of the connection, got {other:?}"),
    }
}
