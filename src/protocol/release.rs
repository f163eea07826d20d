//! Giving a lock back through lost answers.

use super::{Answer, FailureKind, Moment, Now, Write, backoff};
use crate::record::{Holder, Mode};
use crate::types::{HolderId, Ticket};

/// A release, sent until it is known to have been applied or its time is up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Releasing {
    ticket: Ticket,
    id: HolderId,
    mode: Mode,
    /// Who of the same client is next, if anybody.
    next: Option<Holder>,
    /// When the lock was being handed over, from the send on.
    handing_over: Option<Moment>,
    give_up_at: Moment,
    failures: u32,
    /// An earlier send may have been applied.
    maybe_applied: bool,
}

/// What to do next about a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// The lock has been claimed for the one who is next, by a write sent at this
    /// moment.
    HandedOver(Moment),
    /// It was not ours to hand on any more.
    NotOurs,
    /// No usable answer in time. The lock comes free when its lease ends.
    Failed,
}

impl Releasing {
    /// The release of what the attempt `id` holds with `ticket`. If it holds alone and
    /// `next` has drawn the ticket after it, and waits in this same process, the lock
    /// is claimed for it in the same write.
    #[must_use]
    pub fn new(
        ticket: Ticket,
        id: HolderId,
        mode: Mode,
        next: Option<Holder>,
        give_up_at: Moment,
    ) -> Self {
        Self {
            ticket,
            id,
            mode,
            next: next.filter(|_| mode == Mode::Exclusive),
            handing_over: None,
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
            Answer::Applied(_) => ReleaseStep::Done(match self.handing_over {
                Some(sent) => ReleaseEnd::HandedOver(sent),
                None => ReleaseEnd::Released,
            }),
            // The condition fails only once the ticket is finished. If we sent
            // this before, then by us; and if not, the lock has been handed on
            // all the same, which is what a release promises.
            Answer::Refused(_) if self.maybe_applied => ReleaseStep::Done(ReleaseEnd::Released),
            Answer::Refused(_) => ReleaseStep::Done(ReleaseEnd::NotOurs),
            Answer::Failed(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.maybe_applied |= failure.maybe_applied;
                let again = now.moment.plus(backoff(self.failures, now.dice));
                if failure.kind == FailureKind::Final || again >= self.give_up_at {
                    return ReleaseStep::Done(ReleaseEnd::Failed);
                }
                ReleaseStep::Pause(again)
            }
            _ => ReleaseStep::Write(self.write(now)),
        }
    }

    /// The lock is handed over once. If that got no answer it is released: whoever
    /// is next finds out by itself which of the two came true.
    fn write(&mut self, now: Now) -> Write {
        let (ticket, id) = (self.ticket, self.id.clone());
        if let Mode::Shared { .. } = self.mode {
            return Write::Unshare { id };
        }
        self.handing_over = self.next.is_some().then_some(now.moment);
        match self.next.take() {
            Some(next) => Write::HandOver {
                ticket,
                id,
                next: Holder {
                    since_ms: now.wall_ms,
                    renewed_at_ms: now.wall_ms,
                    ..next
                },
            },
            None => Write::Release {
                ticket,
                id,
                wall_ms: now.wall_ms,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::protocol::Failure;
    use crate::record::LockRecord;

    fn now(millis: u64) -> Now {
        Now {
            moment: Moment::after_origin(Duration::from_millis(millis)),
            wall_ms: 0,
            dice: 0.0,
        }
    }

    fn releasing() -> Releasing {
        let end = now(1_000).moment;
        Releasing::new(
            Ticket::new(3),
            HolderId::new("a"),
            Mode::Exclusive,
            None,
            end,
        )
    }

    #[test]
    fn a_hand_over_is_sent_once_and_then_the_lock_is_released() {
        let next = Holder {
            id: HolderId::new("b"),
            lease: Duration::from_secs(20),
            owner: "b".into(),
            since_ms: 0,
            renewed_at_ms: 0,
            data: None,
        };
        let releasing = Releasing::new(
            Ticket::new(3),
            HolderId::new("a"),
            Mode::Exclusive,
            Some(next),
            now(1_000).moment,
        );
        let record = LockRecord {
            issued: Ticket::new(4),
            served: Ticket::new(3),
            holder: None,
            revision: 9,
            grace: Duration::from_secs(1),
            moved_at_ms: 0,
            mark: Ticket::new(0),
            sharers: BTreeMap::new(),
        };
        let mut smooth = releasing.clone();
        let step = smooth.step(Answer::Ready, now(7));
        assert!(matches!(step, ReleaseStep::Write(Write::HandOver { .. })));
        assert_eq!(
            smooth.step(Answer::Applied(record.clone()), now(9)),
            ReleaseStep::Done(ReleaseEnd::HandedOver(now(7).moment))
        );
        let mut rough = releasing;
        let _ = rough.step(Answer::Ready, now(7));
        let _ = rough.step(LOST, now(10));
        let step = rough.step(Answer::Ready, now(60));
        assert!(matches!(step, ReleaseStep::Write(Write::Release { .. })));
        assert_eq!(
            rough.step(Answer::Applied(record), now(70)),
            ReleaseStep::Done(ReleaseEnd::Released)
        );
    }

    const LOST: Answer = Answer::Failed(Failure {
        maybe_applied: true,
        kind: FailureKind::Transient,
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
            releasing.step(Answer::Refused(None), now(70)),
            ReleaseStep::Done(ReleaseEnd::Released)
        );
    }

    #[test]
    fn a_refusal_of_the_first_send_is_no_success() {
        let mut releasing = releasing();
        let _ = releasing.step(Answer::Ready, now(0));
        assert_eq!(
            releasing.step(Answer::Refused(None), now(10)),
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
