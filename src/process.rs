//! Which process this is. `fork` copies the memory of a process and none of its threads: what
//! the copy finds there must not be used, locked or dropped.

use std::mem;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One of the processes that came out of each other by `fork`. Comparing costs a `getpid`; no
/// lock is taken.
///
/// A child in a new namespace of process ids may have the id of its parent and is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u64);

/// The process that asked last, here or before a fork: its id, and in the lower half how many
/// processes were seen. Counted, as ids are used again. 0 if none asked.
static LAST: AtomicU64 = AtomicU64::new(0);

impl Process {
    /// The process that this call is made in.
    #[cfg(unix)]
    pub(crate) fn current() -> Self {
        let pid = u64::from(std::process::id()) << 32;
        loop {
            let last = LAST.load(Ordering::Relaxed);
            if last >> 32 == pid >> 32 {
                return Self(last);
            }
            let next = pid | u64::from((last as u32).wrapping_add(1));
            // If this fails, another thread of this process was first.
            let _ = LAST.compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The process that this call is made in.
    #[cfg(not(unix))]
    pub(crate) fn current() -> Self {
        Self(1)
    }

    /// Whether the call is made in this process, and not in one that was forked from it.
    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }

    /// Tells apart what processes draw. No system call: the process that asked last.
    pub(crate) fn salt() -> u64 {
        LAST.load(Ordering::Relaxed)
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::current()
    }
}

/// The longest chain of forks along which a [`PerProcess`] can be handed down.
const GENERATIONS: usize = 16;

/// A value for each process that uses it. The values of other processes are neither touched nor
/// dropped: another thread may have had them locked at the moment of the fork.
pub(crate) struct PerProcess<T> {
    slots: [Slot<T>; GENERATIONS],
}

struct Slot<T> {
    /// The process that took it; 0 if none did.
    owner: AtomicU64,
    value: OnceLock<T>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Slot {
                owner: AtomicU64::new(0),
                value: OnceLock::new(),
            }),
        }
    }

    /// The value of this process, made now if there is none yet. `None` if it was handed down
    /// through more than [`GENERATIONS`] processes.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> Option<&T> {
        let Process(current) = Process::current();
        // Threads of one process take one slot: they try them in the same order.
        let slot = self.slots.iter().find(|slot| {
            let owner = &slot.owner;
            match owner.compare_exchange(0, current, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(owner) => owner == current,
            }
        })?;
        // Only threads of this process get here, so that no other can have begun to make it.
        Some(slot.value.get_or_init(make))
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let Process(current) = Process::current();
        for slot in &mut self.slots {
            if *slot.owner.get_mut() != current {
                mem::forget(slot.value.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[test]
    fn a_process_is_itself() {
        assert!(Process::current().is_current());
        assert_eq!(Process::current(), Process::default());
        assert_ne!(Process::salt(), 0);
    }

    #[test]
    fn threads_of_a_process_share_a_value_that_is_made_once() {
        let made = AtomicUsize::new(0);
        let shared = PerProcess::new();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let value = shared.get_or_init(|| made.fetch_add(1, Ordering::Relaxed));
                    assert_eq!(value, Some(&0));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn what_another_process_made_is_neither_used_nor_dropped() {
        let shared = PerProcess::new();
        let (theirs, ours) = (Arc::new(()), Arc::new(()));
        // As a child finds it.
        shared.slots[0].owner.store(u64::MAX, Ordering::Relaxed);
        let _ = shared.slots[0].value.set(Arc::clone(&theirs));
        let found = shared.get_or_init(|| Arc::clone(&ours)).unwrap();
        assert!(Arc::ptr_eq(found, &ours));
        drop(shared);
        assert_eq!(
            (Arc::strong_count(&theirs), Arc::strong_count(&ours)),
            (2, 1)
        );
    }

    #[test]
    fn a_chain_of_forks_that_is_too_long_is_told() {
        let shared = PerProcess::<()>::new();
        for slot in &shared.slots {
            slot.owner.store(u64::MAX, Ordering::Relaxed);
        }
        assert!(shared.get_or_init(|| ()).is_none());
    }
}
