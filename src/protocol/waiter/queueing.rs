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

    /// There is no ticket to draw one behind: the next one begins a turn. If the lock is
    /// free it is ours at once.
    pub(super) fn not_behind(&mut self, now: Now) -> Step {
        self.draw = Draw::Anyway;
        self.enqueue(now)
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
    /// would give out tokens for the second time. If we `drew` a ticket just now, that is
    /// the last one of this record, and nobody can have seen it before.
    pub(super) fn went_back(&mut self, record: &LockRecord, drew: bool) -> Option<GaveUp> {
        let seen = self.watch.highest();
        let found = match drew {
            true => record.issued.previous(),
            false => record.issued,
        };
        self.watch.saw_ticket(record.issued);
        (found < seen).then_some(GaveUp::WentBack { found, seen })
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
