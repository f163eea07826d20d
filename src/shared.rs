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
use crate::record::Mode;
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
    pub(crate) attendance: Arc<Attendance>,
}

impl Shared {
    pub(crate) fn new(core: Arc<Core>, heartbeat: Heartbeat) -> Self {
        Self {
            lobby: Arc::new(Lobby::new(Arc::clone(&core.machine))),
            core,
            heartbeat,
            held: Mutex::default(),
            memories: Memories::default(),
            attendance: Arc::default(),
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

    /// Whether this thread would wait for itself if it asked for the lock in this mode:
    /// what it holds leaves no room.
    pub(crate) fn would_wait_for_itself(&self, lock: &LockName, mode: Mode) -> bool {
        let key = (thread::current().id(), lock.clone());
        let own: Vec<Mode> = {
            let held = self.held.lock();
            let leases = held.get(&key).into_iter().flatten();
            leases
                .filter_map(Weak::upgrade)
                .filter(|lease| lease.standing() == Standing::Held)
                .map(|lease| lease.mode)
                .collect()
        };
        match mode {
            Mode::Exclusive => !own.is_empty(),
            Mode::Shared { limit } => {
                own.contains(&Mode::Exclusive)
                    || u32::try_from(own.len()).is_ok_and(|own| own >= limit)
            }
        }
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
