//! Each loss is told once, whoever finds it first.

mod common;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request, TestClock};
use dynamodb_fifo_lock::{
    AcquireOptions, Error, Event, LockClient, LockClientBuilder, LockGuard, MemoryStore,
};
use parking_lot::Mutex;

use common::wait_for;

const LEASE: Duration = Duration::from_secs(20);

/// The events that say what became of locks that were held.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<String>>>);

impl Ends {
    fn note(&self, event: &Event<'_>) {
        let what = match event {
            Event::Lost { token, reason, .. } => format!("lost {token}: {reason:?}"),
            Event::Released { token, .. } => format!("released {token}"),
            Event::ReleaseFailed { token, .. } => format!("not released {token}"),
            _ => return,
        };
        self.0.lock().push(what);
    }

    fn losses(&self) -> Vec<String> {
        let all = self.0.lock();
        all.iter()
            .filter(|what| what.starts_with("lost"))
            .cloned()
            .collect()
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

struct Scene {
    clock: TestClock,
    /// While this is set no request arrives.
    cut: Arc<AtomicBool>,
    /// While this is set renewals do not arrive.
    unrenewed: Arc<AtomicBool>,
    store: MemoryStore,
    ends: Ends,
    client: LockClient,
}

fn scene() -> Scene {
    let (clock, store, ends) = (TestClock::running(), MemoryStore::new(), Ends::default());
    let (cut, unrenewed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (is_cut, is_unrenewed) = (Arc::clone(&cut), Arc::clone(&unrenewed));
    let faulty = FaultyStore::new(store.clone(), move |_, request| {
        let renewal =
            matches!(request, Request::Write(write) if format!("{write:?}").starts_with("Renew"));
        let lost = is_cut.load(Ordering::SeqCst) || renewal && is_unrenewed.load(Ordering::SeqCst);
        if lost { Fate::Lost } else { Fate::Fine }
    });
    let noted = ends.clone();
    let client = builder(&clock)
        .observer(move |event: &Event<'_>| noted.note(event))
        .build(faulty)
        .unwrap();
    Scene {
        clock,
        cut,
        unrenewed,
        store,
        ends,
        client,
    }
}

fn builder(clock: &TestClock) -> LockClientBuilder {
    LockClient::builder().lease(LEASE).test_clock(clock)
}

impl Scene {
    /// Has the heartbeat look at everything, and look again.
    fn let_it_beat(&self) {
        let other = self.client.acquire("other").unwrap();
        for _ in 0..5 {
            self.clock.advance(LEASE / 4);
            wait_for("a renewal", || other.remaining() > LEASE * 3 / 4);
        }
        drop(other);
    }

    fn end(&self, guard: LockGuard, by_drop: bool) {
        match by_drop {
            true => drop(guard),
            false => assert!(matches!(guard.release(), Err(Error::Lost { .. }))),
        }
    }
}

#[test]
fn a_lease_that_ended_is_told_by_the_release_or_by_the_heartbeat() {
    let scene = scene();
    let mut expected = Vec::new();
    for round in 0..24 {
        let guard = scene.client.acquire("paused").unwrap();
        expected.push(format!("lost {}: LeaseExpired", guard.fencing_token()));
        scene.clock.advance(LEASE * 3);
        // At once, or late enough for the heartbeat to find it first.
        if round % 3 == 2 {
            wait_for("the heartbeat", || !scene.ends.losses().is_empty());
            guard.lost().recv_timeout(common::DEADLINE).unwrap_err();
        }
        assert!(guard.ensure_held().is_err());
        scene.end(guard, round % 2 == 0);
    }
    scene.let_it_beat();
    wait_for("the last loss", || {
        scene.ends.losses().len() >= expected.len()
    });
    let mut losses = scene.ends.losses();
    losses.sort();
    expected.sort();
    assert_eq!(losses, expected);
    let drops = scene.ends.all();
    let drops = drops.iter().filter(|what| what.starts_with("not released"));
    assert_eq!(
        drops.count(),
        12,
        "each guard that was dropped, and no other"
    );
}

#[test]
fn a_lock_that_was_taken_away_is_told_by_the_release() {
    for by_drop in [true, false] {
        let scene = scene();
        let guard = scene.client.acquire("broken").unwrap();
        let token = guard.fencing_token();
        let operator = builder(&scene.clock).build(scene.store.clone()).unwrap();
        assert!(operator.break_lock("broken", token).unwrap());
        assert!(guard.is_held(), "nobody has told it");
        scene.end(guard, by_drop);
        scene.let_it_beat();
        assert_eq!(scene.ends.losses(), [format!("lost {token}: Superseded")]);
    }
}

#[test]
fn a_share_that_was_evicted_is_told_by_the_release() {
    let scene = scene();
    scene.unrenewed.store(true, Ordering::SeqCst);
    let shared = AcquireOptions::new().shared();
    let guard = scene.client.acquire_with("read", shared).unwrap();
    let token = guard.fencing_token();
    // Lives in a time of its own, which is further on.
    let ahead = TestClock::running();
    let writer = builder(&ahead).build(scene.store.clone()).unwrap();
    thread::scope(|scope| {
        let writing = scope.spawn(|| drop(writer.acquire("read").unwrap()));
        while !writing.is_finished() {
            ahead.advance(LEASE / 10);
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(guard.is_held(), "nobody has told it");
    scene.end(guard, false);
    scene.unrenewed.store(false, Ordering::SeqCst);
    scene.let_it_beat();
    assert_eq!(scene.ends.losses(), [format!("lost {token}: Superseded")]);
}

#[test]
fn a_guard_that_was_forgotten_is_renewed_and_its_loss_is_told() {
    let scene = scene();
    let guard = scene.client.acquire("forgotten").unwrap();
    let token = guard.fencing_token();
    mem::forget(guard);
    scene.let_it_beat();
    let other = builder(&scene.clock).build(scene.store.clone()).unwrap();
    assert!(other.try_acquire("forgotten").unwrap().is_none());
    scene.cut.store(true, Ordering::SeqCst);
    scene.clock.advance(LEASE);
    wait_for("the loss", || !scene.ends.losses().is_empty());
    scene.cut.store(false, Ordering::SeqCst);
    scene.let_it_beat();
    assert_eq!(scene.ends.losses(), [format!("lost {token}: LeaseExpired")]);
}

#[test]
fn the_loss_of_a_guard_is_told_although_its_client_is_gone() {
    for at_once in [true, false] {
        let scene = scene();
        let guard = scene.client.acquire("orphan").unwrap();
        let token = guard.fencing_token();
        drop(scene.client);
        scene.cut.store(true, Ordering::SeqCst);
        scene.clock.advance(LEASE);
        if !at_once {
            wait_for("the loss", || !scene.ends.losses().is_empty());
        }
        assert!(guard.release().is_err());
        assert_eq!(scene.ends.losses(), [format!("lost {token}: LeaseExpired")]);
    }
}

/// A store or an observer that panics while a guard is dropped.
#[test]
fn a_panic_in_a_drop_is_told_if_the_lock_was_not_released() {
    let (panics, store) = (Arc::new(Mutex::new("")), MemoryStore::new());
    let (in_store, in_observer) = (Arc::clone(&panics), Arc::clone(&panics));
    let faulty = FaultyStore::new(store.clone(), move |_, request| match request {
        Request::Write(write) if format!("{write:?}").starts_with("Release") => {
            assert!(*in_store.lock() != "store", "on purpose");
            Fate::Fine
        }
        _ => Fate::Fine,
    });
    let ends = Ends::default();
    let noted = ends.clone();
    let observer = move |event: &Event<'_>| {
        noted.note(event);
        if let Event::ReleaseFailed { error, .. } = event {
            assert!(error.to_string().contains("on purpose"), "{error}");
        }
        if let Event::Released { .. } = event {
            assert!(*in_observer.lock() != "observer", "on purpose");
        }
    };
    let client = LockClient::builder()
        .observer(observer)
        .build(faulty)
        .unwrap();

    let guard = client.acquire("x").unwrap();
    let token = guard.fencing_token();
    *panics.lock() = "store";
    drop(guard);
    assert_eq!(ends.all(), [format!("not released {token}")]);

    let guard = client.acquire("y").unwrap();
    let released = guard.fencing_token();
    *panics.lock() = "observer";
    drop(guard);
    assert_eq!(ends.all()[1..], [format!("released {released}")]);
    let other = LockClient::builder().build(store).unwrap();
    assert!(other.try_acquire("y").unwrap().is_some());
}
