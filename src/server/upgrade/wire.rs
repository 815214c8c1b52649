//! What two processes say to each other while one takes the other's place: messages over a pair of
//! sockets that has no name, so that nobody else can be at its other end, and sockets beside them
//! (`SCM_RIGHTS`, unix(7)).

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The version of everything said here. Processes that speak different ones cannot take each other's place.
pub const PROTOCOL: u32 = 1;

/// The longest message, in bytes: counts go in messages of 1.5 MiB.
const LONGEST: u32 = 16 * 1024 * 1024;

/// How long the rest of a message may take once it has begun, and a message to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors a message of them carries; Linux takes 253.
const AT_ONCE: usize = 64;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// From the old process: all that is handed over, the sockets behind it.
    Offer = 1,
    /// From the new one: it could serve.
    Ready,
    /// From the new one: it cannot, and why.
    Refused,
    /// From the old one: cells of a limit's counts.
    Counts,
    /// From the old one: there are no more, and it decides nothing any more.
    Go,
    /// From the new one: it takes connections.
    Serving,
    /// From the old one: it takes none any more.
    Yours,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Offer,
        Self::Ready,
        Self::Refused,
        Self::Counts,
        Self::Go,
        Self::Serving,
        Self::Yours,
    ];
}

/// One end.
#[derive(Debug)]
pub struct Line(UnixStream);

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A message, or the begin of one.
    Message,
    /// Nothing yet.
    Nothing,
    /// Nothing ever: the other end is gone.
    End,
}

fn strange(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Line {
    /// A line of which the other end is `stream`'s.
    ///
    /// # Errors
    /// It is no socket.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other end is gone or takes nothing.
    pub fn send(&self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(|_| strange("too long a message"))?;
        let mut message = Vec::with_capacity(body.len() + 5);
        message.push(kind as u8);
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(body);
        (&self.0).write_all(&message)
    }

    /// Reads a message that has begun.
    ///
    /// # Errors
    /// The other end is gone, is silent for too long, or says what is no message.
    pub fn receive(&self) -> io::Result<(Kind, Vec<u8>)> {
        let mut head = [0; 5];
        (&self.0).read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let kind = Kind::ALL.into_iter().find(|k| *k as u8 == kind);
        let kind = kind.ok_or_else(|| strange("an unknown kind of message"))?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(strange("too long a message"));
        }
        let mut body = vec![0; length as usize];
        (&self.0).read_exact(&mut body)?;
        Ok((kind, body))
    }

    /// Waits for a message to begin, `for_ms` milliseconds at most.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, for_ms: u64) -> io::Result<Waiting> {
        self.0
            .set_read_timeout(Some(Duration::from_millis(for_ms.max(1))))?;
        let mut byte = [0_u8];
        let seen = recv(&self.0, &mut byte, RecvFlags::PEEK);
        self.0.set_read_timeout(Some(PATIENCE))?;
        match seen {
            // The latter: gone with something unread.
            Ok((_, 0)) | Err(Errno::CONNRESET) => Ok(Waiting::End),
            Ok(_) => Ok(Waiting::Message),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Waiting::Nothing),
            Err(why) => Err(why.into()),
        }
    }

    /// Sends sockets, any number of them.
    ///
    /// # Errors
    /// The other end is gone or takes nothing.
    pub fn send_sockets(&self, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        for some in sockets.chunks(AT_ONCE) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !beside.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(strange("no room for descriptors"));
            }
            sendmsg(
                &self.0,
                &[IoSlice::new(b"s")],
                &mut beside,
                SendFlags::empty(),
            )?;
        }
        Ok(())
    }

    /// Reads `count` sockets.
    ///
    /// # Errors
    /// Others than so many come, or there are no descriptors left.
    pub fn receive_sockets(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut all = Vec::new();
        while all.len() < count {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut into = [IoSliceMut::new(&mut byte)];
            recvmsg(&self.0, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            let before = all.len();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(sockets) = message {
                    all.extend(sockets);
                }
            }
            if all.len() == before {
                return Err(strange("no sockets where they were announced"));
            }
        }
        if all.len() > count {
            return Err(strange("more sockets than were announced"));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    fn pair() -> (Line, Line) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (
            Line::new(one).expect("a line"),
            Line::new(other).expect("a line"),
        )
    }

    #[test]
    fn messages_and_any_number_of_sockets_arrive() {
        let (here, there) = pair();
        assert_eq!(there.wait(1).expect("waits"), Waiting::Nothing);
        let sockets: Vec<_> = (0..150)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("binds"))
            .collect();
        here.send(Kind::Offer, b"a hundred and fifty")
            .expect("sends");
        let all: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        here.send_sockets(&all).expect("sends");
        here.send(Kind::Go, b"").expect("sends");
        assert_eq!(there.wait(1000).expect("waits"), Waiting::Message);
        assert_eq!(
            there.receive().expect("a message"),
            (Kind::Offer, b"a hundred and fifty".to_vec())
        );
        let came = there.receive_sockets(150).expect("sockets");
        for (sent, came) in sockets.iter().zip(came) {
            let came = TcpListener::from(came);
            assert_eq!(
                sent.local_addr().expect("bound"),
                came.local_addr().expect("bound")
            );
        }
        assert_eq!(there.receive().expect("a message"), (Kind::Go, Vec::new()));
        drop(here);
        assert_eq!(there.wait(1000).expect("waits"), Waiting::End);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[99, 0, 0, 0, 0][..], &[4, 0, 0, 0, 255]] {
            let (mut here, there) = UnixStream::pair().expect("a pair");
            here.write_all(bytes).expect("writes");
            let there = Line::new(there).expect("a line");
            let fault = there.receive().expect_err("no message");
            assert_eq!(fault.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let (here, there) = pair();
        here.send(Kind::Go, b"").expect("sends");
        assert!(there.receive_sockets(1).is_err(), "a message is no socket");
    }
}
