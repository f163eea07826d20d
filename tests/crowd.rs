//! Many at once.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{Event, LockGuard, MemoryStore};
use parking_lot::Mutex;

use common::{embedded_table, quick, unique, wait_for};

/// 64 threads in 4 clients make 1,000 acquisitions of one lock over HTTP.
#[test]
fn a_crowd_at_one_lock_is_served_one_by_one_in_order() {
    const CLIENTS: usize = 4;
    const THREADS: usize = 64;
    const ACQUISITIONS: usize = 1_000;
    let table = embedded_table();
    let lock = unique("crowd");
    let inside = AtomicBool::new(false);
    let begun = AtomicUsize::new(0);
    let tokens = Mutex::new(Vec::new());
    let passed_over = Arc::new(AtomicUsize::new(0));
    let enqueued = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (passed_over, enqueued) = (Arc::clone(&passed_over), Arc::clone(&enqueued));
            quick()
                .lease(Duration::from_secs(20))
                .claim_grace(Duration::from_secs(5))
                .observer(move |event: &Event<'_>| {
                    match event {
                        Event::Enqueued { .. } => enqueued.fetch_add(1, Ordering::SeqCst),
                        Event::PassedOver { .. } => passed_over.fetch_add(1, Ordering::SeqCst),
                        _ => 0,
                    };
                })
                .build(table.store())
                .unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for n in 0..THREADS {
            let client = &clients[n % CLIENTS];
            let (lock, inside, begun, tokens) = (&lock, &inside, &begun, &tokens);
            scope.spawn(move || {
                while begun.fetch_add(1, Ordering::SeqCst) < ACQUISITIONS {
                    let guard = client.acquire(lock).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                    tokens.lock().push(guard.fencing_token());
                    assert!(guard.is_held());
                    inside.store(false, Ordering::SeqCst);
                    guard.release().unwrap();
                }
            });
        }
    });
    let tokens = tokens.into_inner();
    assert_eq!(tokens.len(), ACQUISITIONS);
    // A token is the number that the enqueue write drew: growing tokens are
    // grants in the order of those writes.
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later));
    assert_eq!(
        passed_over.load(Ordering::SeqCst),
        0,
        "nobody lost its turn"
    );
    assert!(
        enqueued.load(Ordering::SeqCst) > ACQUISITIONS / 2,
        "they did queue"
    );
    // Without gaps, no ticket was drawn in vain.
    let span = tokens[ACQUISITIONS - 1].get() - tokens[0].get();
    assert_eq!(span, ACQUISITIONS as u64 - 1);
}

/// One client holds 1,000 locks with a lease of 3 s. The renewals of one hang in
/// the store for good.
#[test]
fn a_hanging_renewal_costs_no_other_lock() {
    const LOCKS: usize = 1_000;
    const ROUNDS: usize = 8;
    let renewals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&renewals);
    let (unhang, hangs) = bounded::<()>(0);
    let store = FaultyStore::new(MemoryStore::new(), move |lock, request| {
        if matches!(request, Request::Write(Write::Renew { .. })) {
            if lock.as_str() == "lock 7" {
                let _ = hangs.recv();
                return Fate::Lost;
            }
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Fine
    });
    let lost = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&lost);
    let client = quick()
        .lease(Duration::from_secs(3))
        .observer(move |event: &Event<'_>| {
            if let Event::Lost { lock, .. } = event {
                told.lock().push(lock.to_string());
            }
        })
        .build(store)
        .unwrap();
    let guards: Vec<LockGuard> = (0..LOCKS)
        .map(|n| client.acquire(&format!("lock {n}")).unwrap())
        .collect();
    // A renewal is due every quarter of a lease: this takes two leases.
    wait_for("eight rounds of renewals", || {
        renewals.load(Ordering::SeqCst) >= LOCKS * ROUNDS
    });
    for (n, guard) in guards.iter().enumerate() {
        assert_eq!(guard.is_held(), n != 7, "lock {n}");
    }
    wait_for("the observer", || !lost.lock().is_empty());
    assert_eq!(*lost.lock(), ["lock 7"]);
    drop(unhang);
}
