//! One acquire attempt: try, enqueue, wait, recover, claim, leave.

use std::time::Duration;

use self::leaving::Leaving;
use self::queueing::Draw;
use self::recovery::{Spared, Survey};
use super::failure::Refusals;
use super::{
    Answer, Attempt, Consistency, GaveUp, Grant, Moment, Notice, Now, Patience, Stall, Step, Title,
    Watch, Write,
};
use crate::record::{Holder, LockRecord, Mode};
use crate::types::{HolderId, Ticket};

mod leaving;
mod queueing;
mod recovery;
mod sharing;
mod waiting;

/// What is in flight, or will be after the pause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Goal {
    Try,
    /// Find out whether a try whose answer was lost, or that was refused, left
    /// us as the holder; or whether the lock is in the hands of the dead.
    Confirm,
    Enqueue(Draw),
    Look(Consistency),
    Claim(Ticket),
    /// Share the lock at our turn.
    Share(Ticket),
    /// End a share of our own that is of no use: its ticket is not known, or its lease
    /// is over.
    EndShare(u64),
    /// End the share of somebody who is gone.
    Evict(HolderId, u64),
    /// Go past everybody before this ticket.
    Advance(Ticket, Stall),
    /// Find out who of those before us is gone.
    Survey(Survey),
    Leave(Leaving),
}

/// One acquire attempt as a state machine.
///
/// Call [`step`](Self::step) with what the last step brought, do what it says,
/// and so on until it says [`Granted`](Step::Granted) or
/// [`GaveUp`](Step::GaveUp). The moment given to a call counts as the moment at
/// which the request it returns is sent, and at which the answer it is given had
/// arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    attempt: Attempt,
    goal: Goal,
    sent: Moment,
    ticket: Option<Ticket>,
    /// When the ticket was drawn: the write's send.
    drawn: Moment,
    drawn_wall_ms: u64,
    /// When the last request was sent whose answer proves that it had not been
    /// our turn before.
    not_before: Moment,
    /// Whether a row says that we wait.
    announced: bool,
    /// Somebody of this client said that our turn may have come.
    told: bool,
    watch: Watch,
    /// How to draw the next ticket.
    draw: Draw,
    /// The turn that began with our own advance. If nobody takes it, nobody else may be
    /// there to notice.
    began: Option<Ticket>,
    /// The turn of which it was asked whether its waiter left.
    asked_about: Option<Ticket>,
    spared: Option<Spared>,
    /// When the last claim was sent that was applied while there was no room yet.
    claimed: Option<Moment>,
    /// A try was sent and its effect is not known.
    try_lost: bool,
    /// It was not known once, or it was a share that was ended. What was sent about that
    /// try may still be on its way, or be remembered, and would hit a second one.
    tried_blind: bool,
    /// When a share at our turn was sent whose effect is not known: the first of them.
    share_lost: Option<Moment>,
    failing_since: Option<Moment>,
    refusals: Refusals,
    failures: u32,
    cancelled: bool,
    notices: Vec<Notice>,
}

impl Waiter {
    /// An attempt that has not begun.
    #[must_use]
    pub fn new(attempt: Attempt) -> Self {
        let goal = match attempt.patience {
            Patience::Queue if attempt.contended => Goal::Enqueue(Draw::Behind),
            Patience::Queue | Patience::TryOnly => Goal::Try,
        };
        let origin = Moment::after_origin(Duration::ZERO);
        Self {
            watch: attempt.watch.clone(),
            draw: Draw::Behind,
            began: None,
            asked_about: None,
            attempt,
            goal,
            sent: origin,
            ticket: None,
            drawn: origin,
            drawn_wall_ms: 0,
            not_before: origin,
            announced: false,
            told: false,
            spared: None,
            claimed: None,
            try_lost: false,
            tried_blind: false,
            share_lost: None,
            failing_since: None,
            refusals: Refusals::default(),
            failures: 0,
            cancelled: false,
            notices: Vec::new(),
        }
    }

    /// The ticket drawn, while it is good, and when it was drawn.
    #[must_use]
    pub fn ticket(&self) -> Option<(Ticket, Moment)> {
        Some((self.ticket?, self.drawn))
    }

    /// How many turns come before ours, as last seen.
    #[must_use]
    pub fn ahead(&self) -> Option<u64> {
        self.watch.ahead_of(self.ticket?)
    }

    /// How long a turn took lately, if that was seen.
    #[must_use]
    pub fn turn_time(&self) -> Option<Duration> {
        self.watch.turn_time()
    }

    /// What was seen of the lock, for the next attempt.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// When the attempt gives up by itself.
    #[must_use]
    pub fn gives_up_at(&self) -> Option<Moment> {
        self.attempt.give_up_at
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

    /// Says whether a row tells the others that this attempt waits. With one it
    /// may be slow.
    pub fn set_announced(&mut self, announced: bool) {
        self.announced = announced;
    }

    /// What happened since this was last asked.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The holder to become if the turn comes now.
    #[must_use]
    pub fn holder(&self, now: Now) -> Holder {
        Holder {
            id: self.attempt.id.clone(),
            lease: self.attempt.lease.saturating_add(self.attempt.lock_delay),
            owner: self.attempt.owner.clone(),
            since_ms: now.wall_ms,
            renewed_at_ms: now.wall_ms,
            data: self.attempt.data.clone(),
        }
    }

    /// Takes the answer to the last step and says what to do next.
    pub fn step(&mut self, answer: Answer, now: Now) -> Step {
        if let Goal::Leave(leaving) = &mut self.goal {
            self.sent = now.moment;
            return leaving.step(&answer, &self.attempt, now);
        }
        if !matches!(answer, Answer::Ready | Answer::Failed(_)) {
            // Not forgotten at once: a throttled table must not be asked at full
            // speed as soon as one request gets through.
            self.failures /= 2;
            self.failing_since = None;
            self.refusals.answered();
        }
        if matches!(answer, Answer::Nudged | Answer::HandedOver(_)) {
            // The lock may have been claimed for us, whatever we saw last.
            self.told = true;
        }
        match answer {
            Answer::Ready => self.pursue(self.goal.clone(), now),
            Answer::Failed(failure) => self.failed(failure, now),
            Answer::Applied(record) => self.applied(record, now),
            Answer::Read(record) => self.read(record, now),
            Answer::Refused(seen) => self.refused(seen, now),
            Answer::Rows(rows) => self.surveyed(&rows, now),
            Answer::HandedOver(sent) => match self.ticket {
                Some(ticket) => {
                    self.notices.push(Notice::Moved { turn: ticket });
                    self.granted(ticket, sent, now)
                }
                None => self.enqueue(now),
            },
            Answer::Nudged | Answer::Announced => match self.ticket {
                Some(_) => self.look(Consistency::Strong, now),
                None => self.pursue(self.goal.clone(), now),
            },
        }
    }

    fn applied(&mut self, record: LockRecord, now: Now) -> Step {
        let drew = matches!(self.goal, Goal::Try | Goal::Enqueue(_));
        if let Some(why) = self.went_back(&record, drew) {
            return self.leave_what_was_taken(why, &record, now);
        }
        match self.goal.clone() {
            Goal::Try => match self.attempt.mode {
                Mode::Exclusive => self.granted(record.turn(), self.sent, now),
                Mode::Shared { .. } => self.granted(record.issued, self.sent, now),
            },
            Goal::Claim(ticket) if self.holds_alone(&record) => {
                self.granted(ticket, self.sent, now)
            }
            Goal::Claim(_) => {
                self.claimed = Some(self.sent);
                self.seen(record, now)
            }
            Goal::Share(ticket) => self.granted(ticket, self.sent, now),
            Goal::EndShare(beats) => {
                self.try_lost &= beats > 0;
                self.unshared(now)
            }
            Goal::Evict(id, _) => self.evicted(&id, record, now),
            Goal::Enqueue(_) => self.drawn(record, now),
            Goal::Advance(to, stall) => {
                // If it is our turn now, it began with this write.
                self.not_before = self.sent;
                self.began = Some(to);
                if let Some(before) = self.watch.record() {
                    self.notices.push(Notice::WentPast {
                        first: before.turn(),
                        last: to.previous(),
                        stall,
                    });
                }
                match self.attempt.patience {
                    Patience::Queue => self.seen(record, now),
                    Patience::TryOnly if self.may_try_again(&record) => self.pursue(Goal::Try, now),
                    Patience::TryOnly => self.not_ours(now),
                }
            }
            // Reads are not applied. Whatever this is, look again.
            Goal::Confirm | Goal::Look(_) | Goal::Survey(_) | Goal::Leave(_) => {
                self.look(Consistency::Strong, now)
            }
        }
    }

    fn read(&mut self, record: Option<LockRecord>, now: Now) -> Step {
        let eventual = matches!(self.goal, Goal::Look(Consistency::Eventual));
        if let Some(record) = record.as_ref().filter(|_| !eventual)
            && let Some(why) = self.went_back(record, false)
        {
            // The number of our ticket may be somebody else's by now.
            self.ticket = None;
            return self.leave(why, None, now);
        }
        if matches!(self.goal, Goal::Confirm) {
            return self.confirmed(record, now);
        }
        let Some(ticket) = self.ticket else {
            return self.not_enqueued(record.as_ref(), now);
        };
        match record {
            Some(record) if record.issued >= ticket => {
                if !eventual && record.turn() < ticket {
                    self.not_before = self.sent;
                }
                self.seen(record, now)
            }
            // The record is gone, or a new one stands in its place. An eventual
            // read may only be behind our own enqueue.
            _ if eventual => self.look(Consistency::Strong, now),
            _ => self.passed_over(ticket, now),
        }
    }

    fn holds_alone(&self, record: &LockRecord) -> bool {
        self.attempt.mode == Mode::Exclusive && record.has_room(Mode::Exclusive)
    }

    fn not_ours(&mut self, now: Now) -> Step {
        match self.attempt.patience {
            Patience::Queue => self.enqueue(now),
            Patience::TryOnly if self.try_lost => self.leave(GaveUp::Failed, None, now),
            Patience::TryOnly => Step::GaveUp(GaveUp::Busy),
        }
    }

    fn refused(&mut self, seen: Option<LockRecord>, now: Now) -> Step {
        match (&self.goal, self.attempt.patience) {
            (Goal::EndShare(_), _) => self.unshared(now),
            (Goal::Enqueue(Draw::Behind), _) => self.not_behind(now),
            (Goal::Try, Patience::Queue) => self.enqueue(now),
            (Goal::Try, Patience::TryOnly) if seen.is_some() => self.confirmed(seen, now),
            (Goal::Try, Patience::TryOnly) => self.pursue(Goal::Confirm, now),
            // Somebody was faster.
            (_, Patience::TryOnly) => self.not_ours(now),
            _ => self.look(Consistency::Strong, now),
        }
    }

    /// Decides by a record that was just seen.
    fn seen(&mut self, record: LockRecord, now: Now) -> Step {
        let turn = record.turn();
        if self
            .watch
            .record()
            .is_some_and(|before| before.turn() < turn)
        {
            self.notices.push(Notice::Moved { turn });
        }
        self.watch.observe(&record, now.moment);
        let Some(ticket) = self.ticket else {
            return self.enqueue(now);
        };
        if let Some(own) = record.sharers.get(&self.attempt.id) {
            return self.shares_already(ticket, own.beats, now);
        }
        // A try whose answer was lost may come true late, the holder before us may
        // have claimed for us, and we may have claimed to wait for room: the lock
        // waits for us.
        if let Some(own) = record.held_by(&self.attempt.id) {
            return self.take(own, &record, now);
        }
        if turn > ticket {
            return self.passed_over(ticket, now);
        }
        if turn == ticket && record.holder.is_none() {
            return self.our_turn(ticket, &record, now);
        }
        self.past_the_gone(ticket, &record, now)
    }

    /// Guard first, claim behind: as long as nobody can have counted the grace to
    /// its end, the turn is as good as a claim.
    fn our_turn(&mut self, ticket: Ticket, record: &LockRecord, now: Now) -> Step {
        if let Some(why) = self.reason_to_leave(now) {
            return self.leave(why, Some(ticket), now);
        }
        if !self.holds_alone(record) {
            return self.take(ticket, record, now);
        }
        // Once the claim that trails is applied, the others count the lease.
        let window = record.grace.min(self.attempt.lease);
        let until = self.not_before.plus(window);
        // The queue has not moved for longer than the grace, by the wall clock: it
        // may look abandoned to those who do not wait, but for a claim.
        let idle = record.unmoved_for(now.wall_ms) > record.grace;
        // A turn that is not claimed has no lock delay.
        let delayed = !self.attempt.lock_delay.is_zero();
        if idle || delayed || until.since(now.moment) <= window * 2 / 3 {
            return self.pursue(Goal::Claim(ticket), now);
        }
        Step::Granted(Grant {
            ticket,
            holder: self.holder(now),
            mode: self.attempt.mode,
            lease: self.attempt.lease,
            title: Title::Turn {
                until,
                claim_at: now.moment.plus(window / 3),
            },
        })
    }

    fn look(&mut self, consistency: Consistency, now: Now) -> Step {
        self.pursue(Goal::Look(consistency), now)
    }

    fn pursue(&mut self, goal: Goal, now: Now) -> Step {
        // A recovery that was begun is ended: what it found out must not be found out
        // again by the next attempt, which may be as short as this one.
        let recovers = matches!(goal, Goal::Advance(..));
        if let Some(why) = self.reason_to_leave(now).filter(|_| !recovers) {
            return self.leave(why, None, now);
        }
        let step = match &goal {
            Goal::Try => Step::Write(self.try_write(now)),
            Goal::Enqueue(draw) => Step::Write(self.enqueue_write(*draw, now)),
            Goal::Claim(ticket) => Step::Write(Write::Claim {
                ticket: *ticket,
                holder: self.holder(now),
            }),
            Goal::Share(ticket) => match self.attempt.mode {
                Mode::Shared { limit } => Step::Write(Write::Share {
                    ticket: *ticket,
                    holder: self.holder(now),
                    limit,
                }),
                Mode::Exclusive => return self.look(Consistency::Strong, now),
            },
            // Should this be long on its way, it must not end a later share of ours.
            Goal::EndShare(beats) => Step::Write(Write::Evict {
                id: self.attempt.id.clone(),
                beats: *beats,
            }),
            Goal::Evict(id, beats) => Step::Write(Write::Evict {
                id: id.clone(),
                beats: *beats,
            }),
            Goal::Confirm => Step::Read(Consistency::Strong),
            Goal::Look(consistency) => Step::Read(*consistency),
            Goal::Survey(survey) => Step::Look {
                from: survey.from,
                to: survey.end.previous(),
                limit: survey.limit(),
            },
            Goal::Advance(to, _) => match self.watch.record() {
                Some(record) => Step::Write(Write::Advance {
                    served: record.served,
                    revision: record.revision,
                    moved_at_ms: record.moved_at_ms,
                    to: *to,
                    wall_ms: now.wall_ms,
                }),
                None => return self.look(Consistency::Strong, now),
            },
            Goal::Leave(leaving) => Step::GaveUp(leaving.why),
        };
        self.goal = goal;
        self.sent = now.moment;
        step
    }

    fn granted(&mut self, ticket: Ticket, sent: Moment, now: Now) -> Step {
        if self.cancelled {
            return self.leave(GaveUp::Cancelled, Some(ticket), now);
        }
        if now.moment.since(sent) >= self.attempt.lease {
            // The answer took a whole lease. Begin a new one; but a share may be gone by
            // now, and another one of ours in its place.
            return match self.attempt.mode {
                Mode::Exclusive => self.pursue(Goal::Claim(ticket), now),
                Mode::Shared { .. } => {
                    let beats = self.ticket.map_or(0, Ticket::get);
                    self.tried_blind |= beats == 0;
                    self.pursue(Goal::EndShare(beats), now)
                }
            };
        }
        Step::Granted(Grant {
            ticket,
            holder: self.holder(now),
            mode: self.attempt.mode,
            lease: self.attempt.lease,
            title: Title::Claimed { sent },
        })
    }
}
