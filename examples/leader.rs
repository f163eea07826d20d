//! Leader election: whoever has the lock leads, for as long as the guard is held.
//!
//! ```text
//! cargo run --example leader
//! ```
//!
//! Three processes stand for election. The first leader is deposed by an operator and
//! hears of it through `lost()`; the second is killed; a third takes over. Ends with a
//! failure if nobody does, or if terms are not in order.

#[path = "support/embedded.rs"]
mod embedded;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use crossbeam_channel::{Receiver, Sender, never, select, unbounded};
use dynamodb_fifo_lock::{
    AccessKeys, AcquireOptions, Credentials, DynamoDbStore, Error, FencingToken, LockClient,
    LockGuard,
};

const ELECTION: &str = "scheduler/leader";
const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(12);

fn client(name: &str, endpoint: &str, table: &str) -> anyhow::Result<LockClient> {
    let store = DynamoDbStore::builder(table)
        .region("us-east-1")
        .endpoint(endpoint)
        .credentials(Credentials::fixed(AccessKeys::new("test", "test")))
        .build()?;
    store.create_table()?;
    Ok(LockClient::builder()
        .owner(name)
        .lease(LEASE)
        .build(store)?)
}

/// One candidate.
struct Leader {
    client: LockClient,
    /// Closes when the program is to end.
    stop: Receiver<()>,
}

impl Leader {
    /// Stands for election again and again until the program ends. `lead` is one term:
    /// it has to return soon after `lost()` has closed, and sends the guard's token
    /// along with whatever it writes.
    fn stand(&self, mut lead: impl FnMut(&LockGuard)) -> Result<(), Error> {
        loop {
            let options = AcquireOptions::new().cancel(self.stop.clone());
            match self.client.acquire_with(ELECTION, options) {
                // The end of the term releases the lock, if it is still ours.
                Ok(guard) => lead(&guard),
                Err(Error::Cancelled { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// One of the other processes: says when it leads and when it no longer does.
fn candidate(name: &str, endpoint: &str, table: &str) -> anyhow::Result<()> {
    let leader = Leader {
        client: client(name, endpoint, table)?,
        stop: never(),
    };
    leader.stand(|guard| {
        println!("{name} leads {}", guard.fencing_token());
        select! {
            recv(guard.lost()) -> _ => println!("{name} is-deposed {}", guard.fencing_token()),
            recv(leader.stop) -> _ => {}
            // The work of a leader would be a third arm, a step at a time.
        }
    })?;
    Ok(())
}

/// Starts a candidate, and passes on what it says.
fn start(name: &str, endpoint: &str, table: &str, tell: Sender<String>) -> anyhow::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([name, endpoint, table])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("no output to read")?;
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.for_each(|line| drop(tell.send(line)));
    });
    Ok(child)
}

/// Waits for the next leader: its name and its token.
fn next_leader(lines: &Receiver<String>) -> anyhow::Result<(String, FencingToken)> {
    loop {
        let line = lines.recv_timeout(PATIENCE).context("nobody leads")?;
        println!("{line}");
        if let Some((name, token)) = line.split_once(" leads ") {
            return Ok((name.to_owned(), FencingToken::new(token.parse()?)));
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, endpoint, table] = arguments.as_slice() {
        return candidate(name, endpoint, table);
    }
    let server = embedded::Embedded::start()?;
    let endpoint = match std::env::var("DYNAMODB_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => endpoint,
        _ => server.endpoint().to_owned(),
    };
    let table = format!("leader-{:08x}", rand::random::<u32>());
    let operator = client("operator", &endpoint, &table)?;

    let (tell, lines) = unbounded();
    let mut candidates = HashMap::new();
    for name in ["node-1", "node-2", "node-3"] {
        let child = start(name, &endpoint, &table, tell.clone())?;
        candidates.insert(name.to_owned(), child);
    }
    let outcome = watch(&operator, &mut candidates, &lines);
    for child in candidates.values_mut() {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

fn watch(
    operator: &LockClient,
    candidates: &mut HashMap<String, Child>,
    lines: &Receiver<String>,
) -> anyhow::Result<()> {
    let (_, first) = next_leader(lines)?;
    ensure!(operator.break_lock(ELECTION, first)?, "not deposed");
    println!("the operator breaks the lock of token {first}");
    let (name, second) = next_leader(lines)?;
    ensure!(second > first, "token {second} after token {first}");

    // Long enough that its heartbeat has begun.
    thread::sleep(LEASE);
    candidates.get_mut(&name).context("a stranger")?.kill()?;
    let killed = Instant::now();
    println!("{name} is killed");
    let (successor, third) = next_leader(lines)?;
    ensure!(third > second && successor != name, "no other leader");
    let waited = killed.elapsed().as_secs_f64();
    println!("ok: a new leader {waited:.1} s after the kill, with a lease of {LEASE:?}");
    Ok(())
}
