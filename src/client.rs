//! The client: the verbs of locking.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquire, Manner, Outcome};
use crate::attendance::CloseReport;
use crate::breaking;
use crate::builder::LockClientBuilder;
use crate::core::Core;
use crate::error::Error;
use crate::event::Event;
use crate::guard::LockGuard;
use crate::inspect::{self, LockStatus, Locks};
use crate::lease::Lease;
use crate::options::AcquireOptions;
use crate::protocol::{Patience, Tenure};
use crate::record::Mode;
use crate::shared::Shared;
use crate::trace;
use crate::types::{FencingToken, LockName, Ticket};

/// Acquires locks, and keeps them alive with one heartbeat thread.
///
/// Clones are cheap and share the thread. The thread ends when the last clone
/// and the last guard are gone. A client may be used from any thread, also
/// inside an async runtime; its calls block the calling thread.
///
/// A process that is forked from the one that built the client has no heartbeat thread. The
/// client does not lock there ([`Error::Forked`]); build a client after the fork.
/// [`inspect`](Self::inspect) and [`list`](Self::list) work.
///
/// ```
/// use std::time::Duration;
/// use dynamodb_fifo_lock::{LockClient, MemoryStore};
///
/// let client = LockClient::builder()
///     .lease(Duration::from_secs(30))
///     .owner("billing-7")
///     .build(MemoryStore::new())?;
/// let guard = client.acquire("invoices")?;
/// assert!(guard.is_held());
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[derive(Clone)]
pub struct LockClient {
    shared: Arc<Shared>,
}

impl LockClient {
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Settings for a new client, all at their defaults.
    pub fn builder() -> LockClientBuilder {
        LockClientBuilder::default()
    }

    /// Acquires the lock `name`: first come, first served. Blocks until it is
    /// granted, or for the client's
    /// [`acquire_timeout`](crate::LockClientBuilder::acquire_timeout) if it has one.
    ///
    /// A holder that died delays the grant by its lease at most. While no
    /// request gets through, the call goes on for the client's
    /// [`outage_limit`](crate::LockClientBuilder::outage_limit) and then fails, within a
    /// second. If the service refuses a request, because of permissions, keys or a table
    /// that is not there, it is sent again for 2 s; for 15 s if the call had an answer
    /// before, so that one refusal does not cost a place in the queue.
    ///
    /// Of the calls of one client, 32 have a request under way at once. The others wait
    /// for that in the order in which they came. Renewals and releases do not.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::WouldDeadlock`], [`Error::AcquireTimeout`],
    /// [`Error::Closed`], [`Error::Forked`], [`Error::Randomness`] or [`Error::Store`].
    pub fn acquire(&self, name: &str) -> Result<LockGuard, Error> {
        self.acquire_with(name, AcquireOptions::new())
    }

    /// Acquires the lock `name`, or gives up after `timeout`. The call returns within a
    /// second of that, also while the store hangs: a request that is under way by then is
    /// waited for, for a quarter of a second, and then those that leave the queue, for
    /// three quarters. What does not get through in that time, another thread of the
    /// client sends again, for twice the
    /// [request time-out](crate::LockClientBuilder::request_timeout); a process that ends
    /// before that leaves its place to be passed over.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but never [`Error::WouldDeadlock`]; and
    /// [`Error::InvalidSetting`] if `timeout` is zero or longer than a year.
    pub fn acquire_timeout(&self, name: &str, timeout: Duration) -> Result<LockGuard, Error> {
        self.acquire_with(name, AcquireOptions::new().timeout(timeout))
    }

    /// Acquires the lock `name`, waiting as `options` say. A cancellation ends the wait at
    /// once. A request that is under way is waited for, for the
    /// [request time-out](crate::LockClientBuilder::request_timeout) at most, and leaving
    /// the queue takes three quarters of a second at most, as with a
    /// [time-out](Self::acquire_timeout).
    ///
    /// # Errors
    /// As [`acquire_timeout`](Self::acquire_timeout), and [`Error::Cancelled`].
    /// Asking for a lock of which the same thread holds so much that there is no room,
    /// with neither a time-out nor a way to cancel, is [`Error::WouldDeadlock`].
    pub fn acquire_with(&self, name: &str, options: AcquireOptions) -> Result<LockGuard, Error> {
        let lock = self.lock(name)?;
        options.check()?;
        let timeout = options
            .timeout
            .or(self.shared.core.settings.acquire_timeout);
        let endless = timeout.is_none() && options.cancel.is_none();
        if endless && self.shared.would_wait_for_itself(&lock, options.mode()) {
            return Err(Error::WouldDeadlock { lock });
        }
        let manner = Manner {
            patience: Patience::Queue,
            mode: options.mode(),
            timeout,
            cancel: options.cancel,
            data: options.data,
        };
        match self.begin(&lock, manner)? {
            Some(guard) => Ok(guard),
            // Only an attempt that does not queue ends with "busy".
            None => Err(Error::AcquireTimeout {
                lock,
                waited: Duration::ZERO,
                ahead: None,
            }),
        }
    }

    /// Acquires the lock `name` if it is free at this moment: nobody holds it
    /// and nobody waits for it. One request if so; never waits for the lock, never
    /// overtakes. While the store hangs, the call returns after twice the
    /// [request time-out](crate::LockClientBuilder::request_timeout) and a second at most. A
    /// request that fails or is refused is not sent again.
    ///
    /// The client remembers what each call saw: called again and again, it gets past a
    /// holder or waiter that died as soon as a call that waits would.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::Closed`], [`Error::Forked`], [`Error::Randomness`]
    /// or [`Error::Store`]. That the lock is busy is no error, but `None`.
    pub fn try_acquire(&self, name: &str) -> Result<Option<LockGuard>, Error> {
        self.try_acquire_with(name, AcquireOptions::new())
    }

    /// As [`try_acquire`](Self::try_acquire), with `data`, or shared. A time-out and a
    /// channel to cancel have no meaning here: nothing is waited for.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire); [`Error::InvalidSetting`] if an option
    /// makes no sense.
    pub fn try_acquire_with(
        &self,
        name: &str,
        options: AcquireOptions,
    ) -> Result<Option<LockGuard>, Error> {
        let lock = self.lock(name)?;
        options.check()?;
        let manner = Manner {
            patience: Patience::TryOnly,
            mode: options.mode(),
            timeout: None,
            cancel: None,
            data: options.data,
        };
        self.begin(&lock, manner)
    }

    /// Runs `work` while holding the lock `name`, and returns what it returns.
    ///
    /// The lock is released when `work` ends, be it by a panic. A release that
    /// fails does not change the result; the observer hears of it. Nor does the
    /// loss of the lock while `work` runs: `work` is given the guard, to send
    /// the token along with its writes and to ask whether it still holds.
    ///
    /// ```
    /// use dynamodb_fifo_lock::{Error, LockClient, MemoryStore};
    ///
    /// let client = LockClient::builder().build(MemoryStore::new())?;
    /// let written = client.with_lock("reports", |guard| {
    ///     guard.ensure_held()?;
    ///     Ok::<_, Error>(guard.fencing_token())
    /// })?;
    /// println!("written with token {written}");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// What `work` returns; or what [`acquire`](Self::acquire) returns, in which
    /// case `work` was not run.
    pub fn with_lock<T, E>(
        &self,
        name: &str,
        work: impl FnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        let guard = self.acquire(name)?;
        let result = work(&guard);
        drop(guard);
        result
    }

    /// What the lock `name` looks like at this moment; `None` if nobody ever asked
    /// for it. Changes nothing, and promises nothing about the next moment: to
    /// take a lock if it is free, use [`try_acquire`](Self::try_acquire).
    ///
    /// One read; and, if anybody waits, the rows of the first 1,000 waiters that
    /// have announced themselves, which needs permission for `dynamodb:Query`.
    ///
    /// ```
    /// use dynamodb_fifo_lock::{LockClient, MemoryStore};
    ///
    /// let client = LockClient::builder().owner("billing-7").build(MemoryStore::new())?;
    /// assert!(client.inspect("invoices")?.is_none());
    /// drop(client.acquire("invoices")?);
    /// if let Some(status) = client.inspect("invoices")? {
    ///     println!("{} wait; held by {:?}", status.waiting, status.holder);
    /// }
    /// # Ok::<(), dynamodb_fifo_lock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidName`] or [`Error::Store`].
    pub fn inspect(&self, name: &str) -> Result<Option<LockStatus>, Error> {
        let lock = LockName::new(name)?;
        inspect::inspect(&self.shared.core, &lock)
    }

    /// Takes the lock away from whoever holds it under `token`, however alive: for an
    /// operator who knows better than the lease. [`inspect`](Self::inspect) shows the
    /// token. Says whether there was such a holder; `false` if its turn was over
    /// already, so that nobody else is hit by mistake.
    ///
    /// The next waiter may be granted the lock at once, with a higher token. The old
    /// holder hears of it, as a loss, with its next renewal, and **until then it
    /// believes that it holds**: for its heartbeat interval, or for its lease if it
    /// cannot reach the store. During that time only a resource that checks the
    /// fencing token is safe. To be safe without one, stop the holder instead, and
    /// wait for its lease to end.
    ///
    /// Sends a read and a write; gives up after three times the client's
    /// [`request_timeout`](crate::LockClientBuilder::request_timeout), or after 2 s if the
    /// service only ever refuses.
    ///
    /// # Errors
    /// [`Error::InvalidName`]; [`Error::Forked`]; [`Error::Store`] if the store gave no
    /// usable answer.
    ///
    /// ```
    /// use dynamodb_fifo_lock::{LockClient, MemoryStore};
    ///
    /// # fn main() -> Result<(), dynamodb_fifo_lock::Error> {
    /// let client = LockClient::builder().build(MemoryStore::new())?;
    /// let guard = client.acquire("reports")?;
    /// assert!(client.break_lock("reports", guard.fencing_token())?);
    /// assert!(guard.release().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn break_lock(&self, name: &str, token: FencingToken) -> Result<bool, Error> {
        let lock = self.lock(name)?;
        breaking::break_turn(&self.shared.core, &lock, Ticket::new(token.get()))
    }

    /// All locks there are, held or not, in no particular order and without
    /// [`waiters`](LockStatus::waiters). A lock that is created meanwhile may be
    /// missing.
    ///
    /// Reads the whole table page by page, as the iterator gets there, which costs
    /// as much as the table is large, and needs permission for `dynamodb:Scan`.
    ///
    /// ```
    /// use dynamodb_fifo_lock::{LockClient, MemoryStore};
    ///
    /// let client = LockClient::builder().build(MemoryStore::new())?;
    /// drop((client.acquire("invoices")?, client.acquire("reports")?));
    /// let mut names = Vec::new();
    /// for status in client.list() {
    ///     names.push(status?.name.to_string());
    /// }
    /// assert_eq!(names, ["invoices", "reports"]);
    /// # Ok::<(), dynamodb_fifo_lock::Error>(())
    /// ```
    pub fn list(&self) -> Locks {
        Locks::new(Arc::clone(&self.shared.core))
    }

    /// Closes the client and all its clones: every wait of theirs ends at once with
    /// [`Error::Closed`] and leaves the queue, and nothing can be acquired any more.
    /// Locks that are held stay held until their guards are dropped: whoever works
    /// under a guard must not lose it to somebody else's call.
    ///
    /// Blocks until the waits have ended and their queues are left: a round trip as a rule, at most three
    /// times the [request time-out](crate::LockClientBuilder::request_timeout). The report
    /// says what could not be given back. In a process that was forked from the client's own
    /// there is nothing to be closed, and the report is empty.
    ///
    /// ```
    /// use dynamodb_fifo_lock::{LockClient, MemoryStore};
    ///
    /// let client = LockClient::builder().build(MemoryStore::new())?;
    /// let guard = client.acquire("reports")?;
    /// let report = client.close();
    /// assert_eq!(report.held.len(), 1);
    /// guard.release()?;
    /// assert!(client.close().is_clean());
    /// # Ok::<(), dynamodb_fifo_lock::Error>(())
    /// ```
    pub fn close(&self) -> CloseReport {
        let shared = &self.shared;
        if shared.core.is_forked() {
            return CloseReport::default();
        }
        shared.core.close();
        let limit = shared.core.settings.request_timeout * 3;
        let (left_behind, still_leaving) = shared
            .attendance
            .wait_until_empty(&*shared.core.machine, limit);
        CloseReport {
            held: shared.still_held(),
            left_behind,
            still_leaving,
        }
    }

    /// The lock of this name, if this client can do anything with it.
    fn lock(&self, name: &str) -> Result<LockName, Error> {
        let lock = LockName::new(name)?;
        match self.shared.core.is_forked() {
            true => Err(Error::Forked { lock }),
            false => Ok(lock),
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    fn begin(&self, lock: &LockName, manner: Manner) -> Result<Option<LockGuard>, Error> {
        let shared = &self.shared;
        let core = &shared.core;
        let attending = shared.attendance.enter();
        if core.is_closed() {
            return Err(Error::Closed { lock: lock.clone() });
        }
        let memory = shared.memories.recall(lock, core.machine.now());
        let mut acquire = Acquire::new(shared, lock, manner, memory)?;
        let span = trace::wait(lock);
        let outcome = span.in_scope(|| acquire.run());
        if let Err(Error::Forked { .. }) = &outcome {
            mem::forget((attending, acquire));
            return outcome.map(|_| None);
        }
        shared.memories.keep(
            lock,
            acquire.watch().clone(),
            acquire.met_others,
            core.machine.now(),
        );
        let grant = match outcome {
            Ok(Outcome::Granted(grant)) => grant,
            Ok(Outcome::Busy) => return Ok(None),
            Err(error) => {
                let waited = acquire.waited();
                drop(acquire);
                span.in_scope(|| {
                    core.tell(&Event::GaveUp {
                        lock,
                        waited,
                        error: &error,
                    });
                });
                return Err(error);
            }
        };
        let ticket = grant.ticket;
        let tenure = Tenure::new(grant, core.settings.heartbeat_interval);
        let lease = Arc::new(Lease::new(lock.clone(), tenure, core));
        shared.remember(&lease);
        if lease.mode == Mode::Exclusive {
            shared.lobby.holds(lock, ticket, lease.lost().clone());
        }
        shared.heartbeat.keep(&lease);
        let waited = acquire.waited();
        // Only now may the next waiter of this client know that it is the first.
        drop(acquire);
        // The guard comes first: should the observer panic, it releases.
        let guard = LockGuard::new(lease, Arc::clone(shared));
        span.in_scope(|| {
            core.tell(&Event::Granted {
                lock,
                token: guard.fencing_token(),
                shared: guard.is_shared(),
                waited,
            });
        });
        Ok(Some(guard))
    }
}

impl Drop for LockClient {
    fn drop(&mut self) {
        if self.shared.core.is_forked() {
            // Kept alive for ever: what is in there may be locked by threads that are not.
            mem::forget(Arc::clone(&self.shared));
        }
    }
}

impl fmt::Debug for LockClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockClient")
            .field("settings", &self.shared.core.settings)
            .finish_non_exhaustive()
    }
}
