//! The store of a client, as long as the process is the client's own.

use std::sync::Arc;
use std::time::Duration;

use rusoto_dynamodb::ConditionCheck;

use super::{LockStore, Page, PageEnd, Written};
use crate::error::StoreError;
use crate::process::Process;
use crate::protocol::{Consistency, Write};
use crate::record::{LockRecord, TicketRow};
use crate::types::{HolderId, LockName, Ticket};

/// Lets a client write in the process that built it and in no other. A fork copies attempts
/// that are under way with their ids (if a store or an observer forks, the very call goes on in
/// both processes); two of them must not both go on.
pub(crate) struct OwnStore {
    inner: Arc<dyn LockStore>,
    process: Process,
}

impl OwnStore {
    pub(crate) fn new(inner: Arc<dyn LockStore>, process: Process) -> Self {
        Self { inner, process }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.process.is_current() {
            true => Ok(()),
            false => Err(StoreError::Rejected {
                source: "this process was forked from the one that built the client; \
                         build a client after the fork"
                    .into(),
            }),
        }
    }
}

impl LockStore for OwnStore {
    fn read(
        &self,
        lock: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        self.inner.read(lock, consistency, within)
    }

    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Written, StoreError> {
        self.check()?;
        self.inner.write(lock, write, within)
    }

    fn announce(
        &self,
        lock: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.announce(lock, row, within)
    }

    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        self.check()?;
        self.inner.dequeue(lock, ticket, id, within)
    }

    fn look(
        &self,
        lock: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        self.inner.look(lock, from, to, limit, within)
    }

    fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError> {
        self.inner.list(after, within)
    }

    fn condition_check(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
    ) -> Option<ConditionCheck> {
        self.check().ok()?;
        self.inner.condition_check(lock, ticket, id)
    }
}
