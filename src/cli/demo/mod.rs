//! `tollgate demo`: services, a token issuer and the gateway in one process, and curl lines that show
//! what it does. `tollgate demo --check` plays those lines itself.

mod client;
mod issuer;
mod play;
mod script;
mod serve;
mod services;
mod stage;
mod step;
mod story;
mod tokens;
mod words;

use stage::{PLACES, Ports, Stage};
use std::process::ExitCode;
use tokens::{API_KEYS, TOKENS};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the demo until SIGINT or SIGTERM; or, with `check`, plays its story on free ports and
/// exits 0 only if every answer was right.
pub fn run(check: bool) -> ExitCode {
    if check {
        return play::play();
    }
    super::messages::start();
    let stage = match Stage::open(Ports::Fixed) {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    introduce(&stage);
    tell(&stage);
    if let Err(why) = wait() {
        eprintln!("cannot wait for signals: {why}");
        return ExitCode::FAILURE;
    }
    eprintln!("finishing what is under way");
    let finished = stage.server.drain();
    if finished {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Who is there: places, tokens, keys.
fn introduce(stage: &Stage) {
    println!("Tollgate's demo. All of it runs in this process, on conf/demo.yaml:");
    for (place, _, what) in PLACES {
        println!("  {:<24} {what}", stage.at.url(place, ""));
    }
    let token = stage.at.token("NAME");
    let address = words::substitution(&token).map_or("", |(_, address, _)| address);
    println!("\nTokens, good for 12 hours; GET {address} makes a new one:");
    for (name, what) in TOKENS {
        let token = stage.mint.token(name).ok().flatten();
        println!("  {name:<10} {what}");
        println!("    {}", token.unwrap_or_default());
    }
    println!("\nAPI keys, for the header X-API-Key:");
    for (key, what) in API_KEYS {
        println!("  {key:<18} {what}");
    }
}

/// The story, ready to paste.
fn tell(stage: &Stage) {
    println!(
        "\nPaste these into another terminal, an act at a time. Here appears what the gateway"
    );
    println!("logs of each request. Each line says what it shows, and what comes back.");
    for act in story::story(&stage.at) {
        println!("\n## {}", act.title);
        for step in &act.steps {
            println!("# {} -> {}", step.shows, step.expectation());
            println!("{}", step.script);
        }
    }
    println!("\nCtrl-C ends it.\n");
}

fn wait() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        Ok(())
    })
}
