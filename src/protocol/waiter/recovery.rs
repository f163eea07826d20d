//! Getting past those who are gone.

use std::time::Duration;

use super::{Goal, Waiter};
use crate::protocol::{
    ANNOUNCE_DELAY, Consistency, Criteria, FURTHER_LIMIT, Finding, GaveUp, LOOK_LIMIT, Moment, Now,
    Patience, Stall, Step, is_abandoned, row_delay, survey,
};
use crate::record::{LockRecord, TicketRow};
use crate::types::Ticket;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Survey {
    /// The ticket whose turn it is.
    pub(super) turn: Ticket,
    /// The tickets before this one are known to be gone.
    pub(super) from: Ticket,
    /// The first ticket that is not asked about.
    pub(super) end: Ticket,
    /// Why the turn may be ended without the word of its owner, if it may.
    pub(super) stall: Option<Stall>,
    /// Whether a whole page of rows was read already.
    pub(super) further: bool,
    /// What counts as gone, as of when the rows were asked for: a row that expires while
    /// the answer is on its way may have been renewed meanwhile.
    pub(super) criteria: Criteria,
}

/// A turn that is not ended for now, although it stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spared {
    pub(super) served: Ticket,
    pub(super) revision: u64,
    pub(super) until: Moment,
}

impl Survey {
    /// The maximum number of rows of the next page.
    pub(super) fn limit(&self) -> usize {
        match self.further {
            true => FURTHER_LIMIT,
            false => LOOK_LIMIT,
        }
    }
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
        if record.is_free() && record.issued >= Ticket::MAX {
            return self.leave(GaveUp::UsedUp, None, now);
        }
        if record.is_free() {
            return self.make_room(&record, now);
        }
        // An attempt that does not wait can still tell the dead from the living: by what
        // this client saw before, by their own word, and by the clock.
        self.watch.observe(&record, now.moment);
        match (&record.holder, self.stall(&record, now)) {
            (Some(_), None) => self.not_ours(now),
            (_, stall) => self.survey(&record, record.issued.next(), stall, now),
        }
    }

    /// Decides about the turn of another waiter or holder.
    pub(super) fn past_the_gone(&mut self, ticket: Ticket, record: &LockRecord, now: Now) -> Step {
        let unclaimed = record.holder.is_none();
        match self.stall(record, now) {
            Some(stall) if !self.spares(record, now) => {
                self.survey(record, ticket, Some(stall), now)
            }
            _ if unclaimed && self.asks_who_left(record, now) => {
                self.survey(record, ticket, None, now)
            }
            _ => self.wait(ticket, now),
        }
    }

    /// Why the present turn may be ended without the word of its owner, if it may: it
    /// stood still for too long as this client saw it, or its owner is dead by the clock.
    fn stall(&self, record: &LockRecord, now: Now) -> Option<Stall> {
        self.watch.stall(now.moment).or_else(|| {
            let allowance = self.attempt.clock_allowance;
            is_abandoned(record, now.wall_ms, allowance).then(|| match &record.holder {
                Some(holder) => Stall::Abandoned {
                    owner: holder.owner.clone(),
                },
                None => Stall::Unclaimed,
            })
        })
    }

    /// Whether it is time to ask if the waiter whose turn it is has left: once a turn,
    /// when most waiters would have claimed, or before this attempt ends.
    fn asks_who_left(&self, record: &LockRecord, now: Now) -> bool {
        let patience = record.grace / 2;
        let ends_soon = |end: Moment| end.since(now.moment) < patience;
        // A wall clock that is ahead makes each turn look old.
        let by_wall_clock = record.unmoved_for(now.wall_ms);
        let by_wall_clock = by_wall_clock.min(self.watch.turn_lasts_at_most(now.moment));
        self.asked_about != Some(record.turn())
            && (self.watch.still_for(now.moment) >= patience
                || by_wall_clock >= patience
                || self.attempt.give_up_at.is_some_and(ends_soon))
    }

    /// Finds out which tickets are gone, from that of the present turn on: whether its
    /// own is, or, once it is known that its holder is, how many go with it.
    fn survey(&mut self, record: &LockRecord, end: Ticket, stall: Option<Stall>, now: Now) -> Step {
        let turn = record.turn();
        self.asked_about = Some(turn);
        if let (Some(_), Some(stall)) = (&record.holder, &stall)
            && (turn.next() >= end || self.reason_to_leave(now).is_some())
        {
            return self.pursue(Goal::Advance(turn.next(), stall.clone()), now);
        }
        let survey = Survey {
            turn,
            from: match record.holder {
                Some(_) => turn.next(),
                None => turn,
            },
            end,
            criteria: self.criteria(stall.is_some(), now),
            stall,
            further: false,
        };
        self.pursue(Goal::Survey(survey), now)
    }

    /// What counts as gone. A mistake about which tickets should have a row costs one of
    /// them its place in the queue, and not exclusion.
    fn criteria(&self, may_end: bool, now: Now) -> Criteria {
        let delay = self.watch.record().map_or(ANNOUNCE_DELAY, row_delay);
        // Two wall clocks may be apart by as much as the life of a row allows.
        let by_wall_clock = delay.max(self.attempt.presence);
        let mut due = self.watch.out_for(delay, now.moment);
        if let Some(ticket) = self.ticket
            && now.moment.since(self.drawn) > delay
        {
            // The tickets before ours are even older.
            due = due.max(Some(ticket.previous()));
        }
        if let Some(record) = self.watch.record()
            && record.unmoved_for(now.wall_ms) > by_wall_clock
        {
            due = due.max(Some(record.mark));
        }
        let by_wall_clock_ms = u64::try_from(by_wall_clock.as_millis()).unwrap_or(u64::MAX);
        Criteria {
            may_end,
            due,
            wall_ms: now.wall_ms,
            due_since_ms: now.wall_ms.saturating_sub(by_wall_clock_ms),
        }
    }

    pub(super) fn surveyed(&mut self, rows: &[TicketRow], now: Now) -> Step {
        let Goal::Survey(done) = self.goal.clone() else {
            return self.look(Consistency::Strong, now);
        };
        let found = survey(done.from, done.end, rows, done.limit(), &done.criteria);
        let (first, alive_until_s) = match found {
            // An attempt that does not wait for more than two pages, or whose time is up,
            // writes down how far it got. The next one goes on from there.
            Finding::More(from) if self.goes_on(from, &done, now) => {
                let survey = Survey {
                    from,
                    further: true,
                    criteria: self.criteria(done.stall.is_some(), now),
                    ..done
                };
                return self.pursue(Goal::Survey(survey), now);
            }
            Finding::More(from) => (from, None),
            Finding::First {
                ticket,
                alive_until_s,
            } => (ticket, alive_until_s),
        };
        match (self.ticket, done.stall) {
            (_, stall) if first > done.turn => {
                let stall = stall.unwrap_or(Stall::Unclaimed);
                self.pursue(Goal::Advance(first, stall), now)
            }
            (Some(ticket), None) => self.wait(ticket, now),
            _ => self.spare(alive_until_s, now),
        }
    }

    fn goes_on(&self, from: Ticket, done: &Survey, now: Now) -> bool {
        let has_time = match self.attempt.patience {
            Patience::Queue => self.reason_to_leave(now).is_none(),
            Patience::TryOnly => !done.further,
        };
        has_time && from < done.end
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
            None => self.drawn.plus(row_delay(record)),
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
