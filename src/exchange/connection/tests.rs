//! The marks of a connection, one rule a test.

use super::*;
use crate::exchange::admission::Caps;
use crate::exchange::listener::{Patience, Terms};

fn connection() -> Connection {
    let metrics = crate::observe::metrics::Metrics::new("0", 0).listener("public");
    let (terms, caps) = (Terms::default(), Caps::default());
    let listener = Arc::new(Listener::new("public", metrics, terms, caps));
    let pass = listener.admission.enter().expect("a place");
    Connection::new(listener, ([127, 0, 0, 1], 5000).into(), None, pass)
}

fn stop(conn: &Connection, idle_ms: u64, max_ms: u64) {
    conn.listener
        .stop(Now::at_ms(0), Patience { idle_ms, max_ms });
}

#[test]
fn a_limit_fires_once_it_has_passed_and_not_before() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(1000), 500);
    conn.sweep(Now::at_ms(1499));
    assert!(!conn.expired());
    conn.sweep(Now::at_ms(1500));
    assert!(conn.expired());
    conn.arm(Phase::Idle, Now::at_ms(1600), 500);
    assert!(!conn.told_to_go(), "a new phase begins with a new limit");
}

#[test]
fn where_pauses_are_bounded_only_a_pause_fires() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), 500);
    conn.moved(Now::at_ms(400));
    assert!(!conn.is_bound_by_idle());
    conn.bound_by_idle(300);
    for ms in [400, 600, 800] {
        conn.moved(Now::at_ms(ms));
        conn.sweep(Now::at_ms(ms + 299));
        assert!(!conn.expired(), "{ms}");
    }
    conn.sweep(Now::at_ms(1100));
    assert!(conn.expired());
    conn.arm(Phase::Busy, Now::at_ms(2000), 500);
    conn.moved(Now::at_ms(2400));
    conn.sweep(Now::at_ms(2500));
    assert!(conn.expired(), "the bound does not outlast its request");
}

#[test]
fn an_upload_that_may_pause_has_no_rate() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), 500);
    conn.bound_by_idle(60_000);
    conn.moved(Now::at_ms(0));
    conn.set_owing(true);
    (0..55).for_each(|s| conn.sweep(Now::at_ms(s * 1000)));
    assert!(!conn.told_to_go());
}

#[test]
fn a_tunnel_left_by_its_client_ends_once_the_service_is_silent() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), 500);
    conn.open_tunnel();
    conn.bound_by_idle(300_000);
    conn.half_close();
    conn.sweep(Now::at_ms(400));
    conn.moved(Now::at_ms(2300));
    conn.sweep(Now::at_ms(2300 + HALF_OPEN_MS - 1));
    assert!(!conn.expired());
    conn.sweep(Now::at_ms(2300 + HALF_OPEN_MS));
    assert!(conn.expired());
}

#[test]
fn an_end_holds_however_bytes_move() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), 60_000);
    conn.end_by(Now::at_ms(100), 900);
    conn.bound_by_idle(5000);
    conn.moved(Now::at_ms(800));
    conn.sweep(Now::at_ms(999));
    assert!(!conn.expired());
    conn.sweep(Now::at_ms(1000));
    assert!(conn.expired());
    conn.arm(Phase::Busy, Now::at_ms(1000), 5000);
    conn.sweep(Now::at_ms(5999));
    assert!(!conn.expired(), "it ends with its phase");
}

#[test]
fn a_drain_ends_idle_connections_only() {
    let conn = connection();
    stop(&conn, 500, 5000);
    conn.arm(Phase::Busy, Now::at_ms(0), 60_000);
    conn.sweep(Now::at_ms(900));
    assert!(!conn.told_to_go());
    conn.arm(Phase::Idle, Now::at_ms(0), 60_000);
    conn.sweep(Now::at_ms(499));
    assert!(!conn.told_to_go(), "it may send one more request");
    conn.sweep(Now::at_ms(500));
    assert!(conn.is_stopped() && !conn.expired());
    let streams = connection();
    stop(&streams, 500, 5000);
    streams.arm(Phase::Streams, Now::at_ms(0), 60_000);
    streams.sweep(Now::at_ms(1));
    assert!(streams.is_stopped(), "it is told at once");
}

#[test]
fn a_drain_grants_no_more_than_was_granted() {
    let conn = connection();
    stop(&conn, 5000, 800);
    stop(&conn, 5000, 9000);
    conn.arm(Phase::Idle, Now::at_ms(0), 60_000);
    conn.sweep(Now::at_ms(799));
    assert!(!conn.told_to_go());
    conn.sweep(Now::at_ms(800));
    assert!(conn.is_stopped(), "idle no longer than at most");
}

#[test]
fn a_drain_ends_tunnels_at_last() {
    let conn = connection();
    let busy = connection();
    for conn in [&conn, &busy] {
        conn.arm(Phase::Busy, Now::at_ms(0), u64::MAX);
        stop(conn, 0, 1000);
    }
    conn.open_tunnel();
    conn.bound_by_idle(60_000);
    assert!(conn.listener.has_ending() && !busy.listener.has_ending());
    conn.sweep(Now::at_ms(999));
    assert!(!conn.is_ending());
    for conn in [&conn, &busy] {
        conn.sweep(Now::at_ms(1000));
    }
    assert!(conn.is_ending() && !conn.told_to_go());
    assert!(!busy.is_ending() && !busy.told_to_go());
    // However bytes move, it has so long for the end of a frame, and then for the answer.
    conn.moved(Now::at_ms(1400));
    conn.sweep(Now::at_ms(1000 + LAST_FRAME_MS - 1));
    assert!(!conn.expired());
    conn.end_later(1000);
    conn.sweep(Now::at_ms(2498));
    assert!(!conn.expired());
    conn.sweep(Now::at_ms(2499));
    assert!(conn.expired());
}

#[test]
fn a_client_stalls_once_it_has_owed_bytes_for_long() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), 60_000);
    conn.set_owing(true);
    assert!(conn.is_owing());
    for ms in [1000, 1400] {
        conn.sweep(Now::at_ms(ms));
        assert!(!conn.is_stalled(), "{ms}");
    }
    conn.set_owing(true);
    conn.sweep(Now::at_ms(1450));
    conn.sweep(Now::at_ms(1900));
    assert!(!conn.is_stalled(), "bytes came in between");
    conn.sweep(Now::at_ms(1950));
    assert!(conn.is_stalled());
    conn.set_owing(false);
    assert!(!conn.is_stalled() && !conn.is_owing());
}

#[test]
fn a_body_that_trickles_is_ended_and_one_that_waits_for_the_service_is_not() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), u64::MAX);
    let second = |ms: u64, bytes: usize| {
        conn.came(bytes);
        conn.set_owing(true);
        (0..20).for_each(|i| conn.sweep(Now::at_ms(ms + i * 50)));
    };
    (1..5).for_each(|s| second(s * 1000, 1));
    assert!(!conn.expired(), "within the grace");
    conn.set_owing(false);
    (5..60).for_each(|s| conn.sweep(Now::at_ms(s * 1000)));
    assert!(
        !conn.expired(),
        "while the service takes nothing, nothing is owed"
    );
    (60..64).for_each(|s| second(s * 1000, 1));
    assert!(conn.is_slow_body() && conn.expired());
    conn.arm(Phase::Busy, Now::at_ms(70_000), u64::MAX);
    conn.lift_rate();
    (70..90).for_each(|s| second(s * 1000, 1));
    assert!(!conn.expired(), "where there is no rate");
    conn.arm(Phase::Busy, Now::at_ms(100_000), u64::MAX);
    (100..200).for_each(|s| second(s * 1000, 240));
    assert!(!conn.expired(), "at the rate that is asked for");
}

#[test]
fn a_client_that_reads_nothing_is_ended_and_one_that_reads_slowly_is_not() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), u64::MAX);
    for ms in [1000, 20_000, 30_000] {
        conn.set_blocked(true);
        conn.sweep(Now::at_ms(ms));
        conn.set_blocked(false);
    }
    conn.set_blocked(true);
    conn.sweep(Now::at_ms(40_000));
    conn.sweep(Now::at_ms(69_900));
    assert!(!conn.expired());
    conn.sweep(Now::at_ms(70_000));
    assert!(conn.is_slow_reader() && conn.expired());
}

#[test]
fn an_exchange_bound_by_idle_lasts_as_long_as_bytes_move() {
    let conn = connection();
    conn.arm(Phase::Busy, Now::at_ms(0), 1000);
    conn.bound_by_idle(300);
    conn.moved(Now::at_ms(900));
    conn.sweep(Now::at_ms(1100));
    assert!(!conn.expired());
    conn.moved(Now::at_ms(1100));
    conn.sweep(Now::at_ms(1399));
    assert!(!conn.expired());
    conn.sweep(Now::at_ms(1400));
    assert!(conn.expired());
}

#[test]
fn open_connections_are_counted() {
    let conn = connection();
    let listener = conn.listener.clone();
    assert_eq!(listener.active(), 1);
    drop(conn);
    assert_eq!(listener.active(), 0);
}
