//! The ways in which other lock clients went wrong. Each test would fail on the
//! design that has the hazard.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{
    Error, Event, FencingToken, HolderId, LockClient, LockName, LockStore, LossReason, MemoryStore,
    StoreError, Ticket,
};
use parking_lot::Mutex;

use common::{DEADLINE, backends, quick, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(10);

fn is_renewal(request: &Request<'_>) -> bool {
    matches!(request, Request::Write(Write::Renew { .. }))
}

/// Hazard: tickets kept as strings, so that "10" sorts before "9".
#[test]
fn the_tenth_ticket_comes_after_the_ninth() {
    for backend in backends() {
        let lock = unique("tenth");
        let name = LockName::new(&lock).unwrap();
        // The lock has served eight tickets.
        let write = |write: &Write| {
            backend
                .store
                .write(&name, write, WITHIN)
                .unwrap()
                .applied()
                .unwrap()
        };
        let record = write(&Write::Enqueue {
            start: Ticket::new(7),
            grace: Duration::from_secs(1),
            wall_ms: 1,
        });
        write(&Write::Release {
            ticket: record.issued,
            id: HolderId::new("x"),
            wall_ms: 1,
        });
        let (joined, joins) = unbounded();
        let client = quick()
            .observer(move |event: &Event<'_>| {
                if let Event::Enqueued { .. } = event {
                    let _ = joined.send(());
                }
            })
            .build(Arc::clone(&backend.store))
            .unwrap();
        let first = client.acquire(&lock).unwrap();
        assert_eq!(first.fencing_token(), FencingToken::new(9));
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let guard = client.acquire(&lock).unwrap();
                    order.lock().push(guard.fencing_token().get());
                });
                joins.recv_timeout(DEADLINE).unwrap();
            }
            drop(first);
        });
        assert_eq!(order.into_inner(), [10, 11, 12, 13], "{}", backend.name);
    }
}

/// Hazard: drawing a ticket and joining the queue are two writes, so that a
/// slow client joins in front of one that is served already.
#[test]
fn a_slow_joiner_never_gets_in_beside_the_one_that_is_served() {
    let store = MemoryStore::new();
    let lock = unique("slow");
    let (drawn, draws) = bounded(1);
    let (go_on, goes_on) = bounded::<()>(0);
    let first = AtomicBool::new(true);
    let inner = store.clone();
    // The slow client's ticket is drawn; then it stands still.
    let slow_store = FaultyStore::new(store.clone(), move |name, request| {
        if let Request::Write(write @ (Write::Enqueue { .. } | Write::EnqueueBehind)) = request
            && first.swap(false, Ordering::SeqCst)
        {
            let record = inner.write(name, write, WITHIN).unwrap().applied().unwrap();
            drawn.send(record.issued).unwrap();
            let _ = goes_on.recv();
            return Fate::Lost;
        }
        Fate::Fine
    });
    let slow = quick().build(slow_store).unwrap();
    let quick_one = quick().build(store).unwrap();
    let holder = quick_one.acquire(&lock).unwrap();
    thread::scope(|scope| {
        let late = scope.spawn(|| slow.acquire_timeout(&lock, DEADLINE).unwrap());
        let ticket = draws.recv_timeout(DEADLINE).unwrap();
        drop(holder);
        let served = quick_one.acquire_timeout(&lock, DEADLINE).unwrap();
        assert!(served.fencing_token().get() > ticket.get());
        // The slow one wakes up while the other holds.
        drop(go_on);
        let token = served.fencing_token();
        for _ in 0..50 {
            assert!(served.is_held() && !late.is_finished());
            thread::sleep(Duration::from_millis(2));
        }
        drop(served);
        assert!(late.join().unwrap().fencing_token() > token);
    });
}

/// Hazard: rows that look expired are removed without a condition, and with
/// them a holder that renewed a moment ago.
#[test]
fn a_renewal_in_the_last_moment_saves_the_holder() {
    let store = MemoryStore::new();
    let lock = unique("last-moment");
    let name = LockName::new(&lock).unwrap();
    // The holder's own renewals wait; the test sends one in its place.
    let (stop, stopped) = bounded::<()>(0);
    let holding = FaultyStore::new(store.clone(), move |_, request| {
        if is_renewal(request) {
            let _ = stopped.recv();
        }
        Fate::Fine
    });
    let holder = quick()
        .lease(Duration::from_millis(400))
        .build(holding)
        .unwrap();
    let guard = holder.acquire(&lock).unwrap();
    let id = store
        .read(&name, Consistency::Strong, WITHIN)
        .unwrap()
        .and_then(|record| record.holder)
        .unwrap()
        .id;
    let renewal = Write::Renew {
        ticket: Ticket::new(guard.fencing_token().get()),
        id: id.clone(),
        wall_ms: 0,
    };
    let (inner, watched) = (store.clone(), name.clone());
    let attempts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&attempts);
    let impatient = FaultyStore::new(store.clone(), move |_, request| {
        if matches!(request, Request::Write(Write::Advance { .. })) {
            seen.fetch_add(1, Ordering::SeqCst);
            inner
                .write(&watched, &renewal, WITHIN)
                .unwrap()
                .applied()
                .unwrap();
        }
        Fate::Fine
    });
    let waiter = quick().build(impatient).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| waiter.acquire_timeout(&lock, Duration::from_secs(4)));
        wait_for("two attempts to go past the holder", || {
            attempts.load(Ordering::SeqCst) >= 2
        });
        let record = store.read(&name, Consistency::Strong, WITHIN).unwrap();
        assert_eq!(record.and_then(|record| record.holder).unwrap().id, id);
        assert!(waiting.join().unwrap().is_err());
    });
    drop(stop);
}

/// Hazard: the promise rejects, and the user's work goes on unaware.
#[test]
fn a_loss_is_told_by_channel_and_check_even_while_the_store_hangs() {
    for hang in [false, true] {
        let (stop, stopped) = bounded::<()>(0);
        let store = FaultyStore::new(MemoryStore::new(), move |_, request| {
            if !is_renewal(request) {
                return Fate::Fine;
            }
            if hang {
                let _ = stopped.recv();
            }
            Fate::Lost
        });
        let (told, news) = unbounded();
        let client = quick()
            .lease(Duration::from_millis(400))
            .observer(move |event: &Event<'_>| {
                if let Event::Lost { reason, .. } = event {
                    let _ = told.send(*reason);
                }
            })
            .build(store)
            .unwrap();
        let guard = client.acquire("lost").unwrap();
        guard.ensure_held().unwrap();
        let listener = guard.lost().clone();
        assert!(listener.recv_timeout(DEADLINE).is_err());
        assert!(!guard.is_held());
        assert_eq!(guard.remaining(), Duration::ZERO);
        let error = guard.ensure_held().unwrap_err();
        assert!(
            matches!(
                error,
                Error::Lost {
                    reason: LossReason::LeaseExpired,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            news.recv_timeout(DEADLINE).unwrap(),
            LossReason::LeaseExpired
        );
        drop(stop);
    }
}

/// Hazard: no token for the user, so that a stale write does harm.
#[test]
fn the_token_reaches_the_user_and_stops_a_stale_write() {
    let highest = Mutex::new(FencingToken::new(0));
    let write = |token: FencingToken| {
        let mut highest = highest.lock();
        let accepted = token >= *highest;
        *highest = token.max(*highest);
        accepted
    };
    let client = quick().build(MemoryStore::new()).unwrap();
    let stale = client
        .with_lock("fenced", |guard| Ok::<_, Error>(guard.fencing_token()))
        .unwrap();
    client
        .with_lock("fenced", |guard| {
            assert!(write(guard.fencing_token()));
            Ok::<_, Error>(())
        })
        .unwrap();
    assert!(!write(stale));
}

/// Hazard: one failed heartbeat of any kind gives the lock up.
#[test]
fn one_failed_renewal_is_not_fatal() {
    for fate in [
        || Fate::Lost,
        || Fate::AnswerLost,
        || Fate::Throttled,
        || Fate::Denied,
    ] {
        let renewals = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&renewals);
        // Every other renewal fails.
        let store = FaultyStore::new(MemoryStore::new(), move |_, request| {
            if is_renewal(request) && counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return fate();
            }
            Fate::Fine
        });
        let client = quick().build(store).unwrap();
        let guard = client.acquire("flaky").unwrap();
        // A quarter of a lease each: this is longer than a lease.
        wait_for("twelve renewals", || renewals.load(Ordering::SeqCst) >= 12);
        guard.ensure_held().unwrap();
        guard.release().unwrap();
    }
}

/// Hazard: user code that is told of a failure holds up what would make it good.
#[test]
fn an_observer_that_takes_its_time_does_not_cost_the_lock() {
    let renewals = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&renewals);
    let store = FaultyStore::new(MemoryStore::new(), move |_, request| {
        let first = is_renewal(request) && counted.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Fate::Lost } else { Fate::Fine }
    });
    let (wake, woken) = bounded::<()>(0);
    let client = quick()
        .lease(Duration::from_millis(800))
        .observer(move |event: &Event<'_>| {
            if matches!(event, Event::RenewalFailed { .. }) {
                let _ = woken.recv();
            }
        })
        .build(store)
        .unwrap();
    let guard = client.acquire("slow observer").unwrap();
    // A fifth of a second each.
    wait_for("ten more renewals", || renewals.load(Ordering::SeqCst) > 10);
    guard.ensure_held().unwrap();
    drop(wake);
}

/// Hazard: the user's function keeps the heartbeat from running.
#[test]
fn work_that_blocks_its_thread_does_not_stop_the_heartbeat() {
    let store = MemoryStore::new();
    let lease = Duration::from_millis(800);
    let client = quick().lease(lease).build(store.clone()).unwrap();
    let others = quick().build(store).unwrap();
    client
        .with_lock("busy", |guard| {
            let until = Instant::now() + lease * 3;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            guard.ensure_held()?;
            assert!(others.try_acquire("busy")?.is_none());
            Ok::<_, Error>(())
        })
        .unwrap();
}

/// Hazard: a release that failed goes to the console.
#[test]
fn a_failed_release_is_returned_or_told() {
    let store = FaultyStore::new(MemoryStore::new(), |_, request| match request {
        Request::Write(Write::Release { .. }) => Fate::Lost,
        _ => Fate::Fine,
    });
    let (told, news) = unbounded();
    let client = quick()
        .observer(move |event: &Event<'_>| {
            if let Event::ReleaseFailed { lock, error, .. } = event {
                let _ = told.send(format!("{lock}: {error}"));
            }
        })
        .build(store)
        .unwrap();
    let error = client.acquire("a").unwrap().release().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Store {
                source: StoreError::Unreachable { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(news.is_empty(), "it was returned");
    drop(client.acquire("b").unwrap());
    let text = news.recv_timeout(DEADLINE).unwrap();
    assert!(
        text.starts_with("b: ") && text.contains("release"),
        "{text}"
    );
}

/// Hazard: the time-out is looked at only between two sleeps.
#[test]
fn a_time_out_ends_a_sleep() {
    let client = LockClient::builder()
        .lease(Duration::from_secs(3_600))
        .poll_interval(Duration::from_secs(60))
        .claim_grace(Duration::from_secs(60))
        .build(MemoryStore::new())
        .unwrap();
    let guard = client.acquire("sleep").unwrap();
    // By now the pause between two looks is long: it grows with the turn's age.
    let timeout = Duration::from_millis(200);
    let began = Instant::now();
    let error = client.acquire_timeout("sleep", timeout).unwrap_err();
    assert!(
        matches!(error, Error::AcquireTimeout { ahead: Some(1), .. }),
        "{error}"
    );
    assert!(began.elapsed() >= timeout && began.elapsed() < timeout * 20);
    drop(guard);
}

/// Hazard of leases: a guard that believes in its lease for too long.
#[test]
fn a_guard_never_says_held_after_its_leases_end() {
    const LEASE: Duration = Duration::from_millis(600);
    let mut lost = 0;
    let checks = AtomicU32::new(0);
    let verdicts: Vec<bool> = thread::scope(|scope| {
        let runs: Vec<_> = (0..24)
            .map(|_| {
                let checks = &checks;
                scope.spawn(move || holds_three_leases(LEASE, checks))
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for held in verdicts {
        lost += u32::from(!held);
    }
    assert!(lost > 0, "no guard was ever lost: the test proves nothing");
    assert!(checks.load(Ordering::SeqCst) > 1_000);
}

/// Holds a lock for three leases while four in five renewals fail at random, and
/// compares what the guard says with what the store saw. Says whether the lock
/// was held to the end.
fn holds_three_leases(lease: Duration, checks: &AtomicU32) -> bool {
    // When the last request that can have extended the lease reached the store.
    // The guard counts from before that.
    let extended = Arc::new(Mutex::new(Instant::now()));
    let log = Arc::clone(&extended);
    let store = FaultyStore::new(MemoryStore::new(), move |_, request| {
        let arrived = Instant::now();
        if is_renewal(request) {
            let dice: f64 = rand::random();
            if dice < 0.4 {
                return Fate::Lost;
            }
            if dice < 0.8 {
                return Fate::AnswerLost;
            }
        }
        *log.lock() = arrived;
        Fate::Fine
    });
    let client = LockClient::builder()
        .lease(lease)
        .request_timeout(Duration::from_millis(50))
        .build(store)
        .unwrap();
    let guard = client.acquire("random").unwrap();
    let began = Instant::now();
    while began.elapsed() < lease * 3 {
        let asked = Instant::now();
        let says_held = guard.is_held();
        let end = *extended.lock() + lease;
        assert!(!says_held || asked < end, "held {:?} too long", asked - end);
        checks.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(3));
    }
    guard.is_held()
}
