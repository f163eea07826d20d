//! Giving back what an attempt may have, in requests that are not repeated.

use std::time::Duration;

use super::{Goal, Waiter};
use crate::protocol::{Answer, Attempt, GaveUp, Now, Patience, Step, Write, expiry};
use crate::record::{Mode, TicketRow, TicketState};
use crate::types::Ticket;

/// For how long the word of whoever left is kept. It is of use only when its turn
/// comes, and until then somebody may hold the lock for days.
const TOMBSTONE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// An attempt on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaving {
    pub(super) why: GaveUp,
    /// A try, or a share, is in the dark. It may have made us the holder, or yet make
    /// us so.
    pub(super) withdraw: bool,
    /// It may be the turn of this ticket: pass it on.
    pub(super) release: Option<Ticket>,
    /// Leave word that nobody waits with this ticket any more.
    pub(super) tombstone: Option<Ticket>,
    /// Since when the attempt waited, by the wall clock.
    pub(super) since_ms: u64,
    /// What was sent last was a release.
    pub(super) releasing: Option<Ticket>,
}

impl Leaving {
    /// Takes the answer to the last step and says what to do next.
    pub(super) fn step(&mut self, answer: &Answer, attempt: &Attempt, now: Now) -> Step {
        if let Some(ticket) = self.releasing.take()
            && self.tombstone == Some(ticket)
            && matches!(answer, Answer::Applied(_))
        {
            // The ticket is finished: nobody will ask about it.
            self.tombstone = None;
        }
        if std::mem::take(&mut self.withdraw) {
            let id = attempt.id.clone();
            return Step::Write(match attempt.mode {
                Mode::Exclusive => Write::Withdraw {
                    id,
                    wall_ms: now.wall_ms,
                },
                Mode::Shared { .. } => Write::Unshare { id },
            });
        }
        if let Some(ticket) = self.release.take() {
            self.releasing = Some(ticket);
            return Step::Write(Write::Release {
                ticket,
                id: attempt.id.clone(),
                wall_ms: now.wall_ms,
            });
        }
        if let Some(ticket) = self.tombstone.take() {
            return Step::Announce(TicketRow {
                ticket,
                id: attempt.id.clone(),
                owner: attempt.owner.clone(),
                state: TicketState::Left,
                since_ms: self.since_ms,
                expires_at_s: expiry(now, TOMBSTONE),
            });
        }
        Step::GaveUp(self.why)
    }
}

impl Waiter {
    pub(super) fn reason_to_leave(&self, now: Now) -> Option<GaveUp> {
        let late = self.attempt.give_up_at.is_some_and(|end| now.moment >= end);
        if self.cancelled {
            Some(GaveUp::Cancelled)
        } else if late && self.attempt.patience == Patience::Queue {
            Some(GaveUp::TimedOut)
        } else {
            None
        }
    }

    /// Gives back what we may have. `ours` is a ticket that is known to have its
    /// turn.
    pub(super) fn leave(&mut self, why: GaveUp, ours: Option<Ticket>, now: Now) -> Step {
        let in_flight = match self.goal {
            Goal::Claim(ticket) | Goal::Share(ticket) => Some(ticket),
            _ => None,
        };
        let shares = match self.goal {
            Goal::Share(_) | Goal::EndShare(_) => true,
            // It was granted, and is not wanted any more.
            Goal::Try => ours.is_some() && self.attempt.mode != Mode::Exclusive,
            _ => false,
        };
        // Nobody can have found fault with our turn yet if it was not our turn half
        // a grace ago. Then the word we leave is read before anybody is spared.
        let fresh = !self.told
            && self.watch.record().is_some_and(|record| {
                Some(record.turn()) != self.ticket
                    && now.moment.since(self.not_before) < record.grace / 2
            });
        let mut leaving = Leaving {
            why,
            withdraw: self.try_lost || self.share_lost.is_some() || shares,
            release: ours.or(in_flight).or(self.ticket.filter(|_| !fresh)),
            tombstone: self.ticket,
            since_ms: self.drawn_wall_ms,
            releasing: None,
        };
        let step = leaving.step(&Answer::Ready, &self.attempt, now);
        self.goal = Goal::Leave(leaving);
        self.sent = now.moment;
        step
    }
}
