//! What a holder knows about its own lease.

use std::time::Duration;

use super::{Grant, Moment, Now, Title, Write, backoff};
use crate::record::{Holder, Mode};
use crate::types::{HolderId, Ticket};

/// A lock that this process holds, or held.
///
/// The lease counts from before the write that took or renewed it was sent:
/// whenever the write was applied, the lease that the others see ends later
/// than the one the holder counts.
///
/// A hold that rests on its turn alone ends with the claim grace. If it is to last
/// for longer, the first heartbeat claims; from then on the lease counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    ticket: Ticket,
    holder: Holder,
    mode: Mode,
    lease: Duration,
    claimed: bool,
    heartbeat: Duration,
    ends: Moment,
    next_beat: Moment,
    failures: u32,
    standing: Standing,
}

/// Where a tenure stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Held, while the lease lasts.
    Held,
    /// Given back by its owner.
    Ended,
    /// Lost.
    Lost(LossReason),
}

/// How a held lock was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// No renewal got through before the lease ended.
    LeaseExpired,
    /// The table says that the lock has moved on: somebody went past this
    /// holder, or the lock's row was deleted.
    Superseded,
    /// This process was forked from the one that holds the lock, and that one holds it still.
    Forked,
}

impl Tenure {
    /// A tenure that begins with `grant` and shows a sign of life at every
    /// `heartbeat`.
    #[must_use]
    pub fn new(grant: Grant, heartbeat: Duration) -> Self {
        let (claimed, ends, next_beat) = match grant.title {
            Title::Claimed { sent } => {
                let ends = sent.plus(grant.lease);
                (true, ends, sent.plus(heartbeat))
            }
            Title::Turn { until, claim_at } => (false, until, claim_at),
        };
        Self {
            ticket: grant.ticket,
            holder: grant.holder,
            mode: grant.mode,
            lease: grant.lease,
            claimed,
            heartbeat,
            ends,
            next_beat,
            failures: 0,
            standing: Standing::Held,
        }
    }

    /// The ticket held.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The attempt that holds.
    #[must_use]
    pub fn id(&self) -> &HolderId {
        &self.holder.id
    }

    /// How the lock is held.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the tenure stands at `now`.
    #[must_use]
    pub fn standing(&self, now: Moment) -> Standing {
        match self.standing {
            Standing::Held if now >= self.ends => Standing::Lost(LossReason::LeaseExpired),
            standing => standing,
        }
    }

    /// How long the lease still lasts if nothing renews it.
    #[must_use]
    pub fn remaining(&self, now: Moment) -> Duration {
        match self.standing {
            Standing::Held => self.ends.since(now),
            Standing::Ended | Standing::Lost(_) => Duration::ZERO,
        }
    }

    /// When the lease ends if nothing renews it.
    #[must_use]
    pub fn ends(&self) -> Moment {
        self.ends
    }

    /// When the next renewal is due.
    #[must_use]
    pub fn next_beat(&self) -> Moment {
        self.next_beat
    }

    /// How long the renewal may take: as long as `limit` and the lease allow; a claim
    /// no longer than a third of what is left, so that it can be sent again.
    #[must_use]
    pub fn patience(&self, limit: Duration, now: Moment) -> Duration {
        let remaining = self.remaining(now);
        match self.claimed {
            true => limit.min(remaining),
            false => limit.min(remaining / 3),
        }
    }

    /// A renewal is being sent. Should nothing ever be heard of it, the next one is
    /// due all the same.
    pub fn sending(&mut self, now: Moment) {
        self.next_beat = now.plus(self.heartbeat.min(self.remaining(now) / 3));
    }

    /// The renewal to send, or the claim that it begins with.
    #[must_use]
    pub fn renewal(&self, now: Now) -> Write {
        if let Mode::Shared { .. } = self.mode {
            return Write::RenewShare {
                id: self.holder.id.clone(),
                wall_ms: now.wall_ms,
            };
        }
        if self.claimed {
            return Write::Renew {
                ticket: self.ticket,
                id: self.holder.id.clone(),
                wall_ms: now.wall_ms,
            };
        }
        Write::Claim {
            ticket: self.ticket,
            holder: Holder {
                renewed_at_ms: now.wall_ms,
                ..self.holder.clone()
            },
        }
    }

    /// A renewal sent at `sent` was applied. It counts only if its answer came
    /// in time: what was lost stays lost, however late the good news.
    pub fn renewed(&mut self, sent: Moment, now: Moment) {
        self.failures = 0;
        if self.standing(now) == Standing::Held {
            self.claimed = true;
            self.ends = self.ends.max(sent.plus(self.lease));
            self.next_beat = sent.plus(self.heartbeat);
        } else {
            self.close(now);
        }
    }

    /// A renewal was refused: the lock has moved on.
    pub fn refused(&mut self) {
        if self.standing == Standing::Held {
            self.standing = Standing::Lost(LossReason::Superseded);
        }
    }

    /// A renewal got no answer. It is sent again, again and again, until the
    /// lease ends: one lost answer must not cost the lock.
    pub fn failed(&mut self, now: Now) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, now.dice).min(self.heartbeat);
        self.next_beat = now.moment.plus(pause);
        self.close(now.moment);
    }

    /// Writes down that the lease has ended, if it has.
    pub fn close(&mut self, now: Moment) {
        self.standing = self.standing(now);
    }

    /// The owner gives the lock back. From here on it is not held, whatever
    /// becomes of the release: ownership ends before the release is sent.
    /// Returns where the tenure stood.
    pub fn end(&mut self, now: Moment) -> Standing {
        let stood = self.standing(now);
        self.standing = match stood {
            Standing::Held => Standing::Ended,
            over => over,
        };
        stood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    fn now(millis: u64) -> Now {
        Now {
            moment: at(millis),
            wall_ms: 0,
            dice: 0.0,
        }
    }

    fn granted(title: Title) -> Tenure {
        let holder = Holder {
            id: HolderId::new("a"),
            lease: Duration::from_secs(20),
            owner: "a".into(),
            since_ms: 0,
            renewed_at_ms: 0,
            data: None,
        };
        let grant = Grant {
            ticket: Ticket::new(8),
            mode: Mode::Exclusive,
            lease: holder.lease,
            holder,
            title,
        };
        Tenure::new(grant, Duration::from_secs(5))
    }

    fn tenure() -> Tenure {
        granted(Title::Claimed { sent: at(1_000) })
    }

    #[test]
    fn a_turn_is_claimed_behind_the_guard_and_ends_with_the_grace_if_not() {
        let mut tenure = granted(Title::Turn {
            until: at(1_000),
            claim_at: at(400),
        });
        assert_eq!(tenure.next_beat(), at(400));
        assert!(matches!(tenure.renewal(now(400)), Write::Claim { .. }));
        // One that hangs leaves time for another.
        assert_eq!(
            tenure.patience(Duration::from_secs(3), at(400)),
            Duration::from_millis(200)
        );
        // Not answered: sent again, as long as the grace lasts.
        tenure.failed(now(450));
        assert!(matches!(tenure.renewal(now(500)), Write::Claim { .. }));
        assert_eq!(
            tenure.standing(at(1_000)),
            Standing::Lost(LossReason::LeaseExpired)
        );
        tenure.renewed(at(500), at(510));
        assert_eq!(tenure.ends(), at(20_500));
        assert_eq!(tenure.next_beat(), at(5_500));
        assert!(matches!(tenure.renewal(now(5_500)), Write::Renew { .. }));
    }

    #[test]
    fn a_refused_claim_is_a_loss() {
        let mut tenure = granted(Title::Turn {
            until: at(1_000),
            claim_at: at(400),
        });
        tenure.refused();
        assert_eq!(
            tenure.standing(at(500)),
            Standing::Lost(LossReason::Superseded)
        );
    }

    #[test]
    fn the_lease_counts_from_the_send_and_ends_by_itself() {
        let tenure = tenure();
        assert_eq!(tenure.standing(at(20_999)), Standing::Held);
        assert_eq!(
            tenure.standing(at(21_000)),
            Standing::Lost(LossReason::LeaseExpired)
        );
        assert_eq!(tenure.remaining(at(20_000)), Duration::from_secs(1));
        assert_eq!(tenure.remaining(at(22_000)), Duration::ZERO);
    }

    #[test]
    fn one_failed_renewal_is_not_fatal() {
        let mut tenure = tenure();
        tenure.failed(now(6_000));
        assert_eq!(tenure.standing(at(6_000)), Standing::Held);
        assert!(tenure.next_beat() < at(6_100), "it is sent again soon");
        tenure.renewed(at(6_050), at(6_060));
        assert_eq!(tenure.ends(), at(26_050));
    }

    #[test]
    fn good_news_after_the_end_revives_nothing() {
        let mut tenure = tenure();
        tenure.renewed(at(20_900), at(21_001));
        assert_eq!(
            tenure.standing(at(20_950)),
            Standing::Lost(LossReason::LeaseExpired)
        );
    }

    #[test]
    fn a_late_answer_never_shortens_the_lease() {
        let mut tenure = tenure();
        tenure.renewed(at(9_000), at(9_010));
        tenure.renewed(at(5_000), at(9_020));
        assert_eq!(tenure.ends(), at(29_000));
    }

    #[test]
    fn a_refusal_after_the_release_was_begun_is_not_a_loss() {
        let mut tenure = tenure();
        assert_eq!(tenure.end(at(2_000)), Standing::Held);
        tenure.refused();
        assert_eq!(tenure.standing(at(2_001)), Standing::Ended);
    }
}
