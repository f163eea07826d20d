//! The rest of the way out of a queue, for an attempt whose caller has gone on.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::carry_out;
use crate::attendance::Attending;
use crate::core::Core;
use crate::error::StoreError;
use crate::event::Event;
use crate::lobby::Verdict;
use crate::protocol::{Answer, FailureKind, Moment, Step, Waiter, backoff};
use crate::types::LockName;

/// An attempt that gives back what it may have, on a thread that nobody waits for. Its
/// requests go out one after the other, each until it has an answer or the time for all
/// of them is up; each can be sent again without harm, for the attempt is over.
pub(crate) struct Departure {
    pub(crate) core: Arc<Core>,
    pub(crate) lock: LockName,
    pub(crate) waiter: Waiter,
    /// The first request that is to be sent.
    pub(crate) step: Step,
    pub(crate) left_at: Moment,
    /// When to give back once more what was given back already, if that is all there is
    /// to do.
    pub(crate) not_before: Option<Moment>,
    /// If the lock is being claimed in this waiter's name: what came of it is known
    /// first.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) attending: Attending,
}

impl Departure {
    pub(crate) fn run(mut self) {
        let limit = self.core.settings.request_timeout;
        if let Some(verdict) = self.verdict.take() {
            verdict.wait(&*self.core.machine);
        }
        if let Some(begin) = self.not_before {
            self.sleep_until(begin);
        }
        // Those that had to wait for a thread, as a crowd does while the store hangs, do not
        // take long.
        let patience = self.core.machine.now().plus(limit * 2);
        let until = patience.min(self.left_at.plus(limit * 4));
        let mut failed = None;
        loop {
            let answer = match self.send(until, limit) {
                Ok(answer) => answer,
                Err(error) => {
                    let failure = error.failure();
                    failed = Some(error);
                    Answer::Failed(failure)
                }
            };
            match self.waiter.step(answer, self.core.now()) {
                Step::GaveUp(_) | Step::Granted(_) | Step::Pause(_) => break,
                // It has said that it left.
                Step::Announce(_) if self.not_before.is_some() => break,
                next => self.step = next,
            }
        }
        let Some(error) = failed else {
            return;
        };
        self.core.tell(&Event::WaitDisturbed {
            lock: &self.lock,
            error: &error,
        });
        if self.core.is_closed() {
            self.attending.left_behind(&self.lock, error);
        }
    }

    /// Sends the request until it has an answer, or cannot have one in time.
    fn send(&self, until: Moment, limit: Duration) -> Result<Answer, StoreError> {
        let core = &*self.core;
        let mut failures = 0;
        loop {
            // What comes last is sent once, too.
            let within = limit.min(until.since(core.machine.now())).max(limit / 4);
            let error = match carry_out(core, &self.lock, &self.step, within) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            let now = core.now();
            let again = now.moment.plus(backoff(failures, now.dice));
            if error.failure().kind == FailureKind::Final || again >= until {
                return Err(error);
            }
            self.sleep_until(again);
        }
    }

    fn sleep_until(&self, wake: Moment) {
        let machine = &self.core.machine;
        while machine.now() < wake {
            machine.wait(&[], wake);
        }
    }
}
