//! `fifolock`: locks for those who have only a shell, and for those who have to see
//! and repair them.

mod args;
mod break_lock;
mod connect;
mod demo;
#[cfg(feature = "dev")]
mod dev;
mod doctor;
mod exit;
mod interrupt;
mod ls;
#[cfg(unix)]
mod messages;
mod policy;
#[cfg(unix)]
mod run;
mod screen;
mod shell;
mod show;
mod table;
mod text;
mod watch;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    #[cfg(unix)]
    if let Some(code) = run::helper() {
        return ExitCode::from(code);
    }
    let code = as_asked();
    #[cfg(unix)]
    messages::finish();
    code
}

fn as_asked() -> ExitCode {
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
    let connection = &cli.connection;
    let outcome = match &cli.command {
        Command::Show(args) => show::run(connection, args),
        Command::Ls(args) => ls::run(connection, args),
        Command::Break(args) => break_lock::run(connection, args),
        Command::Table(args) => table::run(connection, args),
        Command::Doctor(args) => doctor::run(connection, args),
        Command::Iam(args) => policy::iam(connection, args),
        Command::Terraform(_) => policy::terraform(connection),
        Command::Demo(args) => demo::run(connection, args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
        #[cfg(unix)]
        Command::Run(args) => run::run(connection, args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(exit::FAILED),
        Err(error) => {
            text::say(&text::explain(&error));
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}
