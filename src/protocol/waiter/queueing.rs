//! Drawing a ticket, and what may be wrong with the numbers.

use super::{Goal, Waiter};
use crate::protocol::{GaveUp, Notice, Now, Step, Write};
use crate::record::{LockRecord, Mode};
use crate::types::Ticket;

/// How to draw a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Draw {
    /// Behind a ticket that is out. The time of the present turn stays as it is, so that
    /// a stream of arrivals cannot keep a dead waiter's turn young.
    Behind,
    /// From an idle queue as well, whose turn begins with it.
    Anyway,
}

impl Waiter {
    pub(super) fn enqueue(&mut self, now: Now) -> Step {
        self.pursue(Goal::Enqueue(self.draw), now)
    }

    pub(super) fn enqueue_write(&self, draw: Draw, now: Now) -> Write {
        match draw {
            Draw::Behind => Write::EnqueueBehind,
            Draw::Anyway => Write::Enqueue {
                start: Ticket::new(now.wall_ms),
                grace: self.attempt.grace,
                wall_ms: now.wall_ms,
            },
        }
    }

    /// There is no ticket to draw one behind. If the lock is free and there is room it
    /// may be ours by now; if not, the next ticket is drawn in any case, so that a
    /// waiter in step with the holders is not refused for ever.
    pub(super) fn not_behind(&mut self, seen: Option<&LockRecord>, now: Now) -> Step {
        self.draw = Draw::Anyway;
        let may_be_free =
            seen.is_none_or(|record| record.is_free() && record.has_room(self.attempt.mode));
        // Two tries of one attempt could not be told apart.
        match may_be_free && !self.tried_blind {
            true => self.pursue(Goal::Try, now),
            false => self.enqueue(now),
        }
    }

    /// A ticket was drawn, and left this record.
    pub(super) fn drawn(&mut self, record: LockRecord, now: Now) -> Step {
        let ticket = record.issued;
        self.ticket = Some(ticket);
        self.draw = Draw::Behind;
        self.drawn = self.sent;
        self.drawn_wall_ms = now.wall_ms;
        // Even if it is our turn at once: it cannot have begun before we asked for the
        // ticket.
        self.not_before = self.sent;
        self.notices.push(Notice::Enqueued {
            ticket,
            ahead: ticket.get().saturating_sub(record.turn().get()),
        });
        self.seen(record, now)
    }

    /// An enqueue was refused, and this is what the record says.
    pub(super) fn not_enqueued(&mut self, record: Option<&LockRecord>, now: Now) -> Step {
        if record.is_some_and(|record| record.issued >= Ticket::MAX) {
            return self.leave(GaveUp::UsedUp, None, now);
        }
        // The record reads well: try again, but not in a hurry.
        self.goal = Goal::Enqueue(self.draw);
        self.back_off(now)
    }

    pub(super) fn passed_over(&mut self, ticket: Ticket, now: Now) -> Step {
        self.notices.push(Notice::PassedOver { ticket });
        self.ticket = None;
        self.announced = false;
        self.told = false;
        self.claimed = None;
        self.share_lost = None;
        self.spared = None;
        self.enqueue(now)
    }

    /// Whether the record has gone back, as one does that was restored from a backup: it
    /// would give out tokens for the second time.
    pub(super) fn went_back(&mut self, record: &LockRecord) -> Option<GaveUp> {
        let seen = self.watch.highest();
        self.watch.saw_ticket(record.issued);
        (record.issued < seen).then_some(GaveUp::WentBack {
            found: record.issued,
            seen,
        })
    }

    /// Leaves, and gives back what the last write took.
    pub(super) fn leave_what_was_taken(
        &mut self,
        why: GaveUp,
        record: &LockRecord,
        now: Now,
    ) -> Step {
        // Of an earlier ticket the number may be somebody else's by now.
        self.ticket = matches!(self.goal, Goal::Enqueue(_)).then_some(record.issued);
        let ours = match (&self.goal, self.attempt.mode) {
            (Goal::Try, Mode::Exclusive) => Some(record.turn()),
            (Goal::Try, Mode::Shared { .. }) => Some(record.issued),
            _ => None,
        };
        self.leave(why, ours, now)
    }
}
