//! What a client has seen of its locks, kept between its attempts.
//!
//! Evidence that a holder or waiter is dead takes time to gather. An attempt that ends
//! before it is enough leaves it to the next one, so that a loop of short attempts gets
//! past the dead as one long attempt does.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::protocol::{Moment, Watch};
use crate::types::LockName;

/// For how long a lock that was found in use counts as contended.
const CONTENDED_FOR: Duration = Duration::from_secs(2);

/// For how long anything is remembered: no lease is longer.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3_600);

/// The maximum number of locks that are remembered.
const REMEMBERED: usize = 1_024;

/// What one client remembers of all its locks.
#[derive(Default)]
pub(crate) struct Memories {
    locks: Mutex<HashMap<LockName, Kept>>,
}

struct Kept {
    at: Moment,
    contended_at: Option<Moment>,
    watch: Watch,
}

/// What is remembered of one lock.
#[derive(Default)]
pub(crate) struct Memory {
    /// Whether it was found in use a moment ago.
    pub(crate) contended: bool,
    pub(crate) watch: Watch,
}

impl Memories {
    /// What is remembered of `lock`.
    pub(crate) fn recall(&self, lock: &LockName, now: Moment) -> Memory {
        let locks = self.locks.lock();
        let Some(kept) = locks
            .get(lock)
            .filter(|kept| now.since(kept.at) < REMEMBERED_FOR)
        else {
            return Memory::default();
        };
        let contended = kept
            .contended_at
            .is_some_and(|at| now.since(at) < CONTENDED_FOR);
        let turn_time = kept.watch.turn_time().filter(|_| contended);
        Memory {
            contended,
            watch: kept.watch.clone().resume(turn_time),
        }
    }

    /// Keeps what an attempt saw that ended at `now`.
    pub(crate) fn keep(&self, lock: &LockName, watch: Watch, met_others: bool, now: Moment) {
        let mut locks = self.locks.lock();
        let contended_at = met_others.then_some(now);
        if let Some(kept) = locks.get_mut(lock) {
            kept.at = now;
            kept.contended_at = contended_at.or(kept.contended_at);
            kept.watch.take_over(watch);
            return;
        }
        if locks.len() >= REMEMBERED {
            forget_half(&mut locks);
        }
        let kept = Kept {
            at: now,
            contended_at,
            watch,
        };
        locks.insert(lock.clone(), kept);
    }
}

/// Forgets those that were not asked for the longest: half of them at once, so that a
/// client with very many locks does not search for the oldest each time.
fn forget_half(locks: &mut HashMap<LockName, Kept>) {
    let mut ages: Vec<_> = locks.values().map(|kept| kept.at).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    locks.retain(|_, kept| kept.at > median);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ticket;

    fn at(seconds: u64) -> Moment {
        Moment::after_origin(Duration::from_secs(seconds))
    }

    fn name(number: u64) -> LockName {
        LockName::new(&format!("lock-{number}")).unwrap()
    }

    fn saw(ticket: u64) -> Watch {
        let mut watch = Watch::default();
        watch.saw_ticket(Ticket::new(ticket));
        watch
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_age() {
        let memories = Memories::default();
        for number in 0..5_000 {
            memories.keep(&name(number), saw(number), false, at(number));
        }
        assert!(memories.locks.lock().len() <= REMEMBERED);
        let recalled = |number, now| memories.recall(&name(number), now).watch.highest().get();
        assert_eq!(recalled(4_999, at(5_000)), 4_999);
        assert_eq!(recalled(0, at(5_000)), 0, "forgotten");
        assert_eq!(recalled(4_999, at(4_999 + 24 * 3_600)), 0, "too old");
    }

    #[test]
    fn a_lock_counts_as_contended_for_a_moment() {
        let memories = Memories::default();
        memories.keep(&name(1), saw(1), true, at(10));
        memories.keep(&name(1), saw(1), false, at(11));
        assert!(memories.recall(&name(1), at(11)).contended);
        assert!(!memories.recall(&name(1), at(12)).contended);
    }
}
