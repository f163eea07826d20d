//! One acquire attempt: try, enqueue, wait, recover, claim, leave.

use std::time::Duration;

use super::{Answer, Consistency, Failure, Moment, Now, Pace, Stall, Watch, Write, backoff};
use crate::record::{Holder, LockRecord};
use crate::types::{HolderId, Ticket};

/// Waiters with at most this many turns before their own read consistently.
const READS_STRONGLY: u64 = 3;

/// What an acquire attempt is to do, fixed when it begins.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The attempt's own identity.
    pub id: HolderId,
    /// Who this is, for people.
    pub owner: String,
    /// The lease to hold with.
    pub lease: Duration,
    /// The claim grace, should the record have to be created.
    pub grace: Duration,
    /// How often to look.
    pub pace: Pace,
    /// When to stop waiting, if ever.
    pub give_up_at: Option<Moment>,
    /// For how long every single request may fail before the attempt fails.
    pub outage_limit: Duration,
    /// Whether to queue.
    pub patience: Patience,
    /// Whether the lock was contended a moment ago, so that trying first would
    /// most likely be a wasted write.
    pub contended: bool,
}

/// What to do about a lock that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Draw a ticket and wait.
    Queue,
    /// Leave at once.
    TryOnly,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this write.
    Write(Write),
    /// Read the record.
    Read(Consistency),
    /// Do nothing until this moment, or until the user wants to leave.
    Pause(Moment),
    /// The lock is held. The attempt is over.
    Granted(Grant),
    /// The attempt is over without the lock.
    GaveUp(GaveUp),
}

/// A lock that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The ticket, which is the fencing token.
    pub ticket: Ticket,
    /// When the write that took the lock was sent. The lease counts from here.
    pub sent: Moment,
}

/// Why an attempt ended without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GaveUp {
    /// Somebody else holds it, and the attempt was not to wait.
    Busy,
    /// The time to give up came.
    TimedOut,
    /// The user wanted to leave.
    Cancelled,
    /// A request failed for good, or all of them for too long.
    Failed,
}

/// Something about the queue that an observer may like to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A ticket was drawn.
    Enqueued {
        /// The ticket.
        ticket: Ticket,
        /// How many turns come before it.
        ahead: u64,
    },
    /// The turn of our ticket went by without us. Another one is drawn.
    PassedOver {
        /// The ticket that is gone.
        ticket: Ticket,
    },
    /// We ended the turn of somebody who showed no sign of life.
    WentPast {
        /// The ticket that was passed over.
        ticket: Ticket,
        /// Why.
        stall: Stall,
    },
}

/// What is in flight, or will be after the pause.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    Try,
    /// Find out whether a try whose answer was lost, or that was refused, left
    /// us as the holder.
    Confirm,
    Enqueue,
    Look(Consistency),
    Claim(Ticket),
    Advance(Stall),
    Leave(GaveUp),
}

/// One acquire attempt as a state machine.
///
/// Call [`step`](Self::step) with what the last step brought, do what it says,
/// and so on until it says [`Granted`](Step::Granted) or
/// [`GaveUp`](Step::GaveUp). The moment given to a call counts as the moment at
/// which the request it returns is sent, and at which the answer it is given had
/// arrived.
#[derive(Clone, Debug)]
pub struct Waiter {
    attempt: Attempt,
    goal: Goal,
    sent: Moment,
    ticket: Option<Ticket>,
    watch: Watch,
    /// A try was sent and its effect is not known.
    try_lost: bool,
    failing_since: Option<Moment>,
    failures: u32,
    cancelled: bool,
    notices: Vec<Notice>,
}

impl Waiter {
    /// An attempt that has not begun.
    #[must_use]
    pub fn new(attempt: Attempt) -> Self {
        let goal = match attempt.patience {
            Patience::Queue if attempt.contended => Goal::Enqueue,
            Patience::Queue | Patience::TryOnly => Goal::Try,
        };
        Self {
            attempt,
            goal,
            sent: Moment::after_origin(Duration::ZERO),
            ticket: None,
            watch: Watch::default(),
            try_lost: false,
            failing_since: None,
            failures: 0,
            cancelled: false,
            notices: Vec::new(),
        }
    }

    /// The ticket drawn, while it is good.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// How many turns come before ours, as last seen.
    #[must_use]
    pub fn ahead(&self) -> Option<u64> {
        self.watch.ahead_of(self.ticket?)
    }

    /// Whether the attempt only tidies up behind itself. What fails from here on
    /// is not what the user is to be told.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.goal, Goal::Leave(_))
    }

    /// Makes the attempt leave at its next step.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// What happened since this was last asked.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Takes the answer to the last step and says what to do next.
    pub fn step(&mut self, answer: Answer, now: Now) -> Step {
        if let Goal::Leave(why) = self.goal {
            return Step::GaveUp(why);
        }
        match answer {
            Answer::Ready => self.pursue(self.goal.clone(), now),
            Answer::Failed(failure) => self.failed(failure, now),
            Answer::Applied(record) => {
                self.answered();
                self.applied(record, now)
            }
            Answer::Read(record) => {
                self.answered();
                self.read(record, now)
            }
            Answer::Refused => {
                self.answered();
                self.refused(now)
            }
        }
    }

    fn answered(&mut self) {
        self.failing_since = None;
        self.failures = 0;
    }

    fn applied(&mut self, record: LockRecord, now: Now) -> Step {
        match self.goal.clone() {
            Goal::Try => self.granted(record.turn()),
            Goal::Claim(ticket) => self.granted(ticket),
            Goal::Enqueue => {
                let ticket = record.issued;
                self.ticket = Some(ticket);
                self.notices.push(Notice::Enqueued {
                    ticket,
                    ahead: ticket.get().saturating_sub(record.turn().get()),
                });
                self.seen(record, now)
            }
            Goal::Advance(stall) => {
                self.notices.push(Notice::WentPast {
                    ticket: record.served,
                    stall,
                });
                self.seen(record, now)
            }
            // Reads are not applied. Whatever this is, look again.
            Goal::Confirm | Goal::Look(_) | Goal::Leave(_) => self.look(Consistency::Strong, now),
        }
    }

    fn read(&mut self, record: Option<LockRecord>, now: Now) -> Step {
        if self.goal == Goal::Confirm {
            if let Some(ticket) = record.and_then(|record| record.held_by(&self.attempt.id)) {
                return self.pursue(Goal::Claim(ticket), now);
            }
            return match self.attempt.patience {
                Patience::Queue => self.pursue(Goal::Enqueue, now),
                Patience::TryOnly if self.try_lost => self.leave(GaveUp::Failed, now),
                Patience::TryOnly => Step::GaveUp(GaveUp::Busy),
            };
        }
        let Some(ticket) = self.ticket else {
            // An enqueue was refused, yet the record reads well: try again, but
            // not in a hurry.
            self.goal = Goal::Enqueue;
            return self.back_off(now);
        };
        match record {
            Some(record) if record.issued >= ticket => self.seen(record, now),
            // The record is gone, or a new one stands in its place. An eventual
            // read may only be behind our own enqueue.
            _ if self.goal == Goal::Look(Consistency::Eventual) => {
                self.look(Consistency::Strong, now)
            }
            _ => self.passed_over(ticket, now),
        }
    }

    fn refused(&mut self, now: Now) -> Step {
        match (&self.goal, self.attempt.patience) {
            (Goal::Try, Patience::Queue) => self.pursue(Goal::Enqueue, now),
            (Goal::Try, Patience::TryOnly) => self.pursue(Goal::Confirm, now),
            _ => self.look(Consistency::Strong, now),
        }
    }

    /// Decides by a record that was just seen.
    fn seen(&mut self, record: LockRecord, now: Now) -> Step {
        self.watch.observe(&record, now.moment);
        let Some(ticket) = self.ticket else {
            return self.pursue(Goal::Enqueue, now);
        };
        // A try whose answer was lost may come true late: the lock waits for us.
        if let Some(own) = record.held_by(&self.attempt.id) {
            return self.pursue(Goal::Claim(own), now);
        }
        if record.served >= ticket {
            return self.passed_over(ticket, now);
        }
        if record.turn() == ticket && record.holder.is_none() {
            return self.pursue(Goal::Claim(ticket), now);
        }
        if let Some(stall) = self.watch.stall(now.moment) {
            return self.pursue(Goal::Advance(stall), now);
        }
        self.wait(ticket, &record, now)
    }

    fn passed_over(&mut self, ticket: Ticket, now: Now) -> Step {
        self.notices.push(Notice::PassedOver { ticket });
        self.ticket = None;
        self.watch = Watch::default();
        self.pursue(Goal::Enqueue, now)
    }

    fn wait(&mut self, ticket: Ticket, record: &LockRecord, now: Now) -> Step {
        let ahead = self.watch.ahead_of(ticket).unwrap_or(0);
        let pause = self.attempt.pace.pause(
            ahead,
            self.watch.turn_lasts(now.moment),
            self.watch.turn_time(),
            // Whoever sleeps through the grace loses its turn.
            record.grace / 2,
            now.dice,
        );
        self.goal = Goal::Look(if ahead <= READS_STRONGLY {
            Consistency::Strong
        } else {
            Consistency::Eventual
        });
        let wake = now.moment.plus(pause);
        let wake = self.watch.stalls_at().map_or(wake, |stall| wake.min(stall));
        self.pause(wake, now)
    }

    fn look(&mut self, consistency: Consistency, now: Now) -> Step {
        self.pursue(Goal::Look(consistency), now)
    }

    fn failed(&mut self, failure: Failure, now: Now) -> Step {
        if self.goal == Goal::Try {
            self.try_lost |= failure.maybe_applied;
            if failure.maybe_applied && failure.transient {
                self.goal = Goal::Confirm;
                return self.back_off(now);
            }
        }
        let since = *self.failing_since.get_or_insert(self.sent);
        let patience = match self.attempt.patience {
            Patience::Queue => self.attempt.outage_limit,
            Patience::TryOnly => Duration::ZERO,
        };
        if !failure.transient || now.moment.since(since) >= patience {
            return self.leave(GaveUp::Failed, now);
        }
        if matches!(self.goal, Goal::Advance(_) | Goal::Look(_)) {
            self.goal = Goal::Look(Consistency::Strong);
        }
        self.back_off(now)
    }

    fn back_off(&mut self, now: Now) -> Step {
        self.failures = self.failures.saturating_add(1);
        let wake = now.moment.plus(backoff(self.failures, now.dice));
        self.pause(wake, now)
    }

    fn pause(&mut self, wake: Moment, now: Now) -> Step {
        match self.reason_to_leave(now) {
            Some(why) => self.leave(why, now),
            None => Step::Pause(match self.attempt.give_up_at {
                Some(end) => wake.min(end),
                None => wake,
            }),
        }
    }

    fn pursue(&mut self, goal: Goal, now: Now) -> Step {
        if let Some(why) = self.reason_to_leave(now) {
            return self.leave(why, now);
        }
        let step = match &goal {
            Goal::Try => Step::Write(Write::Try {
                holder: self.holder(now),
                start: Ticket::new(now.wall_ms),
                grace: self.attempt.grace,
            }),
            Goal::Enqueue => Step::Write(Write::Enqueue {
                start: Ticket::new(now.wall_ms),
                grace: self.attempt.grace,
            }),
            Goal::Claim(ticket) => Step::Write(Write::Claim {
                ticket: *ticket,
                holder: self.holder(now),
            }),
            Goal::Confirm => Step::Read(Consistency::Strong),
            Goal::Look(consistency) => Step::Read(*consistency),
            Goal::Advance(_) => match self.watch.record() {
                Some(record) => Step::Write(Write::Advance {
                    served: record.served,
                    revision: record.revision,
                    to: record.turn().next(),
                }),
                None => return self.look(Consistency::Strong, now),
            },
            Goal::Leave(why) => Step::GaveUp(*why),
        };
        self.goal = goal;
        self.sent = now.moment;
        step
    }

    fn reason_to_leave(&self, now: Now) -> Option<GaveUp> {
        let late = self.attempt.give_up_at.is_some_and(|end| now.moment >= end);
        if self.cancelled {
            Some(GaveUp::Cancelled)
        } else if late && self.attempt.patience == Patience::Queue {
            Some(GaveUp::TimedOut)
        } else {
            None
        }
    }

    /// Gives back what we may have, in one request that is not repeated.
    fn leave(&mut self, why: GaveUp, now: Now) -> Step {
        let id = self.attempt.id.clone();
        let turn = self.watch.record().map(LockRecord::turn);
        let claimed = match self.goal {
            Goal::Claim(ticket) => Some(ticket),
            _ => self.ticket.filter(|ticket| turn == Some(*ticket)),
        };
        self.goal = Goal::Leave(why);
        self.sent = now.moment;
        match claimed {
            Some(ticket) => Step::Write(Write::Release { ticket, id }),
            None if self.try_lost => Step::Write(Write::Withdraw { id }),
            None => Step::GaveUp(why),
        }
    }

    fn granted(&self, ticket: Ticket) -> Step {
        Step::Granted(Grant {
            ticket,
            sent: self.sent,
        })
    }

    fn holder(&self, now: Now) -> Holder {
        Holder {
            id: self.attempt.id.clone(),
            lease: self.attempt.lease,
            owner: self.attempt.owner.clone(),
            since_ms: now.wall_ms,
            renewed_at_ms: now.wall_ms,
        }
    }
}
