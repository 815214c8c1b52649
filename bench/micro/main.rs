//! The decision path, request after request, for counting instructions and allocations.
//!
//! `cargo bench --bench micro` prints nanoseconds; `bench/micro/run` runs this under callgrind and
//! prints instructions and allocations a request. What is counted is in [`measured`]; the functions
//! are those that serve requests.

mod keys;
mod measured;
mod setup;
mod uncached;

use keys::Keys;
use setup::Bench;
use std::process::ExitCode;
use tollgate::base::clock::{Clock, Now};
use uncached::Uncached;

/// The allocator of the real binary, so that its instructions are counted too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a part's rounds are made with, and one round.
enum Part {
    /// A request, for a gateway of 1,000 routes.
    Request(fn(&mut Bench)),
    /// A token that is not in the cache, at a time in Unix milliseconds.
    Token(fn(Now) -> Uncached, fn(&Uncached, u64)),
    /// A list of so many API keys.
    Keys(fn(usize) -> Keys, usize, fn(&Keys)),
}

/// The parts, by the name that chooses them.
const PARTS: [(&str, Part); 21] = [
    ("decide", Part::Request(measured::decide)),
    ("receive", Part::Request(measured::arrive)),
    ("route", Part::Request(measured::route)),
    ("auth", Part::Request(Bench::authenticated)),
    ("token", Part::Request(measured::token)),
    ("token-rs256", Part::Token(Uncached::rs256, measured::first)),
    (
        "bare-rs256",
        Part::Token(Uncached::rs256, |t, _| measured::bare(t)),
    ),
    ("token-es256", Part::Token(Uncached::es256, measured::first)),
    (
        "bare-es256",
        Part::Token(Uncached::es256, |t, _| measured::bare(t)),
    ),
    ("key-1k", Part::Keys(Keys::again, 1_000, measured::key)),
    ("key-100k", Part::Keys(Keys::again, 100_000, measured::key)),
    ("new-key-1k", Part::Keys(Keys::first, 1_000, measured::key)),
    (
        "new-key-100k",
        Part::Keys(Keys::first, 100_000, measured::key),
    ),
    (
        "redis-1k",
        Part::Keys(Keys::cached, 1_000, measured::cached_key),
    ),
    (
        "redis-100k",
        Part::Keys(Keys::cached, 100_000, measured::cached_key),
    ),
    ("limit", Part::Request(measured::limit)),
    ("choose", Part::Request(measured::choose)),
    ("tenant-1", Part::Request(measured::tenant_of_one)),
    ("tenant-1k", Part::Request(measured::tenant_of_a_thousand)),
    ("breaker", Part::Request(measured::breaker)),
    ("balance", Part::Request(measured::balance)),
];

impl Part {
    /// Nanoseconds that one of so many rounds takes.
    fn run(&self, rounds: u32) -> f64 {
        match self {
            Part::Request(part) => Bench::new().run(*part, rounds),
            Part::Keys(make, count, part) => make(*count).run(*part, rounds),
            Part::Token(make, part) => make(Clock::system().now()).run(*part, rounds),
        }
    }
}

fn main() -> ExitCode {
    // `cargo bench` adds flags of its own.
    let words = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let words: Vec<String> = words.collect();
    let Some(name) = words.first() else {
        for (name, part) in PARTS {
            part.run(1_000);
            println!("{name:<12} {:>8.0} ns", part.run(20_000));
        }
        return ExitCode::SUCCESS;
    };
    let part = PARTS.iter().find(|(own, _)| own == name);
    let rounds = words.get(1).map_or(Ok(1), |n| n.parse());
    let (Some((_, part)), Ok(rounds)) = (part, rounds) else {
        eprintln!("usage: micro [PART [ROUNDS]]");
        return ExitCode::FAILURE;
    };
    part.run(rounds);
    ExitCode::SUCCESS
}
