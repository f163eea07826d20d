//! The client: the verbs of locking.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;

use crate::acquire::{Acquire, Manner, Outcome};
use crate::clock::{SharedClock, SystemClock};
use crate::core::Core;
use crate::error::Error;
use crate::event::{Event, Observer, Silence};
use crate::guard::LockGuard;
use crate::heartbeat::Heartbeat;
use crate::lease::Lease;
use crate::options::{AcquireOptions, Wishes, check_timeout};
use crate::protocol::{Moment, Patience, Standing, Tenure};
use crate::store::LockStore;
use crate::types::LockName;

/// For how long a lock that was found in use counts as contended.
const CONTENDED_FOR: Duration = Duration::from_secs(2);

/// So many contended locks are remembered before old ones are dropped.
const REMEMBERED: usize = 1024;

/// Acquires locks, and keeps them alive with one heartbeat thread.
///
/// Clones are cheap and share the thread. The thread ends when the last clone
/// and the last guard are gone. A client may be used from any thread, also
/// inside an async runtime; its calls block the calling thread.
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

/// Which thread acquired which locks that are held.
type HeldLocks = HashMap<(ThreadId, LockName), Vec<Weak<Lease>>>;

/// What the clones of a client, and its guards, share.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    heartbeat: Heartbeat,
    held: Mutex<HeldLocks>,
    contended: Mutex<HashMap<LockName, Moment>>,
}

impl LockClient {
    /// Settings for a new client, all at their defaults.
    pub fn builder() -> LockClientBuilder {
        LockClientBuilder {
            wishes: Wishes::default(),
            observer: None,
            clock: None,
        }
    }

    /// Acquires the lock `name`: first come, first served. Blocks until it is
    /// granted, or for the client's
    /// [`acquire_timeout`](LockClientBuilder::acquire_timeout) if it has one.
    ///
    /// A holder that died delays the grant by its lease at most. While no
    /// request gets through, the call goes on for the client's
    /// [`outage_limit`](LockClientBuilder::outage_limit) and then fails.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::WouldDeadlock`],
    /// [`Error::AcquireTimeout`], [`Error::Closed`] or [`Error::Store`].
    pub fn acquire(&self, name: &str) -> Result<LockGuard, Error> {
        self.acquire_with(name, AcquireOptions::new())
    }

    /// Acquires the lock `name`, or gives up after `timeout`. A request that is
    /// under way by then is waited for, for the
    /// [request time-out](LockClientBuilder::request_timeout) at most, and so is
    /// the one that leaves the queue.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but never [`Error::WouldDeadlock`]; and
    /// [`Error::InvalidSetting`] if `timeout` is zero or longer than a year.
    pub fn acquire_timeout(&self, name: &str, timeout: Duration) -> Result<LockGuard, Error> {
        self.acquire_with(name, AcquireOptions::new().timeout(timeout))
    }

    /// Acquires the lock `name`, waiting as `options` say.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Self::acquire_timeout), and [`Error::Cancelled`].
    /// Asking for a lock that the same thread holds, with neither a time-out nor
    /// a way to cancel, is [`Error::WouldDeadlock`].
    pub fn acquire_with(&self, name: &str, options: AcquireOptions) -> Result<LockGuard, Error> {
        let lock = LockName::new(name)?;
        if let Some(timeout) = options.timeout {
            check_timeout(timeout)?;
        }
        let timeout = options
            .timeout
            .or(self.shared.core.settings.acquire_timeout);
        if timeout.is_none() && options.cancel.is_none() && self.shared.held_by_this_thread(&lock) {
            return Err(Error::WouldDeadlock { lock });
        }
        let manner = Manner {
            patience: Patience::Queue,
            timeout,
            cancel: options.cancel,
            contended: self.shared.was_contended(&lock),
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
    /// and nobody waits for it. One request if so; never waits, never overtakes.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::Closed`] or [`Error::Store`]. That the
    /// lock is busy is no error, but `None`.
    pub fn try_acquire(&self, name: &str) -> Result<Option<LockGuard>, Error> {
        let lock = LockName::new(name)?;
        let manner = Manner {
            patience: Patience::TryOnly,
            timeout: None,
            cancel: None,
            contended: false,
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

    /// Closes the client and all its clones: every wait of theirs ends with
    /// [`Error::Closed`], and nothing can be acquired any more. Locks that are
    /// held stay held until their guards are dropped.
    pub fn close(&self) {
        self.shared.core.close();
    }

    fn begin(&self, lock: &LockName, manner: Manner) -> Result<Option<LockGuard>, Error> {
        let shared = &self.shared;
        let core = &shared.core;
        if core.is_closed() {
            return Err(Error::Closed { lock: lock.clone() });
        }
        let mut acquire = Acquire::new(core, lock, manner);
        let outcome = acquire.run();
        if acquire.met_others {
            shared.note_contended(lock);
        }
        let (id, grant) = match outcome? {
            Outcome::Granted(id, grant) => (id, grant),
            Outcome::Busy => return Ok(None),
        };
        let tenure = Tenure::new(
            grant.ticket,
            id,
            core.settings.lease,
            core.settings.heartbeat_interval,
            grant.sent,
        );
        let lease = Arc::new(Lease::new(lock.clone(), tenure, Arc::clone(&core.clock)));
        shared.remember(&lease);
        shared.heartbeat.keep(&lease);
        // The guard comes first: should the observer panic, it releases.
        let guard = LockGuard::new(lease, Arc::clone(shared));
        core.tell(&Event::Granted {
            lock,
            token: guard.fencing_token(),
            waited: acquire.waited(),
        });
        Ok(Some(guard))
    }
}

impl fmt::Debug for LockClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockClient")
            .field("settings", &self.shared.core.settings)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn remember(&self, lease: &Arc<Lease>) {
        let key = (lease.acquired_by, lease.name.clone());
        let mut held = self.held.lock();
        held.entry(key).or_default().push(Arc::downgrade(lease));
    }

    /// Forgets a lease whose guard is being released, by whatever thread.
    pub(crate) fn forget(&self, lease: &Arc<Lease>) {
        let key = (lease.acquired_by, lease.name.clone());
        let mut held = self.held.lock();
        if let Some(leases) = held.get_mut(&key) {
            leases.retain(|other| other.as_ptr() != Arc::as_ptr(lease));
            if leases.is_empty() {
                held.remove(&key);
            }
        }
    }

    fn held_by_this_thread(&self, lock: &LockName) -> bool {
        let key = (thread::current().id(), lock.clone());
        let held = self.held.lock();
        held.get(&key).is_some_and(|leases| {
            leases
                .iter()
                .filter_map(Weak::upgrade)
                .any(|lease| lease.standing() == Standing::Held)
        })
    }

    fn was_contended(&self, lock: &LockName) -> bool {
        let now = self.core.clock.now();
        let contended = self.contended.lock();
        contended
            .get(lock)
            .is_some_and(|seen| now.since(*seen) < CONTENDED_FOR)
    }

    fn note_contended(&self, lock: &LockName) {
        let now = self.core.clock.now();
        let mut contended = self.contended.lock();
        if contended.len() >= REMEMBERED {
            contended.retain(|_, seen| now.since(*seen) < CONTENDED_FOR);
        }
        contended.insert(lock.clone(), now);
    }
}

/// Settings of a [`LockClient`]. No setter fails; [`build`](Self::build) checks
/// everything.
#[must_use]
pub struct LockClientBuilder {
    wishes: Wishes,
    observer: Option<Arc<dyn Observer>>,
    clock: Option<SharedClock>,
}

impl LockClientBuilder {
    /// How long a lock stays held after the last renewal that got through: 50 ms
    /// to 24 h. Also how long the others wait when a holder dies. Defaults to
    /// 20 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.wishes.lease = Some(lease);
        self
    }

    /// How often a held lock is renewed. Together with the request time-out it
    /// has to be shorter than the lease. Defaults to a quarter of the lease.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.wishes.heartbeat_interval = Some(interval);
        self
    }

    /// How long [`acquire`](LockClient::acquire) waits, up to a year. Defaults to
    /// no limit.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.wishes.acquire_timeout = Some(timeout);
        self
    }

    /// The longest pause between two looks of a waiter that is next in line: 1 ms
    /// to 60 s. It looks more often while its turn may come soon, but not more
    /// often than every 20 ms or this. Never more than half the claim grace.
    /// Defaults to 1 s or a tenth of the lease, whichever is shorter.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.wishes.poll_interval = Some(interval);
        self
    }

    /// How long one request may take: 1 ms to 60 s. Defaults to 3 s or a quarter
    /// of the lease, whichever is shorter.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.wishes.request_timeout = Some(timeout);
        self
    }

    /// How long a waiter may take to claim the lock once its turn has come,
    /// before the others go past it: 50 ms to 60 s. Takes effect for locks whose
    /// record this client creates; all clients obey the record. Defaults to 1 s.
    pub fn claim_grace(mut self, grace: Duration) -> Self {
        self.wishes.claim_grace = Some(grace);
        self
    }

    /// For how long every single request of an acquire may fail before the
    /// acquire fails, up to a year. Defaults to 30 s.
    pub fn outage_limit(mut self, limit: Duration) -> Self {
        self.wishes.outage_limit = Some(limit);
        self
    }

    /// Who this is, written into the record for people who ask who holds a lock:
    /// 1 to 1,024 bytes. Defaults to `host/process id`.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.wishes.owner = Some(owner.into());
        self
    }

    /// Who hears of what happens out of the caller's sight. Defaults to nobody.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    #[cfg(test)]
    pub(crate) fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings and starts the client's heartbeat thread. Sends
    /// nothing to the store.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the setting that makes no sense;
    /// [`Error::Thread`] if there can be no heartbeat thread.
    pub fn build(self, store: impl LockStore + 'static) -> Result<LockClient, Error> {
        let settings = self.wishes.settle()?;
        let core = Arc::new(Core::new(
            Arc::new(store),
            self.clock.unwrap_or_else(SystemClock::shared),
            settings,
            self.observer.unwrap_or_else(|| Arc::new(Silence)),
        ));
        let heartbeat = Heartbeat::start(Arc::clone(&core))?;
        Ok(LockClient {
            shared: Arc::new(Shared {
                core,
                heartbeat,
                held: Mutex::default(),
                contended: Mutex::default(),
            }),
        })
    }
}

impl fmt::Debug for LockClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockClientBuilder")
            .field("wishes", &self.wishes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SkewedClock;
    use crate::error::Error;
    use crate::store::MemoryStore;

    fn skewed(store: &MemoryStore, hours: i64) -> LockClient {
        LockClient::builder()
            .lease(Duration::from_secs(60))
            .clock(Arc::new(SkewedClock {
                machine: SystemClock::shared(),
                wall_offset_ms: hours * 3_600_000,
            }))
            .build(store.clone())
            .unwrap()
    }

    /// The hazard: a lease that ends by everybody's own wall clock.
    #[test]
    fn wall_clocks_hours_apart_steal_no_lease() {
        for (holders, others) in [(-5, 5), (5, -5)] {
            let store = MemoryStore::new();
            let guard = skewed(&store, holders).acquire("skewed").unwrap();
            let other = skewed(&store, others);
            assert!(other.try_acquire("skewed").unwrap().is_none());
            let wait = other.acquire_timeout("skewed", Duration::from_millis(300));
            assert!(matches!(wait, Err(Error::AcquireTimeout { .. })));
            assert!(guard.is_held());
            let token = guard.fencing_token();
            guard.release().unwrap();
            // The ticket that gave up is passed over; and tokens grow, whatever
            // the clock of whoever acquires next.
            assert!(other.acquire("skewed").unwrap().fencing_token() > token);
        }
    }
}
