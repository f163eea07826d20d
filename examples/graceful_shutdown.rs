//! An end in good order: a program is told to stop (SIGTERM or ctrl-c) while some of its
//! threads wait for a lock and one works under it.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! ```
//!
//! It sends itself SIGTERM after a second. `close()` ends the waits at once, whoever
//! works finishes its step and releases, and nobody has to wait for a lease afterwards.
//! Ends with a failure if anything is left behind.

#[path = "support/table.rs"]
mod table;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use crossbeam_channel::{Receiver, bounded};
use dynamodb_fifo_lock::{Error, LockClient};

const LOCK: &str = "orders";
const WORKERS: usize = 4;
const LEASE: Duration = Duration::from_secs(20);

/// Closes when the program is to stop.
#[cfg(unix)]
fn told_to_stop() -> anyhow::Result<Receiver<()>> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let (running, stopped) = bounded(0);
    thread::spawn(move || {
        let _running = running;
        if let Some(signal) = signals.forever().next() {
            println!("signal {signal}");
        }
    });
    // Stands for whoever stops programs here.
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(1));
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    });
    Ok(stopped)
}

#[cfg(not(unix))]
fn told_to_stop() -> anyhow::Result<Receiver<()>> {
    let (running, stopped) = bounded(0);
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        drop(running);
    });
    Ok(stopped)
}

/// Works under the lock, a step at a time, until the program is to stop.
fn work(worker: usize, client: &LockClient, stop: &Receiver<()>) -> anyhow::Result<()> {
    loop {
        let guard = match client.acquire(LOCK) {
            Ok(guard) => guard,
            Err(Error::Closed { .. }) => {
                println!("worker {worker} leaves the queue");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        println!("worker {worker} holds, token {}", guard.fencing_token());
        for _step in 0..15 {
            guard.ensure_held()?;
            // A step: short enough for whoever waits for the program to end.
            thread::sleep(Duration::from_millis(200));
            if is_closed(stop) {
                println!("worker {worker} has finished its step");
                break;
            }
        }
        guard.release()?;
    }
}

fn is_closed(channel: &Receiver<()>) -> bool {
    channel.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
}

fn main() -> anyhow::Result<()> {
    let table = table::Table::new("shutdown")?;
    let client = LockClient::builder().lease(LEASE).build(table.store())?;
    let stop = told_to_stop()?;
    let workers: Vec<_> = (1..=WORKERS)
        .map(|worker| {
            let (client, stop) = (client.clone(), stop.clone());
            thread::spawn(move || work(worker, &client, &stop))
        })
        .collect();
    let _ = stop.recv();

    let began = Instant::now();
    let report = client.close();
    println!("close() took {:?}: {report:?}", began.elapsed());
    ensure!(
        report.still_leaving == 0 && report.left_behind.is_empty(),
        "{report:?}"
    );
    for worker in workers {
        worker.join().ok().context("a worker panicked")??;
    }
    // Nothing is held any more: this is what to write into the log.
    let last = client.close();
    ensure!(last.is_clean(), "{last:?}");

    // The next program need not wait for any lease.
    let began = Instant::now();
    let next = LockClient::builder()
        .owner("next")
        .lease(LEASE)
        .build(table.store())?;
    let guard = next.acquire_timeout(LOCK, LEASE)?;
    let waited = began.elapsed();
    guard.release()?;
    ensure!(waited < LEASE / 2, "the next program waited {waited:?}");
    println!("ok: nothing was left behind; the next program had the lock after {waited:?}");
    Ok(())
}
