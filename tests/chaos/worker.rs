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
use serde_json::Value;

use crate::common::Wire;

/// Tells a process of this binary that it is a worker, and how to be one.
pub(crate) const ORDERS: &str = "FIFOLOCK_CHAOS_WORKER";

/// Between two writes of a holder.
const PACE: Duration = Duration::from_millis(5);

/// No wait of a worker is longer.
const PATIENCE: Duration = Duration::from_secs(120);

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

pub(crate) fn work(orders: &str) {
    let orders: Value = serde_json::from_str(orders).unwrap();
    let text = |name: &str| orders[name].as_str().unwrap();
    let millis = |name: &str| Duration::from_millis(orders[name].as_u64().unwrap());
    let mut line = Line::to(text("ledger"));
    line.say(&format!("hello {}", text("name")));
    let news = Arc::clone(&line.writer);
    let client = LockClient::builder()
        .owner(text("name"))
        .lease(millis("lease_ms"))
        .request_timeout(millis("request_ms"))
        .presence(Duration::from_secs(6))
        .observer(move |event: &Event<'_>| match event {
            Event::Enqueued { ticket, .. } => say(&news, &format!("joined {ticket}")),
            Event::PassedOver { ticket, .. } => say(&news, &format!("passed {ticket}")),
            _ => {}
        })
        .build(Wire::named(text("wire")).store_at(text("endpoint"), text("table")))
        .unwrap();
    loop {
        line.say("asks");
        let began = Instant::now();
        let report = match client.acquire_timeout(text("lock"), PATIENCE) {
            Ok(guard) => hold(&mut line, guard),
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
fn hold(line: &mut Line, guard: LockGuard) -> String {
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
