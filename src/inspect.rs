//! What locks look like from outside: for people, and for programs that show it
//! to people.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, mem, vec};

use crate::core::Core;
use crate::error::{Error, StoreError};
use crate::protocol::Consistency;
use crate::record::{Holder, LockRecord, Sharer, TicketRow, TicketState};
use crate::store::{Page, PageEnd};
use crate::types::{FencingToken, LockName, Ticket};

/// So many rows of waiters are asked for at once.
const BATCH: usize = 250;

/// So many waiters are shown.
const SHOWN: usize = 1_000;

/// What a lock looked like at one moment. Nothing here is a promise about the
/// next one; and all times are by the wall clocks of those who wrote them down.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockStatus {
    /// The lock.
    pub name: LockName,
    /// Who holds it, or waits with its turn for those to leave who share it. A lock may be
    /// held without showing it: who got it by waiting
    /// writes itself down only if it holds on for more than a moment. Then `turn`
    /// is there, and `holder` is not.
    pub holder: Option<HolderStatus>,
    /// Those who share the lock, the longest first.
    pub sharers: Vec<SharerStatus>,
    /// The ticket whose turn it is, be it claimed or not. `None` if the lock is
    /// free.
    pub turn: Option<Ticket>,
    /// How many tickets are out that do not hold, as far as `holder` shows. Some
    /// of them may have been given up.
    pub waiting: u64,
    /// The waiters that have announced themselves, in order, the first 1,000 of
    /// them. One that has waited for less than three seconds has not, and is only
    /// counted in `waiting`. Empty in a list of locks.
    pub waiters: Vec<WaiterStatus>,
}

/// Who holds a lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HolderStatus {
    /// Who this is: the [`owner`](crate::LockClientBuilder::owner) of its client.
    pub owner: String,
    /// The token of this grant.
    pub token: FencingToken,
    /// How long the lock stays held after a sign of life.
    pub lease: Duration,
    /// Since when it holds, by its own clock.
    pub since: SystemTime,
    /// When it last showed a sign of life, by its own clock.
    pub renewed_at: SystemTime,
    /// What it wants people to know.
    pub data: Option<String>,
}

/// Who shares a lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SharerStatus {
    /// Who this is.
    pub owner: String,
    /// How long the share lasts after a sign of life.
    pub lease: Duration,
    /// Since when, by its own clock.
    pub since: SystemTime,
    /// When it last showed a sign of life, by its own clock.
    pub renewed_at: SystemTime,
    /// What it wants people to know.
    pub data: Option<String>,
}

/// Who waits for a lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaiterStatus {
    /// Its place in the queue.
    pub ticket: Ticket,
    /// Who this is: the [`owner`](crate::LockClientBuilder::owner) of its client.
    pub owner: String,
    /// Since when it waits, by its own clock.
    pub since: SystemTime,
    /// Whether it has given up. Its turn will be passed over.
    pub left: bool,
    /// Whether it has not been heard of for so long that it will be passed over.
    /// This compares its clock with ours.
    pub expired: bool,
}

/// What `lock` looks like; `None` if it has no record.
pub(crate) fn inspect(core: &Core, lock: &LockName) -> Result<Option<LockStatus>, Error> {
    let failed = |source| Error::Store {
        lock: lock.clone(),
        doing: "inspect",
        source,
    };
    let within = core.settings.request_timeout;
    let record = core.store.read(lock, Consistency::Strong, within);
    let Some(record) = record.map_err(failed)? else {
        return Ok(None);
    };
    let mut status = status(lock.clone(), &record);
    if status.waiting > 0 {
        status.waiters = waiters(core, lock, &record).map_err(failed)?;
    }
    Ok(Some(status))
}

fn waiters(
    core: &Core,
    lock: &LockName,
    record: &LockRecord,
) -> Result<Vec<WaiterStatus>, StoreError> {
    let within = core.settings.request_timeout;
    let wall_ms = core.machine.wall_ms();
    // The row of whoever holds may still be there.
    let mut from = match record.holder {
        Some(_) => record.turn().next(),
        None => record.turn(),
    };
    let mut found = Vec::new();
    while found.len() < SHOWN {
        let limit = BATCH.min(SHOWN - found.len());
        let rows = core.store.look(lock, from, record.issued, limit, within)?;
        found.extend(rows.iter().map(|row| waiter(row, wall_ms)));
        match rows.last() {
            Some(last) if rows.len() == limit => from = last.ticket.next(),
            _ => break,
        }
    }
    Ok(found)
}

fn waiter(row: &TicketRow, wall_ms: u64) -> WaiterStatus {
    WaiterStatus {
        ticket: row.ticket,
        owner: row.owner.clone(),
        since: at(row.since_ms),
        left: row.state == TicketState::Left,
        expired: row.has_expired(wall_ms),
    }
}

fn status(name: LockName, record: &LockRecord) -> LockStatus {
    let out = record.issued.get().saturating_sub(record.served.get());
    LockStatus {
        name,
        holder: record
            .holder
            .as_ref()
            .map(|holder| holder_status(holder, record.turn())),
        sharers: sharers(record),
        turn: (out > 0).then(|| record.turn()),
        waiting: out.saturating_sub(u64::from(record.holder.is_some())),
        waiters: Vec::new(),
    }
}

fn sharers(record: &LockRecord) -> Vec<SharerStatus> {
    let mut all: Vec<_> = record
        .sharers
        .values()
        .map(|Sharer { holder, .. }| SharerStatus {
            owner: holder.owner.clone(),
            lease: holder.lease,
            since: at(holder.since_ms),
            renewed_at: at(holder.renewed_at_ms),
            data: holder.data.clone(),
        })
        .collect();
    all.sort_by_key(|sharer| sharer.since);
    all
}

fn holder_status(holder: &Holder, ticket: Ticket) -> HolderStatus {
    HolderStatus {
        owner: holder.owner.clone(),
        token: ticket.into(),
        lease: holder.lease,
        since: at(holder.since_ms),
        renewed_at: at(holder.renewed_at_ms),
        data: holder.data.clone(),
    }
}

/// Not every system can tell a time that is as far away as a record may say.
fn at(wall_ms: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(wall_ms))
        .unwrap_or(UNIX_EPOCH)
}

/// All the locks there are: what [`LockClient::list`](crate::LockClient::list)
/// returns.
///
/// A row that is no lock record comes as an error that names it, and the locks
/// after it follow. A page that cannot be read is an error too, and the last item.
#[must_use = "nothing is read before the first lock is asked for"]
pub struct Locks {
    core: Arc<Core>,
    page: vec::IntoIter<Result<(LockName, LockRecord), StoreError>>,
    next: Next,
}

/// Where the page after this one begins.
enum Next {
    Beginning,
    After(PageEnd),
    End,
}

impl Locks {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            page: Vec::new().into_iter(),
            next: Next::Beginning,
        }
    }
}

impl Iterator for Locks {
    type Item = Result<LockStatus, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(lock) = self.page.next() {
                return Some(match lock {
                    Ok((name, record)) => Ok(status(name, &record)),
                    Err(source) => Err(Error::List { source }),
                });
            }
            // A page may be empty although others follow.
            let after = match mem::replace(&mut self.next, Next::End) {
                Next::Beginning => None,
                Next::After(end) => Some(end),
                Next::End => return None,
            };
            let within = self.core.settings.request_timeout;
            match self.core.store.list(after.as_ref(), within) {
                Ok(Page { locks, next }) => {
                    self.page = locks.into_iter();
                    self.next = next.map_or(Next::End, Next::After);
                }
                Err(source) => return Some(Err(Error::List { source })),
            }
        }
    }
}

impl std::iter::FusedIterator for Locks {}

impl Drop for Locks {
    fn drop(&mut self) {
        if self.core.is_forked() {
            mem::forget(Arc::clone(&self.core));
        }
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}
