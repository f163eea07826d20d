//! Several locks at once.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use dynamodb_fifo_lock::{AcquireOptions, Error, Event, LockClient, MemoryStore};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use common::{DEADLINE, backends, quick, unique};

fn all() -> AcquireOptions {
    AcquireOptions::new()
}

fn is_free(client: &LockClient, name: &str) -> bool {
    client.try_acquire(name).unwrap().is_some()
}

#[test]
fn all_are_held_or_none() {
    for backend in backends() {
        let client = quick().build(backend.store.clone()).unwrap();
        let others = quick().build(backend.store.clone()).unwrap();
        let (a, b, c) = (unique("a"), unique("b"), unique("c"));
        let set = client.acquire_all([&c, &a, &b, &a], all()).unwrap();
        let names: Vec<_> = set
            .guards()
            .iter()
            .map(|guard| guard.name().as_str())
            .collect();
        assert_eq!(names, [&a, &b, &c], "{}", backend.name);
        assert!(set.is_held() && set.get(&b).is_some() && set.get("d").is_none());
        assert!(others.try_acquire_all([&b], all()).unwrap().is_none());
        set.release().unwrap();

        let blocker = others.acquire(&b).unwrap();
        let soon = all().timeout(Duration::from_millis(100));
        let failed = client.acquire_all([&a, &b, &c], soon);
        assert!(matches!(failed, Err(Error::AcquireTimeout { lock, .. }) if lock.as_str() == b));
        assert!(client.try_acquire_all([&a, &b], all()).unwrap().is_none());
        assert!(
            is_free(&others, &a) && is_free(&others, &c),
            "{}",
            backend.name
        );
        drop(blocker);
        drop(
            client
                .try_acquire_all([&a, &b, &c], all())
                .unwrap()
                .unwrap(),
        );
        assert!(is_free(&others, &a) && is_free(&others, &b) && is_free(&others, &c));
    }
}

#[test]
fn nothing_is_asked_for_if_one_name_is_no_name() {
    let client = quick().build(MemoryStore::new()).unwrap();
    let failed = client.acquire_all(["fine", ""], all());
    assert!(matches!(failed, Err(Error::InvalidName(_))));
    assert!(client.inspect("fine").unwrap().is_none());
    assert!(
        client
            .acquire_all([""; 0], all())
            .unwrap()
            .guards()
            .is_empty()
    );
}

#[test]
fn a_time_out_counts_for_all_of_them() {
    let store = MemoryStore::new();
    let client = quick().build(store.clone()).unwrap();
    let others = quick().build(store).unwrap();
    let first = others.acquire("1").unwrap();
    let _second = others.acquire("2").unwrap();
    let began = Instant::now();
    let waiting = thread::spawn(move || {
        client.acquire_all(["1", "2"], all().timeout(Duration::from_secs(2)))
    });
    while others.inspect("1").unwrap().unwrap().waiting == 0 {
        assert!(began.elapsed() < DEADLINE);
        thread::yield_now();
    }
    drop(first);
    let failed = waiting.join().unwrap();
    assert!(matches!(failed, Err(Error::AcquireTimeout { lock, .. }) if lock.as_str() == "2"));
    // Two seconds for each would be four.
    assert!(began.elapsed() < Duration::from_millis(3_500));
}

#[test]
fn one_that_is_lost_meanwhile_gives_the_others_back() {
    let store = MemoryStore::new();
    let (tell, lost) = unbounded();
    let client = quick()
        .observer(move |event: &Event<'_>| {
            if let Event::Lost { .. } = event {
                let _ = tell.send(());
            }
        })
        .build(store.clone())
        .unwrap();
    let others = quick().build(store).unwrap();
    let last = others.acquire("2").unwrap();
    let waiting = thread::spawn(move || client.acquire_all(["1", "2"], all()));
    let until = Instant::now() + DEADLINE;
    let token = loop {
        assert!(Instant::now() < until);
        if let Some(holder) = others
            .inspect("1")
            .unwrap()
            .and_then(|status| status.holder)
        {
            break holder.token;
        }
    };
    assert!(others.break_lock("1", token).unwrap());
    lost.recv_timeout(DEADLINE).unwrap();
    drop(last);
    let failed = waiting.join().unwrap();
    assert!(matches!(failed, Err(Error::Lost { lock, .. }) if lock.as_str() == "1"));
    assert!(is_free(&others, "2"));
}

#[test]
fn nobody_waits_for_each_other_in_a_circle() {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let store = MemoryStore::new();
    let users: Vec<_> = NAMES.iter().map(|_| AtomicU32::new(0)).collect();
    thread::scope(|scope| {
        for worker in 0..8 {
            let client = quick().build(store.clone()).unwrap();
            let users = &users;
            scope.spawn(move || {
                let mut dice = StdRng::seed_from_u64(worker);
                for _ in 0..12 {
                    let count = dice.random_range(1..=3);
                    let wanted: Vec<_> = NAMES.choose_multiple(&mut dice, count).collect();
                    let set = client
                        .acquire_all(&wanted, all().timeout(DEADLINE))
                        .unwrap();
                    let used = || {
                        NAMES
                            .iter()
                            .zip(users)
                            .filter(|(name, _)| wanted.contains(name))
                    };
                    for (name, users) in used() {
                        assert_eq!(users.fetch_add(1, Ordering::SeqCst), 0, "{name}");
                    }
                    thread::sleep(Duration::from_millis(2));
                    for (_, users) in used() {
                        users.fetch_sub(1, Ordering::SeqCst);
                    }
                    set.release().unwrap();
                }
            });
        }
    });
}
