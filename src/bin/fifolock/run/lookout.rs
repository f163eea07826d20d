//! Now and then, who holds the lock: for somebody who watches the terminal.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use dynamodb_fifo_lock::protocol::Consistency;
use dynamodb_fifo_lock::record::LockRecord;
use dynamodb_fifo_lock::{LockName, LockStore, StoreError};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// After the store asked for fewer requests.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// Looks on a thread of its own, so that a store that hangs holds up nobody.
///
/// One eventually consistent read of the record, half a read unit. It shows all that is
/// wanted; `LockClient::inspect` would read the rows of all waiters too, and each of them
/// may have somebody who watches.
pub(super) struct Lookout {
    ask: Sender<()>,
    pub(super) seen: Receiver<Result<Option<LockRecord>, StoreError>>,
    next: Instant,
}

impl Lookout {
    /// `None` if there can be no thread: then nobody is shown.
    pub(super) fn start(
        store: Arc<dyn LockStore>,
        lock: LockName,
        within: Duration,
    ) -> Option<Self> {
        let (ask, asked) = bounded(1);
        let (show, seen) = bounded(1);
        let look = move || {
            while asked.recv().is_ok() {
                let record = store.read(&lock, Consistency::Eventual, within);
                if show.send(record).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("fifolock-lookout".into())
            .spawn(look)
            .ok()?;
        Some(Self {
            ask,
            seen,
            next: Instant::now(),
        })
    }

    /// Has a look taken if it is time for one.
    pub(super) fn glance(&mut self) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + PAUSE;
            // If the last one is still under way, that is enough.
            let _ = self.ask.try_send(());
        }
    }

    /// Leaves the store in peace for a while.
    pub(super) fn hold_back(&mut self) {
        self.next = Instant::now() + LONG_PAUSE;
    }
}
