//! Taking a turn away from whoever has it, because an operator says so.

use super::failure::Refusals;
use super::{Answer, FailureKind, Moment, Now, Write, backoff};
use crate::record::LockRecord;
use crate::types::Ticket;

/// The end of one turn, however alive its holder is: an advance that asks for no
/// evidence. The holder hears of it with its next renewal, which is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Breaking {
    ticket: Ticket,
    give_up_at: Moment,
    failures: u32,
    refusals: Refusals,
    /// When the last step was asked for.
    sent: Moment,
    /// An earlier send may have been applied.
    maybe_applied: bool,
}

/// What to do next about a turn that is to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BreakStep {
    /// Read the record, consistently.
    Read,
    /// Send this write.
    Write(Write),
    /// Do nothing until this moment.
    Pause(Moment),
    /// It is over.
    Done(BreakEnd),
}

/// How the attempt to end a turn came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakEnd {
    /// The turn is over by our doing; or possibly by our doing, if an answer was
    /// lost.
    Broken,
    /// It was over before we did anything, or has not come yet.
    NotItsTurn,
    /// No usable answer in time, or the record did not stand still.
    Failed,
}

impl Breaking {
    /// The end of the turn of `ticket`.
    #[must_use]
    pub fn new(ticket: Ticket, give_up_at: Moment) -> Self {
        Self {
            ticket,
            give_up_at,
            failures: 0,
            refusals: Refusals::default(),
            sent: give_up_at,
            maybe_applied: false,
        }
    }

    /// Takes the answer to the last step and says what to do next.
    pub fn step(&mut self, answer: Answer, now: Now) -> BreakStep {
        if !matches!(answer, Answer::Ready | Answer::Failed(_)) {
            self.refusals.answered();
        }
        let step = self.next(answer, now);
        self.sent = now.moment;
        step
    }

    fn next(&mut self, answer: Answer, now: Now) -> BreakStep {
        let time_is_up = now.moment >= self.give_up_at;
        match answer {
            Answer::Applied(_) => BreakStep::Done(BreakEnd::Broken),
            Answer::Read(Some(record)) | Answer::Refused(Some(record))
                if self.is_its_turn(&record) && !time_is_up =>
            {
                BreakStep::Write(Write::Advance {
                    served: record.served,
                    revision: record.revision,
                    moved_at_ms: record.moved_at_ms,
                    to: self.ticket.next(),
                    wall_ms: now.wall_ms,
                })
            }
            Answer::Read(record) | Answer::Refused(record @ Some(_)) if !time_is_up => {
                let is_past = record.is_some_and(|record| record.served >= self.ticket);
                BreakStep::Done(match self.maybe_applied && is_past {
                    true => BreakEnd::Broken,
                    false => BreakEnd::NotItsTurn,
                })
            }
            Answer::Failed(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.maybe_applied |= failure.maybe_applied;
                let end = match failure.kind {
                    FailureKind::Transient => self.give_up_at,
                    FailureKind::Refused => self.give_up_at.min(self.refusals.refused(self.sent)),
                    FailureKind::Final => now.moment,
                };
                let again = now.moment.plus(backoff(self.failures, now.dice));
                if again >= end {
                    return BreakStep::Done(BreakEnd::Failed);
                }
                BreakStep::Pause(again)
            }
            _ if time_is_up => BreakStep::Done(BreakEnd::Failed),
            // Refused: a renewal came between the read and the write, or the end.
            _ => BreakStep::Read,
        }
    }

    fn is_its_turn(&self, record: &LockRecord) -> bool {
        record.turn() == self.ticket && !record.is_free()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::protocol::Failure;

    const LOST: Answer = Answer::Failed(Failure {
        maybe_applied: true,
        kind: FailureKind::Transient,
    });

    fn now(millis: u64) -> Now {
        Now {
            moment: Moment::after_origin(Duration::from_millis(millis)),
            wall_ms: 7,
            dice: 0.0,
        }
    }

    fn seen(served: u64, issued: u64, revision: u64) -> Answer {
        Answer::Read(Some(LockRecord {
            issued: Ticket::new(issued),
            served: Ticket::new(served),
            holder: None,
            revision,
            grace: Duration::from_secs(1),
            moved_at_ms: 0,
            mark: Ticket::new(0),
            sharers: BTreeMap::new(),
        }))
    }

    fn advance(revision: u64) -> BreakStep {
        BreakStep::Write(Write::Advance {
            served: Ticket::new(4),
            revision,
            moved_at_ms: 0,
            to: Ticket::new(6),
            wall_ms: 7,
        })
    }

    fn breaking() -> Breaking {
        Breaking::new(Ticket::new(5), now(1_000).moment)
    }

    #[test]
    fn a_renewal_in_between_makes_it_look_again() {
        let mut breaking = breaking();
        assert_eq!(breaking.step(Answer::Ready, now(0)), BreakStep::Read);
        assert_eq!(breaking.step(seen(4, 8, 1), now(1)), advance(1));
        assert_eq!(
            breaking.step(Answer::Refused(None), now(2)),
            BreakStep::Read
        );
        assert_eq!(breaking.step(seen(4, 8, 2), now(3)), advance(2));
        assert_eq!(
            breaking.step(Answer::Refused(None), now(1_000)),
            BreakStep::Done(BreakEnd::Failed)
        );
    }

    #[test]
    fn no_other_turn_is_ended() {
        let not_yet_or_over = [
            seen(3, 8, 1),
            seen(5, 8, 1),
            seen(4, 4, 1),
            Answer::Read(None),
        ];
        for record in not_yet_or_over {
            assert_eq!(
                breaking().step(record, now(0)),
                BreakStep::Done(BreakEnd::NotItsTurn)
            );
        }
    }

    #[test]
    fn after_a_lost_answer_the_turn_that_is_over_was_ours_to_end() {
        let mut breaking = breaking();
        let _ = breaking.step(seen(4, 8, 1), now(0));
        assert!(matches!(
            breaking.step(LOST, now(1)),
            BreakStep::Pause(until) if until > now(1).moment
        ));
        assert_eq!(breaking.step(Answer::Ready, now(60)), BreakStep::Read);
        assert_eq!(
            breaking.step(seen(5, 8, 2), now(70)),
            BreakStep::Done(BreakEnd::Broken)
        );
    }
}
