//! Shows the lock at work, in about ten seconds:
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Several processes contend for one lock in a DynamoDB that runs inside this
//! one; or, if `DYNAMODB_ENDPOINT` is set, in the one at that address. Ends with
//! a failure if order, exclusion or tokens are not what they should be.

#[path = "support/embedded.rs"]
mod embedded;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, unbounded};
use dynamodb_fifo_lock::{AccessKeys, Credentials, DynamoDbStore, Event, FencingToken, LockClient};

const LOCK: &str = "invoices/2026-11";
const WORKERS: usize = 4;
const LEASE: Duration = Duration::from_secs(2);

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => show(),
        [role, endpoint, table] => work(role, endpoint, table),
        _ => bail!("run it without arguments"),
    }
}

fn client(name: &str, endpoint: &str, table: &str) -> anyhow::Result<LockClient> {
    let store = DynamoDbStore::builder(table)
        .region("us-east-1")
        .endpoint(endpoint)
        .credentials(Credentials::fixed(AccessKeys::new("test", "test")))
        .build()?;
    // What is printed here is what the first process reads.
    Ok(LockClient::builder()
        .owner(name)
        .lease(LEASE)
        .observer(|event: &Event<'_>| {
            if let Event::Enqueued { ticket, .. } = event {
                println!("asked {ticket}");
            }
        })
        .build(store)?)
}

/// One of the other processes.
fn work(role: &str, endpoint: &str, table: &str) -> anyhow::Result<()> {
    let client = client(role, endpoint, table)?;
    let guard = client.acquire_timeout(LOCK, PATIENCE)?;
    println!("granted {}", guard.fencing_token());
    if role == "crasher" {
        // No destructor runs, nothing is released.
        std::process::abort();
    }
    // Only one process at a time can have created this file.
    let inside = std::env::temp_dir().join(table);
    if std::fs::File::create_new(&inside).is_err() {
        println!("overlap {}", guard.fencing_token());
        bail!("somebody else is inside");
    }
    thread::sleep(Duration::from_millis(200));
    std::fs::remove_file(&inside)?;
    guard.ensure_held()?;
    println!("done {}", guard.fencing_token());
    guard.release()?;
    Ok(())
}

/// The resource that the lock protects: it refuses a token that is older than
/// the newest it has seen.
#[derive(Default)]
struct Ledger {
    newest: Option<FencingToken>,
}

impl Ledger {
    fn write(&mut self, token: FencingToken) -> bool {
        let accepted = self.newest.is_none_or(|newest| token >= newest);
        if accepted {
            self.newest = Some(token);
        }
        accepted
    }
}

/// What a worker said, and which one.
struct Line {
    worker: String,
    word: String,
    ticket: u64,
}

/// The other processes, and what they say.
struct Workers {
    endpoint: String,
    table: String,
    children: Vec<Child>,
    lines: Receiver<Line>,
    tell: crossbeam_channel::Sender<Line>,
}

impl Workers {
    fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([name, &self.endpoint, &self.table])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start another process")?;
        let output = child.stdout.take().context("no output to read")?;
        self.children.push(child);
        let (tell, worker) = (self.tell.clone(), name.to_owned());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((word, ticket)) = line.split_once(' ')
                    && let Ok(ticket) = ticket.parse()
                {
                    let (worker, word) = (worker.clone(), word.to_owned());
                    let _ = tell.send(Line {
                        worker,
                        word,
                        ticket,
                    });
                }
            }
        });
        Ok(())
    }

    fn expect(&self, what: &str) -> anyhow::Result<Line> {
        self.lines
            .recv_timeout(PATIENCE)
            .with_context(|| format!("nobody {what} in time"))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn show() -> anyhow::Result<()> {
    let began = Instant::now();
    let named = std::env::var("DYNAMODB_ENDPOINT").ok();
    let (_server, endpoint) = match named.filter(|endpoint| !endpoint.is_empty()) {
        Some(endpoint) => (None, endpoint),
        None => {
            let server = embedded::Embedded::start()?;
            let endpoint = server.endpoint().to_owned();
            (Some(server), endpoint)
        }
    };
    let table = format!("quickstart-{:08x}", rand::random::<u32>());
    println!("table {table} at {endpoint}");
    DynamoDbStore::builder(&table)
        .region("us-east-1")
        .endpoint(&endpoint)
        .credentials(Credentials::fixed(AccessKeys::new("test", "test")))
        .build()?
        .create_table()?;

    let (tell, lines) = unbounded();
    let mut workers = Workers {
        endpoint: endpoint.clone(),
        table: table.clone(),
        children: Vec::new(),
        lines,
        tell,
    };
    let mut ledger = Ledger::default();
    let here = client("this process", &endpoint, &table)?;

    let last = take_turns(&here, &mut workers, &mut ledger)?;
    let waited = survive_a_crash(&here, &mut workers, &mut ledger, last)?;

    println!();
    println!(
        "ok: {WORKERS} processes were granted the lock in the order of asking, one at a time, \
         with growing tokens;"
    );
    println!(
        "    a crashed holder (lease {LEASE:?}) was gone past after {:.1} s and its late write \
         refused.",
        waited.as_secs_f64()
    );
    println!("    {:.1} s in all", began.elapsed().as_secs_f64());
    Ok(())
}

/// Processes ask one after the other while this one holds, then take turns.
fn take_turns(
    here: &LockClient,
    workers: &mut Workers,
    ledger: &mut Ledger,
) -> anyhow::Result<FencingToken> {
    println!("\n-- first come, first served");
    let guard = here.acquire_timeout(LOCK, PATIENCE)?;
    let mut last = guard.fencing_token();
    println!("this process   holds with token {last}");
    let mut asked = Vec::new();
    for n in 1..=WORKERS {
        workers.start(&format!("worker-{n}"))?;
        let line = workers.expect("asked")?;
        ensure!(line.word == "asked", "{} did not queue", line.worker);
        println!("{:<14} asks, ticket {}", line.worker, line.ticket);
        asked.push(line.worker);
    }
    guard.release()?;
    println!("this process   releases");

    let mut granted = Vec::new();
    let mut finished = 0;
    while finished < WORKERS {
        let line = workers.expect("was granted the lock")?;
        match line.word.as_str() {
            "granted" => {
                let token = FencingToken::new(line.ticket);
                ensure!(token > last, "token {token} after token {last}");
                ensure!(
                    ledger.write(token),
                    "a write with token {token} was refused"
                );
                println!("{:<14} is granted, token {token}", line.worker);
                last = token;
                granted.push(line.worker);
            }
            "done" => finished += 1,
            "overlap" => bail!("{} was not alone", line.worker),
            other => bail!("{} says {other:?} now", line.worker),
        }
    }
    ensure!(granted == asked, "asked {asked:?}, granted {granted:?}");
    Ok(last)
}

/// A process dies while it holds. Its successor waits for the lease to run out;
/// a write that it had on the way is refused.
fn survive_a_crash(
    here: &LockClient,
    workers: &mut Workers,
    ledger: &mut Ledger,
    last: FencingToken,
) -> anyhow::Result<Duration> {
    println!("\n-- a holder crashes");
    workers.start("crasher")?;
    let stale = loop {
        let line = workers.expect("was granted the lock")?;
        if line.word == "granted" {
            break FencingToken::new(line.ticket);
        }
    };
    let crashed = Instant::now();
    ensure!(stale > last, "token {stale} after token {last}");
    ensure!(
        ledger.write(stale),
        "a write with token {stale} was refused"
    );
    println!("crasher        is granted, token {stale}, and dies holding the lock");
    let guard = here.acquire_timeout(LOCK, PATIENCE)?;
    let waited = crashed.elapsed();
    let token = guard.fencing_token();
    println!(
        "this process   takes over after {:.1} s, token {token}",
        waited.as_secs_f64()
    );
    ensure!(token > stale, "token {token} after token {stale}");
    ensure!(
        waited + Duration::from_millis(500) >= LEASE,
        "taken over before the lease was over"
    );
    ensure!(
        ledger.write(token),
        "a write with token {token} was refused"
    );
    println!("this process   writes with token {token}: accepted");
    ensure!(!ledger.write(stale), "a stale write was accepted");
    println!("crasher        had a write on the way, token {stale}: refused");
    guard.release()?;
    Ok(waited)
}
