//! What the clones of a client, and its guards, share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;

use crate::attendance::Attendance;
use crate::core::Core;
use crate::heartbeat::Heartbeat;
use crate::lease::Lease;
use crate::lobby::Lobby;
use crate::protocol::{Moment, Standing};
use crate::record::Mode;
use crate::types::{FencingToken, LockName};

/// For how long a lock that was found in use counts as contended.
const CONTENDED_FOR: Duration = Duration::from_secs(2);

/// So many contended locks are remembered before old ones are dropped.
const REMEMBERED: usize = 1024;

/// Which thread acquired which locks that are held.
type HeldLocks = HashMap<(ThreadId, LockName), Vec<Weak<Lease>>>;

/// What the clones of a client, and its guards, share.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) lobby: Arc<Lobby>,
    held: Mutex<HeldLocks>,
    contended: Mutex<HashMap<LockName, Contended>>,
    pub(crate) attendance: Arc<Attendance>,
}

/// What is remembered about a lock that was found in use.
#[derive(Clone, Copy)]
pub(crate) struct Contended {
    seen: Moment,
    pub(crate) turn_time: Option<Duration>,
}

impl Shared {
    pub(crate) fn new(core: Arc<Core>, heartbeat: Heartbeat) -> Self {
        Self {
            core,
            heartbeat,
            lobby: Arc::default(),
            held: Mutex::default(),
            contended: Mutex::default(),
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

    pub(crate) fn recently_contended(&self, lock: &LockName) -> Option<Contended> {
        let now = self.core.machine.now();
        let contended = self.contended.lock();
        contended
            .get(lock)
            .filter(|contended| now.since(contended.seen) < CONTENDED_FOR)
            .copied()
    }

    pub(crate) fn note_contended(&self, lock: &LockName, turn_time: Option<Duration>) {
        let seen = self.core.machine.now();
        let mut contended = self.contended.lock();
        if contended.len() >= REMEMBERED {
            contended.retain(|_, other| seen.since(other.seen) < CONTENDED_FOR);
        }
        contended.insert(lock.clone(), Contended { seen, turn_time });
    }
}
