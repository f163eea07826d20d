//! `fifolock break`: an operator takes a lock from its holder.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::SystemTime;

use anyhow::{Result, bail};
use dynamodb_fifo_lock::{FencingToken, LockStatus};

use crate::args::Connection;
use crate::exit;
use crate::show;
use crate::text::{print, say, span};

/// Take a lock away from its holder, however alive it is
///
/// The next waiter gets it at once, with a higher token. The old holder hears of it with its
/// next heartbeat, and may run on until then: only a resource that checks the token is safe
/// meanwhile.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The lock's name
    name: String,

    /// Only if the holder has this token, so that nobody else is hit by mistake
    #[arg(long)]
    token: Option<u64>,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(connection: &Connection, args: &Args) -> Result<u8> {
    let client = connection.observer()?;
    let Some(status) = client.inspect(&args.name)? else {
        bail!("table {} has no lock {:?}", connection.table(), args.name);
    };
    let Some(turn) = status.turn else {
        bail!("nobody holds lock {:?} alone: nothing to break", args.name);
    };
    let token = FencingToken::from(turn);
    if let Some(wanted) = args.token
        && wanted != token.get()
    {
        bail!("the turn of token {wanted} is not now, but that of {token}: nothing was done");
    }
    print(&show::lines(&status, SystemTime::now()))?;
    if !args.yes {
        if !io::stdin().is_terminal() {
            say("there is no terminal to ask on; say --yes if you are sure");
            return Ok(exit::USAGE);
        }
        if !is_confirmed(&args.name, token)? {
            say("nothing was done");
            return Ok(exit::FAILED);
        }
    }
    if !client.break_lock(&args.name, token)? {
        bail!("the turn of token {token} was over already: nothing was done");
    }
    print(&report(&status, token))?;
    Ok(exit::OK)
}

fn is_confirmed(name: &str, token: FencingToken) -> Result<bool> {
    let mut terminal = io::stderr();
    write!(
        terminal,
        "Take lock {name:?} from the holder of token {token}? [y/N] "
    )?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

fn report(status: &LockStatus, token: FencingToken) -> Vec<String> {
    // Whoever had the turn without saying so was counted among those who wait.
    let behind = status
        .waiting
        .saturating_sub(u64::from(status.holder.is_none()));
    let next = match behind {
        0 => "Nobody waits; the next grant has a higher token",
        1 => "One waits, and gets it with a higher token",
        _ => "The next of those who wait gets it with a higher token",
    };
    let over = format!("The turn of token {token} is over. {next}.");
    let mut lines = vec![String::new(), over];
    match &status.holder {
        Some(holder) => lines.push(format!(
            "The old holder may run on until its next heartbeat ({}, unless it was set up otherwise), \
             or for {}.",
            span(holder.lease / 4),
            span(holder.lease)
        )),
        None => lines.push("Whoever had that turn may run on for a moment, if it had begun.".into()),
    }
    lines.push("Until then only a resource that checks the token is safe from it.".into());
    lines
}
