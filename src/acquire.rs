//! The blocking loop: carries the steps of a [`Waiter`] out.

use std::time::Duration;

use crossbeam_channel::{Receiver, never, select};

use crate::core::Core;
use crate::error::{Error, StoreError};
use crate::event::Event;
use crate::protocol::{Answer, Attempt, GaveUp, Grant, Moment, Notice, Patience, Step, Waiter};
use crate::types::{HolderId, LockName};

/// How one acquire is to wait.
pub(crate) struct Manner {
    pub(crate) patience: Patience,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel: Option<Receiver<()>>,
    pub(crate) contended: bool,
}

/// How an acquire ended, if not in an error.
pub(crate) enum Outcome {
    Granted(HolderId, Grant),
    Busy,
}

/// One acquire attempt on the calling thread.
pub(crate) struct Acquire<'a> {
    core: &'a Core,
    lock: &'a LockName,
    cancel: Receiver<()>,
    began: Moment,
    waiter: Waiter,
    id: HolderId,
    /// The failure to report, should the attempt end in one: the last one before
    /// it began to leave.
    failure: Option<(&'static str, StoreError)>,
    cancelled_by: Option<CancelledBy>,
    /// Whether the lock turned out to be in use.
    pub(crate) met_others: bool,
}

#[derive(Clone, Copy)]
enum CancelledBy {
    User,
    Close,
}

impl<'a> Acquire<'a> {
    pub(crate) fn new(core: &'a Core, lock: &'a LockName, manner: Manner) -> Self {
        let settings = &core.settings;
        let began = core.clock.now();
        let id = HolderId::random();
        let waiter = Waiter::new(Attempt {
            id: id.clone(),
            owner: settings.owner.clone(),
            lease: settings.lease,
            grace: settings.claim_grace,
            pace: settings.pace,
            give_up_at: manner.timeout.map(|timeout| began.plus(timeout)),
            outage_limit: settings.outage_limit,
            patience: manner.patience,
            contended: manner.contended,
        });
        Self {
            core,
            lock,
            cancel: manner.cancel.unwrap_or_else(never),
            began,
            waiter,
            id,
            failure: None,
            cancelled_by: None,
            met_others: false,
        }
    }

    /// Blocks until the lock is granted or the attempt is over.
    pub(crate) fn run(&mut self) -> Result<Outcome, Error> {
        let mut answer = Answer::Ready;
        loop {
            let step = self.waiter.step(answer, self.core.now());
            self.tell_notices();
            answer = match step {
                Step::Write(write) => {
                    let doing = if self.waiter.is_leaving() {
                        "leave"
                    } else {
                        "acquire"
                    };
                    self.send(doing, |core, lock| {
                        Ok(
                            match core
                                .store
                                .write(lock, &write, core.settings.request_timeout)?
                            {
                                Some(record) => Answer::Applied(record),
                                None => Answer::Refused,
                            },
                        )
                    })
                }
                Step::Read(consistency) => self.send("watch", |core, lock| {
                    let within = core.settings.request_timeout;
                    Ok(Answer::Read(core.store.read(lock, consistency, within)?))
                }),
                Step::Pause(until) => {
                    self.pause(until);
                    Answer::Ready
                }
                Step::Granted(grant) => return Ok(Outcome::Granted(self.id.clone(), grant)),
                Step::GaveUp(why) => return self.gave_up(why),
            };
            self.notice_cancellation();
        }
    }

    /// How long the attempt has lasted.
    pub(crate) fn waited(&self) -> Duration {
        self.core.clock.now().since(self.began)
    }

    fn send(
        &mut self,
        doing: &'static str,
        request: impl FnOnce(&Core, &LockName) -> Result<Answer, StoreError>,
    ) -> Answer {
        let leaving = self.waiter.is_leaving();
        match request(self.core, self.lock) {
            Ok(answer) => {
                self.met_others |= matches!(answer, Answer::Refused);
                if !leaving {
                    self.failure = None;
                }
                answer
            }
            Err(error) => {
                let failure = error.failure();
                self.core.tell(&Event::WaitDisturbed {
                    lock: self.lock,
                    error: &error,
                });
                // What fails on the way out is not why we leave.
                if !leaving {
                    self.failure = Some((doing, error));
                }
                Answer::Failed(failure)
            }
        }
    }

    fn pause(&mut self, until: Moment) {
        let pause = until.since(self.core.clock.now());
        select! {
            recv(self.cancel) -> _ => self.cancelled_by = Some(CancelledBy::User),
            recv(self.core.closed()) -> _ => self.cancelled_by = Some(CancelledBy::Close),
            default(pause) => {}
        }
    }

    /// A cancellation may also come while a request is under way.
    fn notice_cancellation(&mut self) {
        if self.cancelled_by.is_none() {
            if self.core.is_closed() {
                self.cancelled_by = Some(CancelledBy::Close);
            } else if !matches!(
                self.cancel.try_recv(),
                Err(crossbeam_channel::TryRecvError::Empty)
            ) {
                self.cancelled_by = Some(CancelledBy::User);
            }
        }
        if self.cancelled_by.is_some() {
            self.waiter.cancel();
        }
    }

    fn tell_notices(&mut self) {
        for notice in self.waiter.take_notices() {
            let lock = self.lock;
            match notice {
                Notice::Enqueued { ticket, ahead } => {
                    self.met_others |= ahead > 0;
                    self.core.tell(&Event::Enqueued {
                        lock,
                        ticket,
                        ahead,
                    });
                }
                Notice::PassedOver { ticket } => {
                    self.core.tell(&Event::PassedOver { lock, ticket });
                }
                Notice::WentPast { ticket, stall } => self.core.tell(&Event::WentPast {
                    lock,
                    ticket,
                    stall: &stall,
                }),
            }
        }
    }

    fn gave_up(&mut self, why: GaveUp) -> Result<Outcome, Error> {
        let lock = self.lock.clone();
        match (why, self.failure.take(), self.cancelled_by) {
            (GaveUp::Busy, ..) => Ok(Outcome::Busy),
            (GaveUp::Failed, Some((doing, source)), _) => Err(Error::Store {
                lock,
                doing,
                source,
            }),
            (GaveUp::Cancelled, _, Some(CancelledBy::Close)) => Err(Error::Closed { lock }),
            (GaveUp::Cancelled, ..) => Err(Error::Cancelled { lock }),
            (GaveUp::TimedOut | GaveUp::Failed, ..) => Err(Error::AcquireTimeout {
                lock,
                waited: self.waited(),
                ahead: self.waiter.ahead(),
            }),
        }
    }
}
