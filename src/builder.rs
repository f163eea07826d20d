//! The settings of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::LockClient;
use crate::core::Core;
use crate::error::Error;
use crate::event::{Observer, Silence};
use crate::heartbeat::Heartbeat;
use crate::machine::{RealMachine, SharedMachine};
use crate::options::Wishes;
use crate::shared::Shared;
use crate::store::LockStore;
#[cfg(feature = "test-util")]
use crate::testing::TestClock;

/// Settings of a [`LockClient`]. No setter fails; [`build`](Self::build) checks
/// everything.
#[derive(Default)]
#[must_use]
pub struct LockClientBuilder {
    wishes: Wishes,
    observer: Option<Arc<dyn Observer>>,
    machine: Option<SharedMachine>,
    #[cfg(test)]
    most_requests: Option<usize>,
}

impl LockClientBuilder {
    /// How long a lock stays held after the last renewal that got through: 50 ms
    /// to 24 h, in whole milliseconds. Also how long the others wait when a holder
    /// dies. Defaults to 20 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.wishes.lease = Some(lease);
        self
    }

    /// For how long the others wait on top of the lease when this client loses a lock:
    /// 0 to an hour, in whole milliseconds. For systems that cannot check tokens: what
    /// a holder sent before its lease ended has so long to arrive or to time out
    /// ([Chubby][chubby] calls it a lock-delay). A lock that is released passes on at
    /// once all the same. With a delay, a grant after a wait costs one write more, and
    /// [`inspect`](LockClient::inspect) shows the delay as part of the lease. Defaults to
    /// no delay.
    ///
    /// [chubby]: https://research.google/pubs/the-chubby-lock-service-for-loosely-coupled-distributed-systems/
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.wishes.lock_delay = Some(delay);
        self
    }

    /// How often a held lock is renewed. Together with the request time-out it
    /// has to be shorter than the lease. Defaults to a quarter of the lease.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.wishes.heartbeat_interval = Some(interval);
        self
    }

    /// How long [`acquire`](LockClient::acquire) waits, up to a year. The call returns
    /// within a second of that; see [`acquire_timeout`](LockClient::acquire_timeout).
    /// Defaults to no limit.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.wishes.acquire_timeout = Some(timeout);
        self
    }

    /// The longest pause between two looks of a waiter that is next in line: 1 ms
    /// to 60 s. It looks more often while its turn may come soon, but not more
    /// often than every 20 ms or this; those further back look less often. Defaults to 1 s or a tenth of the lease, whichever is shorter.
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
    /// acquire fails, up to a year. The call returns within a second of that. A waiter that leaves the looking to another one
    /// of this client may take twice as long. Defaults to 30 s.
    pub fn outage_limit(mut self, limit: Duration) -> Self {
        self.wishes.outage_limit = Some(limit);
        self
    }

    /// For how long a waiter's sign of life in the queue counts: 6 s to 1 h. A
    /// waiter shows the first one after 3 s, and then one every third of this. So
    /// the dead delay the living by no more than this, however many they are; and a
    /// waiter that cannot reach the table keeps its place for about as long. So does one
    /// whose thread is stuck, in an observer for one, from when it last meant to go on: it
    /// is passed over when it is late by this and a third of it.
    /// Defaults to 20 s.
    pub fn presence(mut self, presence: Duration) -> Self {
        self.wishes.presence = Some(presence);
        self
    }

    /// How far the wall clocks of two clients may be apart, and how late a request
    /// may reach the table, together: 2 min to a year. A holder that has not renewed
    /// for longer than its lease and this, by the wall clock, is dead even to an attempt
    /// that saw nothing of the lock before and does not wait, such as the only
    /// [`try_acquire`](LockClient::try_acquire) of a process.
    ///
    /// Defaults to 30 min, the most by which two clients can differ whose requests
    /// DynamoDB both accepts, also if one was long on its way. With a lower one you
    /// promise that this never adds up to more: two could hold the lock at once
    /// otherwise.
    pub fn clock_allowance(mut self, allowance: Duration) -> Self {
        self.wishes.clock_allowance = Some(allowance);
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

    /// Takes the time from a clock of the test's. Defaults to the machine's clocks.
    /// Feature `test-util`.
    #[cfg(feature = "test-util")]
    pub fn test_clock(mut self, clock: &TestClock) -> Self {
        self.machine = Some(Arc::new(clock.clone()));
        self
    }

    #[cfg(test)]
    pub(crate) fn machine(mut self, machine: SharedMachine) -> Self {
        self.machine = Some(machine);
        self
    }

    #[cfg(test)]
    pub(crate) fn most_requests(mut self, most: usize) -> Self {
        self.most_requests = Some(most);
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
        #[cfg_attr(not(test), expect(unused_mut, reason = "tests change it"))]
        let mut core = Core::new(
            Arc::new(store),
            self.machine.unwrap_or_else(|| Arc::new(RealMachine)),
            settings,
            self.observer.unwrap_or_else(|| Arc::new(Silence)),
        );
        #[cfg(test)]
        if let Some(most) = self.most_requests {
            core.requests = crate::semaphore::Semaphore::new(most);
        }
        let core = Arc::new(core);
        let heartbeat = Heartbeat::start(Arc::clone(&core))?;
        Ok(LockClient::new(Shared::new(core, heartbeat)))
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
    use crate::machine::TestMachine;
    use crate::options::AcquireOptions;
    use crate::store::MemoryStore;

    fn skewed(store: &MemoryStore, minutes: i64) -> LockClient {
        LockClient::builder()
            .lease(Duration::from_secs(60))
            .machine(Arc::new(TestMachine {
                wall_offset_ms: minutes * 60_000,
                ..TestMachine::default()
            }))
            .build(store.clone())
            .unwrap()
    }

    /// The hazard: a lease that ends by everybody's own wall clock. DynamoDB accepts
    /// requests by clocks that are up to 15 minutes off, either way.
    #[test]
    fn wall_clocks_half_an_hour_apart_steal_no_lease() {
        for (holders, others) in [(-15, 15), (15, -15)] {
            let store = MemoryStore::new();
            let other = skewed(&store, others);
            let reading = AcquireOptions::new().shared();
            let holder = skewed(&store, holders);
            let reader = holder.acquire_with("shared", reading).unwrap();
            assert!(other.try_acquire("shared").unwrap().is_none());
            let wait = other.acquire_timeout("shared", Duration::from_millis(300));
            assert!(matches!(wait, Err(Error::AcquireTimeout { .. })));
            reader.release().unwrap();
            let guard = holder.acquire("skewed").unwrap();
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

    /// The hazard: who never waits for a whole lease never gets past a dead holder.
    #[test]
    fn who_does_not_wait_gets_past_those_who_are_dead_for_long() {
        let store = MemoryStore::new();
        // What it writes is two hours old, and it does not renew meanwhile.
        let dead = LockClient::builder()
            .lease(Duration::from_secs(60))
            .heartbeat_interval(Duration::from_secs(50))
            .machine(Arc::new(TestMachine {
                wall_offset_ms: -7_200_000,
                ..TestMachine::default()
            }))
            .build(store.clone())
            .unwrap();
        let today = skewed(&store, 0);
        for (name, options) in [
            ("try", AcquireOptions::new()),
            ("short wait", AcquireOptions::new()),
            ("try beside a share", AcquireOptions::new().shared()),
            ("short wait for a share", AcquireOptions::new().shared()),
        ] {
            let stale = dead.acquire_with(name, options).unwrap();
            let token = stale.fencing_token();
            std::mem::forget(stale);
            let guard = match name.starts_with("try") {
                true => today.try_acquire(name).unwrap().unwrap(),
                false => today
                    .acquire_timeout(name, Duration::from_millis(500))
                    .unwrap(),
            };
            assert!(guard.fencing_token() > token);
        }
    }
}
