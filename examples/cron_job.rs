//! Cron fires on several hosts at once; one of them runs the job:
//!
//! ```text
//! cargo run --example cron_job
//! ```
//!
//! The lock alone would not be enough. A host whose clock is late fires when the job
//! is over and the lock is free again, so what was done is written down under the lock.
//! Ends with a failure if the job ran more than once, or not at all.

#[path = "support/table.rs"]
mod table;

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use dynamodb_fifo_lock::{AcquireOptions, FencingToken, LockClient};

const LOCK: &str = "cron/daily-report";
const DAY: &str = "2026-11-25";
const PUNCTUAL: [&str; 3] = ["host-a", "host-b", "host-c"];

/// What the job writes to: a row for each day, as a database would have it.
#[derive(Default)]
struct Reports {
    written: Vec<(&'static str, FencingToken)>,
}

/// What became of one host's attempt.
#[derive(Debug, PartialEq)]
enum Fired {
    Ran,
    SomebodyElseRuns,
    WasDoneAlready,
}

fn fire(client: &LockClient, host: &str, reports: &Mutex<Reports>) -> anyhow::Result<Fired> {
    let options = AcquireOptions::new().data(format!("report for {DAY}"));
    let Some(guard) = client.try_acquire_with(LOCK, options)? else {
        let holder = client.inspect(LOCK)?.and_then(|status| status.holder);
        match holder {
            Some(holder) => println!(
                "{host}: {} runs it, token {}: {:?}",
                holder.owner,
                holder.token,
                holder.data.unwrap_or_default()
            ),
            None => println!("{host}: somebody else was faster"),
        }
        return Ok(Fired::SomebodyElseRuns);
    };
    let token = guard.fencing_token();
    let is_done = |reports: &Reports| reports.written.iter().any(|(day, _)| *day == DAY);
    if is_done(&reports.lock().unwrap()) {
        println!("{host}: has the lock, token {token}, and finds the job done");
        return Ok(Fired::WasDoneAlready);
    }
    println!("{host}: runs the job, token {token}");
    thread::sleep(Duration::from_millis(500));
    // A lock that was lost meanwhile must not leave a report behind.
    guard.ensure_held()?;
    reports.lock().unwrap().written.push((DAY, token));
    guard.release()?;
    println!("{host}: is done");
    Ok(Fired::Ran)
}

fn main() -> anyhow::Result<()> {
    let table = table::Table::new("cron")?;
    let client = |host: &str| {
        LockClient::builder()
            .owner(host)
            .lease(Duration::from_secs(10))
            .build(table.store())
    };
    let reports = Mutex::new(Reports::default());
    let midnight = Barrier::new(PUNCTUAL.len());

    let mut fired = thread::scope(|scope| {
        let hosts = PUNCTUAL.map(|host| {
            let (client, reports, midnight) = (client(host), &reports, &midnight);
            scope.spawn(move || -> anyhow::Result<Fired> {
                midnight.wait();
                fire(&client?, host, reports)
            })
        });
        hosts
            .into_iter()
            .map(|host| host.join().ok().context("a host panicked")?)
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let late = fire(&client("host-late")?, "host-late", &reports)?;
    ensure!(late == Fired::WasDoneAlready, "the late host: {late:?}");
    fired.push(late);

    let ran = fired.iter().filter(|fired| **fired == Fired::Ran).count();
    let written = reports.into_inner().unwrap().written;
    ensure!(ran == 1 && written.len() == 1, "{fired:?}, {written:?}");
    println!("ok: {} hosts fired, the job ran once", fired.len());
    Ok(())
}
