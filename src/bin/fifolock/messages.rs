//! Standard error, written by a thread of its own.
//!
//! A pipe that is full, or a terminal after Ctrl-S, blocks the process that writes to
//! it for as long as it likes. `fifolock run` has a command to stop in time, so only
//! this thread may block: what it cannot write in time is dropped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal::SIGTTOU};
use parking_lot::{Condvar, Mutex};

/// How many entries may wait to be written. Later ones are dropped.
const LONGEST_QUEUE: usize = 100;

/// How long this process waits, when it ends, for its last messages to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

static WRITER: OnceLock<Writer> = OnceLock::new();

enum Entry {
    Message(Vec<u8>),
    /// A redrawn line. It replaces one that still waits to be written.
    Frame(Vec<u8>),
}

#[derive(Default)]
struct Writer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Whether an entry is being written.
    busy: bool,
}

/// Starts the thread. Messages are written directly until then.
pub(crate) fn start() -> io::Result<()> {
    if WRITER.get().is_some() {
        return Ok(());
    }
    // Not through `io::stderr`: its lock would pass a block on to a panic's message.
    let mut output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    thread::Builder::new()
        .name("fifolock-stderr".into())
        .spawn(move || {
            // Else a terminal set to `tostop` stops the whole process when it writes
            // from the background, which it does while the command has the terminal.
            let _ = SigSet::from(SIGTTOU).thread_block();
            WRITER.get_or_init(Writer::default).run(&mut output);
        })?;
    WRITER.get_or_init(Writer::default);
    Ok(())
}

/// Takes a message over; `false` if the thread was not started.
pub(crate) fn send(message: Vec<u8>) -> bool {
    push(Entry::Message(message))
}

/// Takes a redrawn line over.
pub(crate) fn draw(frame: Vec<u8>) {
    push(Entry::Frame(frame));
}

/// Waits until everything is written, for no longer than `bound`.
pub(crate) fn flush(bound: Duration) {
    if let Some(writer) = WRITER.get() {
        writer.flush(bound);
    }
}

/// Waits for the last messages before the process ends.
pub(crate) fn finish() {
    flush(LAST_WORDS);
}

fn push(entry: Entry) -> bool {
    let Some(writer) = WRITER.get() else {
        return false;
    };
    writer.queue.lock().push(entry);
    writer.changed.notify_all();
    true
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        if let (Entry::Frame(_), Some(Entry::Frame(_))) = (&entry, self.entries.back()) {
            self.entries.pop_back();
        }
        if self.entries.len() < LONGEST_QUEUE {
            self.entries.push_back(entry);
        }
    }
}

impl Writer {
    fn run(&self, output: &mut impl Write) {
        let mut queue = self.queue.lock();
        loop {
            let Some(entry) = queue.entries.pop_front() else {
                queue.busy = false;
                self.changed.notify_all();
                self.changed.wait(&mut queue);
                continue;
            };
            queue.busy = true;
            drop(queue);
            let (Entry::Message(text) | Entry::Frame(text)) = entry;
            // A reader that is gone is no reason to fail.
            let _ = output.write_all(&text);
            queue = self.queue.lock();
        }
    }

    fn flush(&self, bound: Duration) {
        let until = Instant::now() + bound;
        let mut queue = self.queue.lock();
        while queue.busy || !queue.entries.is_empty() {
            if self.changed.wait_until(&mut queue, until).timed_out() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Entry {
        Entry::Frame(text.into())
    }

    #[test]
    fn only_the_newest_frame_waits_and_the_queue_is_bounded() {
        let mut queue = Queue::default();
        for _ in 0..2 * LONGEST_QUEUE {
            queue.push(frame("old"));
        }
        queue.push(frame("new"));
        assert_eq!(queue.entries.len(), 1);
        assert!(matches!(&queue.entries[0], Entry::Frame(text) if text == b"new"));
        for _ in 0..2 * LONGEST_QUEUE {
            queue.push(Entry::Message(b"message".to_vec()));
        }
        assert_eq!(queue.entries.len(), LONGEST_QUEUE);
    }
}
