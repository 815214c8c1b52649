//! What is left of an answer whose time ends while it goes out.

use super::*;
use crate::base::clock::Now;
use crate::exchange::admission::Caps;
use crate::exchange::listener::{Listener, Terms};
use crate::observe::metrics::Metrics;
use std::os::fd::AsRawFd as _;
use tokio::net::UnixStream;

fn front(ours: UnixStream) -> (Front, Arc<Connection>) {
    let metrics = Metrics::new("test", 0).listener("test");
    let listener = Listener::new("test", metrics, Terms::default(), Caps::default());
    let pass = listener.admission.enter().expect("a place");
    let peer = ([127, 0, 0, 1], 1).into();
    let conn = Arc::new(Connection::new(Arc::new(listener), peer, None, pass));
    let socket = SocketDigest::from_raw_fd(ours.as_raw_fd());
    (
        Front::new(Transport::Unix(ours), conn.clone(), socket),
        conn,
    )
}

/// The metrics of many routes are megabytes, and are asked for every few seconds.
#[tokio::test]
async fn the_room_of_a_large_answer_is_not_kept() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let (mut front, _) = front(ours);
    let rooms = || SPARE.with_borrow(|all| all.iter().map(Vec::capacity).collect::<Vec<_>>());
    for (size, kept) in [(1 << 20, 0), (1000, 1)] {
        front.put_whole(vec![0; size]);
        front.written.clear();
        front.give_back();
        assert_eq!(rooms().len(), kept, "{size} bytes: {:?}", rooms());
    }
}

/// The begin of an answer that was half out when its time was over was written once more, behind
/// itself, when the connection lingered.
#[tokio::test]
async fn nothing_that_is_gone_is_kept_to_be_written_again() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let small = socket2::SockRef::from(&ours).set_send_buffer_size(2048);
    small.expect("a small buffer");
    ours.writable().await.expect("room");
    let (mut front, conn) = front(ours);
    conn.arm(Phase::Busy, Now::at_ms(0), 100);
    conn.sweep(Now::at_ms(200));

    let answer: Vec<u8> = (0..16_000_u32).map(|n| n as u8).collect();
    front.compose(|out| out.extend_from_slice(&answer));
    let late = poll_fn(|cx| front.poll_empty(cx)).await;
    assert_eq!(late.map_err(|e| e.kind()), Err(io::ErrorKind::TimedOut));

    let mut sent = vec![0; answer.len()];
    theirs.readable().await.expect("some of it");
    let gone = theirs.try_read(&mut sent).expect("some of it");
    assert!(gone < answer.len(), "all of it");
    let whole = [&sent[..gone], &front.written].concat();
    assert!(
        whole == answer,
        "{gone} are gone, {} are kept",
        front.written.len()
    );
}
