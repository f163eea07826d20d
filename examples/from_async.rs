//! Locks in an async program (tokio): waiting without blocking the runtime, a guard held
//! across `await`, a wait that ends with its future, and a loss that a task hears of.
//!
//! ```text
//! cargo run --example from_async
//! ```
//!
//! Ends with a failure if two tasks are inside at once, or one of these does not work.

#[path = "support/table.rs"]
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use crossbeam_channel::bounded;
use dynamodb_fifo_lock::{AcquireOptions, Error, LockClient, LockGuard};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

const LOCK: &str = "async";
const PATIENCE: Duration = Duration::from_secs(12);

/// Acquires on a thread that may block. If this future is dropped the wait ends and the
/// queue is left.
///
/// The channel that cancels has a second use: threads of the pool are shared by tasks, and
/// without it a task could be told that "this thread" already holds the lock, which
/// another task acquired there.
async fn acquire(client: &LockClient, name: &'static str) -> anyhow::Result<LockGuard> {
    let (_still_wanted, not_wanted) = bounded::<()>(0);
    let client = client.clone();
    let options = AcquireOptions::new().cancel(not_wanted);
    Ok(spawn_blocking(move || client.acquire_with(name, options)).await??)
}

/// Ends when the lock is lost, or released.
async fn lost(guard: &LockGuard) {
    let lost = guard.lost().clone();
    let _ = spawn_blocking(move || lost.recv()).await;
}

/// A release is a request, and so is a drop.
async fn release(guard: LockGuard) -> anyhow::Result<()> {
    Ok(spawn_blocking(move || guard.release()).await??)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let table = table::Table::new("async")?;
    let client = LockClient::builder()
        .lease(Duration::from_secs(2))
        .build(table.store())?;

    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (1..=4)
        .map(|task| {
            let (client, inside) = (client.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let guard = acquire(&client, LOCK).await?;
                let others = inside.fetch_add(1, Ordering::SeqCst);
                println!("task {task} holds, token {}", guard.fencing_token());
                sleep(Duration::from_millis(100)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                ensure!(others == 0, "task {task} was not alone");
                release(guard).await
            })
        })
        .collect();
    for task in tasks {
        timeout(PATIENCE, task).await.context("a task hangs")???;
    }

    let guard = acquire(&client, LOCK).await?;
    let impatient = timeout(Duration::from_millis(300), acquire(&client, LOCK)).await;
    ensure!(impatient.is_err(), "two guards at once");
    println!("a wait was given up by dropping its future");

    let token = guard.fencing_token();
    let broken = {
        let client = client.clone();
        spawn_blocking(move || client.break_lock(LOCK, token)).await??
    };
    ensure!(broken, "the lock was not broken");
    let work = async {
        for step in 1.. {
            println!("step {step} of a long piece of work");
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = lost(&guard) => println!("lost: the work is dropped at its next await"),
        () = work => {}
        () = sleep(PATIENCE) => anyhow::bail!("nobody heard of the loss"),
    }
    let released = spawn_blocking(move || guard.release()).await?;
    ensure!(matches!(released, Err(Error::Lost { .. })), "{released:?}");

    let guard = timeout(PATIENCE, acquire(&client, LOCK)).await;
    let guard = guard.context("the wait that was given up is in the way")??;
    release(guard).await?;
    let closing = client.clone();
    let report = spawn_blocking(move || closing.close()).await?;
    ensure!(report.is_clean(), "{report:?}");
    println!("ok: four tasks took turns, a wait was cancelled, a loss was heard of");
    Ok(())
}
