//! Lock records in this process's memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};

use super::{FIRST_TICKET, LockStore, Page, PageEnd, Written, check_ticket};
use crate::error::StoreError;
use crate::process::Process;
use crate::protocol::{Consistency, Write, apply};
use crate::record::{LockRecord, TicketRow};
use crate::types::{HolderId, LockName, Ticket};

/// So many locks make a page: few enough that a test of paging need not make
/// many.
const PAGE: usize = 100;

/// A store for tests of programs that use locks, and for locks within one
/// process. Clones share their records.
///
/// It is of no use in a process that is forked from the one that made it: two processes would
/// each have a copy, and grant the same locks. All requests are refused there.
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
    state: Arc<Mutex<State>>,
    /// The only one that has these records.
    process: Process,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<LockName, LockRecord>,
    rows: HashMap<LockName, BTreeMap<Ticket, TicketRow>>,
}

impl MemoryStore {
    /// A store without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        // Asked first: another thread may have had it locked at the moment of the fork.
        match self.process.is_current() {
            true => Ok(self.state.lock()),
            false => Err(StoreError::Rejected {
                source: "a MemoryStore is of no use in a process that is forked from its own; \
                         make one after the fork, or keep the locks in DynamoDB"
                    .into(),
            }),
        }
    }
}

impl LockStore for MemoryStore {
    fn read(
        &self,
        lock: &LockName,
        _: Consistency,
        _: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        Ok(self.state()?.records.get(lock).cloned())
    }

    fn write(&self, lock: &LockName, write: &Write, _: Duration) -> Result<Written, StoreError> {
        let records = &mut self.state()?.records;
        Ok(match apply(records.get(lock), write) {
            Some(record) => {
                records.insert(lock.clone(), record.clone());
                Written::Applied(record)
            }
            None => Written::Refused(records.get(lock).cloned()),
        })
    }

    fn announce(&self, lock: &LockName, row: &TicketRow, _: Duration) -> Result<bool, StoreError> {
        check_ticket(row.ticket)?;
        let mut state = self.state()?;
        let served = state.records.get(lock).map(|record| record.served);
        let rows = state.rows.entry(lock.clone()).or_default();
        // Nobody else deletes the rows of waiters that never came back.
        let now_s = wall_s();
        rows.retain(|ticket, row| Some(*ticket) > served || row.expires_at_s > now_s);
        let ours = rows
            .get(&row.ticket)
            .is_none_or(|there| there.gives_way_to(row));
        if ours {
            rows.insert(row.ticket, row.clone());
        }
        Ok(ours)
    }

    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        _: Duration,
    ) -> Result<(), StoreError> {
        check_ticket(ticket)?;
        let all = &mut self.state()?.rows;
        if let Some(rows) = all.get_mut(lock) {
            if rows.get(&ticket).is_some_and(|row| row.id == *id) {
                rows.remove(&ticket);
            }
            if rows.is_empty() {
                all.remove(lock);
            }
        }
        Ok(())
    }

    fn look(
        &self,
        lock: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        _: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        let from = from.max(FIRST_TICKET);
        let all = &self.state()?.rows;
        // A map panics at a range that ends before it begins.
        let rows = all.get(lock).filter(|_| from <= to);
        Ok(rows
            .into_iter()
            .flat_map(|rows| rows.range(from..=to))
            .take(limit)
            .map(|(_, row)| row.clone())
            .collect())
    }

    fn list(&self, after: Option<&PageEnd>, _: Duration) -> Result<Page, StoreError> {
        let records = &self.state()?.records;
        let mut later = records
            .iter()
            .filter(|(name, _)| after.is_none_or(|end| name.as_str() > end.lock.as_str()));
        let locks: Vec<_> = later
            .by_ref()
            .take(PAGE)
            .map(|(name, record)| (name.clone(), record.clone()))
            .collect();
        let next = later.next().and(locks.last()).map(|(name, _)| PageEnd {
            lock: name.to_string(),
            ticket: "0".into(),
        });
        Ok(Page {
            locks: locks.into_iter().map(Ok).collect(),
            next,
        })
    }
}

fn wall_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TicketState;

    const WITHIN: Duration = Duration::from_secs(1);

    #[test]
    fn rows_of_finished_tickets_do_not_pile_up() {
        let store = MemoryStore::new();
        let lock = LockName::new("crowded").unwrap();
        let announce = |ticket: u64, expires_at_s: u64| {
            let row = TicketRow {
                ticket: Ticket::new(ticket),
                id: HolderId::new("a"),
                owner: "a".into(),
                state: TicketState::Left,
                since_ms: 1,
                expires_at_s,
            };
            assert!(store.announce(&lock, &row, WITHIN).unwrap());
        };
        let left = || -> Vec<u64> {
            let rows = store.look(&lock, FIRST_TICKET, Ticket::MAX, 10, WITHIN);
            rows.unwrap().iter().map(|row| row.ticket.get()).collect()
        };
        let later = 4_000_000_000;
        announce(7, 1);
        announce(8, later);
        announce(9, 1);
        announce(10, later);
        assert_eq!(left(), [7, 8, 9, 10], "no ticket is known to be finished");
        // A record whose last ticket that is finished is 8.
        let join = Write::Enqueue {
            start: Ticket::new(8),
            grace: Duration::from_secs(1),
            wall_ms: 1,
        };
        store
            .write(&lock, &join, WITHIN)
            .unwrap()
            .applied()
            .unwrap();
        announce(11, 1);
        assert_eq!(left(), [8, 9, 10, 11], "7 was finished and has expired");
    }
}
