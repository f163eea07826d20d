//! Programs that may start no more threads, or open no more files: errors that say so, no
//! panics, and what is held stays held.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dynamodb_fifo_lock::{
    AccessKeys, Credentials, DynamoDbStore, Error, Event, LockClient, LockGuard,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use common::{DEADLINE, Table, Wire, embedded_tables, store_at, unique, wait_for};

const ENDPOINT: &str = "FIFOLOCK_LIMITS_ENDPOINT";
const TABLE: &str = "FIFOLOCK_LIMITS_TABLE";
const WIRE: &str = "FIFOLOCK_LIMITS_WIRE";

const LEASE: Duration = Duration::from_secs(3);

/// What a process of its own finds on the server of this one, which has no limits.
fn run_elsewhere(test: &str) {
    for table in embedded_tables() {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ENDPOINT, &table.endpoint)
            .env(TABLE, &table.table)
            .env(WIRE, table.wire.name())
            // A thread needs so much address space here that none fits in where there is enough
            // for everything else.
            .env("RUST_MIN_STACK", (512 << 20).to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{}: {said}", table.name);
        assert!(!said.contains("panicked"), "{}: {said}", table.name);
    }
}

/// The table, in the process that was started for this.
fn given() -> Option<Table> {
    Some(Table {
        name: "given",
        wire: Wire::named(&std::env::var(WIRE).ok()?),
        endpoint: std::env::var(ENDPOINT).ok()?,
        table: std::env::var(TABLE).ok()?,
    })
}

/// A lock that is held, and how often it was renewed.
struct Kept {
    guard: LockGuard,
    renewed: Arc<AtomicUsize>,
    client: LockClient,
}

impl Kept {
    fn at(table: &Table, endpoint: &str) -> Self {
        let renewed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&renewed);
        let client = LockClient::builder()
            .lease(LEASE)
            .outage_limit(Duration::from_millis(200))
            .observer(move |event: &Event<'_>| {
                if let Event::Renewed { .. } = event {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            })
            .build(table.store_through(endpoint))
            .unwrap();
        let guard = client.acquire(&unique("kept")).unwrap();
        Self {
            guard,
            renewed,
            client,
        }
    }

    /// For more than two leases.
    fn stays_held(self) {
        let before = self.renewed.load(Ordering::SeqCst);
        wait_for("renewals", || {
            assert!(self.guard.is_held(), "it was lost");
            self.renewed.load(Ordering::SeqCst) >= before + 9
        });
        self.guard.release().unwrap();
        // Not only what was held already.
        drop(self.client.acquire(&unique("next")).unwrap());
    }
}

/// The address by a name that has to be looked up.
fn by_name(endpoint: &str) -> String {
    endpoint.replace("127.0.0.1", "localhost")
}

fn limit(resource: Resource, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        ..getrlimit(resource)
    };
    setrlimit(resource, limit).unwrap();
}

/// From here on no thread can be started.
fn without_threads() {
    let mut refused = 0;
    // The stack of a thread that ends meanwhile makes room for another one.
    while refused < 20 {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        limit(Resource::As, pages * 4096 + (128 << 20));
        match thread::Builder::new().spawn(|| ()) {
            Ok(thread) => {
                thread.join().unwrap();
                refused = 0;
            }
            Err(_) => refused += 1,
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test of its own: what the process does that the next one starts.
#[test]
fn no_threads() {
    let Some(table) = given() else { return };
    let endpoint = &table.endpoint;
    let kept = [
        Kept::at(&table, endpoint),
        Kept::at(&table, &by_name(endpoint)),
    ];
    let quick = || LockClient::builder().outage_limit(Duration::from_millis(200));
    let unknown = quick()
        .build(table.store_through(&by_name(endpoint)))
        .unwrap();
    let known = quick().build(table.store()).unwrap();
    let credentials = Credentials::from_fn(|| Ok(AccessKeys::new("test", "test")));
    let keyless = DynamoDbStore::builder(&table.table)
        .region("us-east-1")
        .endpoint(endpoint)
        .credentials(credentials)
        .build()
        .unwrap();
    let keyless = quick().build(keyless).unwrap();
    let warm = table.store_through(endpoint);
    warm.check_table().unwrap();
    without_threads();

    warm.check_table().unwrap();
    let outcome = quick().build(warm).map(drop);
    assert!(matches!(outcome, Err(Error::Thread { .. })), "{outcome:?}");
    let mut failing = vec![unknown];
    match table.wire {
        // It has been given its keys.
        Wire::Rusoto => drop(known.acquire(&unique("x")).unwrap()),
        #[cfg(feature = "aws-sdk")]
        Wire::AwsSdk => failing.push(known),
    }
    failing.push(keyless);
    // None of them is dropped meanwhile: its threads would make room for others.
    for client in &failing {
        let began = Instant::now();
        let outcome = client.acquire(&unique("x"));
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("limit of threads"), "{error}");
        assert!(began.elapsed() < DEADLINE / 2);
    }
    for kept in kept {
        kept.stays_held();
    }
}

#[test]
fn a_program_without_threads_gets_errors_and_keeps_its_locks() {
    run_elsewhere("no_threads");
}

/// Not a test of its own: what the process does that the next one starts.
#[test]
fn no_files() {
    let Some(table) = given() else { return };
    let kept = Kept::at(&table, &table.endpoint);
    let quick = || LockClient::builder().outage_limit(Duration::from_millis(200));
    let fresh = quick().build(table.store()).unwrap();
    let by_name = quick()
        .build(table.store_through(&by_name(&table.endpoint)))
        .unwrap();
    let store = store_at(&table.endpoint, &table.table);
    limit(Resource::Nofile, 3);
    assert!(fs::File::open("/dev/null").is_err());

    let error = by_name.acquire(&unique("x")).unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    let error = fresh.acquire(&unique("x")).unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    assert!(error.to_string().contains("open files"), "{error}");
    // Threads and chance need no file.
    quick().build(store).unwrap();
    kept.stays_held();
}

#[test]
fn a_program_without_files_gets_errors_and_keeps_its_locks() {
    run_elsewhere("no_files");
}
