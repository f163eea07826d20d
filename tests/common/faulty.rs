//! A store that fails on demand.

use std::sync::Arc;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::record::{LockRecord, TicketRow};
use dynamodb_fifo_lock::rusoto_dynamodb::ConditionCheck;
use dynamodb_fifo_lock::{
    HolderId, LockName, LockStore, Page, PageEnd, StoreError, Ticket, Written,
};

/// What happens to one request.
pub enum Fate {
    /// It is carried out and answered.
    Fine,
    /// It is lost on the way.
    Lost,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is refused for now.
    Throttled,
}

/// A request, as the plan sees it.
pub enum Request<'a> {
    Read,
    Write(&'a Write),
    Announce(&'a TicketRow),
    Dequeue(Ticket),
    Look,
    /// It is about no lock in particular: the plan hears the name `*`.
    List,
}

type Plan = dyn Fn(&LockName, &Request<'_>) -> Fate + Send + Sync;

/// A store whose requests meet the fate that a plan decides. The plan may block,
/// for a request that hangs.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn LockStore>,
    plan: Arc<Plan>,
}

impl Faulty {
    pub fn new(
        inner: impl LockStore + 'static,
        plan: impl Fn(&LockName, &Request<'_>) -> Fate + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(inner),
            plan: Arc::new(plan),
        }
    }

    fn meet<T>(
        &self,
        lock: &LockName,
        request: &Request<'_>,
        carry_out: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match (self.plan)(lock, request) {
            Fate::Fine => carry_out(),
            Fate::Lost => Err(unreachable()),
            Fate::AnswerLost => {
                let _ = carry_out();
                Err(unreachable())
            }
            Fate::Throttled => Err(StoreError::Throttled {
                source: "on purpose".into(),
            }),
        }
    }
}

pub fn unreachable() -> StoreError {
    StoreError::Unreachable {
        source: "on purpose".into(),
    }
}

impl LockStore for Faulty {
    fn read(
        &self,
        lock: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        self.meet(lock, &Request::Read, || {
            self.inner.read(lock, consistency, within)
        })
    }

    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Written, StoreError> {
        self.meet(lock, &Request::Write(write), || {
            self.inner.write(lock, write, within)
        })
    }

    fn announce(
        &self,
        lock: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError> {
        self.meet(lock, &Request::Announce(row), || {
            self.inner.announce(lock, row, within)
        })
    }

    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        self.meet(lock, &Request::Dequeue(ticket), || {
            self.inner.dequeue(lock, ticket, id, within)
        })
    }

    fn look(
        &self,
        lock: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        self.meet(lock, &Request::Look, || {
            self.inner.look(lock, from, to, limit, within)
        })
    }

    fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError> {
        let all = LockName::new("*").unwrap();
        self.meet(&all, &Request::List, || self.inner.list(after, within))
    }

    fn condition_check(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
    ) -> Option<ConditionCheck> {
        self.inner.condition_check(lock, ticket, id)
    }
}
