//! gRPC's deadlines: passed on, kept, told.

use super::grpc::{gateway, open, well};
use crate::support::rpc::{Channel, Does, Service};
use crate::support::{Stopwatch, eventually};
use h2::Reason;
use std::time::Duration;

#[test]
fn the_deadline_is_passed_on_and_shrinks() {
    let service = well();
    let gateway = gateway(&service, ", timeouts: { total: 20s }");
    for sent in ["5S", "300000m", "1H", "99999999H"] {
        assert_eq!(
            open(&gateway, &[("grpc-timeout", sent)]).field("grpc-status"),
            "0"
        );
    }
    let told: Vec<u64> = service
        .heard()
        .iter()
        .map(|heard| heard.header("grpc-timeout").expect("a deadline"))
        .map(|text| {
            text.strip_suffix('u')
                .expect("microseconds")
                .parse()
                .unwrap()
        })
        .collect();
    assert!((3_000_000..5_000_000).contains(&told[0]), "{told:?}");
    for rest in &told[1..] {
        assert!(
            (18_000_000..20_000_000).contains(rest),
            "the gateway's own end: {told:?}"
        );
    }
}

#[test]
fn at_its_deadline_a_call_ends_and_the_service_is_told() {
    let service = Service::start(|_| Does::Hangs);
    let gateway = gateway(&service, "");
    let channel = Channel::open(gateway.address());
    // A client that keeps its own word would be gone by itself; this one waits.
    for (path, more, code) in [
        (
            "/open.Service/Do",
            &[("grpc-timeout", "300m")][..],
            "deadline_exceeded",
        ),
        ("/short.Service/Do", &[], "upstream_timeout"),
        (
            "/short.Service/Do",
            &[("grpc-timeout", "5S")],
            "upstream_timeout",
        ),
    ] {
        let watch = Stopwatch::start();
        let told = channel.call(path, more);
        watch.shows(280, 2000);
        assert_eq!(told.is(), ("4", code), "{path}");
        assert!(told.trailers_only);
    }
    eventually("three cancellations", || service.cancelled().len() == 3);
    assert_eq!(service.cancelled(), [Reason::CANCEL; 3]);
    let connections: Vec<usize> = service.heard().iter().map(|h| h.connection).collect();
    assert_eq!(connections, [0; 3], "the connection is not given up for it");
}

#[test]
fn an_answer_that_has_begun_is_reset_at_the_deadline() {
    let service = Service::start(|_| Does::Stalls(b"\0\0\0\0\0".to_vec()));
    let gateway = gateway(&service, "");
    let watch = Stopwatch::start();
    let told = open(&gateway, &[("grpc-timeout", "300m")]);
    watch.shows(280, 2000);
    assert_eq!((told.status, told.reset), (200, Some(Reason::CANCEL)));
    eventually("a cancellation", || service.cancelled() == [Reason::CANCEL]);
    let line = gateway.line_where(|line| line["route"] == "open");
    assert_eq!(line["reason"], "deadline_exceeded");
}

#[test]
fn on_a_route_for_streams_the_deadline_is_absolute_and_nothing_else() {
    let service = Service::start(|heard| match heard.header("x-do") {
        Some("tick") => Does::Ticks(Duration::from_millis(50)),
        _ => Does::status(0),
    });
    let gateway = gateway(&service, "");
    let channel = Channel::open(gateway.address());
    let watch = Stopwatch::start();
    let sent = [("x-do", "tick"), ("grpc-timeout", "800m")];
    let told = channel.call("/stream.Service/Do", &sent);
    watch.shows(750, 2500);
    assert_eq!((told.status, told.reset), (200, Some(Reason::CANCEL)));
    assert!(told.body.len() >= 5 * 5, "longer than `timeout`: {told:?}");
    let line = gateway.line_where(|line| line["route"] == "stream");
    assert_eq!(line["reason"], "deadline_exceeded");
    channel.call("/stream.Service/Do", &[("grpc-timeout", "20S")]);
    let heard = service.heard();
    let told = heard[1].header("grpc-timeout").expect("a deadline");
    let told: u64 = told
        .strip_suffix('u')
        .expect("microseconds")
        .parse()
        .unwrap();
    assert!(
        (18_000_000..20_000_000).contains(&told),
        "not the route's timeout: {told}"
    );
}
