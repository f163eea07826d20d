//! The blocking loop: carries the steps of a [`Waiter`] out.

mod sending;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, never};

pub(crate) use self::sending::carry_out;
use self::sending::{Entered, OVERTIME};
use crate::core::Core;
use crate::departure::Departure;
use crate::error::{Error, StoreError};
use crate::event::Event;
use crate::lease::Never;
use crate::lobby::{Nudge, Rest, Seat, Verdict};
use crate::machine::has_news;
use crate::memory::Memory;
use crate::presence::Presence;
use crate::protocol::{
    self, Answer, Attempt, Failure, FailureKind, GaveUp, Grant, Moment, Notice, Patience, Step,
    Waiter, Watch,
};
use crate::record::Mode;
use crate::semaphore::Permit;
use crate::shared::Shared;
use crate::types::{HolderId, LockName, Ticket};

/// How one acquire is to wait.
pub(crate) struct Manner {
    pub(crate) patience: Patience,
    pub(crate) mode: Mode,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel: Option<Receiver<()>>,
    pub(crate) data: Option<String>,
}

/// How an acquire ended, if not in an error.
pub(crate) enum Outcome {
    Granted(Grant),
    Busy,
}

/// One acquire attempt on the calling thread.
pub(crate) struct Acquire<'a> {
    core: &'a Arc<Core>,
    shared: &'a Shared,
    lock: &'a LockName,
    cancel: Receiver<()>,
    began: Moment,
    waiter: Waiter,
    id: HolderId,
    mode: Mode,
    patience: Patience,
    /// The place among the waiters of this client, and what the queue is told,
    /// while there is a ticket.
    queued: Option<Queued>,
    /// The failure to report, should the attempt end in one: the last one before
    /// it began to leave.
    failure: Option<(&'static str, StoreError)>,
    /// A request was sent whose answer the waiter has not been given. Should whoever
    /// hears of it panic, it may have been applied all the same.
    unanswered: bool,
    /// The right to have a request under way, if there was a wait for it.
    permit: Option<Permit>,
    /// If somebody was claiming the lock for us when our time was up.
    verdict: Option<Verdict>,
    /// When the caller goes on, be the queue left or not.
    leave_by: Option<Moment>,
    /// Another thread leaves the queue for us.
    delegated: bool,
    /// Until when a write may yet be applied that was given up on before the time that a
    /// request is given.
    unclear_until: Option<Moment>,
    /// All that leaving does, to be done once more by then.
    again: Option<Departure>,
    cancelled_by: Option<CancelledBy>,
    over: bool,
    /// Whether the lock turned out to be in use.
    pub(crate) met_others: bool,
}

struct Queued {
    seat: Seat,
    presence: Arc<Presence>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CancelledBy {
    User,
    Close,
}

/// What ended a sleep.
#[derive(Clone, Copy)]
enum Woken {
    Time,
    Nudged(Nudge),
    HolderGone,
    Cancelled(CancelledBy),
}

impl<'a> Acquire<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        lock: &'a LockName,
        manner: Manner,
        memory: Memory,
    ) -> Result<Self, Error> {
        let core = &shared.core;
        let settings = &core.settings;
        let began = core.machine.now();
        let bits = core.machine.unique_bits();
        let id = HolderId::from_bits(bits.map_err(|source| Error::Randomness { source })?);
        let waiter = Waiter::new(Attempt {
            id: id.clone(),
            owner: settings.owner.clone(),
            data: manner.data,
            mode: manner.mode,
            lease: settings.lease,
            lock_delay: settings.lock_delay,
            grace: settings.claim_grace,
            pace: settings.pace,
            presence: settings.presence,
            clock_allowance: settings.clock_allowance,
            give_up_at: manner.timeout.map(|timeout| began.plus(timeout)),
            outage_limit: settings.outage_limit,
            patience: manner.patience,
            contended: memory.contended,
            watch: memory.watch,
        });
        Ok(Self {
            core,
            shared,
            lock,
            cancel: manner.cancel.unwrap_or_else(never),
            began,
            waiter,
            id,
            mode: manner.mode,
            patience: manner.patience,
            queued: None,
            failure: None,
            unanswered: false,
            permit: None,
            verdict: None,
            leave_by: None,
            delegated: false,
            unclear_until: None,
            again: None,
            cancelled_by: None,
            over: false,
            met_others: false,
        })
    }

    /// Blocks until the lock is granted or the attempt is over.
    pub(crate) fn run(&mut self) -> Result<Outcome, Error> {
        let mut answer = Answer::Ready;
        loop {
            let step = self.step(answer);
            self.tell_notices();
            answer = match step {
                Step::Pause(until) => self.pause(until),
                Step::Granted(grant) => {
                    // The seat is kept until the lobby knows who holds.
                    self.over = true;
                    return Ok(Outcome::Granted(grant));
                }
                Step::GaveUp(why) => {
                    self.over = true;
                    self.queued = None;
                    if let Some(again) = self.again.take() {
                        self.shared.heartbeat.leave(again);
                    }
                    return self.gave_up(why);
                }
                request if self.waiter.is_leaving() => self.leave(request),
                request => match self.enter() {
                    Entered::Now => self.send(&request),
                    // It is another moment by now.
                    Entered::Later => Answer::Ready,
                    Entered::No(answer) => answer,
                },
            };
            // A store or an observer has forked, and this is the copy. Its store refuses all
            // writes, so it is looked for only where one failed.
            if matches!(answer, Answer::Failed(_)) && self.core.is_forked() {
                return Err(Error::Forked {
                    lock: self.lock.clone(),
                });
            }
            self.notice_cancellation();
        }
    }

    /// How long the attempt has lasted.
    pub(crate) fn waited(&self) -> Duration {
        self.core.machine.now().since(self.began)
    }

    /// What was seen of the lock, for this client's next attempt.
    pub(crate) fn watch(&self) -> &Watch {
        self.waiter.watch()
    }

    fn step(&mut self, answer: Answer) -> Step {
        let now = self.core.now();
        if let Some(queued) = &self.queued {
            self.waiter
                .set_announced(queued.presence.is_announced(now.moment));
        }
        let step = self.waiter.step(answer, now);
        self.unanswered = false;
        if self.waiter.is_leaving() {
            // Whoever waits behind it in this client need not wait for it to be gone.
            self.queued = None;
            return step;
        }
        let ticket = self.waiter.ticket();
        let seated = self.queued.as_ref().map(|queued| queued.seat.ticket);
        if seated != ticket.map(|(ticket, _)| ticket) {
            self.stand_up();
            self.queued = ticket.map(|(ticket, drawn)| self.sit_down(ticket, drawn));
        }
        step
    }

    /// From here on the lobby and the queue know of this waiter.
    fn sit_down(&self, ticket: Ticket, drawn: Moment) -> Queued {
        let now = self.core.now();
        let settings = &self.core.settings;
        let presence = Arc::new(Presence::new(
            self.lock.clone(),
            protocol::Presence::new(
                ticket,
                self.id.clone(),
                settings.owner.clone(),
                settings.presence,
                drawn,
                now.wall_ms,
            ),
        ));
        self.shared.heartbeat.announce(&presence);
        let holder = self.waiter.holder(now);
        // Nobody can claim a share in somebody else's name.
        let holder = (self.mode == Mode::Exclusive).then_some(holder);
        Queued {
            seat: self
                .shared
                .lobby
                .enter(self.lock, ticket, holder, Arc::clone(&presence)),
            presence,
        }
    }

    /// The ticket does not wait any more: its row goes as well.
    fn stand_up(&mut self) {
        if let Some(queued) = self.queued.take() {
            self.shared.heartbeat.dequeue(queued.presence);
        }
    }

    /// Sleeps. Only the first of this client's waiters polls, and it does not poll
    /// either while the holder right before it is of this client: they are woken.
    fn pause(&mut self, mut until: Moment) -> Answer {
        self.permit = None;
        let around = self.looks_around_at();
        loop {
            let rest = match &self.queued {
                Some(queued) => queued.seat.park(),
                None => Rest::Poll,
            };
            let behind = matches!(rest, Rest::BehindFirst);
            let (wake, lost) = match rest {
                Rest::Poll => (until, never()),
                Rest::UntilNudged => (around, never()),
                Rest::BehindFirst => (around.min(self.looks_forward_at()), never()),
                Rest::BehindHolder(lost) => (around, lost),
            };
            let mut woken = self.sleep(wake, &lost);
            if let Woken::Cancelled(by) = woken {
                self.cancelled_by = Some(by);
            }
            if let Some(queued) = &self.queued {
                let limit = self.core.settings.request_timeout * 3;
                self.goes_on_by(self.core.machine.now().plus(limit));
                let told = match woken {
                    Woken::Nudged(nudge) => Some(nudge),
                    _ => None,
                };
                let until = self.core.machine.now().plus(limit);
                if let Some(verdict) = queued.seat.wake(told, until) {
                    woken = Woken::Nudged(self.hear(verdict));
                }
            }
            match woken {
                Woken::Nudged(Nudge::First) => until = self.core.machine.now(),
                // Only to see whether it is still not the first. That costs no request.
                Woken::Time if behind && self.core.machine.now() < around => {}
                Woken::Nudged(Nudge::HandedOver(sent)) => return Answer::HandedOver(sent),
                Woken::Nudged(Nudge::Look) | Woken::HolderGone => return Answer::Nudged,
                Woken::Cancelled(_) | Woken::Time => return Answer::Ready,
            }
        }
    }

    /// The holder before us is claiming the lock for us. Waits to hear how that went; but
    /// not when the attempt is to end: another thread does, before it leaves the queue.
    fn hear(&mut self, verdict: Verdict) -> Nudge {
        let machine = &*self.core.machine;
        let mut until = verdict.until;
        if let Some(end) = self.waiter.gives_up_at() {
            until = until.min(end.plus(OVERTIME));
        }
        let mut is_to_end = false;
        loop {
            if let Some(told) = verdict.told() {
                return told;
            }
            if !is_to_end && self.is_cancelled() {
                is_to_end = true;
                until = until.min(machine.now().plus(OVERTIME));
            }
            if machine.now() >= until {
                break;
            }
            match is_to_end {
                true => machine.wait(&[&verdict.nudges], until),
                false => {
                    let closed = self.core.closed();
                    machine.wait(&[&verdict.nudges, &self.cancel, closed], until);
                }
            }
        }
        if until < verdict.until {
            self.verdict = Some(verdict);
        }
        Nudge::Look
    }

    /// Whoever sleeps until it is woken looks for itself once in a while: whether the
    /// store can be reached at all, for one.
    fn looks_around_at(&self) -> Moment {
        let outage = self.core.settings.outage_limit;
        let soon = self.core.machine.now().plus(outage);
        self.waiter.gives_up_at().map_or(soon, |end| soon.min(end))
    }

    /// When a waiter behind the first of its client sees whether that one is stuck.
    fn looks_forward_at(&self) -> Moment {
        let now = self.core.machine.now();
        now.plus(self.core.settings.presence / 3)
    }

    /// The row of a waiter that is late is not renewed for ever.
    fn goes_on_by(&self, by: Moment) {
        if let Some(queued) = &self.queued {
            queued.presence.expect(by);
        }
    }

    fn sleep(&self, wake: Moment, lost: &Receiver<Never>) -> Woken {
        self.goes_on_by(wake);
        let none = never();
        let mut nudges = match &self.queued {
            Some(queued) => queued.seat.nudges(),
            None => &none,
        };
        let closed = self.core.closed();
        let machine = &self.core.machine;
        loop {
            machine.wait(&[nudges, lost, &self.cancel, closed], wake);
            match nudges.try_recv() {
                Ok(nudge) => return Woken::Nudged(nudge),
                // Somebody drew the same ticket, of a record that was made anew.
                Err(TryRecvError::Disconnected) => nudges = &none,
                Err(TryRecvError::Empty) => {}
            }
            if has_news(closed) {
                return Woken::Cancelled(CancelledBy::Close);
            }
            if has_news(&self.cancel) {
                return Woken::Cancelled(CancelledBy::User);
            }
            if has_news(lost) {
                return Woken::HolderGone;
            }
            if machine.now() >= wake {
                return Woken::Time;
            }
        }
    }

    /// A cancellation may also come while a request is under way.
    fn notice_cancellation(&mut self) {
        if self.cancelled_by.is_none() {
            if self.core.is_closed() {
                self.cancelled_by = Some(CancelledBy::Close);
            } else if has_news(&self.cancel) {
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
                Notice::Moved { turn } => self.tell_positions(turn),
                Notice::PassedOver { ticket } => {
                    self.core.tell(&Event::PassedOver { lock, ticket });
                }
                Notice::Evicted { owner } => self.core.tell(&Event::Evicted {
                    lock,
                    owner: &owner,
                }),
                Notice::WentPast { first, last, stall } => self.core.tell(&Event::WentPast {
                    lock,
                    first,
                    last,
                    stall: &stall,
                }),
            }
        }
    }

    /// Tells of every waiter of this client how far it has come.
    fn tell_positions(&self, turn: Ticket) {
        for ticket in self.shared.lobby.waiting(self.lock) {
            if let Some(ahead @ 1..) = ticket.get().checked_sub(turn.get()) {
                self.core.tell(&Event::Position {
                    lock: self.lock,
                    ticket,
                    ahead,
                });
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
            (GaveUp::UsedUp, ..) => Err(Error::TicketsUsedUp { lock }),
            (GaveUp::WentBack { found, seen }, ..) => Err(Error::WentBack {
                lock,
                found: found.into(),
                seen: seen.into(),
            }),
            (GaveUp::TimedOut | GaveUp::Failed, ..) => Err(Error::AcquireTimeout {
                lock,
                waited: self.waited(),
                ahead: self.waiter.ahead(),
            }),
        }
    }
}

impl Drop for Acquire<'_> {
    /// A panic, of an observer or a store, ends the attempt like a cancellation:
    /// whoever unwinds gives its place back.
    fn drop(&mut self) {
        if mem::replace(&mut self.over, true) {
            self.stand_up();
            return;
        }
        if self.core.is_forked() {
            mem::forget(self.queued.take());
            return;
        }
        self.waiter.cancel();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let mut answer = match self.unanswered {
                true => Answer::Failed(Failure {
                    maybe_applied: true,
                    kind: FailureKind::Final,
                }),
                false => Answer::Ready,
            };
            loop {
                answer = match self.step(answer) {
                    Step::Granted(_) | Step::GaveUp(_) => return,
                    Step::Pause(_) => Answer::Ready,
                    request => self.leave(request),
                };
            }
        }));
    }
}
