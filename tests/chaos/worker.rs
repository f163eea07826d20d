//! What a worker process does: takes turns at the lock, and writes to the ledger
//! while it has one.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use dynamodb_fifo_lock::{Error, Event, LockClient, LockGuard};
use parking_lot::Mutex;
use rand::seq::IndexedRandom;
use rustix::process::getppid;
use serde_json::Value;

use crate::book::OF_PARENT;
use crate::common::Wire;

/// Tells a process of this binary that it is a worker, and how to be one.
pub(crate) const ORDERS: &str = "FIFOLOCK_CHAOS_WORKER";

/// Between two writes of a holder.
const PACE: Duration = Duration::from_millis(5);

/// No wait of a worker is longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many turns a forked process has.
pub(crate) const TURNS_OF_A_CHILD: usize = 2;

/// No forked process lives longer.
const CHILDHOOD: Duration = Duration::from_secs(90);

/// The connection to the ledger. A worker does not outlive it.
struct Line {
    writer: Arc<Mutex<TcpStream>>,
    reader: BufReader<TcpStream>,
}

impl Line {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|_| exit(3));
        stream.set_nodelay(true).unwrap();
        Self {
            writer: Arc::new(Mutex::new(stream.try_clone().unwrap())),
            reader: BufReader::new(stream),
        }
    }

    fn say(&self, words: &str) {
        say(&self.writer, words);
    }

    fn ask(&mut self, words: &str) -> String {
        self.say(words);
        let mut answer = String::new();
        match self.reader.read_line(&mut answer) {
            Ok(1..) => answer.trim_end().to_owned(),
            _ => exit(0),
        }
    }
}

fn say(writer: &Mutex<TcpStream>, words: &str) {
    let words = format!("{words}\n");
    if writer.lock().write_all(words.as_bytes()).is_err() {
        exit(0);
    }
}

/// What a worker is told.
struct Orders(Value);

impl Orders {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.0[name].as_u64().unwrap())
    }

    /// A client for the worker of this name, and its connection to the ledger.
    fn start(&self, name: &str) -> (LockClient, Line) {
        let line = Line::to(self.text("ledger"));
        line.say(&format!("hello {name}"));
        let news = Arc::clone(&line.writer);
        let client = LockClient::builder()
            .owner(name)
            .lease(self.millis("lease_ms"))
            .request_timeout(self.millis("request_ms"))
            .presence(Duration::from_secs(6))
            .observer(move |event: &Event<'_>| match event {
                Event::Enqueued { ticket, .. } => say(&news, &format!("joined {ticket}")),
                Event::PassedOver { ticket, .. } => say(&news, &format!("passed {ticket}")),
                _ => {}
            })
            .build(
                Wire::named(self.text("wire")).store_at(self.text("endpoint"), self.text("table")),
            )
            .unwrap();
        (client, line)
    }

    /// Asks for the lock as impatiently as it was told. `None` if it waits no longer.
    fn acquire(&self, client: &LockClient) -> Result<Option<LockGuard>, Error> {
        let lock = self.text("lock");
        let limits = self.0["patience_ms"].as_array().into_iter().flatten();
        let limits: Vec<_> = limits.filter_map(Value::as_u64).collect();
        let Some(limit) = limits.choose(&mut rand::rng()) else {
            return client.acquire_timeout(lock, PATIENCE).map(Some);
        };
        if *limit == 0 {
            return client.try_acquire(lock);
        }
        match client.acquire_timeout(lock, Duration::from_millis(*limit)) {
            Err(Error::AcquireTimeout { .. }) => Ok(None),
            result => result.map(Some),
        }
    }
}

pub(crate) fn work(orders: &str) {
    let orders = Orders(serde_json::from_str(orders).unwrap());
    let (client, mut line) = orders.start(orders.text("name"));
    loop {
        line.say("asks");
        let began = Instant::now();
        let report = match orders.acquire(&client) {
            Ok(Some(guard)) => hold(&mut line, &orders, &client, guard),
            Ok(None) => {
                thread::sleep(PACE);
                "gave up".into()
            }
            Err(error) => {
                thread::sleep(PACE);
                format!("failed {error}, after {:.1?}", began.elapsed())
            }
        };
        if line.ask(&report) == "bye" {
            return;
        }
    }
}

/// Writes for as long as the ledger wants more. Like anybody who looks at the guard too
/// rarely it writes once more when the guard is lost; and once more after it was told
/// that somebody newer has written, to see what the guard says by then.
fn hold(line: &mut Line, orders: &Orders, client: &LockClient, guard: LockGuard) -> String {
    let token = guard.fencing_token();
    let mut was_stale = false;
    loop {
        let told = guard.lost().try_recv() == Err(TryRecvError::Disconnected);
        let held = guard.is_held();
        if told && held {
            line.say("wrong: the channel says that the lock is lost, the guard that it is held");
        }
        let words = if held { "held" } else { "lost" };
        let answer = line.ask(&format!("write {token} {words}"));
        if let Some(children) = answer.strip_prefix("fork ") {
            for _ in 0..children.parse().unwrap_or(0) {
                if matches!(fork::fork(), Ok(fork::Fork::Child)) {
                    be_a_child(orders, client.clone(), guard);
                }
            }
            continue;
        }
        let stale = answer == "stale";
        if !held || was_stale || (answer != "more" && !stale) {
            break;
        }
        was_stale = stale;
        thread::sleep(PACE);
    }
    match guard.release() {
        Ok(()) => format!("released {token}"),
        Err(error @ Error::Lost { .. }) => format!("ended {token} {error}"),
        Err(error) => format!("unreleased {token} {error}"),
    }
}

/// A process that was forked from a holder: has a copy of its guard and its client, which
/// must not be worth anything, and a client of its own, which has to be as good as any.
fn be_a_child(orders: &Orders, inherited: LockClient, guard: LockGuard) -> ! {
    // A copy of a lock in memory may be locked for ever: it is not waited for so long. And
    // who kills the parent, and so takes its connection away, is rid of its children too.
    let (born, parent) = (Instant::now(), getppid());
    thread::spawn(move || {
        while born.elapsed() < CHILDHOOD && getppid() == parent {
            thread::sleep(PACE);
        }
        std::process::abort()
    });
    // Parents have a number for each of their children, and know it; they do not.
    let name = format!("{}{OF_PARENT}{}", orders.text("name"), std::process::id());
    let (client, mut line) = orders.start(&name);
    let words = if guard.is_held() { "held" } else { "lost" };
    line.say(&format!("inherits {} {words}", guard.fencing_token()));
    // Nor does it give back what it has not got.
    drop(guard);
    if let Ok(Some(stray)) = inherited.try_acquire(orders.text("lock")) {
        let token = stray.fencing_token();
        line.say(&format!("wrong: a client was of use after a fork: {token}"));
    }
    drop(inherited);
    for _ in 0..TURNS_OF_A_CHILD {
        line.say("asks");
        let report = match client.acquire_timeout(orders.text("lock"), PATIENCE) {
            Ok(guard) => hold(&mut line, orders, &client, guard),
            Err(_) => break,
        };
        line.ask(&report);
    }
    exit(0)
}
