//! The decision path, request after request, for counting instructions and allocations.
//!
//! `cargo bench --bench micro` prints nanoseconds; `bench/micro/run` runs this under callgrind and
//! prints instructions and allocations a request. What is counted is in [`measured`]; the functions
//! are those that serve requests.

mod measured;
mod setup;
mod uncached;

use setup::Bench;
use std::process::ExitCode;

/// The allocator of the real binary, so that its instructions are counted too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One round of a part.
type Part = fn(&mut Bench);

/// The parts, by the name that chooses them.
const PARTS: [(&str, Part); 16] = [
    ("one", |_| measured::one_allocation()),
    ("decide", |b| measured::decide(b)),
    ("receive", |b| measured::arrive(b)),
    ("route", |b| measured::route(b)),
    ("token", |b| measured::token(b)),
    ("auth", |b| {
        b.arrive();
        measured::auth(b);
    }),
    ("token-rs256", |b| {
        b.rs256.next();
        measured::token_rs256(b);
    }),
    ("bare-rs256", |b| {
        b.rs256.next();
        measured::bare_rs256(b);
    }),
    ("token-es256", |b| {
        b.es256.next();
        measured::token_es256(b);
    }),
    ("bare-es256", |b| {
        b.es256.next();
        measured::bare_es256(b);
    }),
    ("limit", |b| measured::limit(b)),
    ("choose", |b| measured::choose(b)),
    ("tenant-1", |b| measured::tenant_of_one(b)),
    ("tenant-1k", |b| measured::tenant_of_a_thousand(b)),
    ("breaker", |b| measured::breaker(b)),
    ("balance", |b| measured::balance(b)),
];

fn main() -> ExitCode {
    // `cargo bench` adds flags of its own.
    let words = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let words: Vec<String> = words.collect();
    let mut bench = Bench::new();
    let Some(name) = words.first() else {
        for (name, part) in PARTS {
            bench.run(part, 10_000);
            let ns = bench.run(part, 200_000);
            println!("{name:<12} {ns:>8.0} ns");
        }
        return ExitCode::SUCCESS;
    };
    let part = PARTS.iter().find(|(own, _)| own == name);
    let rounds = words.get(1).map_or(Ok(1), |n| n.parse());
    let (Some((_, part)), Ok(rounds)) = (part, rounds) else {
        eprintln!("usage: micro [PART [ROUNDS]]");
        return ExitCode::FAILURE;
    };
    bench.run(*part, rounds);
    ExitCode::SUCCESS
}
