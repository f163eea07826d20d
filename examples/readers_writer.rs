//! Readers share a lock, a writer has it alone, and neither starves the other:
//!
//! ```text
//! cargo run --example readers_writer
//! ```
//!
//! Two readers hold the lock; a writer asks for it, and after the writer another reader.
//! The late reader does not overtake the writer. Ends with a failure if it does.

#[path = "support/table.rs"]
mod table;

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use crossbeam_channel::{Receiver, Sender, unbounded};
use dynamodb_fifo_lock::{AcquireOptions, Event, LockClient, LockGuard};

const LOCK: &str = "catalogue";
const PATIENCE: Duration = Duration::from_secs(12);

/// Asks for the lock on a thread of its own and sends the guard. Returns when the
/// request has its place in the queue.
fn ask(
    client: &LockClient,
    asked: &Receiver<()>,
    options: AcquireOptions,
    granted: &Sender<LockGuard>,
) -> anyhow::Result<()> {
    let (client, granted) = (client.clone(), granted.clone());
    thread::spawn(move || {
        if let Ok(guard) = client.acquire_with(LOCK, options.timeout(PATIENCE)) {
            let _ = granted.send(guard);
        }
    });
    asked.recv_timeout(PATIENCE).context("nobody queued")
}

fn main() -> anyhow::Result<()> {
    let table = table::Table::new("readers")?;
    let (ask_now, asked) = unbounded();
    let client = LockClient::builder()
        .lease(Duration::from_secs(10))
        .observer(move |event: &Event<'_>| {
            if let Event::Enqueued { .. } = event {
                let _ = ask_now.send(());
            }
        })
        .build(table.store())?;
    let shared = || AcquireOptions::new().shared();

    let first = client.acquire_with(LOCK, shared())?;
    let second = client
        .try_acquire_with(LOCK, shared())?
        .context("a second reader was kept out")?;
    println!(
        "two readers share it: tokens {} and {}",
        first.fencing_token(),
        second.fencing_token()
    );
    ensure!(
        client.try_acquire(LOCK)?.is_none(),
        "a writer beside readers"
    );

    let (granted, grants) = unbounded();
    ask(&client, &asked, AcquireOptions::new(), &granted)?;
    println!("a writer waits for them to leave");
    ask(&client, &asked, shared(), &granted)?;
    println!("a third reader waits behind the writer");

    first.release()?;
    second.release()?;
    let writer = grants.recv_timeout(PATIENCE).context("no next grant")?;
    ensure!(!writer.is_shared(), "the late reader overtook the writer");
    println!(
        "both leave: the writer has it, token {}",
        writer.fencing_token()
    );
    let early = grants.recv_timeout(Duration::from_millis(500));
    ensure!(early.is_err(), "a reader beside the writer");
    writer.release()?;
    let third = grants.recv_timeout(PATIENCE).context("no last grant")?;
    ensure!(third.is_shared(), "the last is no reader");
    println!(
        "the writer leaves: the third reader, token {}",
        third.fencing_token()
    );
    third.release()?;
    println!("ok: readers together, the writer alone, nobody overtaken");
    Ok(())
}
