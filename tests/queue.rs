//! The queue: what it costs, how it is left, and who comes next.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{
    AcquireOptions, Error, Event, LockClient, LockName, LockStore, LossReason, MemoryStore,
};
use parking_lot::Mutex;

use common::proxy::{Fault, Proxy};
use common::turns::take_turns;
use common::{DEADLINE, backends, quick, tables, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(10);

/// A client that says on a channel when it has joined a queue.
fn announcing(store: impl LockStore + 'static) -> (LockClient, Receiver<u64>) {
    common::announcing(quick().lease(Duration::from_secs(20)), store)
}

/// Eight threads, each with a client of `clients` in turn, take turns at one lock.
/// Returns writes and read units a grant, once the crowd is warm.
fn contend(clients: &[LockClient], proxy: &Proxy) -> (f64, f64) {
    const TURNS: usize = 120;
    let cost = take_turns(clients, 8, TURNS, proxy);
    let cost = (cost.writes as f64 / TURNS as f64, cost.reads / TURNS as f64);
    println!("{} clients: {cost:?}", clients.len());
    cost
}

/// A machine that is busy with other things lets turns last for longer, and waiters
/// look more often meanwhile: three runs are enough to see what it really costs.
fn contend_within(clients: &[LockClient], proxy: &Proxy, most_writes: f64, most_units: f64) {
    let fits = (0..3).any(|_| {
        let (writes, units) = contend(clients, proxy);
        writes <= most_writes && units <= most_units
    });
    assert!(
        fits,
        "more than {most_writes} writes, or {most_units} read units"
    );
}

#[test]
fn eight_clients_at_one_lock_pay_little_more_than_two_writes_a_grant() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let store = table.store_through(&proxy.endpoint);
                LockClient::builder().build(store).unwrap()
            })
            .collect();
        contend_within(&clients, &proxy, 2.3, 4.0);
    }
}

#[test]
fn eight_threads_of_one_client_pay_two_writes_a_grant() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let store = table.store_through(&proxy.endpoint);
        let client = LockClient::builder().build(store).unwrap();
        contend_within(&[client], &proxy, 2.1, 4.0);
    }
}

#[test]
fn a_lock_is_handed_over_inside_a_client_in_one_request() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let (client, joins) = announcing(table.store_through(&proxy.endpoint));
        let lock = unique("handed-over");
        let mut guard = client.acquire(&lock).unwrap();
        for _ in 0..3 {
            guard = thread::scope(|scope| {
                let next = scope.spawn(|| client.acquire(&lock).unwrap());
                let ticket = joins.recv_timeout(DEADLINE).unwrap();
                // It told that it has joined just before it falls asleep.
                thread::sleep(Duration::from_millis(200));
                proxy.take_operations();
                guard.release().unwrap();
                let next = next.join().unwrap();
                assert_eq!(proxy.take_operations(), ["UpdateItem"], "{}", table.name);
                assert_eq!(next.fencing_token().get(), ticket);
                assert!(next.remaining() > Duration::from_secs(10), "a whole lease");
                next
            });
        }
    }
}

#[test]
fn a_local_waiter_does_not_overtake_one_of_another_client() {
    for backend in backends() {
        let (here, joins) = announcing(Arc::clone(&backend.store));
        let (there, joins_there) = announcing(Arc::clone(&backend.store));
        let lock = unique("fair");
        let order = Mutex::new(Vec::new());
        let guard = here.acquire(&lock).unwrap();
        let wait = |client: &LockClient, name: &'static str| {
            let guard = client.acquire(&lock).unwrap();
            order.lock().push((name, guard.fencing_token()));
        };
        thread::scope(|scope| {
            scope.spawn(|| wait(&there, "there"));
            joins_there.recv_timeout(DEADLINE).unwrap();
            for _ in 0..2 {
                scope.spawn(|| wait(&here, "here"));
                joins.recv_timeout(DEADLINE).unwrap();
            }
            drop(guard);
        });
        let order = order.into_inner();
        assert!(order.is_sorted_by_key(|(_, token)| *token), "{order:?}");
        let names: Vec<_> = order.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["there", "here", "here"], "{}", backend.name);
    }
}

/// If the answer to the hand-over is lost, or it never arrived, the next one finds
/// out by itself, in no time.
#[test]
fn a_hand_over_that_got_no_answer_is_found_out() {
    for fate in [
        || Fate::Lost,
        || Fate::AnswerLost,
        || Fate::Throttled,
        || Fate::Denied,
    ] {
        let store = FaultyStore::new(MemoryStore::new(), move |_, request| match request {
            Request::Write(Write::HandOver { .. }) => fate(),
            _ => Fate::Fine,
        });
        let (client, joins) = announcing(store);
        let guard = client.acquire("rough").unwrap();
        thread::scope(|scope| {
            let next = scope.spawn(|| client.acquire_timeout("rough", WITHIN).unwrap());
            joins.recv_timeout(DEADLINE).unwrap();
            thread::sleep(Duration::from_millis(100));
            guard.release().unwrap();
            let next = next.join().unwrap();
            assert!(next.is_held());
            next.release().unwrap();
        });
        assert!(client.try_acquire("rough").unwrap().is_some());
    }
}

#[test]
fn a_short_section_after_a_wait_is_never_claimed_and_a_longer_one_is_from_behind() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let (first, _) = announcing(table.store());
        let (second, joins) = announcing(table.store_through(&proxy.endpoint));
        for long in [false, true] {
            let lock = unique("behind");
            let guard = first.acquire(&lock).unwrap();
            thread::scope(|scope| {
                let next = scope.spawn(|| second.acquire(&lock).unwrap());
                joins.recv_timeout(DEADLINE).unwrap();
                drop(guard);
                let next = next.join().unwrap();
                if long {
                    let holder = || first.inspect(&lock).unwrap().unwrap().holder;
                    wait_for("the claim", || holder().is_some());
                    assert_eq!(holder().unwrap().token, next.fencing_token());
                    wait_for("the lease", || next.remaining() > Duration::from_secs(10));
                }
                next.release().unwrap();
                let operations = proxy.take_operations();
                let writes = operations.iter().filter(|name| *name == "UpdateItem");
                // The try, of a client that has not met others here; the enqueue,
                // perhaps the claim, and the release.
                let expected = if long { 4 } else { 3 };
                assert_eq!(writes.count(), expected, "{}: {operations:?}", table.name);
            });
        }
    }
}

/// A claim that trails the guard and does not get through is a loss by the end of
/// the grace; one that is refused, at once.
#[test]
fn a_guard_whose_claim_fails_is_lost_like_any_other() {
    for refused in [false, true] {
        let store = MemoryStore::new();
        let (first, _) = announcing(store.clone());
        let name = LockName::new("trailing").unwrap();
        let inner = store.clone();
        let (second, joins) = announcing(FaultyStore::new(store.clone(), move |lock, request| {
            if !matches!(request, Request::Write(Write::Claim { .. })) {
                return Fate::Fine;
            }
            if refused {
                // Somebody has gone past us.
                let read = inner.read(lock, Consistency::Strong, WITHIN);
                let seen = read.unwrap().unwrap();
                let past = Write::Advance {
                    served: seen.served,
                    revision: seen.revision,
                    moved_at_ms: seen.moved_at_ms,
                    to: seen.turn().next(),
                    wall_ms: 0,
                };
                inner.write(lock, &past, WITHIN).unwrap().applied().unwrap();
                return Fate::Fine;
            }
            Fate::Lost
        }));
        let guard = first.acquire(name.as_str()).unwrap();
        thread::scope(|scope| {
            let next = scope.spawn(|| second.acquire(name.as_str()).unwrap());
            joins.recv_timeout(DEADLINE).unwrap();
            drop(guard);
            let next = next.join().unwrap();
            assert!(next.is_held() && next.remaining() <= Duration::from_secs(1));
            let lost = next.lost().recv_timeout(DEADLINE);
            assert!(lost.is_err() && !next.is_held());
            let reason = match next.ensure_held() {
                Err(Error::Lost { reason, .. }) => reason,
                other => panic!("{other:?}"),
            };
            let expected = match refused {
                true => LossReason::Superseded,
                false => LossReason::LeaseExpired,
            };
            assert_eq!(reason, expected);
            assert!(next.release().is_err());
            assert!(first.acquire_timeout(name.as_str(), WITHIN).is_ok());
        });
    }
}

/// Cancels an attempt while its nth request is under way, for every n, the one that
/// grants included. Whatever the outcome, nothing is left that keeps others out.
#[test]
fn a_wait_can_be_left_at_every_point() {
    let mut outcomes = [0, 0];
    for nth in 1..=12 {
        let store = MemoryStore::new();
        let (holder, _) = announcing(store.clone());
        let (cancel, cancelled) = bounded::<()>(1);
        let seen = Arc::new(AtomicUsize::new(0));
        let held = Arc::new(Mutex::new(Some(holder.acquire("left").unwrap())));
        let (counted, let_go) = (Arc::clone(&seen), Arc::clone(&held));
        let client = quick()
            .build(FaultyStore::new(store, move |_, _| {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                // After some looks the turn comes.
                if number == 6 {
                    drop(let_go.lock().take());
                }
                if number == nth {
                    let _ = cancel.try_send(());
                }
                Fate::Fine
            }))
            .unwrap();
        let options = AcquireOptions::new().timeout(DEADLINE).cancel(cancelled);
        match client.acquire_with("left", options) {
            Ok(guard) => {
                outcomes[0] += 1;
                guard.release().unwrap();
            }
            Err(Error::Cancelled { .. }) => outcomes[1] += 1,
            Err(error) => panic!("{nth}: {error}"),
        }
        drop(held.lock().take());
        // What was left says so: even who does not wait gets in.
        let guard = holder.try_acquire("left").unwrap();
        assert!(guard.is_some(), "after {nth} requests");
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 5, "{outcomes:?}");
}

/// A panic, here the observer's, gives the place back.
#[test]
fn a_panic_leaves_the_queue() {
    for backend in backends() {
        let lock = unique("panic");
        let (holder, _) = announcing(Arc::clone(&backend.store));
        let guard = holder.acquire(&lock).unwrap();
        let doomed = quick()
            .observer(|event: &Event<'_>| {
                assert!(!matches!(event, Event::Enqueued { .. }), "on purpose");
            })
            .build(Arc::clone(&backend.store))
            .unwrap();
        thread::scope(|scope| {
            let panicking = scope.spawn(|| doomed.acquire(&lock));
            assert!(panicking.join().is_err());
        });
        guard.release().unwrap();
        let guard = holder.try_acquire(&lock).unwrap();
        assert!(guard.is_some(), "{}", backend.name);
    }
}

#[test]
fn closing_wakes_every_waiter_and_reports_what_stays_behind() {
    for backend in backends() {
        let lock = unique("closed");
        let (client, joins) = announcing(Arc::clone(&backend.store));
        let (other, _) = announcing(Arc::clone(&backend.store));
        let guard = client.acquire(&lock).unwrap();
        let report = thread::scope(|scope| {
            let waiting: Vec<_> = (0..12)
                .map(|_| scope.spawn(|| client.acquire(&lock)))
                .collect();
            for _ in 0..12 {
                joins.recv_timeout(DEADLINE).unwrap();
            }
            let report = client.close();
            for waiter in waiting {
                let outcome = waiter.join().unwrap();
                assert!(matches!(outcome, Err(Error::Closed { .. })), "{outcome:?}");
            }
            report
        });
        assert_eq!(report.held.len(), 1, "{}", backend.name);
        assert_eq!(report.held[0].1, guard.fencing_token());
        assert!(report.left_behind.is_empty() && report.still_leaving == 0);
        assert!(guard.is_held(), "a guard is not taken away");
        guard.release().unwrap();
        assert!(client.close().is_clean());
        let next = other.try_acquire(&lock).unwrap();
        assert!(next.is_some(), "{}: the queue is empty", backend.name);
    }
}

#[test]
fn closing_reports_whoever_could_not_leave() {
    let cut_off = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&cut_off);
    let store = FaultyStore::new(MemoryStore::new(), move |_, _| {
        match cut.load(Ordering::SeqCst) {
            true => Fate::Lost,
            false => Fate::Fine,
        }
    });
    let (client, joins) = announcing(store);
    let guard = client.acquire("stuck").unwrap();
    let report = thread::scope(|scope| {
        let waiting = scope.spawn(|| client.acquire("stuck"));
        joins.recv_timeout(DEADLINE).unwrap();
        cut_off.store(true, Ordering::SeqCst);
        let report = client.close();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed { .. })));
        report
    });
    assert_eq!(report.left_behind.len(), 1);
    assert_eq!(report.left_behind[0].0.as_str(), "stuck");
    cut_off.store(false, Ordering::SeqCst);
    drop(guard);
}

#[test]
fn waiters_hear_how_far_they_have_come_and_show_what_they_say() {
    for backend in backends() {
        let lock = unique("positions");
        let positions = Arc::new(Mutex::new(Vec::new()));
        let (joined, joins) = unbounded();
        let told = Arc::clone(&positions);
        let client = quick()
            .lease(Duration::from_secs(20))
            .observer(move |event: &Event<'_>| match event {
                Event::Enqueued { ticket, .. } => drop(joined.send(ticket.get())),
                Event::Position { ticket, ahead, .. } => told.lock().push((ticket.get(), *ahead)),
                _ => {}
            })
            .build(Arc::clone(&backend.store))
            .unwrap();
        let (other, _) = announcing(Arc::clone(&backend.store));
        let options = AcquireOptions::new().data("release 17");
        let guard = other.acquire_with(&lock, options).unwrap();
        let status = client.inspect(&lock).unwrap().unwrap();
        assert_eq!(status.holder.unwrap().data.as_deref(), Some("release 17"));
        thread::scope(|scope| {
            let mut tickets = Vec::new();
            for _ in 0..3 {
                scope.spawn(|| drop(client.acquire(&lock).unwrap()));
                tickets.push(joins.recv_timeout(DEADLINE).unwrap());
            }
            assert_eq!(client.inspect(&lock).unwrap().unwrap().waiting, 3);
            drop(guard);
            wait_for("the last one's way to the front", || {
                positions.lock().contains(&(tickets[2], 1))
            });
            assert!(
                positions.lock().contains(&(tickets[2], 2)),
                "{}",
                backend.name
            );
        });
    }
}

/// After a few seconds a waiter says that it is there, and takes that back when it
/// is granted the lock.
#[test]
fn who_waits_for_long_is_listed_and_whoever_left_is_too() {
    for backend in backends() {
        let lock = unique("listed");
        let (client, joins) = announcing(Arc::clone(&backend.store));
        let guard = client.acquire(&lock).unwrap();
        let waiters = || client.inspect(&lock).unwrap().unwrap().waiters;
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.acquire(&lock).unwrap());
            let first = joins.recv_timeout(DEADLINE).unwrap();
            let hasty = client.acquire_timeout(&lock, Duration::from_millis(500));
            assert!(matches!(hasty, Err(Error::AcquireTimeout { .. })));
            let second = joins.recv_timeout(DEADLINE).unwrap();
            wait_for("the announcement", || waiters().len() == 2);
            let rows: Vec<_> = waiters()
                .iter()
                .map(|waiter| (waiter.ticket.get(), waiter.left, waiter.expired))
                .collect();
            assert_eq!(rows, [(first, false, false), (second, true, false)]);
            drop(guard);
            let guard = waiting.join().unwrap();
            let name = LockName::new(&lock).unwrap();
            let own = guard.fencing_token().get();
            wait_for("the row's end", || {
                let ticket = dynamodb_fifo_lock::Ticket::new(own);
                let rows = backend.store.look(&name, ticket, ticket, 1, WITHIN);
                rows.unwrap().is_empty()
            });
        });
    }
}
