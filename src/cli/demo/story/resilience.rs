//! When a service is slow or fails.

use crate::cli::demo::script::{Body, Manner};
use crate::cli::demo::stage::{Addresses, Place};
use crate::cli::demo::step::{Act, Step};
use crate::cli::demo::tokens::GOLD;

pub(super) fn slow(at: &Addresses) -> Act {
    let report = Step::get(
        "a report takes 3 s, the route allows 1",
        at.gateway("/reports/annual"),
    );
    let report = report.with("X-API-Key", GOLD);
    Act {
        title: "Time limits",
        steps: vec![report.refused(504, "upstream_timeout")],
    }
}

pub(super) fn breaker(at: &Addresses) -> Act {
    let order = |shows| {
        let step = Step::get(shows, at.gateway("/orders/1"));
        step.with("Authorization", &at.token("buyer"))
    };
    let mood = |shows, mood: &str| {
        let step = Step::get(shows, at.url(Place::Orders, "/mood"));
        step.body(Body::Text(mood.to_owned())).method("PUT")
    };
    let state = |shows| {
        let step = Step::get(shows, at.url(Place::Admin, "/metrics"));
        step.manner(Manner::Lines(
            "breaker_state{upstream=\"orders\"}".to_owned(),
        ))
    };
    let steps = vec![
        mood(
            "behind the gateway's back, orders begins to fail",
            "failing",
        )
        .wait(11),
        order("its errors pass, until the circuit opens")
            .manner(Manner::Statuses(8))
            .turn(500, 503, Some(5)),
        order("open: answered at once, and told when to come back")
            .refused(503, "circuit_open")
            .present("retry-after"),
        Step::get(
            "the service was left alone: it saw five requests",
            at.url(Place::Orders, "/count"),
        )
        .json("/requests_since_mood", "5"),
        state("the operator sees it (0 closed, 1 half-open, 2 open)")
            .holds("breaker_state{upstream=\"orders\"} 2"),
        Step::get("other services go on", at.gateway("/products/7")),
        mood("orders is well again", "well"),
        order("ten seconds later two probes find out, and the circuit closes")
            .wait(11)
            .manner(Manner::Statuses(5)),
        state("closed").holds("breaker_state{upstream=\"orders\"} 0"),
    ];
    Act {
        title: "Circuit breaker",
        steps,
    }
}
