//! `fifolock table`: making a table, and checking one.

use anyhow::Result;
use dynamodb_fifo_lock::{DynamoDbStore, Expiry};

use crate::args::Connection;
use crate::exit;
use crate::text::{print, printable};

/// Create the table, or check the one that is there
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Create the table, with on-demand billing, and turn on expiry (TTL); one that is there
    /// already is checked and kept
    Create,
    /// Check that the table is there and can hold locks; nothing is changed
    Check,
}

pub(crate) fn run(connection: &Connection, args: &Args) -> Result<u8> {
    let store = connection.store()?;
    match args.what {
        What::Create => {
            store.create_table()?;
            check(&store)
        }
        What::Check => check(&store),
    }
}

fn check(store: &DynamoDbStore) -> Result<u8> {
    store.check_table()?;
    let billing = match store.is_on_demand()? {
        true => "on demand",
        false => "provisioned: it throttles when more is asked of it",
    };
    let expiry = store.expiry()?;
    print(&[
        format!("table {} is there and can hold locks", store.table()),
        format!("billing  {billing}"),
        format!("expiry   {}", describe(&expiry)),
    ])?;
    Ok(match expiry {
        Expiry::On => exit::OK,
        _ => exit::FAILED,
    })
}

/// Whether expiry is as it should be, and what to do if not.
pub(crate) fn describe(expiry: &Expiry) -> String {
    match expiry {
        Expiry::On => "on".into(),
        Expiry::ByAnother(other) => format!(
            "goes by the attribute {}, and rows of waiters that died pile up; a table can have one \
             such attribute only, so use another table, or turn it off and run `fifolock table create`",
            printable(other)
        ),
        _ => {
            "off: rows of waiters that died pile up; run `fifolock table create`, which turns it on"
                .into()
        }
    }
}
