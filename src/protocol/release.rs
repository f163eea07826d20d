//! Giving a lock back through lost answers.

use super::{Answer, Moment, Now, Write, backoff};
use crate::types::{HolderId, Ticket};

/// A release, sent until it is known to have been applied or its time is up.
#[derive(Clone, Debug)]
pub struct Releasing {
    ticket: Ticket,
    id: HolderId,
    give_up_at: Moment,
    failures: u32,
    /// An earlier send may have been applied.
    maybe_applied: bool,
}

/// What to do next about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseStep {
    /// Send this write.
    Write(Write),
    /// Do nothing until this moment.
    Pause(Moment),
    /// It is over.
    Done(ReleaseEnd),
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseEnd {
    /// The lock has been handed on.
    Released,
    /// It was not ours to hand on any more.
    NotOurs,
    /// No usable answer in time. The lock comes free when its lease ends.
    Failed,
}

impl Releasing {
    /// The release of `ticket` by the attempt `id`.
    #[must_use]
    pub fn new(ticket: Ticket, id: HolderId, give_up_at: Moment) -> Self {
        Self {
            ticket,
            id,
            give_up_at,
            failures: 0,
            maybe_applied: false,
        }
    }

    /// Takes the answer to the last step and says what to do next.
    pub fn step(&mut self, answer: Answer, now: Now) -> ReleaseStep {
        match answer {
            Answer::Ready if self.failures > 0 && now.moment >= self.give_up_at => {
                ReleaseStep::Done(ReleaseEnd::Failed)
            }
            Answer::Ready | Answer::Read(_) => ReleaseStep::Write(Write::Release {
                ticket: self.ticket,
                id: self.id.clone(),
            }),
            Answer::Applied(_) => ReleaseStep::Done(ReleaseEnd::Released),
            // The condition fails only once the ticket is finished. If we sent
            // this before, then by us; and if not, the lock has been handed on
            // all the same, which is what a release promises.
            Answer::Refused if self.maybe_applied => ReleaseStep::Done(ReleaseEnd::Released),
            Answer::Refused => ReleaseStep::Done(ReleaseEnd::NotOurs),
            Answer::Failed(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.maybe_applied |= failure.maybe_applied;
                let again = now.moment.plus(backoff(self.failures, now.dice));
                if !failure.transient || again >= self.give_up_at {
                    return ReleaseStep::Done(ReleaseEnd::Failed);
                }
                ReleaseStep::Pause(again)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::Failure;

    fn now(millis: u64) -> Now {
        Now {
            moment: Moment::after_origin(Duration::from_millis(millis)),
            wall_ms: 0,
            dice: 0.0,
        }
    }

    fn releasing() -> Releasing {
        Releasing::new(Ticket::new(3), HolderId::new("a"), now(1_000).moment)
    }

    const LOST: Answer = Answer::Failed(Failure {
        maybe_applied: true,
        transient: true,
    });

    #[test]
    fn a_lost_answer_is_followed_by_a_second_send_whose_refusal_is_success() {
        let mut releasing = releasing();
        assert!(matches!(
            releasing.step(Answer::Ready, now(0)),
            ReleaseStep::Write(_)
        ));
        assert!(matches!(
            releasing.step(LOST, now(10)),
            ReleaseStep::Pause(_)
        ));
        assert!(matches!(
            releasing.step(Answer::Ready, now(60)),
            ReleaseStep::Write(_)
        ));
        assert_eq!(
            releasing.step(Answer::Refused, now(70)),
            ReleaseStep::Done(ReleaseEnd::Released)
        );
    }

    #[test]
    fn a_refusal_of_the_first_send_is_no_success() {
        let mut releasing = releasing();
        let _ = releasing.step(Answer::Ready, now(0));
        assert_eq!(
            releasing.step(Answer::Refused, now(10)),
            ReleaseStep::Done(ReleaseEnd::NotOurs)
        );
    }

    #[test]
    fn it_ends_when_its_time_is_up() {
        let mut releasing = releasing();
        let _ = releasing.step(Answer::Ready, now(0));
        assert_eq!(
            releasing.step(LOST, now(980)),
            ReleaseStep::Done(ReleaseEnd::Failed)
        );
    }
}
