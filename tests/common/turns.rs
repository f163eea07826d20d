//! A crowd that takes turns at one lock, and what that costs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::LockClient;
use parking_lot::Mutex;

use super::proxy::{Cost, Proxy};
use super::unique;

/// How long each of them holds the lock.
pub const HOLD: Duration = Duration::from_millis(20);

/// So many turns of each thread come before the first one that counts.
const WARM: usize = 5;

/// `threads` threads, each with a client of `clients` in turn, take turns at one lock
/// behind `proxy`. What `turns` turns cost, once the crowd is warm.
pub fn take_turns(clients: &[LockClient], threads: usize, turns: usize, proxy: &Proxy) -> Cost {
    let lock = unique("contended");
    let (first, last) = (WARM * threads, WARM * threads + turns);
    let grants = AtomicUsize::new(0);
    let cost = Mutex::new(Cost::default());
    thread::scope(|scope| {
        for client in clients.iter().cycle().take(threads) {
            let (lock, grants, cost) = (&lock, &grants, &cost);
            scope.spawn(move || {
                loop {
                    let guard = client.acquire(lock).unwrap();
                    let grant = grants.fetch_add(1, Ordering::SeqCst);
                    if grant == first {
                        proxy.take();
                    } else if grant == last {
                        *cost.lock() = proxy.take_cost();
                    }
                    thread::sleep(HOLD);
                    guard.release().unwrap();
                    // The others are still there when the last turn is measured.
                    if grant > last {
                        return;
                    }
                }
            });
        }
    });
    cost.into_inner()
}
