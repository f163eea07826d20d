//! What a waiter says about itself, and when.

use std::time::Duration;

use super::{Moment, Now, backoff};
use crate::record::{TicketRow, TicketState};
use crate::types::{HolderId, Ticket};

/// For so long a waiter says nothing about itself: a short wait is not worth a
/// write. Whoever came after it and has waited for longer than this knows that it
/// should have a row.
pub const ANNOUNCE_DELAY: Duration = Duration::from_secs(3);

/// A waiter's row, and when it is to be written again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Presence {
    ticket: Ticket,
    id: HolderId,
    owner: String,
    since_ms: u64,
    life: Duration,
    next: Moment,
    /// Until when the row that is there counts.
    good_until: Option<Moment>,
    /// By when the waiter meant to go on, as it last said.
    expected: Moment,
    failures: u32,
}

impl Presence {
    /// The presence of an attempt whose ticket was drawn by a write sent at
    /// `drawn`.
    #[must_use]
    pub fn new(
        ticket: Ticket,
        id: HolderId,
        owner: String,
        life: Duration,
        drawn: Moment,
        wall_ms: u64,
    ) -> Self {
        Self {
            ticket,
            id,
            owner,
            since_ms: wall_ms,
            life,
            next: drawn.plus(ANNOUNCE_DELAY),
            good_until: None,
            expected: drawn,
            failures: 0,
        }
    }

    /// The ticket that waits.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The attempt that waits.
    #[must_use]
    pub fn id(&self) -> &HolderId {
        &self.id
    }

    /// When the row is to be written next.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.next
    }

    /// The waiter goes on, and means to do so again by this moment: when it wakes up, or
    /// when the request that it sends has an answer or has failed.
    pub fn expect(&mut self, by: Moment) {
        self.expected = by;
    }

    /// Whether the waiter is stuck, by all that is known: it is late by more than a third
    /// of the life of its row. The row is not renewed then, for the others would wait for
    /// a waiter that will not take its turn as long as its process lives. Since a row is
    /// renewed every third of its life, that of a waiter counts until it is late by a whole
    /// life, and for a third longer at most.
    #[must_use]
    pub fn is_overdue(&self, now: Moment) -> bool {
        now > self.expected.plus(self.life / 3)
    }

    /// Whether there is a row that counts.
    #[must_use]
    pub fn is_announced(&self, now: Moment) -> bool {
        self.good_until.is_some_and(|until| now < until)
    }

    /// Whether there ever was a row.
    #[must_use]
    pub fn was_announced(&self) -> bool {
        self.good_until.is_some()
    }

    /// The row to write now.
    #[must_use]
    pub fn row(&self, now: Now) -> TicketRow {
        TicketRow {
            ticket: self.ticket,
            id: self.id.clone(),
            owner: self.owner.clone(),
            state: TicketState::Waiting,
            since_ms: self.since_ms,
            expires_at_s: expiry(now, self.life),
        }
    }

    /// A row is being sent. Should nothing ever be heard of it, the next one is due
    /// all the same.
    pub fn sending(&mut self, now: Moment) {
        self.next = now.plus(self.life / 3);
    }

    /// The row sent at `sent` was written.
    pub fn announced(&mut self, sent: Moment) {
        self.failures = 0;
        self.good_until = Some(sent.plus(self.life));
        self.next = sent.plus(self.life / 3);
    }

    /// The row could not be written.
    pub fn failed(&mut self, now: Now) {
        self.failures = self.failures.saturating_add(1);
        self.next = now.moment.plus(backoff(self.failures, now.dice));
    }
}

/// When a row written now stops counting, in whole seconds since 1970: rounded
/// down, so that the dead delay the living by no more than the life.
#[must_use]
pub fn expiry(now: Now, life: Duration) -> u64 {
    let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    now.wall_ms.saturating_add(life_ms) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(millis: u64) -> Now {
        Now {
            moment: Moment::after_origin(Duration::from_millis(millis)),
            wall_ms: 1_800_000_000_900 + millis,
            dice: 0.0,
        }
    }

    #[test]
    fn it_begins_after_the_delay_and_goes_on_every_third_of_its_life() {
        let life = Duration::from_secs(15);
        let id = HolderId::new("a");
        let mut presence = Presence::new(
            Ticket::new(7),
            id,
            "a".into(),
            life,
            now(0).moment,
            now(0).wall_ms,
        );
        assert_eq!(presence.next(), now(3_000).moment);
        assert!(!presence.is_announced(now(3_000).moment));
        // Seconds, not milliseconds: it is DynamoDB's time to live.
        assert_eq!(presence.row(now(3_000)).expires_at_s, 1_800_000_018);
        presence.announced(now(3_000).moment);
        assert_eq!(presence.next(), now(8_000).moment);
        assert!(presence.is_announced(now(17_999).moment));
        assert!(!presence.is_announced(now(18_000).moment));
        presence.failed(now(8_000));
        assert_eq!(presence.next(), now(8_050).moment);
    }

    #[test]
    fn a_waiter_is_overdue_a_third_of_its_rows_life_after_it_meant_to_go_on() {
        let life = Duration::from_secs(15);
        let (id, drawn) = (HolderId::new("a"), now(1_000));
        let mut presence = Presence::new(
            Ticket::new(7),
            id,
            "a".into(),
            life,
            drawn.moment,
            drawn.wall_ms,
        );
        // It has not gone on since it drew its ticket.
        assert!(!presence.is_overdue(now(6_000).moment));
        assert!(presence.is_overdue(now(6_001).moment));
        presence.expect(now(30_000).moment);
        assert!(!presence.is_overdue(now(35_000).moment));
        assert!(presence.is_overdue(now(35_001).moment));
        // Whatever became of its row meanwhile.
        presence.announced(now(34_000).moment);
        assert!(presence.is_overdue(now(35_001).moment));
    }
}
