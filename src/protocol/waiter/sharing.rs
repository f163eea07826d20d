//! Sharing a lock, and waiting for those who share it.

use super::{Goal, Waiter};
use crate::protocol::{Consistency, Notice, Now, Patience, Step, Write, has_abandoned};
use crate::record::{LockRecord, Mode, Sharer};
use crate::types::{HolderId, Ticket};

impl Waiter {
    pub(super) fn try_write(&self, now: Now) -> Write {
        let (holder, grace) = (self.holder(now), self.attempt.grace);
        let start = Ticket::new(now.wall_ms);
        match self.attempt.mode {
            Mode::Exclusive => Write::Try {
                holder,
                start,
                grace,
            },
            Mode::Shared { limit } => Write::TryShare {
                holder,
                limit,
                start,
                grace,
            },
        }
    }

    /// Takes the lock at the turn of `ticket`, if there is room; or keeps the turn
    /// until there is. As long as it is our turn nobody can join those who share.
    pub(super) fn take(&mut self, ticket: Ticket, record: &LockRecord, now: Now) -> Step {
        if record.has_room(self.attempt.mode) {
            return match self.attempt.mode {
                Mode::Exclusive => self.pursue(Goal::Claim(ticket), now),
                Mode::Shared { .. } => self.pursue(Goal::Share(ticket), now),
            };
        }
        if let Some(eviction) = self.eviction(record, now) {
            return self.pursue(eviction, now);
        }
        // Who waits for room shows signs of life as a holder does.
        let renew_at = self
            .claimed
            .map(|sent| sent.plus(self.attempt.lease / 4))
            .filter(|_| record.holder.is_some());
        let Some(renew_at) = renew_at.filter(|at| now.moment < *at) else {
            return self.pursue(Goal::Claim(ticket), now);
        };
        let place = self.place(0, now);
        let pause = self.attempt.pace.pause(place, now.dice);
        let wake = self.next_look(pause, place, now).min(renew_at);
        let wake = match self.watch.next_death() {
            Some(death) => wake.min(death.max(now.moment)),
            None => wake,
        };
        self.goal = Goal::Look(Consistency::Strong);
        self.pause(wake, now)
    }

    /// The end of the share of somebody who is gone, if anybody is.
    fn eviction(&self, record: &LockRecord, now: Now) -> Option<Goal> {
        let allowance = self.attempt.clock_allowance;
        let abandoned = |sharer: &&Sharer| has_abandoned(sharer, now.wall_ms, allowance);
        let dead = self.watch.dead_sharer(now.moment);
        let gone = dead.or_else(|| record.sharers.values().find(abandoned))?;
        Some(Goal::Evict(gone.holder.id.clone(), gone.beats))
    }

    pub(super) fn evicted(&mut self, id: &HolderId, record: LockRecord, now: Now) -> Step {
        let before = self.watch.record();
        if let Some(gone) = before.and_then(|before| before.sharers.get(id)) {
            let owner = gone.holder.owner.clone();
            self.notices.push(Notice::Evicted { owner });
        }
        match self.attempt.patience {
            Patience::Queue => self.seen(record, now),
            Patience::TryOnly if self.may_try_again(&record) => self.pursue(Goal::Try, now),
            Patience::TryOnly => self.confirmed(Some(record), now),
        }
    }

    /// Whether a second try can be sent: not while the first one may yet come true, for
    /// nobody could tell the two apart.
    pub(super) fn may_try_again(&self, record: &LockRecord) -> bool {
        !self.tried_blind && record.is_free() && record.has_room(self.attempt.mode)
    }

    /// Who only tries may find that those who keep it from the lock are dead.
    pub(super) fn make_room(&mut self, record: &LockRecord, now: Now) -> Step {
        self.watch.observe(record, now.moment);
        let full = !record.has_room(self.attempt.mode);
        match self.eviction(record, now).filter(|_| full) {
            Some(eviction) => self.pursue(eviction, now),
            None => self.not_ours(now),
        }
    }

    /// The record says that we share already. If a share at our turn was what did
    /// that, it is ours, from when it may first have been applied; if it was a try whose
    /// answer was lost, we do not know under which ticket, and draw another one.
    pub(super) fn shares_already(&mut self, ticket: Ticket, beats: u64, now: Now) -> Step {
        match self.share_lost {
            Some(sent) if beats == ticket.get() => self.granted(ticket, sent, now),
            _ => self.pursue(Goal::EndShare(beats), now),
        }
    }

    /// We share under no ticket that we do not know of, for now.
    pub(super) fn unshared(&mut self, now: Now) -> Step {
        match self.ticket {
            Some(_) => self.look(Consistency::Strong, now),
            None => self.not_ours(now),
        }
    }
}
