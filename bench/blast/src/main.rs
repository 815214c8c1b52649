//! Origin, closed and open loop load, held connections and minted tokens for the comparison of gateways.
//!
//! ```text
//! blast origin --listen 127.0.0.1:P=v1 … [--spin]
//! blast load --to 127.0.0.1:P --requests FILE (--seconds S | --count N) [--warm-up S] [--connections 64]
//!            [--origin 127.0.0.1:P=v1 …] [--tls] [--new-connections] [--rate R] [--wait]
//! blast hold --to 127.0.0.1:P --requests FILE --connections N [--origin …] [--in-flight] [--tls]
//! blast mint --alg RS256 --key FILE --kid K --issuer I --audience A --count N [--subjects 1000]
//! ```
//!
//! Everything runs in one thread over one epoll that is asked with a timeout of 0.

mod histogram;
mod hold;
mod http;
mod load;
mod mint;
mod open;
mod options;
mod origin;
mod tally;
mod transport;

use options::Options;

/// What goes wrong is told and ends the process.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One line for whoever reads along.
fn say(line: &str) {
    println!("{line}");
    let _ = std::io::Write::flush(&mut std::io::stdout());
}

fn main() -> std::process::ExitCode {
    let outcome = Options::read(std::env::args().skip(1)).and_then(|options| {
        match options.command.as_str() {
            "origin" => origin::run(&options),
            "load" => load::run(&options),
            "hold" => hold::run(&options),
            "mint" => mint::run(&options),
            other => Err(format!("no such command: {other:?}").into()),
        }
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blast: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
