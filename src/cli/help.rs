//! `tollgate completions` and `tollgate man`: what shells and readers are told, made from the command
//! line's own definition, so that neither lags behind it.

use super::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Prints a shell's completions.
pub fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut text);
    ended(io::stdout().write_all(&text))
}

/// Prints the manual page; or writes it into a folder, with one for each command.
pub fn man(folder: Option<&Path>) -> ExitCode {
    ended(match folder {
        Some(folder) => clap_mangen::generate_to(Cli::command(), folder),
        None => clap_mangen::Man::new(Cli::command()).render(&mut io::stdout()),
    })
}

fn ended(done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it had enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cannot be written: {why}");
            ExitCode::FAILURE
        }
    }
}
