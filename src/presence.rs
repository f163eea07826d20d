//! One waiter's row, as the waiter and the heartbeat share it.

use parking_lot::Mutex;

use crate::core::Core;
use crate::error::StoreError;
use crate::event::Event;
use crate::protocol::{self, Moment};
use crate::types::LockName;

/// The row of a waiter, which the heartbeat writes and renews for as long as
/// somebody holds on to this, and the waiter goes on as it means to.
pub(crate) struct Presence {
    lock: LockName,
    state: Mutex<protocol::Presence>,
}

impl Presence {
    pub(crate) fn new(lock: LockName, state: protocol::Presence) -> Self {
        Self {
            lock,
            state: Mutex::new(state),
        }
    }

    /// Whether there is a row that counts.
    pub(crate) fn is_announced(&self, now: Moment) -> bool {
        self.state.lock().is_announced(now)
    }

    /// The waiter goes on, and means to do so again by this moment.
    pub(crate) fn expect(&self, by: Moment) {
        self.state.lock().expect(by);
    }

    /// Whether the waiter should have gone on long ago.
    pub(crate) fn is_overdue(&self, now: Moment) -> bool {
        self.state.lock().is_overdue(now)
    }

    /// When the row is to be written next.
    pub(crate) fn next(&self) -> Moment {
        self.state.lock().next()
    }

    /// Writes the row, once. Returns what went wrong, for the observer.
    pub(crate) fn announce(&self, core: &Core) -> Option<StoreError> {
        let sent = core.now();
        let row = {
            let mut state = self.state.lock();
            state.sending(sent.moment);
            state.row(sent)
        };
        let within = core.settings.request_timeout;
        match core.store.announce(&self.lock, &row, within) {
            Ok(true) => {
                self.state.lock().announced(sent.moment);
                None
            }
            // Somebody else's row is in its place. The waiter goes without.
            Ok(false) => {
                self.state.lock().failed(core.now());
                None
            }
            Err(error) => {
                self.state.lock().failed(core.now());
                Some(error)
            }
        }
    }

    /// Deletes the row, if there is one: it is of no use any more. (DynamoDB would
    /// delete it as well, in the end.)
    pub(crate) fn dequeue(&self, core: &Core) {
        let (ticket, id) = {
            let state = self.state.lock();
            (state.ticket(), state.id().clone())
        };
        let within = core.settings.request_timeout;
        if let Err(error) = core.store.dequeue(&self.lock, ticket, &id, within) {
            self.disturbed(core, &error);
        }
    }

    /// Whether there is anything to [`dequeue`](Self::dequeue).
    pub(crate) fn has_row(&self) -> bool {
        self.state.lock().was_announced()
    }

    pub(crate) fn disturbed(&self, core: &Core, error: &StoreError) {
        core.tell(&Event::WaitDisturbed {
            lock: &self.lock,
            error,
        });
    }
}
