//! Permits: of eight workers three at a time may talk to a fragile service.
//!
//! ```text
//! cargo run --example semaphore
//! ```
//!
//! Ends with a failure if more than three permits were out at once, if three never
//! were, or if somebody got none.

#[path = "support/table.rs"]
mod table;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dynamodb_fifo_lock::{AcquireOptions, LockClient};

const LOCK: &str = "fragile-service";
const WORKERS: usize = 8;
const PERMITS: u32 = 3;

/// How many calls the service sees.
#[derive(Default)]
struct Service {
    now: u32,
    most: u32,
    served: usize,
}

fn main() -> anyhow::Result<()> {
    let table = table::Table::new("permits")?;
    let service = Mutex::new(Service::default());
    let began = Instant::now();

    let call = |worker: usize| -> anyhow::Result<()> {
        // A client for each, as if each were a process of its own.
        let client = LockClient::builder()
            .owner(format!("worker-{worker}"))
            .lease(Duration::from_secs(5))
            .build(table.store())?;
        // All of them have to give the same number: each goes by its own.
        let options = AcquireOptions::new()
            .permits(PERMITS)
            .timeout(Duration::from_secs(12));
        let permit = client.acquire_with(LOCK, options)?;
        {
            let mut service = service.lock().unwrap();
            service.now += 1;
            service.most = service.most.max(service.now);
            println!(
                "{:>4} ms  worker-{worker} has a permit, token {}, {} out",
                began.elapsed().as_millis(),
                permit.fencing_token(),
                service.now
            );
        }
        thread::sleep(Duration::from_millis(400));
        permit.ensure_held()?;
        // Before the permit is given back: afterwards it may be out again at once.
        let mut service = service.lock().unwrap();
        service.now -= 1;
        service.served += 1;
        drop(service);
        permit.release()?;
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=WORKERS)
            .map(|worker| scope.spawn(move || call(worker)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().ok().context("a worker panicked")?)
    })?;

    let service = service.into_inner().unwrap();
    ensure!(service.most == PERMITS, "{} were out", service.most);
    ensure!(service.served == WORKERS, "{} were served", service.served);
    println!("ok: {WORKERS} workers were served, {PERMITS} at a time");
    Ok(())
}
