//! What a dashboard can know: several threads use a lock, one loses it, and the
//! measurements are printed as Prometheus would scrape them.
//!
//! ```text
//! cargo run --example metrics --features metrics
//! ```

use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::{LockClient, MemoryStore, Meter};
use metrics_exporter_prometheus::PrometheusBuilder;

fn main() -> anyhow::Result<()> {
    // A program that runs for long would serve this text at `/metrics`.
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let client = LockClient::builder()
        .lease(Duration::from_millis(400))
        .observer(Meter::new().by_lock())
        .build(MemoryStore::new())?;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| -> Result<(), dynamodb_fifo_lock::Error> {
                for _ in 0..5 {
                    let guard = client.acquire("reports")?;
                    thread::sleep(Duration::from_millis(20));
                    guard.release()?;
                }
                Ok(())
            });
        }
    });
    // An operator takes it away from somebody who holds it for too long.
    let guard = client.acquire("reports")?;
    client.break_lock("reports", guard.fencing_token())?;
    let _ = guard.lost().recv();
    drop(guard);
    prometheus.run_upkeep();
    println!("{}", prometheus.render());
    Ok(())
}
