//! Giving back what an attempt may have, in requests that are not repeated.

use std::time::Duration;

use crate::protocol::{Answer, Attempt, GaveUp, Now, Step, Write, expiry};
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
