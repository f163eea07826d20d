//! What dashboards and logs are told.

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::unbounded;
use dynamodb_fifo_lock::{Event, LockClient, MemoryStore, Meter};
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use common::{DEADLINE, wait_for};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

fn client(store: &MemoryStore) -> LockClient {
    LockClient::builder()
        .lease(Duration::from_millis(800))
        .observer((Meter::new().by_lock(), |_: &Event<'_>| {}))
        .build(store.clone())
        .unwrap()
}

/// Both facades have one recipient in a process, so this is one test.
#[test]
fn a_life_of_a_lock_is_told_in_full() {
    let prometheus = PrometheusBuilder::new().install_recorder().unwrap();
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish()
        .init();

    let store = MemoryStore::new();
    let (holder, waiter) = (client(&store), client(&store));
    let guard = holder.acquire("told").unwrap();
    let failed = waiter.acquire_timeout("told", Duration::from_millis(100));
    assert!(failed.is_err());
    let (tell, granted) = unbounded();
    let waiting = std::thread::spawn(move || {
        let guard = waiter.acquire("told").unwrap();
        tell.send(guard.fencing_token()).unwrap();
        guard
    });
    wait_for("a renewal", || log.text().contains("renewed"));
    guard.release().unwrap();
    let token = granted.recv_timeout(DEADLINE).unwrap();
    let next = waiting.join().unwrap();
    assert!(holder.break_lock("told", token).unwrap());
    next.lost().recv_timeout(DEADLINE).unwrap_err();
    drop(next);

    let loss =
        format!("hold{{lock=\"told\" token={token} shared=false}}: dynamodb_fifo_lock: lost");
    wait_for("the loss", || log.text().contains(&loss));
    let text = log.text();
    for line in [
        "wait{lock=\"told\"}: dynamodb_fifo_lock: granted",
        "wait{lock=\"told\"}: dynamodb_fifo_lock: joined the queue",
        "wait{lock=\"told\"}: dynamodb_fifo_lock: gave up",
        "hold{lock=\"told\" token=",
        "dynamodb_fifo_lock: released",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    // Nothing that is in order is a warning.
    let mut warnings = text.lines().filter(|line| line.contains(" WARN "));
    assert!(warnings.all(|line| line.contains("lost")), "{text}");

    let all = [
        "fifolock_wait_seconds_count{lock=\"told\"} 2",
        "fifolock_hold_seconds_count{lock=\"told\"} 1",
        "fifolock_lost_total{lock=\"told\",reason=\"superseded\"} 1",
        "fifolock_given_up_total{lock=\"told\",reason=\"timed_out\"} 1",
        "fifolock_queue_ahead_count{lock=\"told\"} 2",
    ];
    wait_for("the counts", || {
        let scraped = prometheus.render();
        all.iter().all(|line| scraped.contains(line))
    });
    let scraped = prometheus.render();
    assert!(
        scraped.contains("fifolock_lease_margin_seconds"),
        "{scraped}"
    );
    assert!(scraped.contains("fifolock_renewal_seconds"), "{scraped}");
}
