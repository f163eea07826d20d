//! What a client, its guards and its threads have in common.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::event::{Event, Observer};
use crate::lease::Never;
use crate::machine::SharedMachine;
use crate::options::Settings;
use crate::process::Process;
use crate::protocol::Now;
use crate::semaphore::Semaphore;
use crate::store::{LockStore, OwnStore};
use crate::trace;

/// So many requests of acquire attempts may be under way at once. Renewals and releases
/// have no part in this: a thousand threads that begin to acquire at once must not cost
/// a holder of the same client its lease.
const MOST_REQUESTS: usize = 32;

pub(crate) struct Core {
    pub(crate) store: Arc<dyn LockStore>,
    pub(crate) machine: SharedMachine,
    pub(crate) settings: Settings,
    pub(crate) observer: Arc<dyn Observer>,
    /// The process that has the client's threads.
    pub(crate) process: Process,
    pub(crate) requests: Arc<Semaphore>,
    open: Mutex<Option<Sender<Never>>>,
    closed: Receiver<Never>,
    /// Closed from the beginning, and never asked in the client's own process: what a guard
    /// shows in a process that was forked from it.
    pub(crate) not_here: Receiver<Never>,
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn LockStore>,
        machine: SharedMachine,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (open, closed) = bounded(0);
        let process = Process::current();
        Self {
            store: Arc::new(OwnStore::new(store, process)),
            machine,
            requests: Semaphore::new(MOST_REQUESTS),
            settings,
            observer,
            process,
            open: Mutex::new(Some(open)),
            closed,
            not_here: bounded(0).1,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            moment: self.machine.now(),
            wall_ms: self.machine.wall_ms(),
            dice: self.machine.dice(),
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        trace::event(event);
        self.observer.on_event(event);
    }

    /// Closes the channel that [`closed`](Self::closed) returns.
    pub(crate) fn close(&self) {
        drop(self.open.lock().take());
    }

    /// Is closed when the client is.
    pub(crate) fn closed(&self) -> &Receiver<Never> {
        &self.closed
    }

    /// Whether this process was forked from the client's own. There none of the client's locks
    /// may be touched: they may be locked for ever, and nobody is at the other end of a channel.
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.open.lock().is_none()
    }
}
