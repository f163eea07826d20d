//! What the clones of a client, and its guards, share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};

use parking_lot::Mutex;

use crate::attendance::Attendance;
use crate::core::Core;
use crate::heartbeat::Heartbeat;
use crate::lease::Lease;
use crate::lobby::Lobby;
use crate::memory::Memories;
use crate::protocol::Standing;
use crate::types::{FencingToken, LockName};

/// Which thread acquired which locks that are held.
type HeldLocks = HashMap<(ThreadId, LockName), Vec<Weak<Lease>>>;

/// What the clones of a client, and its guards, share.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) lobby: Arc<Lobby>,
    held: Mutex<HeldLocks>,
    pub(crate) memories: Memories,
    pub(crate) attendance: Attendance,
}

impl Shared {
    pub(crate) fn new(core: Arc<Core>, heartbeat: Heartbeat) -> Self {
        Self {
            lobby: Arc::new(Lobby::new(Arc::clone(&core.machine))),
            core,
            heartbeat,
            held: Mutex::default(),
            memories: Memories::default(),
            attendance: Attendance::default(),
        }
    }

    pub(crate) fn remember(&self, lease: &Arc<Lease>) {
        let key = (lease.acquired_by, lease.name.clone());
        let mut held = self.held.lock();
        held.entry(key).or_default().push(Arc::downgrade(lease));
    }

    /// Forgets a lease whose guard is being released, by whatever thread.
    pub(crate) fn forget(&self, lease: &Arc<Lease>) {
        self.lobby.released(&lease.name, lease.ticket);
        let key = (lease.acquired_by, lease.name.clone());
        let mut held = self.held.lock();
        if let Some(leases) = held.get_mut(&key) {
            leases.retain(|other| other.as_ptr() != Arc::as_ptr(lease));
            if leases.is_empty() {
                held.remove(&key);
            }
        }
    }

    pub(crate) fn held_by_this_thread(&self, lock: &LockName) -> bool {
        let key = (thread::current().id(), lock.clone());
        let held = self.held.lock();
        held.get(&key).is_some_and(|leases| {
            leases
                .iter()
                .filter_map(Weak::upgrade)
                .any(|lease| lease.standing() == Standing::Held)
        })
    }

    pub(crate) fn still_held(&self) -> Vec<(LockName, FencingToken)> {
        let held = self.held.lock();
        held.values()
            .flatten()
            .filter_map(Weak::upgrade)
            .filter(|lease| lease.standing() == Standing::Held)
            .map(|lease| (lease.name.clone(), lease.token()))
            .collect()
    }
}
