//! `tollgate demo --check`: plays the story and judges every answer.

use super::client::{self, Answer};
use super::script::Script;
use super::stage::{Ports, Stage};
use super::step::Step;
use super::story::story;
use crate::base::clock::Clock;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How a play goes.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Tells of one step.
    fn note(&mut self, what: &str, line: &str, faults: &[String]) {
        if faults.is_empty() {
            self.passed += 1;
            println!("ok     {what}");
            return;
        }
        self.failed += 1;
        println!("WRONG  {what}");
        for fault in faults {
            println!("         {fault}");
        }
        println!("         {line}");
    }

    fn exit_code(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        u8::from(self.failed > 0).into()
    }
}

/// Plays the story on free ports; the gateway's clock is moved where a line says `sleep`.
pub fn play() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let opened = runtime.map_err(|e| e.to_string());
    let opened = opened.and_then(|r| Ok((r, Stage::open(Ports::Free).map_err(|e| e.to_string())?)));
    match opened {
        Ok((runtime, stage)) => perform(&runtime, &stage).exit_code(),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn perform(runtime: &Runtime, stage: &Stage) -> Tally {
    let mut tally = Tally::default();
    let clock = stage.server.clock();
    for act in story(&stage.at) {
        println!("{}", act.title);
        for step in &act.steps {
            let line = step.script.to_string();
            let faults = runtime.block_on(faults(step, &line, clock));
            let what = format!("{} -> {}", step.shows, step.expectation());
            tally.note(&what, &line, &faults);
        }
    }
    println!("The end");
    let drained = stage.server.drain();
    let faults = (!drained).then(|| "requests were left".to_owned());
    tally.note("the gateway drains", "SIGTERM", faults.as_slice());
    tally
}

/// What is wrong with a step. What is played is the printed line, read back.
async fn faults(step: &Step, line: &str, clock: &Clock) -> Vec<String> {
    let script = match Script::read(line) {
        Ok(script) if script == step.script => script,
        Ok(script) => return vec![format!("the line says {script:?}")],
        Err(why) => return vec![format!("the line cannot be read: {why}")],
    };
    match answers(&script, clock).await {
        Ok(answers) => step.faults(&answers),
        Err(why) => vec![why],
    }
}

async fn answers(script: &Script, clock: &Clock) -> Result<Vec<Answer>, String> {
    clock.advance(Duration::from_secs(script.wait_s));
    let mut answers = Vec::new();
    for _ in 0..script.manner.times() {
        answers.push(client::send(&script.request).await?);
    }
    Ok(answers)
}
