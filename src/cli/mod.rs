//! The command line.

pub mod ask;
pub mod check;
pub mod demo;
pub mod help;
pub mod keys;
mod messages;
pub mod revoke;
pub mod run;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// The command line was wrong, or the config is (`EX_USAGE` of sysexits.h).
pub const USAGE: u8 = 64;

/// An API gateway and edge proxy.
///
/// Exit codes: 0 success; 1 the gateway could not start, or a check failed while running;
/// 64 the command line or the config is wrong.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: start the gateway and stay in the foreground until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Read a config and say everything that is wrong with it, without serving.
    Check(ConfigArgs),
    /// Have the running gateway take its config file up again, all of it or nothing.
    Reload(ConfigArgs),
    /// Have the running gateway start the program that is at its path now, hand over to it and end,
    /// without a failed request. If the new one does not come to serve, the old one serves on.
    Upgrade(UpgradeArgs),
    /// Say what a reload would change, and change nothing.
    Diff(ConfigArgs),
    /// Show it all: demo services, tokens, keys and a gateway in one process, with curl lines.
    Demo {
        /// Play the story and exit 0 only if every answer was right.
        #[arg(long)]
        check: bool,
    },
    /// Make, show, replace and take back API keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Have every gateway that shares a Redis no longer believe a token, a user, an API key or a signing key.
    Revoke(revoke::Revoke),
    /// Print completions for a shell.
    Completions {
        /// For which one.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man {
        /// Write it to this folder instead, with one for each command.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// For `tollgate upgrade` alone: how to take the place of the process at the standard input.
    #[arg(long, value_enum, hide = true)]
    take_over: Option<run::TakeOver>,
}

#[derive(Debug, Args)]
struct UpgradeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How long the new process may take to be ready, 1s to 10m.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = ask::within)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The config file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors.
            let code = if e.use_stderr() { USAGE } else { 0 };
            let _ = e.print();
            return code.into();
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args.config.config, args.take_over),
        Command::Check(args) => check::run(&args.config),
        Command::Reload(args) => ask::run(&args.config, ask::Asked::Reload),
        Command::Diff(args) => ask::run(&args.config, ask::Asked::Diff),
        Command::Upgrade(args) => ask::run(&args.config.config, ask::Asked::Upgrade(args.timeout)),
        Command::Demo { check } => demo::run(check),
        Command::Keys(keys) => keys::run(keys),
        Command::Revoke(revoke) => revoke::run(revoke),
        Command::Completions { shell } => help::completions(shell),
        Command::Man { out } => help::man(out.as_deref()),
    }
}
