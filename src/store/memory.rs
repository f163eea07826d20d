//! Lock records in this process's memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::LockStore;
use crate::error::StoreError;
use crate::protocol::{Consistency, Write, apply};
use crate::record::LockRecord;
use crate::types::LockName;

/// A store for tests of programs that use locks, and for locks within one
/// process. Clones share their records.
///
/// ```
/// use dynamodb_fifo_lock::{LockClient, MemoryStore};
///
/// let client = LockClient::builder().build(MemoryStore::new())?;
/// let guard = client.acquire("reports")?;
/// assert!(client.try_acquire("reports")?.is_none());
/// guard.release()?;
/// assert!(client.try_acquire("reports")?.is_some());
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<HashMap<LockName, LockRecord>>>,
}

impl MemoryStore {
    /// A store without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl LockStore for MemoryStore {
    fn read(
        &self,
        lock: &LockName,
        _: Consistency,
        _: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        Ok(self.records.lock().get(lock).cloned())
    }

    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        _: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        let mut records = self.records.lock();
        let after = apply(records.get(lock), write);
        if let Some(record) = &after {
            records.insert(lock.clone(), record.clone());
        }
        Ok(after)
    }
}
