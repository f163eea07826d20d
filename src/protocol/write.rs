//! The conditional writes that move a lock from one state to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::record::{Holder, LockRecord, Mode, Sharer};
use crate::types::{HolderId, Ticket};

/// One conditional, atomic write to a lock's record.
///
/// A store applies it or refuses it as a whole; [`apply`] says which, and what
/// becomes of the record. A store whose conditions run on a server has to agree
/// with `apply` in every case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// Take the lock if nobody holds it and nobody waits.
    Try {
        /// Who takes it.
        holder: Holder,
        /// What `issued` and `served` start from if there is no record yet: the
        /// wall clock, in milliseconds since 1970.
        start: Ticket,
        /// The claim grace of a new record.
        grace: Duration,
    },
    /// Share the lock if nobody has a turn, nobody waits, and fewer than `limit` share
    /// it.
    TryShare {
        /// Who shares it.
        holder: Holder,
        /// The highest number of those who share.
        limit: u32,
        /// What `issued` and `served` start from if there is no record yet: the
        /// wall clock, in milliseconds since 1970.
        start: Ticket,
        /// The claim grace of a new record.
        grace: Duration,
    },
    /// Draw the next ticket of a queue in which a ticket is out already. Leaves the
    /// time of the present turn alone, so that arrivals cannot keep a turn young whose
    /// owner is dead. Not idempotent: sent twice, it draws two.
    EnqueueBehind,
    /// Draw the next ticket, also of an idle queue or a new record, and write down that
    /// the turn may have begun with it. Not idempotent either.
    Enqueue {
        /// What `issued` and `served` start from if there is no record yet: the
        /// wall clock, in milliseconds since 1970.
        start: Ticket,
        /// The claim grace of a new record.
        grace: Duration,
        /// The waiter's wall clock.
        wall_ms: u64,
    },
    /// Become, or go on being, the holder at the turn of `ticket`.
    Claim {
        /// The ticket whose turn it is.
        ticket: Ticket,
        /// Who claims.
        holder: Holder,
    },
    /// Share the lock at the turn of `ticket`, if fewer than `limit` share it, and
    /// pass the turn on.
    Share {
        /// The ticket whose turn it is.
        ticket: Ticket,
        /// Who shares it.
        holder: Holder,
        /// The highest number of those who share.
        limit: u32,
    },
    /// Show that somebody who shares is alive.
    RenewShare {
        /// The attempt that shares.
        id: HolderId,
        /// The sharer's wall clock, for people.
        wall_ms: u64,
    },
    /// Share no longer.
    Unshare {
        /// The attempt that shares.
        id: HolderId,
    },
    /// End the share of somebody who is gone, or that a try of one's own began, if it
    /// still is as seen.
    Evict {
        /// The attempt that shares.
        id: HolderId,
        /// Its signs of life as seen.
        beats: u64,
    },
    /// Show a sign of life.
    Renew {
        /// The ticket held.
        ticket: Ticket,
        /// The attempt that holds.
        id: HolderId,
        /// The holder's wall clock, for people.
        wall_ms: u64,
    },
    /// Finish `ticket`, held by `id` or not claimed yet.
    Release {
        /// The ticket to finish.
        ticket: Ticket,
        /// The attempt that holds it, or drew it.
        id: HolderId,
        /// The releaser's wall clock.
        wall_ms: u64,
    },
    /// Finish `ticket`, held by `id` or not claimed yet, and claim the turn after
    /// it for `next`: a release and a claim in one, for two attempts of one client.
    HandOver {
        /// The ticket to finish. The one after it has been drawn by `next`.
        ticket: Ticket,
        /// The attempt that holds it, or drew it.
        id: HolderId,
        /// Who holds from now on.
        next: Holder,
    },
    /// Finish whatever ticket `id` holds. This ends an attempt that does not
    /// know which ticket it was given, because the answer was lost.
    Withdraw {
        /// The attempt.
        id: HolderId,
        /// The attempt's wall clock.
        wall_ms: u64,
    },
    /// Go past tickets whose owners are gone, if the record still is as seen.
    Advance {
        /// `served` as seen.
        served: Ticket,
        /// `revision` as seen.
        revision: u64,
        /// `moved_at_ms` as seen: a waiter that joins an idle queue does not change
        /// the revision.
        moved_at_ms: u64,
        /// The ticket whose turn it is next.
        to: Ticket,
        /// The wall clock of whoever goes past them.
        wall_ms: u64,
    },
}

/// What `write` makes of `record`; `None` if the write is refused.
#[must_use]
pub fn apply(record: Option<&LockRecord>, write: &Write) -> Option<LockRecord> {
    match (write, record) {
        (
            Write::Try {
                holder,
                start,
                grace,
            },
            record,
        ) => {
            let before = record.cloned().unwrap_or_else(|| fresh(*start, *grace));
            let free = before.is_free() && before.has_room(Mode::Exclusive);
            (free && before.issued < Ticket::MAX).then(|| LockRecord {
                issued: before.issued.next(),
                holder: Some(holder.clone()),
                revision: before.revision + 1,
                ..before
            })
        }
        (
            Write::TryShare {
                holder,
                limit,
                start,
                grace,
            },
            record,
        ) => {
            let before = record.cloned().unwrap_or_else(|| fresh(*start, *grace));
            let free = before.is_free() && before.issued < Ticket::MAX;
            let ticket = before.issued.next();
            let before = LockRecord {
                issued: ticket,
                ..before
            };
            free.then(|| share(&before, ticket, holder, 0, *limit))
                .flatten()
        }
        (
            Write::Enqueue {
                start,
                grace,
                wall_ms,
            },
            record,
        ) => {
            let before = record.cloned().unwrap_or_else(|| fresh(*start, *grace));
            (before.issued < Ticket::MAX).then(|| LockRecord {
                issued: before.issued.next(),
                moved_at_ms: *wall_ms,
                mark: before.issued.next(),
                ..before
            })
        }
        (_, None) => None,
        (Write::EnqueueBehind, Some(record)) => (!record.is_free() && record.issued < Ticket::MAX)
            .then(|| LockRecord {
                issued: record.issued.next(),
                ..record.clone()
            }),
        (Write::Claim { ticket, holder }, Some(record)) => may_finish(record, *ticket, &holder.id)
            .then(|| LockRecord {
                holder: Some(holder.clone()),
                revision: record.revision + 1,
                ..record.clone()
            }),
        (
            Write::Share {
                ticket,
                holder,
                limit,
            },
            Some(record),
        ) => may_finish(record, *ticket, &holder.id)
            .then(|| share(record, *ticket, holder, ticket.get(), *limit))
            .flatten(),
        (Write::RenewShare { id, wall_ms }, Some(record)) => {
            let mut record = record.clone();
            let sharer = record.sharers.get_mut(id)?;
            sharer.beats += 1;
            sharer.holder.renewed_at_ms = *wall_ms;
            Some(record)
        }
        (Write::Unshare { id }, Some(record)) => without(record, id),
        (Write::Evict { id, beats }, Some(record)) => {
            let as_seen = record.sharers.get(id)?.beats == *beats;
            as_seen.then(|| without(record, id)).flatten()
        }
        (
            Write::Renew {
                ticket,
                id,
                wall_ms,
            },
            Some(record),
        ) => {
            let holder = record.holder.as_ref().filter(|holder| holder.id == *id)?;
            (record.turn() == *ticket).then(|| LockRecord {
                holder: Some(Holder {
                    renewed_at_ms: *wall_ms,
                    ..holder.clone()
                }),
                revision: record.revision + 1,
                ..record.clone()
            })
        }
        (
            Write::Release {
                ticket,
                id,
                wall_ms,
            },
            Some(record),
        ) => may_finish(record, *ticket, id).then(|| finish(record, *ticket, *wall_ms)),
        (Write::HandOver { ticket, id, next }, Some(record)) => {
            let next_waits = *ticket < record.issued;
            (may_finish(record, *ticket, id) && next_waits).then(|| LockRecord {
                holder: Some(next.clone()),
                ..finish(record, *ticket, next.since_ms)
            })
        }
        (Write::Withdraw { id, wall_ms }, Some(record)) => {
            let ticket = record.held_by(id)?;
            Some(finish(record, ticket, *wall_ms))
        }
        (
            Write::Advance {
                served,
                revision,
                moved_at_ms,
                to,
                wall_ms,
            },
            Some(record),
        ) => {
            let finished = to.previous();
            let as_seen = record.served == *served
                && record.revision == *revision
                && record.moved_at_ms == *moved_at_ms;
            // Only tickets that are out, and not finished yet, can be finished.
            let in_queue = record.served < finished && finished <= record.issued;
            (as_seen && in_queue).then(|| finish(record, finished, *wall_ms))
        }
    }
}

/// A record that was just created, before its first ticket.
fn fresh(start: Ticket, grace: Duration) -> LockRecord {
    LockRecord {
        issued: start,
        served: start,
        holder: None,
        revision: 0,
        grace,
        moved_at_ms: start.get(),
        mark: start,
        sharers: BTreeMap::new(),
    }
}

/// The record with one more who shares, and `ticket` finished.
fn share(
    record: &LockRecord,
    ticket: Ticket,
    holder: &Holder,
    beats: u64,
    limit: u32,
) -> Option<LockRecord> {
    // Nobody shares twice: a request that was long on its way may not be counted as
    // somebody else.
    let fits = record.has_room(Mode::Shared { limit }) && !record.sharers.contains_key(&holder.id);
    fits.then(|| {
        let mut record = finish(record, ticket, holder.since_ms);
        let sharer = Sharer {
            holder: holder.clone(),
            beats,
        };
        record.sharers.insert(holder.id.clone(), sharer);
        record
    })
}

/// Those who share come and go without a sign of life from who has the turn.
fn without(record: &LockRecord, id: &HolderId) -> Option<LockRecord> {
    let mut record = record.clone();
    record.sharers.remove(id).map(|_| record)
}

fn may_finish(record: &LockRecord, ticket: Ticket, id: &HolderId) -> bool {
    let mine = record.holder.as_ref().is_none_or(|holder| holder.id == *id);
    record.turn() == ticket && ticket <= record.issued && mine
}

fn finish(record: &LockRecord, ticket: Ticket, wall_ms: u64) -> LockRecord {
    LockRecord {
        served: ticket,
        holder: None,
        revision: record.revision + 1,
        moved_at_ms: wall_ms,
        mark: record.issued,
        ..record.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    fn holder(id: &str) -> Holder {
        Holder {
            id: HolderId::new(id),
            lease: Duration::from_secs(20),
            owner: "test".into(),
            since_ms: 1,
            renewed_at_ms: 1,
            data: None,
        }
    }

    fn take(record: Option<&LockRecord>, id: &str) -> Option<LockRecord> {
        let write = Write::Try {
            holder: holder(id),
            start: Ticket::new(100),
            grace: GRACE,
        };
        apply(record, &write)
    }

    fn join(record: Option<&LockRecord>) -> LockRecord {
        let write = Write::Enqueue {
            start: Ticket::new(100),
            grace: GRACE,
            wall_ms: 1,
        };
        apply(record, &write).unwrap()
    }

    fn release(record: &LockRecord, ticket: u64, id: &str) -> Option<LockRecord> {
        let write = Write::Release {
            ticket: Ticket::new(ticket),
            id: HolderId::new(id),
            wall_ms: 9,
        };
        apply(Some(record), &write)
    }

    #[test]
    fn a_new_lock_starts_from_the_given_number_and_is_granted_at_once() {
        let record = take(None, "a").unwrap();
        assert_eq!(record.issued, Ticket::new(101));
        assert_eq!(record.turn(), Ticket::new(101));
        assert_eq!(record.held_by(&HolderId::new("a")), Some(Ticket::new(101)));
    }

    #[test]
    fn a_try_never_overtakes_a_waiter() {
        let held = take(None, "a").unwrap();
        assert_eq!(take(Some(&held), "b"), None);
        let queued = join(Some(&held));
        let passed_on = release(&queued, 101, "a").unwrap();
        assert!(passed_on.holder.is_none());
        assert_eq!(take(Some(&passed_on), "b"), None, "ticket 102 is waiting");
    }

    #[test]
    fn joining_shows_no_sign_of_life() {
        let held = take(None, "a").unwrap();
        assert_eq!(join(Some(&held)).revision, held.revision);
    }

    #[test]
    fn only_the_ticket_whose_turn_it_is_can_be_claimed_and_only_once() {
        let record = join(Some(&join(None)));
        let claim = |record: &LockRecord, ticket, id: &str| {
            let write = Write::Claim {
                ticket: Ticket::new(ticket),
                holder: holder(id),
            };
            apply(Some(record), &write)
        };
        assert_eq!(claim(&record, 102, "b"), None);
        let claimed = claim(&record, 101, "a").unwrap();
        assert_eq!(claim(&claimed, 101, "b"), None);
        assert!(claim(&claimed, 101, "a").is_some(), "a resent claim");
        // Nobody drew 103: there is no turn to claim.
        let done = release(&release(&claimed, 101, "a").unwrap(), 102, "b").unwrap();
        assert_eq!(claim(&done, 103, "c"), None);
    }

    #[test]
    fn an_earlier_holder_never_releases_or_renews_a_later_one() {
        let first = join(Some(&take(None, "a").unwrap()));
        let advance = Write::Advance {
            served: first.served,
            revision: first.revision,
            moved_at_ms: first.moved_at_ms,
            to: Ticket::new(102),
            wall_ms: 9,
        };
        let second = apply(Some(&first), &advance).unwrap();
        assert_eq!(release(&second, 101, "a"), None);
        let renew = Write::Renew {
            ticket: Ticket::new(101),
            id: HolderId::new("a"),
            wall_ms: 9,
        };
        assert_eq!(apply(Some(&second), &renew), None);
        assert_eq!(
            apply(
                Some(&second),
                &Write::Withdraw {
                    id: HolderId::new("a"),
                    wall_ms: 9,
                }
            ),
            None
        );
    }

    #[test]
    fn a_hand_over_is_a_release_and_a_claim_in_one() {
        let held = join(Some(&take(None, "a").unwrap()));
        let hand_over = |record: &LockRecord, ticket, id: &str| {
            let write = Write::HandOver {
                ticket: Ticket::new(ticket),
                id: HolderId::new(id),
                next: holder("b"),
            };
            apply(Some(record), &write)
        };
        assert_eq!(hand_over(&held, 101, "x"), None, "x does not hold");
        assert_eq!(hand_over(&held, 102, "a"), None, "not the turn of 102");
        let handed = hand_over(&held, 101, "a").unwrap();
        assert_eq!(handed.held_by(&HolderId::new("b")), Some(Ticket::new(102)));
        assert_eq!(hand_over(&handed, 101, "a"), None, "not twice");
        assert_eq!(hand_over(&handed, 102, "b"), None, "nobody waits");
    }

    #[test]
    fn a_renewal_between_look_and_advance_saves_the_holder() {
        let seen = join(Some(&take(None, "a").unwrap()));
        let renew = Write::Renew {
            ticket: Ticket::new(101),
            id: HolderId::new("a"),
            wall_ms: 9,
        };
        let renewed = apply(Some(&seen), &renew).unwrap();
        let advance = Write::Advance {
            served: seen.served,
            revision: seen.revision,
            moved_at_ms: seen.moved_at_ms,
            to: Ticket::new(102),
            wall_ms: 9,
        };
        assert_eq!(apply(Some(&renewed), &advance), None);
        assert!(apply(Some(&seen), &advance).is_some());
    }

    #[test]
    fn tickets_end_before_numbers_lose_precision() {
        let last = LockRecord {
            issued: Ticket::MAX,
            served: Ticket::MAX,
            holder: None,
            revision: 1,
            grace: GRACE,
            moved_at_ms: 0,
            mark: Ticket::new(0),
            sharers: BTreeMap::new(),
        };
        assert_eq!(take(Some(&last), "a"), None);
    }
}
