//! What is left of an answer whose time ends while it goes out.

use super::*;
use crate::base::clock::Now;
use crate::exchange::admission::Caps;
use crate::exchange::listener::{Listener, Terms};
use crate::observe::metrics::Metrics;
use std::os::fd::AsRawFd as _;
use tokio::net::UnixStream;

/// The begin of an answer that was half out when its time was over was written once more, behind
/// itself, when the connection lingered.
#[tokio::test]
async fn nothing_that_is_gone_is_kept_to_be_written_again() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let small = socket2::SockRef::from(&ours).set_send_buffer_size(2048);
    small.expect("a small buffer");
    let metrics = Metrics::new("test", 0).listener("test");
    let listener = Listener::new("test", metrics, Terms::default(), Caps::default());
    let pass = listener.admission.enter().expect("a place");
    let conn = Arc::new(Connection::new(
        Arc::new(listener),
        ([127, 0, 0, 1], 1).into(),
        None,
        pass,
    ));
    ours.writable().await.expect("room");
    let socket = SocketDigest::from_raw_fd(ours.as_raw_fd());
    let mut front = Front::new(Transport::Unix(ours), conn.clone(), socket);
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
