//! The new process while it starts: made so that it is nobody's child once it serves, and ended, with
//! all that it started, if it does not come to serve.
//!
//! It is started by a launcher that waits for it: the launcher's end tells how the new process ended,
//! and once the launcher is ended the new process belongs to the system's first process (or to a
//! service manager), which then learns of its end whatever becomes of this one.

use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// What is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<OsString>,
}

/// A launcher and what it launched; ended by the drop.
pub struct Launched {
    child: Child,
    kept: bool,
}

impl Launched {
    /// Starts it with `line` as its standard input.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(launch: &Launch, line: UnixStream) -> io::Result<Self> {
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments);
        command.stdin(Stdio::from(OwnedFd::from(line)));
        // A group of its own, so that all of it can be ended.
        let child = command.process_group(0).spawn()?;
        Ok(Self { child, kept: false })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(told(status))
    }

    /// How it ended, once its end of the line is closed: the one comes a moment before the other.
    pub fn soon_ended(&mut self) -> Option<String> {
        for _ in 0..100 {
            let ended = self.ended();
            if ended.is_some() {
                return ended;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        None
    }

    /// Leaves the new process to itself.
    pub fn keep(mut self) {
        self.kept = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.kept {
            // It leads the group until it is waited for, so no other can have this number.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs the new process from the launcher and waits for it; the launcher's exit code.
///
/// # Errors
/// The program cannot be run.
pub fn launch(launch: &Launch) -> io::Result<u8> {
    let mut command = Command::new(&launch.program);
    let status = command.args(&launch.arguments).status()?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|s| SIGNALLED + s));
    Ok(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1))
}

/// An exit code above this tells of a signal, as shells have it.
const SIGNALLED: i32 = 128;

fn told(status: ExitStatus) -> String {
    let code = status.code();
    let signal = status
        .signal()
        .or_else(|| code.filter(|c| *c > SIGNALLED).map(|c| c - SIGNALLED));
    match (signal, code) {
        (Some(signal), _) => format!("the new process was ended by signal {signal}"),
        (None, Some(code)) => format!("the new process ended with exit code {code}"),
        (None, None) => "the new process ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Launch {
        Launch {
            program: "sh".into(),
            arguments: ["-c", script].map(OsString::from).to_vec(),
        }
    }

    #[track_caller]
    fn end(script: &str) -> String {
        let (_here, there) = UnixStream::pair().expect("a pair");
        let mut launched = Launched::start(&sh(script), there).expect("starts");
        let _ = launched.child.wait();
        launched.ended().expect("it ended")
    }

    #[test]
    fn the_end_of_a_process_is_told() {
        assert_eq!(end("exit 64"), "the new process ended with exit code 64");
        assert_eq!(
            end("kill -SEGV $$"),
            "the new process was ended by signal 11"
        );
        let code = launch(&sh("kill -SEGV $$")).expect("runs");
        assert_eq!(
            end(&format!("exit {code}")),
            "the new process was ended by signal 11"
        );
    }

    /// Also what it started itself.
    #[test]
    fn what_does_not_come_to_serve_is_ended() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let launched = Launched::start(&sh("sleep 1000 & sleep 1000"), there).expect("starts");
        drop(launched);
        let line = super::super::wire::Line::new(here).expect("a line");
        let seen = line.wait(10_000).expect("waits");
        assert_eq!(seen, super::super::wire::Waiting::End, "nobody holds it");
    }
}
