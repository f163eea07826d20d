//! How long to wait, and what to do when nothing gets through.

use std::time::Duration;

use super::{Goal, Waiter};
use crate::protocol::{
    ANNOUNCE_DELAY, Consistency, Failure, FailureKind, GaveUp, Moment, Now, Patience, Place, Step,
    backoff,
};
use crate::types::Ticket;

/// Waiters with at most this many turns before their own keep an eye on the
/// grace, and wake up when a turn before theirs stands still.
const NEAR: u64 = 3;

/// A turn that nobody has taken for longer than this deserves attention.
const NEGLECT: Duration = Duration::from_secs(3);

impl Waiter {
    pub(super) fn wait(&mut self, ticket: Ticket, now: Now) -> Step {
        let Some(record) = self.watch.record() else {
            return self.look(Consistency::Strong, now);
        };
        let place = self.place(self.watch.ahead_of(ticket).unwrap_or(0), now);
        let mut pause = self.attempt.pace.pause(place, now.dice);
        let late = now.moment.since(self.drawn) > ANNOUNCE_DELAY && !self.announced;
        if late {
            // Without a row, whoever sleeps through the grace loses its turn.
            pause = pause.min(record.grace / 2);
        }
        let mut wake = self.next_look(pause, place, now);
        let spared = self.spared.filter(|_| self.spares(record, now));
        // By the wall clock nobody has taken the turn for a while. That may be wrong by
        // a few seconds, and is no reason for more than to look again in time.
        let neglected =
            record.holder.is_none() && record.unmoved_for(now.wall_ms) > record.grace.max(NEGLECT);
        let stalls_at = match spared {
            Some(spared) => Some(spared.until),
            None if place.ahead <= NEAR || neglected || self.began == Some(record.turn()) => {
                self.watch.stalls_at()
            }
            None => None,
        };
        if let Some(stalls_at) = stalls_at {
            wake = wake.min(stalls_at.max(now.moment));
        }
        // The proof that it was not our turn before has to be fresh when the turn
        // comes; the next in line must not miss the turn either.
        let stale = wake.since(self.not_before) > record.grace / 4;
        let near = place.ahead <= 1 || (place.ahead <= NEAR && stale);
        self.goal = Goal::Look(match near {
            true => Consistency::Strong,
            false => Consistency::Eventual,
        });
        self.pause(wake, now)
    }

    /// When to look again after a `pause`. For the next in line it is counted from when the
    /// last request was sent, so that a hand-over is not noticed the later for every look
    /// being slow; half of it is left at any rate, so that a store that is slower still has
    /// a rest. After failures it is longer for a while, also if the last request got through.
    pub(super) fn next_look(&self, pause: Duration, place: Place, now: Now) -> Moment {
        let mut wake = now.moment.plus(pause);
        if place.ahead <= 1 {
            wake = self.sent.plus(pause).max(now.moment.plus(pause / 2));
        }
        match self.failures {
            0 => wake,
            failures => wake.max(now.moment.plus(backoff(failures, now.dice))),
        }
    }

    pub(super) fn place(&self, ahead: u64, now: Now) -> Place {
        Place {
            ahead,
            turn_lasts: self.watch.turn_lasts(now.moment),
            turn_time: self.watch.turn_time(),
        }
    }

    pub(super) fn failed(&mut self, failure: Failure, now: Now) -> Step {
        let since = *self.failing_since.get_or_insert(self.sent);
        let outage = since.plus(self.attempt.outage_limit);
        if failure.maybe_applied && matches!(self.goal, Goal::Share(_)) {
            self.share_lost.get_or_insert(self.sent);
        }
        if matches!(self.goal, Goal::Try) {
            self.try_lost |= failure.maybe_applied;
            self.tried_blind |= failure.maybe_applied;
            if failure.maybe_applied && failure.kind == FailureKind::Transient {
                self.goal = Goal::Confirm;
                return self.back_off_until(outage, now);
            }
        }
        let end = match (failure.kind, self.attempt.patience) {
            (FailureKind::Final, _) | (_, Patience::TryOnly) => now.moment,
            (FailureKind::Transient, Patience::Queue) => outage,
            (FailureKind::Refused, Patience::Queue) => outage.min(self.refusals.refused(self.sent)),
        };
        if now.moment >= end {
            return self.leave(GaveUp::Failed, None, now);
        }
        if matches!(
            self.goal,
            Goal::Advance(..) | Goal::Survey(_) | Goal::Look(_) | Goal::Share(_) | Goal::Evict(..)
        ) {
            self.goal = Goal::Look(Consistency::Strong);
        }
        self.back_off_until(end, now)
    }

    /// When the attempt ends at the latest, should nothing get through from here on.
    #[must_use]
    pub fn ends_at(&self) -> Option<Moment> {
        let failing_since = self.failing_since;
        let outage = failing_since.map(|since| since.plus(self.attempt.outage_limit));
        let ends = [self.attempt.give_up_at, outage];
        ends.into_iter().flatten().min()
    }

    pub(super) fn back_off(&mut self, now: Now) -> Step {
        self.back_off_until(now.moment.plus(self.attempt.outage_limit), now)
    }

    /// Pauses before the next request, but not past `end`: one more is sent then.
    fn back_off_until(&mut self, end: Moment, now: Now) -> Step {
        self.failures = self.failures.saturating_add(1);
        let wake = now.moment.plus(backoff(self.failures, now.dice));
        self.pause(wake.min(end), now)
    }

    pub(super) fn pause(&mut self, wake: Moment, now: Now) -> Step {
        match self.reason_to_leave(now) {
            Some(why) => self.leave(why, None, now),
            None => Step::Pause(match self.attempt.give_up_at {
                Some(end) => wake.min(end),
                None => wake,
            }),
        }
    }
}
