//! `fifolock ls`: the locks of a table.

use std::time::SystemTime;

use anyhow::Result;
use dynamodb_fifo_lock::{Error, LockStatus, StoreError};

use crate::args::Connection;
use crate::exit;
use crate::show::{state, summary};
use crate::text::{ago, columns, json_line, printable};
use crate::watch::{Frame, Watch};

/// List the locks of the table, a line a lock, by name
///
/// Reads the whole table, which costs as much as the table is large. With --json, one object
/// a line.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only locks whose name begins like this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,

    /// Only locks that are not free
    #[arg(long)]
    held: bool,

    #[command(flatten)]
    watch: Watch,
}

pub(crate) fn run(connection: &Connection, args: &Args) -> Result<u8> {
    let client = connection.observer()?;
    args.watch.run(|| {
        let (mut found, mut complaints) = (Vec::new(), Vec::new());
        for status in client.list() {
            match status {
                Ok(status) if args.wants(&status) => found.push(status),
                Ok(_) => {}
                // A row that is no lock record must not hide the others.
                Err(Error::List { source }) if is_about_one_row(&source) => {
                    complaints.push(source.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let now = SystemTime::now();
        let lines = match args.watch.json {
            true => found
                .iter()
                .map(|lock| json_line(&summary(lock, now)))
                .collect(),
            false => lines(&found, now),
        };
        let code = match complaints.is_empty() {
            true => exit::OK,
            false => exit::UNFIT,
        };
        Ok(Frame {
            lines,
            complaints,
            code,
        })
    })
}

fn is_about_one_row(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Malformed { .. } | StoreError::UnsupportedSchema { .. }
    )
}

impl Args {
    fn wants(&self, status: &LockStatus) -> bool {
        let in_use = status.turn.is_some() || !status.sharers.is_empty();
        status.name.as_str().starts_with(&self.prefix) && (!self.held || in_use)
    }
}

fn lines(locks: &[LockStatus], now: SystemTime) -> Vec<String> {
    let head = ["LOCK", "STATE", "WAITING", "TOKEN", "HOLDER", "SINCE"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(locks.iter().map(|lock| {
        let (owner, since) = match &lock.holder {
            Some(holder) => (printable(&holder.owner), ago(holder.since, now)),
            None if lock.turn.is_none() && !lock.sharers.is_empty() => {
                (format!("({} share it)", lock.sharers.len()), "-".into())
            }
            None => ("-".into(), "-".into()),
        };
        vec![
            printable(lock.name.as_str()),
            state(lock).into(),
            lock.waiting.to_string(),
            lock.turn
                .map_or_else(|| "-".into(), |turn| turn.to_string()),
            owner,
            since,
        ]
    }));
    columns(&rows)
}
