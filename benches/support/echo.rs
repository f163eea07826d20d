//! A store that keeps nothing: what is measured over it is the client's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write, apply};
use dynamodb_fifo_lock::record::{LockRecord, TicketRow};
use dynamodb_fifo_lock::{
    HolderId, LockName, LockStore, Page, PageEnd, StoreError, Ticket, Written,
};

/// Grants every lock to whoever asks, and counts renewals. Clones share the count.
#[derive(Clone)]
pub(crate) struct Echo {
    renewals: Arc<AtomicU64>,
    renewal_takes: Duration,
    record: LockRecord,
}

impl Echo {
    /// Answers everything at once, but for renewals, which take this long.
    pub(crate) fn new(renewal_takes: Duration) -> Self {
        Self {
            renewals: Arc::default(),
            renewal_takes,
            record: LockRecord {
                issued: Ticket::new(1),
                served: Ticket::new(1),
                holder: None,
                revision: 1,
                grace: Duration::from_secs(1),
                moved_at_ms: 0,
                mark: Ticket::new(0),
                sharers: BTreeMap::new(),
            },
        }
    }

    /// How many renewals were asked for so far.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }
}

impl LockStore for Echo {
    fn read(
        &self,
        _: &LockName,
        _: Consistency,
        _: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        Ok(None)
    }

    fn write(&self, _: &LockName, write: &Write, _: Duration) -> Result<Written, StoreError> {
        if let Write::Renew { .. } = write {
            self.renewals.fetch_add(1, Ordering::Relaxed);
            thread::sleep(self.renewal_takes);
        }
        let record = apply(None, write).unwrap_or_else(|| self.record.clone());
        Ok(Written::Applied(record))
    }

    fn announce(&self, _: &LockName, _: &TicketRow, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn dequeue(
        &self,
        _: &LockName,
        _: Ticket,
        _: &HolderId,
        _: Duration,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn look(
        &self,
        _: &LockName,
        _: Ticket,
        _: Ticket,
        _: usize,
        _: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        Ok(Vec::new())
    }

    fn list(&self, _: Option<&PageEnd>, _: Duration) -> Result<Page, StoreError> {
        Ok(Page {
            locks: Vec::new(),
            next: None,
        })
    }
}
