//! A waiter that does not go on in a process that lives: its observer blocks, a debugger
//! holds its thread. Its client's heartbeat runs, and must not keep its place for ever.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dynamodb_fifo_lock::protocol::Consistency;
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{
    AcquireOptions, Event, LockClient, LockClientBuilder, LockName, LockStore, MemoryStore, Ticket,
};

use common::{DEADLINE, announcing, quick, wait_for};

/// The shortest there can be.
const PRESENCE: Duration = Duration::from_secs(6);

/// By when the row of a waiter that is stuck has stopped counting, from when it last meant
/// to go on, and the others have noticed.
const PASSED_OVER: Duration = Duration::from_secs(8 + 2);

/// What a busy machine may take on top.
const SLACK: Duration = Duration::from_secs(5);

const LEASE: Duration = Duration::from_secs(3);

/// The thread that gets stuck.
const VICTIM: &str = "victim";

fn builder() -> LockClientBuilder {
    quick().lease(LEASE).presence(PRESENCE)
}

/// Something in which the victim gets stuck from when it is `set` until the trap is dropped.
struct Trap {
    set: Arc<AtomicBool>,
    caught: Receiver<()>,
    _release: Sender<()>,
}

impl Trap {
    /// A trap, and what the victim has to run into.
    fn new() -> (Self, impl Fn() + Clone + Send + Sync + 'static) {
        let set = Arc::new(AtomicBool::new(false));
        let (catch, caught) = unbounded();
        let (release, released) = bounded::<()>(0);
        let is_set = Arc::clone(&set);
        let step_in = move || {
            let victim = thread::current().name() == Some(VICTIM);
            if victim && is_set.load(Ordering::SeqCst) {
                let _ = catch.send(());
                let _ = released.recv();
            }
        };
        let trap = Self {
            set,
            caught,
            _release: release,
        };
        (trap, step_in)
    }

    /// Waits until the victim is stuck.
    fn catch(&self) -> Instant {
        self.set.store(true, Ordering::SeqCst);
        self.caught.recv_timeout(DEADLINE).unwrap();
        Instant::now()
    }

    /// The victim goes on.
    fn open(self) {
        self.set.store(false, Ordering::SeqCst);
    }
}

/// A store whose reads the victim gets stuck in.
fn with_trap(store: &MemoryStore) -> (Trap, FaultyStore) {
    let (trap, step_in) = Trap::new();
    let store = FaultyStore::new(store.clone(), move |_, request| {
        if matches!(request, Request::Read) {
            step_in();
        }
        Fate::Fine
    });
    (trap, store)
}

/// Acquires in a thread of this name. Says when it was granted the lock, and holds it until
/// the other end of the channel is dropped.
fn acquire_in(
    name: &str,
    client: &LockClient,
    options: AcquireOptions,
) -> (Receiver<Instant>, Sender<()>) {
    let (granted, grants) = bounded(1);
    let (hold, held) = bounded::<()>(0);
    let client = client.clone();
    let work = move || {
        let guard = client.acquire_with("x", options).unwrap();
        let _ = granted.send(Instant::now());
        let _ = held.recv();
        drop(guard);
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .unwrap();
    (grants, hold)
}

fn has_row(store: &MemoryStore) -> bool {
    let lock = LockName::new("x").unwrap();
    let all = (Ticket::new(1), Ticket::new(u64::MAX >> 12));
    let rows = store.look(&lock, all.0, all.1, 100, PRESENCE).unwrap();
    !rows.is_empty()
}

fn in_time(what: &str, since: Instant, granted: &Receiver<Instant>, promised: Duration) -> Instant {
    let granted = granted
        .recv_timeout(promised + SLACK)
        .unwrap_or_else(|_| panic!("{what}: nobody was granted within {promised:?}"));
    println!("{what}: granted after {:.1?}", granted - since);
    granted
}

#[test]
fn a_waiter_stuck_after_it_has_said_that_it_waits_is_passed_over_and_joins_again() {
    let store = MemoryStore::new();
    let (trap, trapped) = with_trap(&store);
    let passed_over = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed_over);
    let stuck = builder()
        .observer(move |event: &Event<'_>| {
            if let Event::PassedOver { .. } = event {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build(trapped)
        .unwrap();
    let well = builder().build(store.clone()).unwrap();
    let held = well.acquire("x").unwrap();
    let (late, _hold) = acquire_in(VICTIM, &stuck, AcquireOptions::new());
    wait_for("the row", || has_row(&store));
    let since = trap.catch();
    held.release().unwrap();
    let (next, hold) = acquire_in("next", &well, AcquireOptions::new());
    in_time("stuck in a read", since, &next, PASSED_OVER);
    assert_eq!(passed_over.load(Ordering::SeqCst), 0);
    // It lost its place, and not more.
    trap.open();
    drop(hold);
    in_time("and free again", Instant::now(), &late, PASSED_OVER);
    assert_eq!(passed_over.load(Ordering::SeqCst), 1);
}

#[test]
fn a_waiter_stuck_in_its_observer_is_passed_over() {
    let store = MemoryStore::new();
    let (trap, step_in) = Trap::new();
    let stuck = builder()
        .observer(move |event: &Event<'_>| {
            if let Event::Enqueued { .. } = event {
                step_in();
            }
        })
        .build(store.clone())
        .unwrap();
    let well = builder().build(store).unwrap();
    let held = well.acquire("x").unwrap();
    trap.set.store(true, Ordering::SeqCst);
    let _stuck = acquire_in(VICTIM, &stuck, AcquireOptions::new());
    let since = trap.catch();
    held.release().unwrap();
    let (next, _hold) = acquire_in("next", &well, AcquireOptions::new());
    in_time("stuck in its observer", since, &next, PASSED_OVER);
}

/// Only the first of a client's waiters polls. Those behind it do so in its place.
#[test]
fn a_stuck_waiter_keeps_nobody_of_its_own_client_from_the_lock() {
    const LOOK_AROUND: Duration = Duration::from_secs(4);
    let store = MemoryStore::new();
    let (trap, trapped) = with_trap(&store);
    let builder_of_many = builder().outage_limit(LOOK_AROUND);
    let (client, joins) = announcing(builder_of_many, trapped);
    let other = builder().build(store.clone()).unwrap();
    let held = other.acquire("x").unwrap();
    let _stuck = acquire_in(VICTIM, &client, AcquireOptions::new());
    joins.recv_timeout(DEADLINE).unwrap();
    wait_for("the row", || has_row(&store));
    let rest: Vec<_> = (0..3)
        .map(|_| {
            let waiter = acquire_in("well", &client, AcquireOptions::new());
            joins.recv_timeout(DEADLINE).unwrap();
            waiter
        })
        .collect();
    let since = trap.catch();
    held.release().unwrap();
    let mut rest = rest.into_iter();
    let (first, hold) = rest.next().unwrap();
    in_time("the second", since, &first, PASSED_OVER + LOOK_AROUND);
    // From here on one follows the other as ever.
    drop(hold);
    let mut since = Instant::now();
    for (granted, hold) in rest {
        since = in_time("the next", since, &granted, Duration::ZERO);
        drop(hold);
    }
}

/// It renews its claim itself: nobody renews it for a thread that is stuck.
#[test]
fn a_waiter_stuck_while_it_waits_for_room_is_gone_past_after_its_lease() {
    let store = MemoryStore::new();
    let (trap, trapped) = with_trap(&store);
    let stuck = builder().build(trapped).unwrap();
    let well = builder().build(store.clone()).unwrap();
    let share = well
        .acquire_with("x", AcquireOptions::new().shared())
        .unwrap();
    let _stuck = acquire_in(VICTIM, &stuck, AcquireOptions::new());
    let lock = LockName::new("x").unwrap();
    wait_for("the claim", || {
        let record = store.read(&lock, Consistency::Strong, PRESENCE);
        record.unwrap().unwrap().holder.is_some()
    });
    let since = trap.catch();
    share.release().unwrap();
    let (next, _hold) = acquire_in("next", &well, AcquireOptions::new());
    in_time("stuck without room", since, &next, LEASE + LEASE / 4);
}

/// The lock was claimed in its name. Nobody renews that claim.
#[test]
fn a_waiter_stuck_as_it_is_handed_the_lock_is_gone_past_after_its_lease() {
    let store = MemoryStore::new();
    let (trap, step_in) = Trap::new();
    let (joined, joins) = unbounded();
    let client = builder()
        .observer(move |event: &Event<'_>| match event {
            Event::Enqueued { .. } => drop(joined.send(())),
            Event::Position { .. } => step_in(),
            _ => {}
        })
        .build(store.clone())
        .unwrap();
    let well = builder().build(store).unwrap();
    let held = client.acquire("x").unwrap();
    let _stuck = acquire_in(VICTIM, &client, AcquireOptions::new());
    joins.recv_timeout(DEADLINE).unwrap();
    // Of whose place the victim tells the observer when the lock is its own.
    let (behind, _behind) = acquire_in("behind", &client, AcquireOptions::new());
    joins.recv_timeout(DEADLINE).unwrap();
    trap.set.store(true, Ordering::SeqCst);
    held.release().unwrap();
    let since = trap.catch();
    let (next, hold) = acquire_in("next", &well, AcquireOptions::new());
    let first = crossbeam_channel::select! {
        recv(behind) -> granted => granted.unwrap(),
        recv(next) -> granted => granted.unwrap(),
        default(DEADLINE) => panic!("nobody was granted"),
    };
    println!("stuck with the lock: granted after {:.1?}", first - since);
    assert!(first - since < LEASE + PRESENCE + SLACK);
    drop(hold);
}
