//! What a client, its guards and its threads have in common.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::clock::SharedClock;
use crate::event::{Event, Observer};
use crate::lease::Never;
use crate::options::Settings;
use crate::protocol::Now;
use crate::store::LockStore;

pub(crate) struct Core {
    pub(crate) store: Arc<dyn LockStore>,
    pub(crate) clock: SharedClock,
    pub(crate) settings: Settings,
    pub(crate) observer: Arc<dyn Observer>,
    open: Mutex<Option<Sender<Never>>>,
    closed: Receiver<Never>,
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn LockStore>,
        clock: SharedClock,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (open, closed) = bounded(0);
        Self {
            store,
            clock,
            settings,
            observer,
            open: Mutex::new(Some(open)),
            closed,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            moment: self.clock.now(),
            wall_ms: self.clock.wall_ms(),
            dice: rand::random(),
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
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

    pub(crate) fn is_closed(&self) -> bool {
        self.open.lock().is_none()
    }
}
