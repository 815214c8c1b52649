//! A WebSocket as our end of its client's connection sees it: bytes that pass both ways, followed only
//! as far as it takes to end both with a Close of our own between two frames (RFC 6455 §7.1.1).

use super::{Front, expire};
use crate::edge::frames::{self, Frames};
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use uuid::Uuid;

/// "Going away" (RFC 6455 §7.4.1): a server goes down.
const GOING_AWAY: u16 = 1001;
/// Milliseconds that a service has to answer a Close before its connection is closed.
const ANSWER_MS: u64 = 1000;

/// Both directions.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// What the client says.
    up: Frames,
    /// What the service says, behind the header of its answer.
    down: Down,
    /// Whether the client was sent our Close.
    told_client: bool,
    words: Words,
}

/// The last words to the service.
#[derive(Debug)]
enum Words {
    /// They wait for the end of a frame.
    Due,
    /// So much of them is still to be taken.
    Left(Vec<u8>),
    /// They are said, or may not be.
    Said,
}

/// What goes to the client: headers, then frames.
#[derive(Clone, Copy, Debug)]
struct Down {
    head: Option<Head>,
    frames: Frames,
}

/// A header of an answer: what was seen of its begin, and of the empty line that ends it.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    begin: [u8; 12],
    seen: usize,
    ended: usize,
}

impl Head {
    const END: &[u8; 4] = b"\r\n\r\n";

    /// Follows these bytes to its end; says how many that are.
    fn step(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if let Some(place) = self.begin.get_mut(self.seen) {
                *place = *byte;
                self.seen += 1;
            }
            self.ended = if *byte == Self::END[self.ended] {
                self.ended + 1
            } else {
                usize::from(*byte == b'\r')
            };
            if self.is_whole() {
                return at + 1;
            }
        }
        bytes.len()
    }

    fn is_whole(&self) -> bool {
        self.ended == Self::END.len()
    }
}

impl Down {
    /// Follows these bytes to the end of the header or of the frame; says how many that are.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let Some(head) = &mut self.head else {
            return self.frames.step(bytes);
        };
        let n = head.step(bytes);
        if head.is_whole() {
            // Interim answers may come before the switch, and no frame before it.
            match &head.begin[9..] {
                b"101" => self.head = None,
                [b'1', ..] => *head = Head::default(),
                _ => {
                    self.frames.lose();
                    self.head = None;
                }
            }
        }
        n
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    fn is_between(&self) -> bool {
        self.head.is_none() && self.frames.is_between()
    }

    /// Whether nothing may be said to the client any more.
    fn is_over(&self) -> bool {
        self.frames.is_closed() || self.frames.is_lost()
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            up: Frames::FROM_CLIENT,
            down: Down {
                head: Some(Head::default()),
                frames: Frames::FROM_SERVICE,
            },
            told_client: false,
            words: Words::Due,
        }
    }
}

impl Tunnel {
    /// Whether its client was told that it ends, by us or by the service.
    pub(super) fn is_told(&self) -> bool {
        self.told_client || self.down.frames.is_closed()
    }

    /// Follows the first `n` of the bytes that go to the client.
    fn sent(&mut self, bufs: &[IoSlice<'_>], mut n: usize) {
        for buf in bufs {
            let here = n.min(buf.len());
            self.down.follow(&buf[..here]);
            n -= here;
        }
    }
}

impl Front {
    fn tunnel(&mut self) -> &mut Tunnel {
        self.tunnel.get_or_insert_default()
    }

    /// Fills `buf` with what the client of a tunnel says. Pingora ends both directions with the
    /// client's: that end is told only once the service has nothing more to say either.
    pub(super) fn poll_tunnel(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.conn.is_ending() {
            return self.poll_end(cx, buf);
        }
        if !self.gone {
            let before = buf.filled().len();
            ready!(self.poll_raw(cx, buf))?;
            if !self.gone {
                self.tunnel().up.follow(&buf.filled()[before..]);
                return Poll::Ready(Ok(()));
            }
            self.conn.half_close();
        }
        expire(&self.conn, cx).map(|_| Ok(()))
    }

    /// Ends a tunnel: both sides are sent a Close, then the service may answer it. What the client
    /// answers is read where its connection lingers.
    fn poll_end(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.tell_client();
        if self.holds() {
            // It goes out when it can; what comes next leaves a waker for then.
            let _ = self.poll_empty(cx)?;
        }
        if ready!(self.poll_words(cx, buf))? {
            return Poll::Ready(Ok(()));
        }
        let down = &self.tunnel().down;
        if down.is_over() && !self.holds() {
            return Poll::Ready(Ok(()));
        }
        expire(&self.conn, cx).map(|_| Ok(()))
    }

    /// Fills `buf` with the rest of a frame that the client has begun, then with our Close. False once
    /// there is no more.
    fn poll_words(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        loop {
            let gone = self.gone;
            let tunnel = self.tunnel();
            match &mut tunnel.words {
                Words::Due if tunnel.up.is_between() => {
                    let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
                    let close = frames::close(GOING_AWAY, Some([a, b, c, d]));
                    tunnel.words = Words::Left(close);
                }
                // A Close of the client's, or nobody knows where a frame ends.
                Words::Due if gone || tunnel.up.is_closed() || tunnel.up.is_lost() => {
                    tunnel.words = Words::Said;
                }
                Words::Due => {
                    let before = buf.filled().len();
                    ready!(self.poll_raw(cx, buf))?;
                    if !self.gone {
                        let n = self.tunnel().up.step(&buf.filled()[before..]);
                        buf.set_filled(before + n);
                        return Poll::Ready(Ok(true));
                    }
                }
                Words::Left(words) => {
                    let n = words.len().min(buf.remaining());
                    buf.put_slice(&words[..n]);
                    words.drain(..n);
                    if words.is_empty() {
                        tunnel.words = Words::Said;
                        self.conn.end_later(ANSWER_MS);
                    }
                    return Poll::Ready(Ok(true));
                }
                Words::Said => return Poll::Ready(Ok(false)),
            }
        }
    }

    /// Puts our Close behind what the client was sent, if a frame ends there.
    fn tell_client(&mut self) {
        let tunnel = self.tunnel();
        if tunnel.told_client || !tunnel.down.is_between() {
            return;
        }
        tunnel.told_client = true;
        let close = frames::close(GOING_AWAY, None);
        self.compose(|out| out.extend_from_slice(&close));
    }

    /// Writes what the service says, but nothing behind our Close.
    pub(super) fn put_tunnel(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.conn.is_ending() {
            let put = ready!(self.put_some(cx, bufs))?;
            self.tunnel().sent(bufs, put);
            return Poll::Ready(Ok(put));
        }
        self.tell_client();
        let tunnel = self.tunnel();
        if tunnel.told_client || tunnel.down.is_over() {
            let all = bufs.iter().map(|b| b.len()).sum();
            tunnel.sent(bufs, all);
            return Poll::Ready(Ok(all));
        }
        let Some(first) = bufs.iter().find(|b| !b.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        let mut ahead = tunnel.down;
        let n = ahead.step(first);
        let put = ready!(self.put_some(cx, &[IoSlice::new(&first[..n])]))?;
        self.tunnel().down.follow(&first[..put]);
        self.tell_client();
        Poll::Ready(Ok(put))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_begin_behind_the_switch() {
        let text =
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\
                     Upgrade: websocket\r\n\r\n\x81\x05hello";
        for cut in 0..=text.len() {
            let mut tunnel = Tunnel::default();
            let bufs = [IoSlice::new(&text[..cut]), IoSlice::new(&text[cut..])];
            tunnel.sent(&bufs, text.len() - 1);
            assert!(!tunnel.down.is_between(), "{cut}");
            tunnel.down.follow(b"o");
            assert!(tunnel.down.is_between() && !tunnel.down.is_over(), "{cut}");
        }
    }

    #[test]
    fn behind_another_answer_there_are_none() {
        let mut tunnel = Tunnel::default();
        tunnel.down.follow(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        assert!(!tunnel.down.is_between() && tunnel.down.is_over());
        assert!(!tunnel.is_told());
    }
}
