//! How much is too much: rates and sizes.

use crate::cli::demo::script::{Body, Manner};
use crate::cli::demo::stage::Addresses;
use crate::cli::demo::step::{Act, Step};
use crate::cli::demo::tokens::{BRONZE, GOLD};

pub(super) fn rates(at: &Addresses) -> Act {
    let pay = |shows, key| {
        let step = Step::get(shows, at.gateway("/payments/9"));
        step.with("X-API-Key", key)
    };
    let steps = vec![
        Step::get(
            "every answer says what is left of the limit, 100 a minute",
            at.gateway("/products/7"),
        )
        .header("x-ratelimit-limit", "100")
        .present("x-ratelimit-remaining")
        .present("x-ratelimit-reset"),
        pay("payments: 5 in 10 s for each client", BRONZE)
            .manner(Manner::Statuses(8))
            .turn(200, 429, Some(5)),
        pay("refused, and told when to come back", BRONZE)
            .refused(429, "rate_limited")
            .json("/detail", "Rate limit exceeded. See Retry-After header.")
            .present("retry-after")
            .header("x-ratelimit-remaining", "0"),
        pay("another client is not touched by it", GOLD),
        pay("two windows later all is forgotten", BRONZE).wait(20),
    ];
    Act {
        title: "Rate limits",
        steps,
    }
}

pub(super) fn sizes(at: &Addresses) -> Act {
    let post = |shows, body| {
        let step = Step::get(shows, at.gateway("/orders"));
        step.with("Authorization", &at.token("buyer")).body(body)
    };
    let steps = vec![
        post("an order", Body::Text("{\"item\": 7}".to_owned()))
            .with("Content-Type", "application/json")
            .json("/body_bytes", "11"),
        post(
            "one that is larger than the route takes, 64 KiB",
            Body::Zeros(70_000),
        )
        .refused(413, "body_too_large"),
    ];
    Act {
        title: "Sizes",
        steps,
    }
}
