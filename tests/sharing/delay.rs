//! A lock delay: for how long the others wait on top of a lease that ended by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::{AcquireOptions, LockClient, LockStore};
use parking_lot::Mutex;

use super::{announcing, reading};
use crate::common::{DEADLINE, backends, quick, unique, wait_for};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};

const LEASE: Duration = Duration::from_millis(500);
const DELAY: Duration = Duration::from_millis(900);
const HOUR: Duration = Duration::from_secs(3_600);

/// A client with a lock delay that dies when it is told to, and when it last showed a
/// sign of life, or earlier.
struct Doomed {
    client: LockClient,
    dead: Arc<AtomicBool>,
    last_sign: Arc<Mutex<Instant>>,
}

fn doomed(store: Arc<dyn LockStore>) -> Doomed {
    let dead = Arc::new(AtomicBool::new(false));
    let last_sign = Arc::new(Mutex::new(Instant::now()));
    let (dies, sign) = (Arc::clone(&dead), Arc::clone(&last_sign));
    let store = FaultyStore::new(store, move |_, request| {
        let mut sign = sign.lock();
        if dies.load(Ordering::SeqCst) {
            return Fate::Lost;
        }
        let alive = matches!(
            request,
            Request::Write(
                Write::Try { .. }
                    | Write::TryShare { .. }
                    | Write::Renew { .. }
                    | Write::RenewShare { .. }
            )
        );
        if alive {
            *sign = Instant::now();
        }
        Fate::Fine
    });
    let client = quick().lease(LEASE).lock_delay(DELAY).build(store).unwrap();
    Doomed {
        client,
        dead,
        last_sign,
    }
}

#[test]
fn after_an_unclean_loss_the_next_grant_comes_a_lease_and_a_delay_later() {
    for backend in backends() {
        for options in [AcquireOptions::new(), reading()] {
            let lock = unique("delay");
            let doomed = doomed(Arc::clone(&backend.store));
            let stale = doomed.client.acquire_with(&lock, options).unwrap();
            // The holder counts no more than its lease.
            assert!(stale.remaining() <= LEASE);
            doomed.dead.store(true, Ordering::SeqCst);
            let last_sign = *doomed.last_sign.lock();
            let (heir, _) = announcing(Arc::clone(&backend.store));
            let guard = heir.acquire_timeout(&lock, DEADLINE).unwrap();
            let after = last_sign.elapsed();
            assert!(after >= LEASE + DELAY, "{}: {after:?}", backend.name);
            assert!(!stale.is_held() && guard.is_held());
        }
    }
}

/// The delay is longer than anybody waits here.
#[test]
fn a_release_passes_on_at_once_whatever_the_delay() {
    for backend in backends() {
        for (held, asked) in [
            (AcquireOptions::new(), AcquireOptions::new()),
            (AcquireOptions::new(), reading()),
            (reading(), AcquireOptions::new()),
        ] {
            let lock = unique("clean");
            let client = || {
                let builder = quick().lease(HOUR).lock_delay(HOUR);
                builder.build(Arc::clone(&backend.store)).unwrap()
            };
            let (client, next) = (client(), client());
            let guard = client.acquire_with(&lock, held).unwrap();
            thread::scope(|scope| {
                let asked = asked.timeout(DEADLINE);
                let waiting = scope.spawn(|| next.acquire_with(&lock, asked).unwrap());
                let waits = || client.inspect(&lock).unwrap().unwrap().turn.is_some();
                wait_for("the wait", waits);
                guard.release().unwrap();
                waiting.join().unwrap().release().unwrap();
            });
        }
    }
}

/// A turn that nobody claimed ends with the grace, which knows of no delay.
#[test]
fn with_a_delay_no_guard_rests_on_an_unclaimed_turn() {
    for backend in backends() {
        for delay in [Duration::ZERO, DELAY] {
            let lock = unique("claimed");
            let (first, _) = announcing(Arc::clone(&backend.store));
            let next = quick()
                .lease(HOUR)
                .lock_delay(delay)
                .acquire_timeout(DEADLINE)
                .build(Arc::clone(&backend.store))
                .unwrap();
            let guard = first.acquire(&lock).unwrap();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| next.acquire(&lock).unwrap());
                let waits = || first.inspect(&lock).unwrap().unwrap().waiting > 0;
                wait_for("the wait", waits);
                drop(guard);
                let guard = waiting.join().unwrap();
                let remaining = guard.remaining();
                let holder = first.inspect(&lock).unwrap().unwrap().holder;
                if delay.is_zero() {
                    return;
                }
                let holder = holder.expect("a claim before the guard");
                assert_eq!(holder.token, guard.fencing_token(), "{}", backend.name);
                assert_eq!(holder.lease, HOUR + delay);
                assert!(remaining > HOUR / 2 && remaining <= HOUR);
            });
        }
    }
}
