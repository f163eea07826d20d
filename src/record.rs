//! What is stored about a lock, as plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{HolderId, Ticket};

/// The version of the record's layout that this crate reads and writes. A
/// record of another version is refused, never misread.
pub const SCHEMA_VERSION: u64 = 2;

/// The state of one lock: one row, which does not grow with the queue.
///
/// Two numbers carry the queue. `issued` is the last ticket given out, `served`
/// the last one that is finished with. The ticket after `served` has its turn,
/// and nobody has or waits for one exactly when the two are equal.
///
/// Who shares the lock enters at its turn and then passes the turn on. Nobody holds
/// alone before all sharers have left; and while somebody has the turn, nobody else
/// can enter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockRecord {
    /// The last ticket that was given out.
    pub issued: Ticket,
    /// The last ticket that is finished.
    pub served: Ticket,
    /// Who holds the lock. The holder's ticket is always the one after `served`.
    pub holder: Option<Holder>,
    /// Grows with every grant, renewal, release and advance, but not when a
    /// waiter joins: a stream of arrivals must not look like a sign of life.
    pub revision: u64,
    /// How long a ticket may leave its turn unclaimed before it is passed over.
    /// Written when the record is created; every client obeys it.
    pub grace: Duration,
    /// When the present turn began, or later: when `served` last moved, a waiter last
    /// joined an idle queue, or the record was created. In milliseconds since 1970, by
    /// the wall clock of the client that did it.
    pub moved_at_ms: u64,
    /// The last ticket that was out at `moved_at_ms`. Each of them that still waits a
    /// while later should have a row.
    pub mark: Ticket,
    /// Those who share the lock.
    pub sharers: BTreeMap<HolderId, Sharer>,
}

/// Somebody who shares the lock, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sharer {
    /// The same as of a holder.
    pub holder: Holder,
    /// Grows with every sign of life, from the ticket at whose turn the share began, or
    /// from 0 if it began with a try: so what is meant for one share of an attempt does
    /// not hit another.
    pub beats: u64,
}

/// The holder, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The acquire attempt that holds.
    pub id: HolderId,
    /// How long the others must see no sign of life before they may go past.
    pub lease: Duration,
    /// Who this is, for people.
    pub owner: String,
    /// Since when, in milliseconds since 1970 by the holder's wall clock. For
    /// people: no decision rests on it.
    pub since_ms: u64,
    /// When the holder last claimed or renewed, by its wall clock, in
    /// milliseconds since 1970.
    pub renewed_at_ms: u64,
    /// What the holder wants people to know.
    pub data: Option<String>,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By one at a time.
    Exclusive,
    /// Together with others, by so many at a time.
    Shared {
        /// The highest number of those who share, oneself included.
        limit: u32,
    },
}

/// What a waiter says about itself: a row of its own, beside the lock's record.
///
/// It is a hint. A waiter that has a row which has not expired keeps its place
/// although it is slow; nothing about exclusion is ever read from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TicketRow {
    /// The ticket that waits.
    pub ticket: Ticket,
    /// The acquire attempt that drew it.
    pub id: HolderId,
    /// Who this is, for people.
    pub owner: String,
    /// Whether the attempt is still there.
    pub state: TicketState,
    /// Since when it waits, in milliseconds since 1970 by the waiter's wall
    /// clock. For people.
    pub since_ms: u64,
    /// When the row stops counting, in *seconds* since 1970, as DynamoDB's time
    /// to live has it.
    pub expires_at_s: u64,
}

/// Whether an attempt still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TicketState {
    /// It waits, as long as the row has not expired.
    Waiting,
    /// It gave up.
    Left,
}

impl TicketRow {
    /// Whether whoever drew the ticket is still there, as far as a reader whose
    /// wall clock says `wall_ms` can tell.
    #[must_use]
    pub fn is_alive(&self, wall_ms: u64) -> bool {
        self.state == TicketState::Waiting && !self.has_expired(wall_ms)
    }

    /// Whether the row has stopped counting, by a reader's wall clock.
    #[must_use]
    pub fn has_expired(&self, wall_ms: u64) -> bool {
        self.expires_at_s.saturating_mul(1_000) <= wall_ms
    }

    /// Whether `row` may be written in this one's place: by the same attempt, and
    /// only as long as it has not left.
    #[must_use]
    pub fn gives_way_to(&self, row: &Self) -> bool {
        self.id == row.id && self.state == TicketState::Waiting
    }
}

impl LockRecord {
    /// Whether nobody has a turn and nobody waits for one. The lock may be shared all
    /// the same.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.issued == self.served
    }

    /// Whether one more may hold in this mode, as far as those are concerned who share
    /// the lock.
    #[must_use]
    pub fn has_room(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => self.sharers.is_empty(),
            Mode::Shared { limit } => self.sharers.len() < limit as usize,
        }
    }

    /// The ticket whose turn it is. Nobody may have drawn it yet.
    #[must_use]
    pub fn turn(&self) -> Ticket {
        self.served.next()
    }

    /// For how long the queue has not moved, by a reader's wall clock.
    #[must_use]
    pub fn unmoved_for(&self, wall_ms: u64) -> Duration {
        Duration::from_millis(wall_ms.saturating_sub(self.moved_at_ms))
    }

    /// The ticket under which `id` holds the lock, if it does.
    #[must_use]
    pub fn held_by(&self, id: &HolderId) -> Option<Ticket> {
        self.holder
            .as_ref()
            .filter(|holder| holder.id == *id)
            .map(|_| self.turn())
    }
}
