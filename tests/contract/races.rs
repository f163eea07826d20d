//! Many clients send the same conditional write at the same moment.

use std::sync::Barrier;
use std::thread;

use dynamodb_fifo_lock::protocol::{Consistency, Write, apply};
use dynamodb_fifo_lock::record::LockRecord;
use dynamodb_fifo_lock::{HolderId, LockName, LockStore, Ticket};

use super::{GRACE, WITHIN, holder};
use crate::common::{backends, unique};

const RIVALS: u32 = 8;
const ROUNDS: usize = 5;

fn enqueue() -> Write {
    Write::Enqueue {
        start: Ticket::new(100),
        grace: GRACE,
        wall_ms: 1,
    }
}

fn take(id: u32) -> Write {
    Write::Try {
        holder: holder(id),
        start: Ticket::new(100),
        grace: GRACE,
    }
}

/// Sends every rival's write at once, and returns what each was answered.
fn race(
    store: &dyn LockStore,
    lock: &LockName,
    write: impl Fn(u32) -> Write + Sync,
) -> Vec<Option<LockRecord>> {
    let start = Barrier::new(RIVALS as usize);
    thread::scope(|scope| {
        let rivals: Vec<_> = (0..RIVALS)
            .map(|id| {
                let (start, write) = (&start, &write);
                scope.spawn(move || {
                    start.wait();
                    store.write(lock, &write(id), WITHIN).unwrap().applied()
                })
            })
            .collect();
        rivals
            .into_iter()
            .map(|rival| rival.join().unwrap())
            .collect()
    })
}

/// Prepares a lock, lets the rivals race, and checks that `winners` of them won, and
/// that the record is what they made of it, one after the other.
fn check(name: &str, before: &[Write], rival: impl Fn(u32) -> Write + Sync, winners: usize) {
    check_winners(name, before, rival, |won| won.len() == winners);
}

/// The same, with a rule for who may have won together.
fn check_winners(
    name: &str,
    before: &[Write],
    rival: impl Fn(u32) -> Write + Sync,
    may_win: impl Fn(&[u32]) -> bool,
) {
    for backend in backends() {
        for _ in 0..ROUNDS {
            let store = &*backend.store;
            let lock = LockName::new(&unique("race")).unwrap();
            let mut model = None;
            for write in before {
                model = store.write(&lock, write, WITHIN).unwrap().applied();
                assert!(model.is_some(), "{name}: {write:?}");
            }
            let answers = race(store, &lock, &rival);
            let won: Vec<u32> = (0..RIVALS)
                .filter(|id| answers[*id as usize].is_some())
                .collect();
            assert!(may_win(&won), "{}: {name}: {won:?}", backend.name);
            // Each winner saw its own write applied to what the ones before it left.
            let mut in_order = won.clone();
            in_order.sort_by_key(|id| {
                let record = answers[*id as usize].as_ref().unwrap();
                let beats: u64 = record.sharers.values().map(|sharer| sharer.beats).sum();
                (record.issued, record.served, record.revision, beats)
            });
            for id in in_order {
                model = apply(model.as_ref(), &rival(id));
                assert_eq!(answers[id as usize], model, "{}: {name}", backend.name);
            }
            let read = store.read(&lock, Consistency::Strong, WITHIN).unwrap();
            assert_eq!(read, model, "{}: {name}", backend.name);
        }
    }
}

#[test]
fn a_free_lock_is_taken_once() {
    check("try", &[], take, 1);
}

#[test]
fn every_one_who_queues_draws_a_ticket_of_its_own() {
    check("enqueue", &[], |_| enqueue(), RIVALS as usize);
    check("enqueue", &[take(99)], |_| enqueue(), RIVALS as usize);
}

#[test]
fn a_turn_is_claimed_once() {
    let claim = |id| Write::Claim {
        ticket: Ticket::new(101),
        holder: holder(id),
    };
    check("claim", &[enqueue()], claim, 1);
}

#[test]
fn a_holder_renews_as_often_as_it_likes() {
    let renew = |_| Write::Renew {
        ticket: Ticket::new(101),
        id: holder(99).id,
        wall_ms: 5,
    };
    check("renew", &[take(99)], renew, RIVALS as usize);
}

#[test]
fn a_ticket_is_finished_once() {
    let ticket = Ticket::new(101);
    let id = || holder(99).id;
    let release = |_| Write::Release {
        ticket,
        id: id(),
        wall_ms: 5,
    };
    check("release", &[take(99)], release, 1);
    let withdraw = |_| Write::Withdraw {
        id: id(),
        wall_ms: 5,
    };
    check("withdraw", &[take(99)], withdraw, 1);
    let hand_over = |rival| Write::HandOver {
        ticket,
        id: id(),
        next: holder(rival),
    };
    check("hand over", &[take(99), enqueue()], hand_over, 1);
    let advance = |_| Write::Advance {
        served: Ticket::new(100),
        revision: 1,
        moved_at_ms: 1,
        to: Ticket::new(102),
        wall_ms: 5,
    };
    check("advance", &[take(99), enqueue()], advance, 1);
}

/// A holder that is given up on against those who give up on it, and the one that
/// releases against the one that hands over.
#[test]
fn of_two_who_end_a_turn_one_does() {
    let ticket = Ticket::new(101);
    let id = HolderId::new("attempt-99");
    let rival = |rival: u32| match rival % 4 {
        0 => Write::Release {
            ticket,
            id: id.clone(),
            wall_ms: 5,
        },
        1 => Write::HandOver {
            ticket,
            id: id.clone(),
            next: holder(rival),
        },
        2 => Write::Withdraw {
            id: id.clone(),
            wall_ms: 5,
        },
        _ => Write::Advance {
            served: Ticket::new(100),
            revision: 1,
            moved_at_ms: 1,
            to: Ticket::new(102),
            wall_ms: 5,
        },
    };
    check("the end of a turn", &[take(99), enqueue()], rival, 1);
}

fn share_at_once(id: u32, limit: u32) -> Write {
    Write::TryShare {
        holder: holder(id),
        limit,
        start: Ticket::new(100),
        grace: GRACE,
    }
}

/// Either one rival with an even number won, or all that have odd ones.
fn one_even_or_all_odd(won: &[u32]) -> bool {
    match won {
        [one] => one % 2 == 0,
        _ => won.len() == RIVALS as usize / 2 && won.iter().all(|id| id % 2 == 1),
    }
}

#[test]
fn as_many_share_as_may() {
    let share = |id| share_at_once(id, 3);
    check("try to share", &[], share, 3);
    check("try to share", &[share_at_once(99, 3)], share, 2);
}

#[test]
fn a_turn_is_shared_once() {
    let share = |id| Write::Share {
        ticket: Ticket::new(101),
        holder: holder(id),
        limit: 100,
    };
    check("share", &[enqueue()], share, 1);
    let share_or_claim = |id| match id % 2 {
        0 => share(id),
        _ => Write::Claim {
            ticket: Ticket::new(101),
            holder: holder(id),
        },
    };
    check("share or claim", &[enqueue()], share_or_claim, 1);
}

/// Whoever is first decides how the lock is held.
#[test]
fn who_shares_and_who_holds_alone_never_get_in_together() {
    let rival = |id| match id % 2 {
        0 => take(id),
        _ => share_at_once(id, 100),
    };
    check_winners("alone or not", &[], rival, one_even_or_all_odd);
}

#[test]
fn a_share_ends_once() {
    let id = || holder(99).id;
    let before = [share_at_once(99, 3), share_at_once(98, 3)];
    check("unshare", &before, |_| Write::Unshare { id: id() }, 1);
    let evict = |_| Write::Evict { id: id(), beats: 0 };
    check("evict", &before, evict, 1);
}

/// A sign of life in the last moment saves whoever shares; one that comes later is
/// refused.
#[test]
fn who_shares_renews_or_is_evicted() {
    let id = || holder(99).id;
    let rival = |rival| match rival % 2 {
        0 => Write::Evict { id: id(), beats: 0 },
        _ => Write::RenewShare {
            id: id(),
            wall_ms: 5,
        },
    };
    let before = [share_at_once(99, 3)];
    check_winners("renew or evict", &before, rival, one_even_or_all_odd);
}
