//! How long a call takes at most while the store hangs, and that nothing is left behind
//! by a caller who has gone on.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::record::{LockRecord, TicketRow};
use dynamodb_fifo_lock::{
    AccessKeys, AcquireOptions, Credentials, DynamoDbStore, Error, HolderId, LockClient,
    LockClientBuilder, LockName, LockStore, MemoryStore, Page, PageEnd, StoreError, Ticket,
    Written,
};
use parking_lot::{Condvar, Mutex};

use common::{DEADLINE, announcing, wait_for};

/// So much later than the time-out a call may return, by what is promised.
const PROMISED: Duration = Duration::from_secs(1);

/// And so much more on a machine that is busy.
const SLACK: Duration = Duration::from_millis(1_500);

const REQUEST: Duration = Duration::from_secs(6);

/// What a request meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangs {
    No,
    /// The store never hears of it.
    Before,
    /// It is carried out, and not answered.
    After,
    /// It is carried out when its sender has given up on it.
    Late,
}

/// How much later.
const LATE: Duration = Duration::from_millis(300);

type Plan = dyn Fn(&LockName, Option<&Write>) -> Hangs + Send + Sync;

/// A store that keeps its word about `within`, and whose requests hang for that long, or
/// until they are let go. The plan is asked about writes, and about everything else.
#[derive(Clone)]
struct Hanging {
    inner: MemoryStore,
    plan: Arc<Plan>,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    let_go: bool,
    hanging: usize,
    most: usize,
}

impl Hanging {
    fn new(plan: impl Fn(&LockName, Option<&Write>) -> Hangs + Send + Sync + 'static) -> Self {
        Self {
            inner: MemoryStore::new(),
            plan: Arc::new(plan),
            state: Arc::default(),
        }
    }

    /// From here on nothing hangs.
    fn let_go(&self) {
        self.state.0.lock().let_go = true;
        self.state.1.notify_all();
    }

    fn hanging(&self) -> usize {
        self.state.0.lock().hanging
    }

    /// How many hung at once at most.
    fn most(&self) -> usize {
        self.state.0.lock().most
    }

    fn meet<T>(
        &self,
        lock: &LockName,
        write: Option<&Write>,
        within: Duration,
        carry_out: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let until = Instant::now() + within;
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        let hangs = match state.let_go {
            true => Hangs::No,
            false => (self.plan)(lock, write),
        };
        if hangs == Hangs::No {
            drop(state);
            return carry_out();
        }
        if hangs == Hangs::After {
            drop(carry_out());
        }
        state.hanging += 1;
        state.most = state.most.max(state.hanging);
        while !state.let_go && !changed.wait_until(&mut state, until).timed_out() {}
        state.hanging -= 1;
        drop(state);
        if hangs == Hangs::Late
            && let Some(write) = write.cloned()
        {
            let (inner, lock) = (self.inner.clone(), lock.clone());
            thread::spawn(move || {
                thread::sleep(LATE);
                inner.write(&lock, &write, within)
            });
        }
        Err(StoreError::Unreachable {
            source: "it hung".into(),
        })
    }
}

impl LockStore for Hanging {
    fn read(
        &self,
        lock: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        let inner = &self.inner;
        self.meet(lock, None, within, || inner.read(lock, consistency, within))
    }

    fn write(
        &self,
        lock: &LockName,
        write: &Write,
        within: Duration,
    ) -> Result<Written, StoreError> {
        let inner = &self.inner;
        self.meet(lock, Some(write), within, || {
            inner.write(lock, write, within)
        })
    }

    fn announce(
        &self,
        lock: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError> {
        let inner = &self.inner;
        self.meet(lock, None, within, || inner.announce(lock, row, within))
    }

    fn dequeue(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        let inner = &self.inner;
        self.meet(lock, None, within, || {
            inner.dequeue(lock, ticket, id, within)
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
        let inner = &self.inner;
        self.meet(lock, None, within, || {
            inner.look(lock, from, to, limit, within)
        })
    }

    fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError> {
        self.inner.list(after, within)
    }
}

/// A lease that no test waits for, and requests that may take long.
fn patient() -> LockClientBuilder {
    LockClient::builder()
        .lease(Duration::from_secs(600))
        .request_timeout(REQUEST)
}

fn in_time<T>(limit: Duration, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = call();
    let took = began.elapsed();
    assert!(took < limit + PROMISED + SLACK, "{took:?} for {limit:?}");
    result
}

fn is_timeout<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::AcquireTimeout { .. }))
}

#[test]
fn a_time_out_holds_while_the_store_hangs_and_what_came_true_is_given_back() {
    for hangs in [Hangs::Before, Hangs::After] {
        for options in [AcquireOptions::new(), AcquireOptions::new().shared()] {
            let store = Hanging::new(move |_, _| hangs);
            let client = patient().build(store.clone()).unwrap();
            let timeout = Duration::from_millis(300);
            let outcome = in_time(timeout, || {
                client.acquire_with("x", options.clone().timeout(timeout))
            });
            assert!(is_timeout(&outcome), "{outcome:?}");
            // The try that came true would be there for as long as its lease.
            store.let_go();
            let other = patient().build(store.inner.clone()).unwrap();
            wait_for("the lock", || other.try_acquire("x").unwrap().is_some());
        }
    }
}

/// A try that is given up on when the attempt's time is up may be applied after the
/// withdrawal. It is found all the same.
#[test]
fn what_comes_true_after_the_attempt_has_left_is_given_back_too() {
    for options in [AcquireOptions::new(), AcquireOptions::new().shared()] {
        let store = Hanging::new(|_, write| match write {
            Some(Write::Try { .. } | Write::TryShare { .. }) => Hangs::Late,
            _ => Hangs::No,
        });
        let client = patient()
            .request_timeout(Duration::from_secs(2))
            .build(store.clone())
            .unwrap();
        let timeout = Duration::from_millis(300);
        let outcome = client.acquire_with("x", options.timeout(timeout));
        assert!(is_timeout(&outcome), "{outcome:?}");
        let lock = LockName::new("x").unwrap();
        let record = || {
            let read = store.inner.read(&lock, Consistency::Strong, DEADLINE);
            read.unwrap()
        };
        wait_for("the late try", || record().is_some());
        wait_for("its end", || {
            record().is_some_and(|record| record.is_free() && record.sharers.is_empty())
        });
    }
}

#[test]
fn a_time_out_holds_for_a_waiter_and_its_place_is_given_back() {
    let store = Hanging::new(|_, write| match write {
        Some(Write::Try { .. } | Write::Enqueue { .. }) => Hangs::No,
        _ => Hangs::Before,
    });
    let other = patient().build(store.inner.clone()).unwrap();
    let guard = other.acquire("x").unwrap();
    let client = patient().build(store.clone()).unwrap();
    let timeout = Duration::from_millis(300);
    let outcome = in_time(timeout, || client.acquire_timeout("x", timeout));
    assert!(is_timeout(&outcome), "{outcome:?}");
    store.let_go();
    drop(guard);
    // A place that was not given back would be passed over after the announce delay.
    let next = in_time(Duration::from_millis(500), || other.acquire("x").unwrap());
    assert!(next.is_held());
}

#[test]
fn a_cancellation_waits_for_the_request_under_way_and_no_other() {
    let store = Hanging::new(|_, _| Hangs::Before);
    let request = Duration::from_millis(400);
    let client = patient()
        .request_timeout(request)
        .build(store.clone())
        .unwrap();
    let (cancel, cancelled) = bounded::<()>(0);
    drop(cancel);
    let options = AcquireOptions::new().cancel(cancelled);
    let outcome = in_time(request, || client.acquire_with("x", options));
    assert!(
        matches!(outcome, Err(Error::Cancelled { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_try_takes_two_requests_and_a_second_at_most() {
    for hangs in [Hangs::Before, Hangs::After] {
        let store = Hanging::new(move |_, _| hangs);
        let request = Duration::from_millis(400);
        let client = patient()
            .request_timeout(request)
            .build(store.clone())
            .unwrap();
        let outcome = in_time(request * 2, || client.try_acquire("x"));
        assert!(matches!(outcome, Err(Error::Store { .. })), "{outcome:?}");
        store.let_go();
        let other = patient().build(store.inner.clone()).unwrap();
        wait_for("the lock", || other.try_acquire("x").unwrap().is_some());
    }
}

#[test]
fn an_outage_limit_holds_while_the_store_hangs() {
    let store = Hanging::new(|_, _| Hangs::Before);
    let limit = Duration::from_millis(400);
    let client = patient().outage_limit(limit).build(store).unwrap();
    let outcome = in_time(limit, || client.acquire("x"));
    assert!(matches!(outcome, Err(Error::Store { .. })), "{outcome:?}");
}

/// The time is also up for a waiter in whose name the lock is being claimed; and if the
/// claim comes true after that, the lock is passed on.
#[test]
fn a_time_out_holds_while_a_hand_over_hangs_and_nobody_is_left_with_the_lock() {
    for hangs in [Hangs::Before, Hangs::After] {
        let store = Hanging::new(move |_, write| match write {
            Some(Write::HandOver { .. }) => hangs,
            _ => Hangs::No,
        });
        let (client, joins) = announcing(patient(), store.clone());
        let guard = client.acquire("x").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let timeout = Duration::from_millis(800);
                in_time(timeout, || client.acquire_timeout("x", timeout))
            });
            joins.recv_timeout(DEADLINE).unwrap();
            // Until it sleeps, and can be handed the lock.
            thread::sleep(Duration::from_millis(200));
            let releases = scope.spawn(|| guard.release());
            wait_for("the hand-over", || store.hanging() == 1);
            let outcome = waiting.join().unwrap();
            assert!(is_timeout(&outcome), "{outcome:?}");
            store.let_go();
            releases.join().unwrap().unwrap();
        });
        let other = patient().build(store.inner.clone()).unwrap();
        wait_for("the lock", || other.try_acquire("x").unwrap().is_some());
    }
}

/// Closing waits for those whose callers have gone on, and says what they left behind.
#[test]
fn closing_waits_for_what_is_still_being_given_back() {
    let store = Hanging::new(|_, _| Hangs::After);
    let client = patient().build(store.clone()).unwrap();
    let outcome = client.acquire_timeout("x", Duration::from_millis(50));
    assert!(is_timeout(&outcome), "{outcome:?}");
    thread::scope(|scope| {
        let closes = scope.spawn(|| client.close());
        thread::sleep(Duration::from_millis(100));
        assert!(!closes.is_finished());
        store.let_go();
        let report = closes.join().unwrap();
        assert_eq!(report.still_leaving, 0);
    });
    let other = patient().build(store.inner.clone()).unwrap();
    assert!(other.try_acquire("x").unwrap().is_some());
}

#[test]
fn a_search_for_credentials_that_hangs_does_not_outlast_the_time_out() {
    let (unhang, hangs) = bounded::<()>(0);
    let store = DynamoDbStore::builder("locks")
        .region("us-east-1")
        .endpoint("http://127.0.0.1:9")
        .credentials(Credentials::from_fn(move || {
            let _ = hangs.recv();
            Ok(AccessKeys::new("test", "test"))
        }))
        .build()
        .unwrap();
    let client = patient().build(store).unwrap();
    let timeout = Duration::from_millis(300);
    let outcome = in_time(timeout, || client.acquire_timeout("x", timeout));
    assert!(is_timeout(&outcome), "{outcome:?}");
    drop(unhang);
}

/// Many who begin at once cost a holder of the same client nothing: so many of their
/// requests are under way and no more, and renewals and releases do not queue with them.
#[test]
fn a_crowd_that_begins_at_once_does_not_hold_up_renewals_and_releases() {
    let renewals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&renewals);
    let store = Hanging::new(move |lock, write| {
        if matches!(write, Some(Write::Renew { .. })) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        match lock.as_str().starts_with("crowd") {
            true => Hangs::Before,
            false => Hangs::No,
        }
    });
    let client = LockClient::builder()
        .lease(Duration::from_secs(30))
        .heartbeat_interval(Duration::from_millis(50))
        .request_timeout(REQUEST)
        .build(store.clone())
        .unwrap();
    let guard = client.acquire("held").unwrap();
    let timeout = Duration::from_secs(3);
    thread::scope(|scope| {
        for number in 0..200 {
            let client = &client;
            scope.spawn(move || {
                let name = format!("crowd-{number}");
                let outcome = in_time(timeout, || client.acquire_timeout(&name, timeout));
                assert!(is_timeout(&outcome), "{outcome:?}");
            });
        }
        wait_for("a crowd", || store.hanging() == 32);
        let before = renewals.load(Ordering::SeqCst);
        wait_for("renewals", || renewals.load(Ordering::SeqCst) > before + 5);
        assert_eq!(store.hanging(), 32, "it is still the first of them");
        guard.release().unwrap();
    });
    // Beside them, those who leave for callers who have gone on.
    assert!(store.most() <= 32 + 16, "{}", store.most());
}

/// Waiting for room among the requests of a client ends with a cancellation and with the
/// client.
#[test]
fn whoever_waits_for_room_can_be_cancelled() {
    let store = Hanging::new(|_, _| Hangs::Before);
    let client = patient().build(store.clone()).unwrap();
    thread::scope(|scope| {
        for number in 0..32 {
            let client = &client;
            scope.spawn(move || client.acquire(&format!("crowd-{number}")));
        }
        wait_for("a crowd", || store.hanging() == 32);
        let (cancel, cancelled) = bounded::<()>(1);
        let options = AcquireOptions::new().cancel(cancelled);
        let waits = scope.spawn(|| client.acquire_with("x", options));
        thread::sleep(Duration::from_millis(50));
        in_time(Duration::ZERO, || {
            cancel.send(()).unwrap();
            let outcome = waits.join().unwrap();
            assert!(
                matches!(outcome, Err(Error::Cancelled { .. })),
                "{outcome:?}"
            );
        });
        let waits = scope.spawn(|| client.acquire("y"));
        thread::sleep(Duration::from_millis(50));
        let closes = scope.spawn(|| client.close());
        in_time(Duration::ZERO, || {
            let outcome = waits.join().unwrap();
            assert!(matches!(outcome, Err(Error::Closed { .. })), "{outcome:?}");
        });
        store.let_go();
        closes.join().unwrap();
    });
}
