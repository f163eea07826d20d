//! What many held locks and many waiters need: requests, processor time, threads and
//! memory.
//!
//! ```text
//! cargo bench --bench scale
//! cargo bench --bench scale -- --json                         # one object a line
//! ```
//!
//! Each client is measured in a process of its own, over a store that keeps nothing.

#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/echo.rs"]
mod echo;
mod support;

use std::alloc::System;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use dynamodb_fifo_lock::{LockClient, MemoryStore};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use echo::Echo;
use support::common::{DEADLINE, announcing};
use support::report;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often a lock is renewed at the default lease of 20 s.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long the clients that hold are watched.
const WATCHED: Duration = Duration::from_secs(10);

/// How long a renewal takes.
const RENEWAL: Duration = Duration::from_millis(5);

/// How long those who wait are left alone before they are measured: long enough to fall
/// asleep, and too short for them to have a row.
const SETTLED: Duration = Duration::from_secs(1);

/// How often the threads are counted.
const GLANCE: Duration = Duration::from_millis(10);

const HELD_NOTES: &str = "\
Lease 20 s, a heartbeat every 5 s, over 10 s. The locks are taken at once, so that all
renewals fall due together, or one after another over a heartbeat. The store answers a
renewal after 5 ms and keeps nothing; processor time is the client's, HTTP not included.
Threads: the client's own, the most at any time: the heartbeat, and those that carry its
renewals. Heap: allocated less freed. Resident: the growth of VmRSS (Linux), the threads'
stacks included.";

const WAITING_NOTES: &str = "\
Threads of one client that wait for one lock behind a holder of the same client. Heap: what
the library allocates for each. Resident: that and what is touched of each caller's stack.";

const CROWD_NOTES: &str = "\
In virtual time, a round trip of 5 ms: each holds the lock for 20 ms and queues again at
once. Units as `cargo bench --bench cost` counts them.";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |text: &str| text.parse().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["held", locks, over_ms, watch_ms] => {
            let [over, watch] = [over_ms, watch_ms].map(|ms| Duration::from_millis(number(ms)));
            println!("{}", held(locks.parse().unwrap(), over, watch));
        }
        ["waiting", waiters] => println!("{}", waiting(waiters.parse().unwrap())),
        _ => measure_all(&support::options()),
    }
}

fn measure_all(options: &support::Options) {
    let some = |all: &'static [usize]| if options.measure { all } else { &all[..1] };
    let [beat, watch] = match options.measure {
        true => [HEARTBEAT, WATCHED],
        false => [HEARTBEAT, WATCHED].map(|long| long / 10),
    };

    // They do not disturb each other: together they take a small part of one core.
    let mut clients = Vec::new();
    for over in [Duration::ZERO, beat] {
        for locks in some(&[1, 10, 100, 1_000, 10_000]) {
            let [over_ms, watch_ms] = [over, watch].map(|time| time.as_millis().to_string());
            clients.push(start(&["held", &locks.to_string(), &over_ms, &watch_ms]));
        }
    }
    let rows: Vec<_> = clients.into_iter().map(finish).collect();
    let columns = [
        ("locks", "locks held", 0),
        ("taken_over_s", "taken over s", 0),
        ("renewals_per_s", "renewals/s", 1),
        ("renewals_per_lock_s", "renewals/s and lock", 3),
        ("cpu_us_per_lock_s", "CPU µs/s and lock", 2),
        ("threads", "threads", 0),
        ("heap_bytes_per_lock", "heap B a lock", 0),
        ("resident_bytes_per_lock", "resident B a lock", 0),
    ];
    report::print(options.json, &rows, &columns, HELD_NOTES);

    let clients = some(&[1, 10, 100, 1_000]).iter();
    let rows: Vec<_> = clients
        .map(|waiters| finish(start(&["waiting", &waiters.to_string()])))
        .collect();
    let columns = [
        ("waiters", "waiters of one client", 0),
        ("heap_bytes_per_waiter", "heap B a waiter", 0),
        ("resident_bytes_per_waiter", "resident B a waiter", 0),
    ];
    report::print(options.json, &rows, &columns, WAITING_NOTES);

    let waiters = some(&[1, 10, 100, 1_000]).iter();
    let mut rows: Vec<_> = waiters
        .map(|waiters| crowd::cost_with_waiters(*waiters))
        .collect();
    for row in &mut rows {
        for total in ["writes", "reads"] {
            let each = row[total].as_f64().unwrap() / row["acquisitions"].as_f64().unwrap();
            row[format!("{total}_per_acquisition")] = each.into();
        }
    }
    let columns = [
        ("waiters", "waiters of as many clients", 0),
        ("writes_per_acquisition", "write units a grant", 2),
        ("reads_per_acquisition", "read units a grant", 2),
        ("ms_per_grant", "ms a grant", 1),
    ];
    report::print(options.json, &rows, &columns, CROWD_NOTES);
}

/// Has a case measured by a process of its own.
fn start(case: &[&str]) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(case)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(client: Child) -> Value {
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A client that takes `locks` locks one after another over the time `over`, and holds
/// them for `watch`.
fn held(locks: usize, over: Duration, watch: Duration) -> Value {
    let store = Echo::new(RENEWAL);
    let client = LockClient::builder().build(store.clone()).unwrap();
    let mut guards = Vec::with_capacity(locks);
    let before = Memory::now();
    let began = Instant::now();
    for n in 0..locks {
        let due = began + over.mul_f64(n as f64 / locks as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        guards.push(client.acquire(&format!("lock {n}")).unwrap());
    }
    // Those that fall due together do so away from the edges of what is watched.
    thread::sleep(HEARTBEAT / 2);
    let (renewals, busy) = (store.renewals(), busy());
    let until = Instant::now() + watch;
    let mut threads = None;
    while Instant::now() < until {
        // This one is not the client's.
        threads = threads.max(status("Threads:").map(|threads| threads - 1));
        thread::sleep(GLANCE);
    }
    let renewals = (store.renewals() - renewals) as f64 / watch.as_secs_f64();
    let busy = (self::busy() - busy).as_secs_f64() / watch.as_secs_f64();
    let (heap, resident) = before.growth(locks);
    drop(guards);
    json!({
        "case": format!("{locks} locks held, taken over {over:?}"),
        "virtual": false,
        "locks": locks,
        "taken_over_s": over.as_secs_f64(),
        "renewals_per_s": renewals,
        "renewals_per_lock_s": renewals / locks as f64,
        "cpu_us_per_lock_s": busy * 1e6 / locks as f64,
        "threads": threads,
        "heap_bytes_per_lock": heap,
        "resident_bytes_per_lock": resident,
    })
}

/// A client of which `waiters` threads wait for a lock.
fn waiting(waiters: usize) -> Value {
    let (client, joins) = announcing(LockClient::builder(), MemoryStore::new());
    let guard = client.acquire("lock").unwrap();
    let start = Barrier::new(waiters + 1);
    let (heap, resident) = thread::scope(|scope| {
        for _ in 0..waiters {
            scope.spawn(|| {
                start.wait();
                drop(client.acquire("lock"));
            });
        }
        // Their own stacks and handles are there before.
        thread::sleep(SETTLED);
        let before = Memory::now();
        start.wait();
        for _ in 0..waiters {
            joins.recv_timeout(DEADLINE).unwrap();
        }
        thread::sleep(SETTLED);
        let growth = before.growth(waiters);
        client.close();
        growth
    });
    guard.release().unwrap();
    json!({
        "case": format!("{waiters} waiters of one client"),
        "virtual": false,
        "waiters": waiters,
        "heap_bytes_per_waiter": heap,
        "resident_bytes_per_waiter": resident,
    })
}

/// How much memory this process has at some moment.
struct Memory {
    heap: usize,
    resident: Option<u64>,
}

impl Memory {
    fn now() -> Self {
        let stats = HEAP.stats();
        Self {
            heap: stats.bytes_allocated - stats.bytes_deallocated,
            resident: status("VmRSS:").map(|kilobytes| kilobytes * 1_024),
        }
    }

    /// By how many bytes it has grown, of the heap and resident, for each of so many.
    fn growth(&self, shares: usize) -> (f64, Option<f64>) {
        let now = Self::now();
        let share = |now: f64, then: f64| (now - then) / shares as f64;
        let resident = now.resident.zip(self.resident);
        (
            share(now.heap as f64, self.heap as f64),
            resident.map(|(now, then)| share(now as f64, then as f64)),
        )
    }
}

/// The processor time that the other threads of this process took so far.
fn busy() -> Duration {
    let [own, all] = [ClockId::ThreadCPUTime, ClockId::ProcessCPUTime]
        .map(|clock| Duration::try_from(clock_gettime(clock)).unwrap());
    all - own
}

/// What Linux says about this process.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
