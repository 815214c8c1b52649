//! The command line.

pub mod check;
pub mod demo;
pub mod keys;
pub mod reload;
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
    Run(ConfigArgs),
    /// Read a config and say everything that is wrong with it, without serving.
    Check(ConfigArgs),
    /// Have the running gateway take its config file up again, all of it or nothing.
    Reload(ConfigArgs),
    /// Say what a reload would change, and change nothing.
    Diff(ConfigArgs),
    /// Show it all: demo services, tokens, keys and a gateway in one process, with curl lines.
    Demo {
        /// Play the story and exit 0 only if every answer was right.
        #[arg(long)]
        check: bool,
    },
    /// Make API keys.
    #[command(subcommand)]
    Keys(keys::Keys),
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
        Command::Run(args) => run::run(&args.config),
        Command::Check(args) => check::run(&args.config),
        Command::Reload(args) => reload::run(&args.config, reload::Asked::Reload),
        Command::Diff(args) => reload::run(&args.config, reload::Asked::Diff),
        Command::Demo { check } => demo::run(check),
        Command::Keys(keys) => keys::run(keys),
    }
}

/// Messages for operators go to standard error; `RUST_LOG` changes how many.
fn start_messages() {
    let env = env_logger::Env::default().default_filter_or("info,pingora=error");
    let mut builder = env_logger::Builder::from_env(env);
    builder.format_timestamp_millis().init();
}
