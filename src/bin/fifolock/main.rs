//! `fifolock`: locks for those who have only a shell, and for those who have to see
//! and repair them.

mod args;
mod connect;
mod exit;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and none to a shell.
            let code = match error.use_stderr() {
                true => exit::USAGE,
                false => exit::OK,
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let outcome = match cli.command {
        Command::Placeholder => Ok(exit::OK),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("fifolock: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
