//! `--dev`: a DynamoDB in this process, over a file that all processes of this machine
//! share.
//!
//! Each process that is given the file opens it for itself and serves nobody but
//! itself. What makes a conditional write one step among several processes is SQLite:
//! the emulator reads the item, checks the condition and writes inside of one
//! transaction that begins with taking the file's write lock.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::bounded;
use dynamodb_fifo_lock::{AccessKeys, Credentials, DynamoDbStore};
use dynoxide::Database;
use tokio::net::TcpListener;

/// A store in `file`, whose table is created if it is not there.
pub(crate) fn store(file: Option<&Path>, table: &str) -> Result<DynamoDbStore> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => default_file()?,
    };
    let gate = enter(&file)?;
    let store = DynamoDbStore::builder(table)
        .region("local")
        .endpoint(serve(&file)?)
        .credentials(Credentials::fixed(AccessKeys::new("dev", "dev")))
        .build()?;
    store.create_table()?;
    drop(gate);
    Ok(store)
}

/// Lets one process at a time bring a new file into shape and create its table, which
/// are several steps; until the file that this returns is closed.
fn enter(file: &Path) -> Result<File> {
    let beside = PathBuf::from(format!("{}.lock", file.display()));
    let wrong = || beside.display().to_string();
    let gate = File::create(&beside).with_context(wrong)?;
    #[cfg(unix)]
    rustix::fs::flock(&gate, rustix::fs::FlockOperation::LockExclusive).with_context(wrong)?;
    Ok(gate)
}

fn default_file() -> Result<PathBuf> {
    let home = std::env::home_dir().context("there is no home directory; give --dev=FILE")?;
    Ok(home.join(".fifolock-dev.sqlite"))
}

/// Serves the file on a port of this machine until the process ends: the address.
fn serve(file: &Path) -> Result<String> {
    let shown = file
        .to_str()
        .context("the file's name is not valid Unicode")?;
    let database = Database::new(shown).map_err(|error| anyhow!("{shown}: {error}"))?;
    let (tell, told) = bounded(1);
    thread::Builder::new()
        .name("fifolock-dev".into())
        .spawn(move || -> Result<()> {
            let serve = async {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                tell.send(listener.local_addr()?)?;
                dynoxide::server::serve_with_shutdown(listener, database, std::future::pending())
                    .await
                    .map_err(anyhow::Error::msg)
            };
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(serve)
        })?;
    let address = told.recv().context("the embedded server did not start")?;
    Ok(format!("http://{address}"))
}
