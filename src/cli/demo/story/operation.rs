//! What operators see.

use crate::cli::demo::script::Manner;
use crate::cli::demo::stage::{Addresses, Place};
use crate::cli::demo::step::{Act, Step};

/// A trace that somebody else began (W3C Trace Context).
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub(super) fn tracing(at: &Addresses) -> Act {
    let get = |shows| Step::get(shows, at.gateway("/products/7"));
    let steps = vec![
        get("every request has an id, in the answer, the log and at the service")
            .present("x-request-id"),
        get("a caller's own is kept")
            .with("X-Request-ID", "demo-0001")
            .header("x-request-id", "demo-0001")
            .json("/headers/x-request-id", "demo-0001"),
        get("a trace goes on (W3C Trace Context)")
            .with("traceparent", TRACE)
            .holds("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        get("nobody but a trusted proxy says where a request comes from")
            .with("X-Forwarded-For", "203.0.113.7")
            .json("/headers/x-forwarded-for", "127.0.0.1"),
    ];
    Act {
        title: "Request ids and traces",
        steps,
    }
}

pub(super) fn admin(at: &Addresses) -> Act {
    let admin = |shows, path| Step::get(shows, at.url(Place::Admin, path));
    let metric =
        |shows, text: &str| admin(shows, "/metrics").manner(Manner::Lines(text.to_owned()));
    let steps = vec![
        Step::get(
            "alive, before authentication and limits",
            at.gateway("/health"),
        )
        .holds("ok"),
        admin("ready to serve; not while it drains", "/ready").holds("ready"),
        admin(
            "upstreams, targets, breakers, issuers, connections",
            "/status",
        )
        .holds("users-v1"),
        metric(
            "who is served, by tier",
            "tier_requests_total{route=\"payments\"",
        )
        .holds("tier=\"gold\""),
        metric(
            "refusals by reason, the same codes as in answers",
            "refusals_total",
        )
        .holds("refusals_total{reason=\"circuit_open\"}"),
    ];
    Act {
        title: "Health, status, metrics (admin port)",
        steps,
    }
}
