//! The test kit, as those use it who test a program of theirs.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use dynamodb_fifo_lock::testing::TestClock;
use dynamodb_fifo_lock::{Error, LockClient, LossReason, MemoryStore};

use common::{DEADLINE, wait_for};

const LEASE: Duration = Duration::from_secs(20);

fn client(store: &MemoryStore, clock: &TestClock) -> LockClient {
    LockClient::builder()
        .lease(LEASE)
        .test_clock(clock)
        .build(store.clone())
        .unwrap()
}

#[test]
fn a_jump_past_the_lease_loses_the_lock() {
    let (store, clock) = (MemoryStore::new(), TestClock::frozen());
    let client = client(&store, &clock);
    let guard = client.acquire("paused").unwrap();
    assert_eq!(guard.remaining(), LEASE);
    clock.advance(LEASE);
    assert!(!guard.is_held());
    guard.lost().recv_timeout(DEADLINE).unwrap_err();
    assert!(matches!(
        guard.release(),
        Err(Error::Lost {
            reason: LossReason::LeaseExpired,
            ..
        })
    ));
}

#[test]
fn small_steps_let_the_heartbeat_renew() {
    let (store, clock) = (MemoryStore::new(), TestClock::frozen());
    let client = client(&store, &clock);
    let guard = client.acquire("kept").unwrap();
    for _ in 0..12 {
        clock.advance(LEASE / 4);
        wait_for("a renewal", || guard.remaining() == LEASE);
    }
    guard.release().unwrap();
}

#[test]
fn hours_pass_in_no_time() {
    let began = Instant::now();
    let (store, clock) = (MemoryStore::new(), TestClock::frozen());
    let (holder, waiter) = (client(&store, &clock), client(&store, &clock));
    let guard = holder.acquire("waited for").unwrap();
    let waiting =
        thread::spawn(move || waiter.acquire_timeout("waited for", Duration::from_secs(7_200)));
    wait_for("the end of the wait", || {
        clock.advance(Duration::from_secs(5));
        waiting.is_finished()
    });
    assert!(matches!(
        waiting.join().unwrap(),
        Err(Error::AcquireTimeout { waited, .. }) if waited >= Duration::from_secs(7_200)
    ));
    drop(guard);
    assert!(began.elapsed() < DEADLINE);
}

#[test]
fn a_running_clock_runs_and_jumps() {
    let (store, clock) = (MemoryStore::new(), TestClock::running());
    let client = client(&store, &clock);
    let guard = client.acquire("running").unwrap();
    wait_for("time to pass", || guard.remaining() < LEASE);
    clock.advance(LEASE);
    assert!(!guard.is_held());
}
