//! Who of a client is about to acquire something: closing waits for them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::machine::Machine;
use crate::types::{FencingToken, LockName};

/// What was not given back when a client was closed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CloseReport {
    /// The locks that are still held, with their tokens. They are released when
    /// their guards are dropped.
    pub held: Vec<(LockName, FencingToken)>,
    /// The queues that a waiter could not leave properly, and why. Its ticket is
    /// passed over once it shows no sign of life.
    pub left_behind: Vec<(LockName, StoreError)>,
    /// How many calls had not ended in time, or not left their queue.
    pub still_leaving: usize,
}

impl CloseReport {
    /// Whether everything was given back.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.held.is_empty() && self.left_behind.is_empty() && self.still_leaving == 0
    }
}

/// Counts the calls that are under way.
pub(crate) struct Attendance {
    state: Mutex<State>,
    one_less: Sender<()>,
    leaving: Receiver<()>,
}

#[derive(Default)]
struct State {
    present: usize,
    left_behind: Vec<(LockName, StoreError)>,
}

impl Default for Attendance {
    fn default() -> Self {
        // One message is enough to wake whoever waits; it then counts for itself.
        let (one_less, leaving) = bounded(1);
        Self {
            state: Mutex::default(),
            one_less,
            leaving,
        }
    }
}

impl Attendance {
    pub(crate) fn enter(self: &Arc<Self>) -> Attending {
        self.state.lock().present += 1;
        Attending(Arc::clone(self))
    }

    /// Waits until nobody is present, for no longer than `limit`. Returns what they
    /// left behind, and how many are still there.
    pub(crate) fn wait_until_empty(
        &self,
        machine: &dyn Machine,
        limit: Duration,
    ) -> (Vec<(LockName, StoreError)>, usize) {
        let until = machine.now().plus(limit);
        loop {
            {
                let mut state = self.state.lock();
                if state.present == 0 || machine.now() >= until {
                    // There may be others who wait for the same.
                    let _ = self.one_less.try_send(());
                    return (std::mem::take(&mut state.left_behind), state.present);
                }
            }
            machine.wait(&[&self.leaving], until);
            let _ = self.leaving.try_recv();
        }
    }
}

/// One call that is under way.
pub(crate) struct Attending(Arc<Attendance>);

impl Attending {
    /// A place in a queue could not be given back.
    pub(crate) fn left_behind(&self, lock: &LockName, error: StoreError) {
        let mut state = self.0.state.lock();
        state.left_behind.push((lock.clone(), error));
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.state.lock().present -= 1;
        let _ = self.0.one_less.try_send(());
    }
}
