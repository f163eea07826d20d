//! What an acquisition costs: requests, write units and read units, counted between the
//! client and the server.
//!
//! ```text
//! cargo bench --bench cost                                    # embedded server
//! DYNAMODB_ENDPOINT=http://localhost:8000 cargo bench --bench cost
//! cargo bench --bench cost -- --json                          # one object a line: totals
//! ```

#[path = "support/crowd.rs"]
mod crowd;
mod support;

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::record::Holder;
use dynamodb_fifo_lock::{HolderId, LockClient, LockName, LockStore, Ticket};
use serde_json::{Value, json};

use support::common::proxy::{Cost, Fault, Proxy};
use support::common::turns::take_turns;
use support::common::{DEADLINE, Table, announcing, store_at, unique};

/// How long the dead holder's lease is.
const LEASE: Duration = Duration::from_secs(3);

/// A waiter's row is deleted by another thread: by now it has done that.
const SETTLED: Duration = Duration::from_millis(500);

const NOTES: &str = "\
Write unit: one for each write that is asked for, refused ones included (rows are below 1 KB).
Read unit: 1 for a consistent read, 0.5 for another (rows are below 4 KB), 1 for a Query.
All contending clients hold the lock for 20 ms. Counted are the requests of the clients
named; of those who wait for 30 s or for the dead holder's lease of 3 s, not the holder's.
Virtual: the protocol's own state machines in virtual time, a round trip of 5 ms.";

fn main() {
    let options = support::options();
    let measure = options.measure;
    let table = &support::table();
    let wait = Duration::from_secs(if measure { 30 } else { 1 });
    let crowds: &[usize] = if measure { &[2, 8, 32] } else { &[2] };
    let turns = if measure { 120 } else { 5 };
    let waiters: &[usize] = if measure { &[1, 100, 1_000] } else { &[1] };

    // The long waits are idle and pass beside the others.
    let mut rows = thread::scope(|scope| {
        let long_wait = scope.spawn(|| long_wait(table, wait));
        let dead_holder = scope.spawn(|| dead_holder(table));
        let mut rows = vec![uncontended(table)];
        rows.extend(crowds.iter().map(|clients| {
            let case = format!("{clients} clients contend");
            contended(table, &case, *clients, *clients, turns)
        }));
        rows.push(contended(table, "8 threads of one client", 1, 8, turns));
        rows.extend([long_wait, dead_holder].map(|case| case.join().unwrap()));
        rows
    });
    rows.extend(
        waiters
            .iter()
            .map(|waiters| crowd::cost_with_waiters(*waiters)),
    );

    for row in &mut rows {
        for total in ["writes", "reads", "requests"] {
            let each = row[total].as_f64().unwrap() / row["acquisitions"].as_f64().unwrap();
            row[format!("{total}_per_acquisition")] = each.into();
        }
    }
    let columns = [
        ("case", "case", 0),
        ("acquisitions", "acquisitions", 0),
        ("writes_per_acquisition", "write units each", 2),
        ("reads_per_acquisition", "read units each", 2),
        ("requests_per_acquisition", "requests each", 2),
        ("virtual", "virtual", 0),
    ];
    let notes = format!("{NOTES}\nReal: {}.", table.name);
    support::report::print(options.json, &rows, &columns, &notes);
}

fn row(case: &str, acquisitions: usize, cost: Cost) -> Value {
    json!({
        "case": case,
        "virtual": false,
        "acquisitions": acquisitions,
        "requests": cost.requests,
        "writes": cost.writes,
        "reads": cost.reads,
    })
}

/// Counts what goes to the table, and a client that goes there through it.
fn counted(table: &Table) -> (Proxy, LockClient) {
    let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
    let store = store_at(&proxy.endpoint, &table.table);
    let client = LockClient::builder().build(store).unwrap();
    (proxy, client)
}

fn uncontended(table: &Table) -> Value {
    const TIMES: usize = 100;
    let (proxy, client) = counted(table);
    let lock = unique("uncontended");
    for _ in 0..TIMES {
        client.acquire(&lock).unwrap().release().unwrap();
    }
    row("uncontended", TIMES, proxy.take_cost())
}

fn contended(table: &Table, case: &str, clients: usize, threads: usize, turns: usize) -> Value {
    let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
    let store = || store_at(&proxy.endpoint, &table.table);
    let clients: Vec<_> = (0..clients)
        .map(|_| LockClient::builder().build(store()).unwrap())
        .collect();
    row(case, turns, take_turns(&clients, threads, turns, &proxy))
}

/// One who waits for `wait`, while somebody else holds the lock.
fn long_wait(table: &Table, wait: Duration) -> Value {
    let lock = unique("long");
    let holder = LockClient::builder().build(table.store()).unwrap();
    let guard = holder.acquire(&lock).unwrap();
    let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
    let store = store_at(&proxy.endpoint, &table.table);
    let (client, joins) = announcing(LockClient::builder(), store);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.acquire(&lock).unwrap());
        joins.recv_timeout(DEADLINE).unwrap();
        thread::sleep(wait);
        guard.release().unwrap();
        waiting.join().unwrap().release().unwrap();
    });
    thread::sleep(SETTLED);
    row(
        &format!("a wait of {} s", wait.as_secs()),
        1,
        proxy.take_cost(),
    )
}

/// Some who each come to a lock whose holder has vanished just then.
fn dead_holder(table: &Table) -> Value {
    const LOCKS: usize = 4;
    let (proxy, _) = counted(table);
    thread::scope(|scope| {
        for _ in 0..LOCKS {
            scope.spawn(|| {
                let lock = unique("dead");
                // Nobody renews what no client has taken.
                let name = LockName::new(&lock).unwrap();
                let taken = table.store().write(&name, &take_by_the_dead(), DEADLINE);
                assert!(taken.unwrap().applied().is_some());
                let store = store_at(&proxy.endpoint, &table.table);
                let heir = LockClient::builder().lease(LEASE).build(store).unwrap();
                heir.acquire(&lock).unwrap().release().unwrap();
                thread::sleep(SETTLED);
            });
        }
    });
    row("a dead holder", LOCKS, proxy.take_cost())
}

fn take_by_the_dead() -> Write {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = u64::try_from(now.as_millis()).unwrap();
    Write::Try {
        holder: Holder {
            id: HolderId::random().unwrap(),
            lease: LEASE,
            owner: "the dead".into(),
            since_ms: now_ms,
            renewed_at_ms: now_ms,
            data: None,
        },
        start: Ticket::new(now_ms),
        grace: Duration::from_secs(1),
    }
}
