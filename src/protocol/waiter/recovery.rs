//! Getting past those who are gone.

use std::time::Duration;

use super::{Goal, Waiter};
use crate::protocol::{
    ANNOUNCE_DELAY, Consistency, Evidence, Finding, GaveUp, Moment, Now, Patience, Stall, Step,
    is_abandoned, survey,
};
use crate::record::{LockRecord, TicketRow};
use crate::types::Ticket;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Survey {
    pub(super) from: Ticket,
    /// The first ticket that is not asked about.
    pub(super) end: Ticket,
    pub(super) evidence: Evidence,
    /// Whether all before `from` are known to be gone, the turn's own ticket
    /// included.
    pub(super) begun: bool,
}

/// A turn that is not ended for now, although it stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spared {
    pub(super) served: Ticket,
    pub(super) revision: u64,
    pub(super) until: Moment,
}

impl Waiter {
    /// A try was refused, or its answer lost. This is what the record says.
    pub(super) fn confirmed(&mut self, record: Option<LockRecord>, now: Now) -> Step {
        let Some(record) = record else {
            return self.not_ours(now);
        };
        if let Some(ticket) = record.held_by(&self.attempt.id) {
            return self.pursue(Goal::Claim(ticket), now);
        }
        if let Some(own) = record.sharers.get(&self.attempt.id) {
            return match self.attempt.patience {
                Patience::Queue => self.pursue(Goal::EndShare(own.beats), now),
                // It was not busy.
                Patience::TryOnly => self.leave(GaveUp::Failed, None, now),
            };
        }
        if self.attempt.patience == Patience::Queue {
            return self.not_ours(now);
        }
        if record.is_free() {
            return self.make_room(&record, now);
        }
        // Who does not wait can still tell the dead from the living: those that
        // said that they left, and those that were silent for ever.
        self.watch.observe(&record, now.moment);
        let abandoned = is_abandoned(&record, now.wall_ms, self.attempt.clock_allowance);
        let (turn, end) = (record.turn(), record.issued.next());
        match &record.holder {
            Some(holder) if abandoned => {
                let owner = holder.owner.clone();
                self.pursue(Goal::Advance(turn.next(), Stall::Abandoned { owner }), now)
            }
            Some(_) => self.not_ours(now),
            None => {
                let survey = if abandoned {
                    Survey {
                        from: turn.next(),
                        end,
                        evidence: Evidence::Expiry,
                        begun: true,
                    }
                } else {
                    Survey {
                        from: turn,
                        end,
                        evidence: Evidence::Tombstones,
                        begun: false,
                    }
                };
                self.survey(survey, now)
            }
        }
    }

    /// Nobody claimed the turn, for longer than the grace: finds out which of
    /// those before us is not gone.
    pub(super) fn look_for_the_living(
        &mut self,
        ticket: Ticket,
        record: &LockRecord,
        now: Now,
    ) -> Step {
        let waited = now.moment.since(self.drawn);
        // Whoever came before us has waited for even longer.
        let all_have_rows = waited > ANNOUNCE_DELAY.saturating_add(record.grace);
        let survey = Survey {
            from: record.turn(),
            end: ticket,
            evidence: match all_have_rows {
                true => Evidence::Absence,
                false => Evidence::Expiry,
            },
            begun: false,
        };
        self.survey(survey, now)
    }

    pub(super) fn survey(&mut self, survey: Survey, now: Now) -> Step {
        if survey.from >= survey.end {
            return self.first_not_gone(survey, survey.end, now);
        }
        self.pursue(Goal::Survey(survey), now)
    }

    pub(super) fn surveyed(&mut self, rows: &[TicketRow], now: Now) -> Step {
        let Goal::Survey(done) = self.goal else {
            return self.look(Consistency::Strong, now);
        };
        match survey(done.from, done.end, rows, done.evidence, now.wall_ms) {
            Finding::More(from) => {
                let begun = true;
                self.survey(
                    Survey {
                        from,
                        begun,
                        ..done
                    },
                    now,
                )
            }
            Finding::First { ticket, .. } if done.begun || ticket > done.from => {
                self.first_not_gone(done, ticket, now)
            }
            Finding::First { alive_until_s, .. } => self.spare(alive_until_s, now),
        }
    }

    fn first_not_gone(&mut self, survey: Survey, ticket: Ticket, now: Now) -> Step {
        // Who does not wait goes past the dead only if that frees the lock.
        if self.attempt.patience == Patience::TryOnly && !survey.begun && ticket < survey.end {
            return self.not_ours(now);
        }
        self.pursue(Goal::Advance(ticket, Stall::Unclaimed), now)
    }

    /// Whoever has the turn is not gone, only slow. Its row says for how long that
    /// is to be believed; without a row, that it will have one, or be late.
    fn spare(&mut self, alive_until_s: Option<u64>, now: Now) -> Step {
        let (Some(ticket), Some(record)) = (self.ticket, self.watch.record()) else {
            return self.not_ours(now);
        };
        let until = match alive_until_s {
            Some(end_s) => {
                let left_ms = end_s.saturating_mul(1_000).saturating_sub(now.wall_ms);
                now.moment
                    .plus(Duration::from_millis(left_ms).min(self.attempt.presence))
            }
            None => self.drawn.plus(ANNOUNCE_DELAY.saturating_add(record.grace)),
        };
        // Nobody is asked about more often than this.
        let until = until.max(now.moment.plus(record.grace / 4));
        self.spared = Some(Spared {
            served: record.served,
            revision: record.revision,
            until,
        });
        self.wait(ticket, now)
    }

    pub(super) fn spares(&self, record: &LockRecord, now: Now) -> bool {
        self.spared.is_some_and(|spared| {
            spared.served == record.served
                && spared.revision == record.revision
                && now.moment < spared.until
        })
    }
}
