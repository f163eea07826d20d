//! A store whose requests fail on demand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rusoto_dynamodb::ConditionCheck;

use crate::error::StoreError;
use crate::protocol::{Consistency, Write};
use crate::record::{LockRecord, TicketRow};
use crate::store::{LockStore, Page, PageEnd, Written};
use crate::types::{HolderId, LockName, Ticket};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    Fine,
    /// It is lost on the way: [`StoreError::Unreachable`], and nothing was done.
    Lost,
    /// It is carried out, and its answer is lost: [`StoreError::Unreachable`] all the
    /// same.
    AnswerLost,
    /// It is refused for now: [`StoreError::Throttled`].
    Throttled,
    /// It is refused, as by a policy: [`StoreError::Denied`].
    Denied,
}

/// A request, as the plan sees it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Request<'a> {
    /// The lock's record is read.
    Read,
    /// A write to the lock's record.
    Write(&'a Write),
    /// The row of a waiter is written.
    Announce(&'a TicketRow),
    /// The row of a waiter is deleted.
    Dequeue(Ticket),
    /// Rows of waiters are read.
    Look,
    /// Locks are listed. That is about no lock in particular: the plan hears the name
    /// `*`.
    List,
}

type Plan = dyn Fn(&LockName, &Request<'_>) -> Fate + Send + Sync;

/// A store whose requests meet the fate that a plan decides, for tests of what your
/// program does when DynamoDB cannot be reached. Clones share the plan.
///
/// The plan is asked on the thread that makes the request, and may block it, for a
/// request that hangs.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::Duration;
///
/// use dynamodb_fifo_lock::testing::{Fate, FaultyStore};
/// use dynamodb_fifo_lock::{LockClient, MemoryStore};
///
/// let away = Arc::new(AtomicBool::new(false));
/// let is_away = Arc::clone(&away);
/// let store = FaultyStore::new(MemoryStore::new(), move |_lock, _request| {
///     match is_away.load(Ordering::SeqCst) {
///         true => Fate::Lost,
///         false => Fate::Fine,
///     }
/// });
/// let client = LockClient::builder().lease(Duration::from_millis(200)).build(store)?;
/// let guard = client.acquire("reports")?;
/// away.store(true, Ordering::SeqCst);
/// // No renewal gets through any more.
/// assert!(guard.lost().recv().is_err());
/// assert!(guard.ensure_held().is_err());
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn LockStore>,
    plan: Arc<Plan>,
}

impl FaultyStore {
    /// A store that passes on to `inner` what `plan` lets through.
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
            Fate::Denied => Err(StoreError::Denied {
                source: "on purpose".into(),
            }),
        }
    }
}

fn unreachable() -> StoreError {
    StoreError::Unreachable {
        source: "on purpose".into(),
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

impl LockStore for FaultyStore {
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
        let Ok(all) = LockName::new("*") else {
            return self.inner.list(after, within);
        };
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
