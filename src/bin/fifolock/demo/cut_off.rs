//! A store that can go out of reach, for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::record::{LockRecord, TicketRow};
use dynamodb_fifo_lock::{
    HolderId, LockName, LockStore, Page, PageEnd, StoreError, Ticket, Written,
};

/// The store as one worker reaches it.
#[derive(Clone)]
pub(super) struct CutOff {
    inner: Arc<dyn LockStore>,
    is_cut: Arc<AtomicBool>,
}

impl CutOff {
    pub(super) fn new(inner: Arc<dyn LockStore>) -> Self {
        Self {
            inner,
            is_cut: Arc::default(),
        }
    }

    /// From now on nothing gets through, and nothing is answered.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    fn reach(&self, within: Duration) -> Result<&dyn LockStore, StoreError> {
        if !self.is_cut.load(Ordering::SeqCst) {
            return Ok(&self.inner);
        }
        thread::sleep(within);
        Err(StoreError::Unreachable {
            source: "cut off".into(),
        })
    }
}

impl LockStore for CutOff {
    fn read(
        &self,
        lock: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        self.reach(within)?.read(lock, consistency, within)
    }

    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Written, StoreError> {
        self.reach(within)?.write(lock, write, within)
    }

    fn announce(
        &self,
        lock: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError> {
        self.reach(within)?.announce(lock, row, within)
    }

    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        self.reach(within)?.dequeue(lock, ticket, id, within)
    }

    fn look(
        &self,
        lock: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        self.reach(within)?.look(lock, from, to, limit, within)
    }

    fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError> {
        self.reach(within)?.list(after, within)
    }
}
