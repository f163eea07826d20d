//! The thread that keeps a client's locks alive, tells when one is lost, and says
//! in the queue that its waiters are still there.

mod beating;
mod carriers;
mod renewal;

use std::sync::{Arc, Weak};

use crossbeam_channel::{Sender, unbounded};

use self::beating::{Beating, Charge, GLANCE};
use crate::core::Core;
use crate::departure::Departure;
use crate::error::Error;
use crate::lease::Lease;
use crate::presence::Presence;

/// The handle of a client's heartbeat thread. The thread ends when the last
/// handle is gone, and clients and guards have one each.
pub(crate) struct Heartbeat {
    joining: Sender<Charge>,
    /// For those who need nothing before the next glance. Nobody waits for them, so
    /// that a lock held for a moment does not wake the thread.
    resting: Sender<Weak<Lease>>,
}

impl Heartbeat {
    pub(crate) fn start(core: Arc<Core>) -> Result<Self, Error> {
        let (joining, joins) = unbounded();
        let (resting, rested) = unbounded();
        let machine = Arc::clone(&core.machine);
        let beating = Beating::new(core, rested);
        beating
            .prepare()
            .and_then(|()| machine.spawn("fifolock-heart", Box::new(move || beating.run(&joins))))
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { joining, resting })
    }

    /// Keeps `lease` alive until it ends.
    pub(crate) fn keep(&self, lease: &Arc<Lease>) {
        // The thread outlives its handles. Were it gone all the same, the lease
        // would end by its own clock, which needs no thread.
        let _ = if lease.rests_for() > GLANCE {
            self.resting.send(Arc::downgrade(lease)).is_ok()
        } else {
            self.joining.send(Charge::Lease(Arc::clone(lease))).is_ok()
        };
    }

    /// Tells the queue of `presence` while its waiter holds on to it.
    pub(crate) fn announce(&self, presence: &Arc<Presence>) {
        let _ = self.joining.send(Charge::Presence(Arc::clone(presence)));
    }

    /// Leaves a queue for an attempt that has ended.
    pub(crate) fn leave(&self, departure: Departure) {
        let _ = self.joining.send(Charge::Departure(Box::new(departure)));
    }

    /// Deletes the row of a waiter that does not wait any more.
    pub(crate) fn dequeue(&self, presence: Arc<Presence>) {
        if presence.has_row() {
            let _ = self.joining.send(Charge::Departed(presence));
        }
    }
}
