//! Where lock records are kept.

use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::protocol::{Consistency, Write};
use crate::record::LockRecord;
use crate::types::LockName;

mod dynamodb;
mod memory;

pub use dynamodb::{AccessKeys, Credentials, DynamoDbStore, DynamoDbStoreBuilder};
pub use memory::MemoryStore;

/// A place to keep lock records, with conditional writes.
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

    /// Applies a write and returns the record it left; `None` if it was refused.
    ///
    /// # Errors
    /// Any [`StoreError`]; [`StoreError::maybe_applied`] says whether the write
    /// may have been applied all the same.
    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError>;
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
    ) -> Result<Option<LockRecord>, StoreError> {
        (**self).write(lock, write, within)
    }
}
