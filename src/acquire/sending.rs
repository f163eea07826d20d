//! The requests of an attempt: when one can be sent, for how long it is waited for, and
//! what is left to another thread.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::never;

use super::{Acquire, CancelledBy};
use crate::core::Core;
use crate::departure::Departure;
use crate::error::StoreError;
use crate::event::Event;
use crate::protocol::{Answer, Failure, FailureKind, Moment, Patience, Step};
use crate::semaphore::Entry;
use crate::types::LockName;

/// A request may be under way for so long after the attempt's time is up: one that was
/// sent in the last moment is to have a chance.
pub(super) const OVERTIME: Duration = Duration::from_millis(250);

/// Leaving keeps the caller for so long at most. What is not done by then is done by
/// another thread.
const LEAVE: Duration = Duration::from_millis(750);

/// Whether a request can be sent.
pub(super) enum Entered {
    Now,
    /// After a wait. What is to be asked may not be the same any more.
    Later,
    /// No, and this is what became of it.
    No(Answer),
}

impl Acquire<'_> {
    /// Sends a request, with a permit, which ends with the answer.
    pub(super) fn send(&mut self, step: &Step) -> Answer {
        self.unanswered = true;
        let within = self.within();
        let limit = self.core.settings.request_timeout;
        let sent = self.core.machine.now();
        self.goes_on_by(sent.plus(within));
        let outcome = carry_out(self.core, self.lock, step, within);
        self.permit = None;
        if within < limit && outcome.as_ref().is_err_and(StoreError::maybe_applied) {
            self.unclear_until = Some(sent.plus(limit));
        }
        match outcome {
            Ok(answer) => {
                self.met_others |= matches!(answer, Answer::Refused(_));
                answer
            }
            Err(error) => {
                let failure = error.failure();
                self.tell_disturbed(&error);
                self.failure = Some((doing(step), error));
                Answer::Failed(failure)
            }
        }
    }

    /// How long a request that is sent now may take.
    fn within(&self) -> Duration {
        let limit = self.core.settings.request_timeout;
        let left = self.ends_at().since(self.core.machine.now());
        limit.min(left.saturating_add(OVERTIME))
    }

    /// When the attempt ends at the latest, should nothing get through from here on.
    fn ends_at(&self) -> Moment {
        let limit = self.core.settings.request_timeout;
        let outage = self.core.settings.outage_limit;
        match (self.patience, self.waiter.ends_at()) {
            (Patience::TryOnly, _) => self.began.plus(limit * 2),
            (Patience::Queue, Some(end)) => end,
            (Patience::Queue, None) => self.core.machine.now().plus(outage),
        }
    }

    /// Waits until this client has room for one more request of an attempt.
    pub(super) fn enter(&mut self) -> Entered {
        // A failure, so that an attempt that would send this even after its end does not
        // ask for it again and again.
        const NOT_SENT: Answer = Answer::Failed(Failure {
            maybe_applied: false,
            kind: FailureKind::Transient,
        });
        if self.permit.is_some() {
            return Entered::Now;
        }
        let end = self.ends_at();
        self.goes_on_by(end);
        let (machine, closed) = (&*self.core.machine, self.core.closed());
        match self.core.requests.enter(machine, end, &self.cancel, closed) {
            Entry::AtOnce(permit) => {
                self.permit = Some(permit);
                Entered::Now
            }
            Entry::Later(permit) => {
                self.permit = Some(permit);
                Entered::Later
            }
            Entry::Cancelled => {
                self.cancelled_by = Some(CancelledBy::User);
                Entered::No(NOT_SENT)
            }
            Entry::Closed => {
                self.cancelled_by = Some(CancelledBy::Close);
                Entered::No(NOT_SENT)
            }
            Entry::Late if self.is_late() => Entered::No(NOT_SENT),
            Entry::Late => {
                let why = "this client has too many requests under way that get no answer";
                let error = StoreError::Unreachable { source: why.into() };
                self.failure = Some(("acquire", error));
                Entered::No(NOT_SENT)
            }
        }
    }

    fn is_late(&self) -> bool {
        let now = self.core.machine.now();
        self.waiter.gives_up_at().is_some_and(|end| now >= end)
    }

    pub(super) fn is_cancelled(&mut self) -> bool {
        self.notice_cancellation();
        self.cancelled_by.is_some()
    }

    /// Sends a request on the way out, while there is time for that. What does not get
    /// through, and all that comes after it, is left to another thread: the caller goes
    /// on.
    pub(super) fn leave(&mut self, step: Step) -> Answer {
        const UNKNOWN: Answer = Answer::Failed(Failure {
            maybe_applied: true,
            kind: FailureKind::Final,
        });
        if self.delegated {
            return UNKNOWN;
        }
        let machine = &*self.core.machine;
        let is_first = self.leave_by.is_none();
        let (now, end) = (machine.now(), self.ends_at());
        // A recovery that was ended after the attempt's time was up had a part of this.
        let latest = end.max(now).min(end.plus(OVERTIME)).plus(LEAVE);
        let leave_by = *self.leave_by.get_or_insert(latest.min(now.plus(LEAVE)));
        if is_first
            && matches!(step, Step::Write(_))
            && let Some(until) = self.unclear_until
            && until > machine.now()
        {
            self.again = Some(self.departure(step.clone(), Some(until)));
        }
        if self.verdict.is_none() {
            let entry = match self.permit.take() {
                Some(permit) => Entry::AtOnce(permit),
                None => self
                    .core
                    .requests
                    .enter(machine, leave_by, &never(), &never()),
            };
            let limit = self.core.settings.request_timeout;
            let within = limit.min(leave_by.since(machine.now()));
            if !within.is_zero()
                && let Entry::AtOnce(permit) | Entry::Later(permit) = entry
            {
                self.unanswered = true;
                let outcome = carry_out(self.core, self.lock, &step, within);
                drop(permit);
                match outcome {
                    Ok(answer) => {
                        if is_first && matches!(answer, Answer::Applied(_)) {
                            // What was unclear has been given back.
                            self.again = None;
                        }
                        return answer;
                    }
                    Err(error) => self.tell_disturbed(&error),
                }
            }
        }
        self.delegated = true;
        let mut departure = self.departure(step, None);
        departure.verdict = self.verdict.take();
        self.shared.heartbeat.leave(departure);
        UNKNOWN
    }

    /// The way out, from this request on, for another thread.
    fn departure(&self, step: Step, not_before: Option<Moment>) -> Departure {
        Departure {
            core: Arc::clone(self.core),
            lock: self.lock.clone(),
            waiter: self.waiter.clone(),
            step,
            left_at: self.core.machine.now(),
            not_before,
            verdict: None,
            attending: self.shared.attendance.enter(),
        }
    }

    fn tell_disturbed(&self, error: &StoreError) {
        if !self.over {
            self.core.tell(&Event::WaitDisturbed {
                lock: self.lock,
                error,
            });
        }
    }
}

/// Makes one request of an attempt.
pub(crate) fn carry_out(
    core: &Core,
    lock: &LockName,
    step: &Step,
    within: Duration,
) -> Result<Answer, StoreError> {
    let store = &core.store;
    Ok(match step {
        Step::Write(write) => store.write(lock, write, within)?.into(),
        Step::Read(consistency) => Answer::Read(store.read(lock, *consistency, within)?),
        Step::Look { from, to, limit } => {
            Answer::Rows(store.look(lock, *from, *to, *limit, within)?)
        }
        Step::Announce(row) => {
            store.announce(lock, row, within)?;
            Answer::Announced
        }
        Step::Pause(_) | Step::Granted(_) | Step::GaveUp(_) => Answer::Ready,
    })
}

/// What the user is told that failed.
fn doing(step: &Step) -> &'static str {
    match step {
        Step::Write(_) => "acquire",
        _ => "watch",
    }
}
