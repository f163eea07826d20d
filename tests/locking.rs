//! The verbs of locking, over every backend.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{AcquireOptions, Error, Event, LockGuard, LossReason, MemoryStore};
use parking_lot::Mutex;

use common::{DEADLINE, announcing, backends, quick, tables, unique, wait_for};

#[test]
fn grants_come_in_the_order_of_asking() {
    for backend in backends() {
        let lock = unique("order");
        let (client, joins) = announcing(quick(), backend.store);
        let first = client.acquire(&lock).unwrap();
        let granted = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for asker in 0..6 {
                let (client, lock, granted) = (client.clone(), &lock, &granted);
                scope.spawn(move || {
                    let guard = client.acquire(lock).unwrap();
                    granted.lock().push((asker, guard.fencing_token()));
                });
                joins.recv_timeout(DEADLINE).unwrap();
            }
            assert!(client.try_acquire(&lock).unwrap().is_none());
            drop(first);
        });
        let granted = granted.into_inner();
        assert!(granted.is_sorted(), "{}: {granted:?}", backend.name);
        assert_eq!(granted.len(), 6);
    }
}

#[test]
fn a_crashed_holder_is_gone_past_when_its_lease_is_over_and_not_before() {
    for backend in backends() {
        let lock = unique("crash");
        // The crash: from here on none of its requests gets through.
        let crashed = Arc::new(AtomicBool::new(false));
        let dead = Arc::clone(&crashed);
        let doomed = quick()
            .build(FaultyStore::new(
                Arc::clone(&backend.store),
                move |_, _| match dead.load(Ordering::SeqCst) {
                    true => Fate::Lost,
                    false => Fate::Fine,
                },
            ))
            .unwrap();
        let stale = doomed.acquire(&lock).unwrap();
        crashed.store(true, Ordering::SeqCst);
        let (heir, joins) = announcing(quick(), backend.store);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| heir.acquire_timeout(&lock, DEADLINE).unwrap());
            joins.recv_timeout(DEADLINE).unwrap();
            let guard = waiting.join().unwrap();
            // Were it granted any earlier, the two would be valid at once.
            assert!(!stale.is_held());
            assert!(guard.is_held() && guard.fencing_token() > stale.fencing_token());
            // The stale holder's release reaches nobody, and says so.
            crashed.store(false, Ordering::SeqCst);
            let error = stale.release().unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{error}");
            assert!(guard.is_held());
            guard.release().unwrap();
        });
    }
}

#[test]
fn tokens_grow_after_the_row_was_deleted() {
    for table in tables() {
        let lock = unique("deleted");
        let client = quick().build(table.store()).unwrap();
        let mut last = client.acquire(&lock).unwrap().fencing_token();
        for _ in 0..3 {
            table.delete(&lock);
            let guard = client.acquire(&lock).unwrap();
            assert!(guard.fencing_token() > last, "{}", table.name);
            last = guard.fencing_token();
        }
    }
}

#[test]
fn a_deleted_row_is_noticed_by_holder_and_waiters() {
    for table in tables() {
        let lock = unique("vanished");
        let holder = quick()
            .heartbeat_interval(Duration::from_millis(50))
            .build(table.store())
            .unwrap();
        let guard = holder.acquire(&lock).unwrap();
        let (client, joins) = announcing(quick(), table.store());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.acquire_timeout(&lock, DEADLINE).unwrap());
            joins.recv_timeout(DEADLINE).unwrap();
            table.delete(&lock);
            assert!(guard.lost().recv_timeout(DEADLINE).is_err());
            let error = guard.ensure_held().unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Lost {
                        reason: LossReason::Superseded,
                        ..
                    }
                ),
                "{error}"
            );
            let next = waiting.join().unwrap();
            assert!(next.fencing_token() > guard.fencing_token());
        });
    }
}

#[test]
fn a_thread_that_would_wait_for_itself_is_told() {
    let client = quick().build(MemoryStore::new()).unwrap();
    let guard = client.acquire("self").unwrap();
    let error = client.acquire("self").unwrap_err();
    assert!(matches!(error, Error::WouldDeadlock { .. }), "{error}");
    let nested = client.with_lock("self", |_| Ok::<_, Error>(()));
    assert!(matches!(nested, Err(Error::WouldDeadlock { .. })));
    // With a time-out it queues like anyone, and so does another thread.
    let timed = client.acquire_timeout("self", Duration::from_millis(50));
    assert!(matches!(timed, Err(Error::AcquireTimeout { .. })));
    let (joined, joins) = bounded(8);
    let other = quick()
        .observer(move |event: &Event<'_>| {
            if matches!(event, Event::Enqueued { .. }) {
                let _ = joined.send(());
            }
        })
        .build(MemoryStore::new())
        .unwrap();
    let held = other.acquire("self").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| other.acquire("self").map(drop));
        joins.recv_timeout(DEADLINE).unwrap();
        drop(held);
        waiting.join().unwrap().unwrap();
    });
    drop(guard);
    // Once released, wherever it was, the thread may ask again.
    let guard = client.acquire("self").unwrap();
    thread::spawn(move || drop(guard)).join().unwrap();
    client.acquire("self").unwrap().release().unwrap();
}

#[test]
fn a_closures_value_error_and_panic_come_back_and_the_lock_is_free() {
    for backend in backends() {
        let client = quick().build(backend.store).unwrap();
        let lock = unique("closure");
        let free = || assert!(client.try_acquire(&lock).unwrap().is_some());

        let value = client.with_lock(&lock, |guard| {
            anyhow::ensure!(guard.is_held());
            Ok(vec![1, 2, 3])
        });
        assert_eq!(value.unwrap(), [1, 2, 3]);
        free();

        let error = client
            .with_lock(&lock, |_| Err::<(), _>(anyhow::anyhow!("my own error")))
            .unwrap_err();
        assert_eq!(error.to_string(), "my own error");
        free();

        let panic = catch_unwind(AssertUnwindSafe(|| {
            client.with_lock(&lock, |_| -> Result<(), Error> { panic!("my own panic") })
        }));
        let message = panic.unwrap_err();
        assert_eq!(message.downcast_ref(), Some(&"my own panic"));
        free();
    }
}

#[test]
fn a_wait_can_be_cancelled_and_a_client_closed() {
    for backend in backends() {
        let lock = unique("cancel");
        let (client, joins) = announcing(quick(), backend.store);
        let guard = client.acquire(&lock).unwrap();
        thread::scope(|scope| {
            let (cancel, cancelled) = bounded(0);
            let options = AcquireOptions::new().cancel(cancelled);
            let waiting = scope.spawn(|| client.acquire_with(&lock, options));
            joins.recv_timeout(DEADLINE).unwrap();
            drop(cancel);
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Cancelled { .. }), "{error}");

            let waiting = scope.spawn(|| client.acquire(&lock));
            joins.recv_timeout(DEADLINE).unwrap();
            client.close();
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Closed { .. }), "{error}");
        });
        // What is held stays held; nothing new is acquired.
        assert!(guard.is_held());
        guard.release().unwrap();
        assert!(matches!(client.acquire(&lock), Err(Error::Closed { .. })));
    }
}

/// Those who leave the queue delay the others by the grace at most.
#[test]
fn a_waiter_that_gave_up_does_not_block_the_queue() {
    for backend in backends() {
        let lock = unique("gone");
        let (client, joins) = announcing(quick(), backend.store);
        let guard = client.acquire(&lock).unwrap();
        let error = client
            .acquire_timeout(&lock, Duration::from_millis(50))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::AcquireTimeout { .. }) && text.contains(&lock),
            "{text}"
        );
        joins.recv_timeout(DEADLINE).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.acquire_timeout(&lock, DEADLINE));
            joins.recv_timeout(DEADLINE).unwrap();
            guard.release().unwrap();
            assert!(waiting.join().unwrap().unwrap().is_held());
        });
    }
}

/// Hazard: a queue that purges the living. As long as a waiter says that it is there
/// it may be slow.
#[test]
fn a_living_but_slow_waiter_keeps_its_place() {
    for backend in backends() {
        let lock = unique("slow");
        let cut_off = Arc::new(AtomicBool::new(false));
        let (announced, announcements) = unbounded();
        let cut = Arc::clone(&cut_off);
        let slow_store = FaultyStore::new(Arc::clone(&backend.store), move |_, request| {
            match request {
                Request::Announce(row) => drop(announced.send(row.ticket)),
                Request::Read if cut.load(Ordering::SeqCst) => return Fate::Lost,
                _ => {}
            }
            Fate::Fine
        });
        let (slow, slow_joins) = announcing(quick(), slow_store);
        let (client, joins) = announcing(quick(), backend.store);
        let guard = client.acquire(&lock).unwrap();
        thread::scope(|scope| {
            let slow = scope.spawn(|| slow.acquire_timeout(&lock, DEADLINE).unwrap());
            slow_joins.recv_timeout(DEADLINE).unwrap();
            let next = scope.spawn(|| client.acquire_timeout(&lock, DEADLINE).unwrap());
            joins.recv_timeout(DEADLINE).unwrap();
            announcements.recv_timeout(DEADLINE).unwrap();
            cut_off.store(true, Ordering::SeqCst);
            drop(guard);
            // For three times the grace it does not notice that its turn has come.
            thread::sleep(Duration::from_secs(3));
            assert!(!next.is_finished(), "{}", backend.name);
            cut_off.store(false, Ordering::SeqCst);
            let first = slow.join().unwrap();
            let token = first.fencing_token();
            drop(first);
            assert!(next.join().unwrap().fencing_token() > token);
        });
    }
}

#[test]
fn one_that_slept_through_its_turn_is_told_and_joins_again() {
    let store = MemoryStore::new();
    let lock = unique("slept");
    let asleep = Arc::new(AtomicBool::new(false));
    let (wake, woken) = bounded::<()>(0);
    let sleeping = Arc::clone(&asleep);
    let sleepy = FaultyStore::new(store.clone(), move |_, request| {
        // The whole process stands still: it neither looks nor says that it waits.
        let still = matches!(request, Request::Read | Request::Announce(_));
        if still && sleeping.load(Ordering::SeqCst) {
            let _ = woken.recv();
        }
        Fate::Fine
    });
    let (told, news) = unbounded();
    let (joined, joins) = unbounded();
    let sleeper = quick()
        .observer(move |event: &Event<'_>| match event {
            Event::Enqueued { ticket, .. } => drop(joined.send(ticket.get())),
            Event::PassedOver { ticket, .. } => drop(told.send(ticket.get())),
            _ => {}
        })
        .build(sleepy)
        .unwrap();
    let (client, client_joins) = announcing(quick(), store);
    let guard = client.acquire(&lock).unwrap();
    thread::scope(|scope| {
        asleep.store(true, Ordering::SeqCst);
        let slept = scope.spawn(|| sleeper.acquire_timeout(&lock, DEADLINE).unwrap());
        let ticket = joins.recv_timeout(DEADLINE).unwrap();
        let next = scope.spawn(|| client.acquire_timeout(&lock, DEADLINE).unwrap());
        client_joins.recv_timeout(DEADLINE).unwrap();
        drop(guard);
        let next = next.join().unwrap();
        asleep.store(false, Ordering::SeqCst);
        drop(wake);
        assert_eq!(news.recv_timeout(DEADLINE).unwrap(), ticket);
        let again = joins.recv_timeout(DEADLINE).unwrap();
        assert!(again > next.fencing_token().get());
        let token = next.fencing_token();
        drop(next);
        assert!(slept.join().unwrap().fencing_token() > token);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn one_heartbeat_thread_serves_a_client_and_goes_with_it() {
    // The threads of other tests in this process have the same name.
    const CHILD: &str = "FIFOLOCK_TEST_COUNTS_THREADS";
    if std::env::var_os(CHILD).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "one_heartbeat_thread_serves_a_client_and_goes_with_it",
            ])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let hearts = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .filter(|name| name.trim() == "fifolock-heart")
            .count()
    };
    assert_eq!(hearts(), 0);
    let client = quick().build(MemoryStore::new()).unwrap();
    let clone = client.clone();
    let guards: Vec<LockGuard> = (0..20)
        .map(|n| clone.acquire(&format!("lock {n}")).unwrap())
        .collect();
    wait_for("one heart", || hearts() == 1);
    drop((client, clone));
    assert_eq!(hearts(), 1, "the guards still need it");
    drop(guards);
    wait_for("no heart", || hearts() == 0);
}

#[test]
fn an_observer_that_panics_or_calls_back_does_no_harm() {
    let store = MemoryStore::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = quick().build(store.clone()).unwrap();
    let counted = Arc::clone(&calls);
    let client = quick()
        .observer(move |event: &Event<'_>| {
            counted.fetch_add(1, Ordering::SeqCst);
            // Calls back into a client of the same store.
            let _ = inner.try_acquire("other");
            assert!(!matches!(event, Event::ReleaseFailed { .. }), "on purpose");
        })
        .build(FaultyStore::new(store, |_, request| match request {
            Request::Write(dynamodb_fifo_lock::protocol::Write::Release { .. }) => Fate::Lost,
            _ => Fate::Fine,
        }))
        .unwrap();
    // The drop's observer panics. The panic stays inside.
    drop(client.acquire("watched").unwrap());
    assert!(calls.load(Ordering::SeqCst) >= 2);
}
