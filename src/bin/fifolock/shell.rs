//! `fifolock completions` and `fifolock man`: for those who install the command.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::exit;
use crate::text::print;

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual page, for `man -l -`; of a subcommand if one is named
#[derive(clap::Args, Debug)]
pub(crate) struct ManArgs {
    /// The subcommand
    command: Option<String>,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fifolock", &mut script);
    print(&[String::from_utf8(script)?.trim_end().to_owned()])?;
    Ok(exit::OK)
}

pub(crate) fn man(args: &ManArgs) -> Result<u8> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.command {
        None => Man::new(command),
        Some(name) => match command.find_subcommand(name) {
            Some(found) => Man::new(found.clone()),
            None => anyhow::bail!("there is no subcommand {name:?}; `fifolock help` lists them"),
        },
    };
    let mut text = Vec::new();
    page.source(concat!("fifolock ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)?;
    print(&[String::from_utf8(text)?.trim_end().to_owned()])?;
    Ok(exit::OK)
}
