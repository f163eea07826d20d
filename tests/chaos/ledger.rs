//! The resource that the lock protects: workers write to it over TCP, with their
//! tokens. It refuses a token that is older than the newest it has seen.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::book::{Book, Reply};

pub(crate) struct Ledger {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

impl Ledger {
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            book: Mutex::new(Book::new(Instant::now())),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.book.lock().closed {
                    return;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock()
    }

    /// Changes what the workers are to do.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book());
        self.shared.changed.notify_all();
    }

    /// Waits until the book says so. Returns whether it does, and for how long that
    /// took.
    pub(crate) fn wait(
        &self,
        within: Duration,
        mut condition: impl FnMut(&Book) -> bool,
    ) -> (bool, Duration) {
        let began = Instant::now();
        let mut book = self.book();
        loop {
            if condition(&book) {
                return (true, began.elapsed());
            }
            if self
                .shared
                .changed
                .wait_until(&mut book, began + within)
                .timed_out()
            {
                return (condition(&book), began.elapsed());
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.tell(|book| book.closed = true);
        let _ = TcpStream::connect(self.address);
    }
}

/// Listens to one worker for as long as it lives.
fn serve(shared: &Shared, stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let hello = lines.next()?.ok()?;
    let worker = hello.strip_prefix("hello ")?;
    shared.book.lock().adopt(worker, Instant::now());
    for line in lines {
        let line = line.ok()?;
        let mut book = shared.book.lock();
        let mut reply = book.hear(worker, &line, Instant::now());
        shared.changed.notify_all();
        while reply == Reply::Again && book.rest && !book.closed {
            shared.changed.wait(&mut book);
            if book.account(worker).finish {
                book.account_mut(worker).finished = true;
                reply = Reply::Bye;
            }
        }
        drop(book);
        if reply != Reply::Nothing {
            writer
                .write_all(format!("{}\n", reply.word()).as_bytes())
                .ok()?;
        }
    }
    Some(())
}
