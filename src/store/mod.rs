//! Where lock records are kept.

use std::sync::Arc;
use std::time::Duration;

use rusoto_dynamodb::ConditionCheck;

use crate::error::StoreError;
use crate::protocol::{Answer, Consistency, Write};
use crate::record::{LockRecord, TicketRow};
use crate::types::{HolderId, LockName, Ticket};

mod dynamodb;
mod memory;
mod own;

#[cfg(feature = "aws-sdk")]
pub use dynamodb::AwsSdkStore;
#[cfg(feature = "aws-sdk")]
pub(crate) use dynamodb::condition_check;
pub use dynamodb::{
    AccessKeys, Action, ClockOffset, Credentials, DynamoDbStore, DynamoDbStoreBuilder, Expiry,
    SigningKeys,
};
pub use memory::MemoryStore;
pub(crate) use own::OwnStore;

/// The lowest ticket that can have a row.
const FIRST_TICKET: Ticket = Ticket::new(1);

/// A place to keep lock records and the rows of waiters, with conditional writes.
///
/// # Contract
/// * A [`Write`] is applied or refused atomically, exactly as
///   [`protocol::apply`](crate::protocol::apply) says.
/// * A write is sent once. A store never repeats one by itself: drawing a ticket
///   twice is not the same as drawing it once.
/// * A call returns within `within`, with [`StoreError::Unreachable`] if there
///   was no answer by then. It blocks the calling thread and no other.
/// * A row that is not a lock record of this version is refused with an error
///   that names the lock and the attribute, and is left alone.
/// * An answer that shows nothing at all is an error, not an absent record.
pub trait LockStore: Send + Sync {
    /// Reads a lock's record; `None` if there is none.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn read(
        &self,
        lock: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError>;

    /// Applies a write, or refuses it.
    ///
    /// # Errors
    /// Any [`StoreError`]; [`StoreError::maybe_applied`] says whether the write
    /// may have been applied all the same.
    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Written, StoreError>;

    /// Writes the row of a ticket: if there is none yet, or if the one that is
    /// there has the same `id` and has not left. Says whether it was written. So
    /// an announcement that was long on its way never revives who has left.
    ///
    /// # Errors
    /// Any [`StoreError`]; [`StoreError::Rejected`] for ticket 0, which is never
    /// drawn: the lock's own record stands there.
    fn announce(
        &self,
        lock: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError>;

    /// Deletes the row of a ticket, if there is one and its `id` is this one.
    ///
    /// # Errors
    /// As [`announce`](Self::announce).
    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError>;

    /// The rows of the tickets from `from` to `to`, both included, in ascending
    /// order: the first `limit` of them, and fewer only if there are no more. Sees
    /// every row that was written before, but for those that have expired: they
    /// may be gone.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn look(
        &self,
        lock: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<TicketRow>, StoreError>;

    /// Some of the locks there are, in no particular order, beginning after those
    /// of the page that ended with `after`.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError>;

    /// The part of a DynamoDB transaction that lets it commit only while it is
    /// the turn of `ticket` and nobody but `id` has claimed it. Defaults to
    /// `None`, for stores that are not in DynamoDB.
    fn condition_check(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
    ) -> Option<ConditionCheck> {
        let _ = (lock, ticket, id);
        None
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was applied, and left this record.
    Applied(LockRecord),
    /// Its condition did not hold. A store that can tell shows the record that made
    /// it refuse, which saves whoever wants to know a read.
    Refused(Option<LockRecord>),
}

impl Written {
    /// The record that the write left, if it was applied.
    #[must_use]
    pub fn applied(self) -> Option<LockRecord> {
        match self {
            Self::Applied(record) => Some(record),
            Self::Refused(_) => None,
        }
    }
}

impl From<Written> for Answer {
    fn from(written: Written) -> Self {
        match written {
            Written::Applied(record) => Self::Applied(record),
            Written::Refused(seen) => Self::Refused(seen),
        }
    }
}

/// Refuses the number under which the lock's own record stands.
fn check_ticket(ticket: Ticket) -> Result<(), StoreError> {
    if ticket < FIRST_TICKET {
        return Err(StoreError::Rejected {
            source: "ticket 0 is never drawn and has no row".into(),
        });
    }
    Ok(())
}

/// Some of the locks in a store.
#[derive(Debug)]
pub struct Page {
    /// The locks. A row that is no lock record stands here as the error that
    /// says so: it must not hide the others.
    pub locks: Vec<Result<(LockName, LockRecord), StoreError>>,
    /// Where the next page begins, if there may be more.
    pub next: Option<PageEnd>,
}

/// Where a page of locks ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEnd {
    /// The partition key of the last row seen.
    pub lock: String,
    /// Its sort key, as text: a foreign row may have any number there.
    pub ticket: String,
}

impl<S: LockStore + ?Sized> LockStore for Arc<S> {
    fn read(
        &self,
        lock: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        (**self).read(lock, consistency, within)
    }

    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Written, StoreError> {
        (**self).write(lock, write, within)
    }

    fn announce(
        &self,
        lock: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError> {
        (**self).announce(lock, row, within)
    }

    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        (**self).dequeue(lock, ticket, id, within)
    }

    fn look(
        &self,
        lock: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        (**self).look(lock, from, to, limit, within)
    }

    fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError> {
        (**self).list(after, within)
    }

    fn condition_check(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
    ) -> Option<ConditionCheck> {
        (**self).condition_check(lock, ticket, id)
    }
}
