//! Holding a lock together: readers beside writers, and permits.

mod common;
#[path = "sharing/delay.rs"]
mod delay;
#[path = "sharing/departure.rs"]
mod departure;
#[path = "sharing/faults.rs"]
mod faults;
#[path = "sharing/requests.rs"]
mod requests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::{
    AcquireOptions, Error, FencingToken, LockClient, LockGuard, LockName, LockStore, MemoryStore,
    Ticket,
};
use parking_lot::Mutex;

use common::{DEADLINE, backends, quick, unique, wait_for};

/// A client that says on a channel when it has joined a queue, and that does not wait
/// for longer than a test may.
fn announcing(store: impl LockStore + 'static) -> (LockClient, Receiver<u64>) {
    let patient = quick()
        .lease(Duration::from_secs(20))
        .acquire_timeout(DEADLINE);
    common::announcing(patient, store)
}

fn reading() -> AcquireOptions {
    AcquireOptions::new().shared()
}

/// Shares a lock that has room, also if this thread shares it already.
fn read(client: &LockClient, lock: &str) -> LockGuard {
    let guard = client.try_acquire_with(lock, reading()).unwrap();
    guard.expect("there is room")
}

/// How many share the lock.
fn sharers(client: &LockClient, lock: &str) -> usize {
    client.inspect(lock).unwrap().unwrap().sharers.len()
}

#[test]
fn readers_hold_together_and_keep_a_writer_out() {
    for backend in backends() {
        let lock = unique("together");
        let clients = [0, 1].map(|_| announcing(Arc::clone(&backend.store)).0);
        let mut guards: Vec<LockGuard> = Vec::new();
        for client in clients.iter().cycle().take(4) {
            let guard = read(client, &lock);
            assert!(guard.is_shared());
            let last = guards.last().map(LockGuard::fencing_token);
            assert!(last < Some(guard.fencing_token()), "{}", backend.name);
            guards.push(guard);
        }
        assert!(guards.iter().all(LockGuard::is_held), "{}", backend.name);
        let last = guards.last().unwrap().fencing_token();
        for client in &clients {
            assert!(client.try_acquire(&lock).unwrap().is_none());
        }
        for guard in guards {
            assert!(clients[0].try_acquire(&lock).unwrap().is_none());
            guard.release().unwrap();
        }
        let writer = clients[0].try_acquire(&lock).unwrap().unwrap();
        assert!(!writer.is_shared() && writer.fencing_token() > last);
        let none = clients[1].try_acquire_with(&lock, reading()).unwrap();
        assert!(none.is_none(), "{}: a reader beside a writer", backend.name);
    }
}

#[test]
fn a_writer_waits_for_all_readers_and_later_readers_wait_behind_it() {
    for backend in backends() {
        let lock = unique("behind");
        let (client, joins) = announcing(Arc::clone(&backend.store));
        let (other, other_joins) = announcing(Arc::clone(&backend.store));
        let readers = [&client, &other, &client].map(|client| read(client, &lock));
        let earlier = readers[2].fencing_token();
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = client.acquire(&lock).unwrap();
                assert_eq!(sharers(&client, &lock), 0, "{}", backend.name);
                order.lock().push(("writer", guard.fencing_token()));
            });
            joins.recv_timeout(DEADLINE).unwrap();
            for (client, joins) in [(&client, &joins), (&other, &other_joins)] {
                scope.spawn(|| {
                    let guard = client.acquire_with(&lock, reading()).unwrap();
                    order.lock().push(("reader", guard.fencing_token()));
                });
                joins.recv_timeout(DEADLINE).unwrap();
                // Who does not wait does not overtake either.
                let none = client.try_acquire_with(&lock, reading()).unwrap();
                assert!(none.is_none(), "{}", backend.name);
            }
            let mut left = readers.len();
            for reader in readers {
                assert!(reader.is_held() && order.lock().is_empty());
                assert_eq!(sharers(&client, &lock), left);
                left -= 1;
                reader.release().unwrap();
            }
        });
        let order = order.into_inner();
        assert_eq!(order.len(), 3);
        assert_eq!(order[0].0, "writer", "{}: {order:?}", backend.name);
        let tokens: HashSet<_> = order.iter().map(|(_, token)| *token).collect();
        assert!(tokens.len() == 3 && order[0].1 > earlier, "{order:?}");
        assert!(order.iter().all(|(_, token)| *token >= order[0].1));
    }
}

/// Between two turns nobody holds, and somebody is next all the same.
#[test]
fn a_reader_does_not_overtake_a_turn_that_is_not_claimed() {
    for backend in backends() {
        let name = LockName::new(&unique("unclaimed")).unwrap();
        let (client, _) = announcing(Arc::clone(&backend.store));
        let reader = read(&client, name.as_str());
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let join = Write::Enqueue {
            start: Ticket::new(1),
            grace: Duration::from_secs(1),
            wall_ms: u64::try_from(since_1970.as_millis()).unwrap(),
        };
        let joined = backend.store.write(&name, &join, DEADLINE).unwrap();
        assert!(joined.applied().unwrap().holder.is_none());
        let none = client.try_acquire_with(name.as_str(), reading()).unwrap();
        assert!(none.is_none(), "{}: overtaken", backend.name);
        assert!(reader.is_held());
    }
}

/// Hazard of readers' preference: as long as any reader is there the next one joins.
#[test]
fn a_stream_of_readers_does_not_starve_a_writer() {
    for backend in backends() {
        let lock = unique("stream");
        let (writer, joins) = announcing(Arc::clone(&backend.store));
        let (pinning, _) = announcing(Arc::clone(&backend.store));
        let (written, inside) = (AtomicBool::new(false), AtomicUsize::new(0));
        let grants = Mutex::new(Vec::new());
        let token = thread::scope(|scope| {
            for _ in 0..3 {
                let (client, _) = announcing(Arc::clone(&backend.store));
                let (lock, grants, written, inside) = (&lock, &grants, &written, &inside);
                scope.spawn(move || {
                    while !written.load(Ordering::SeqCst) {
                        let guard = client.acquire_with(lock, reading()).unwrap();
                        grants.lock().push(guard.fencing_token());
                        inside.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(15));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            wait_for("the stream", || grants.lock().len() > 20);
            // However the stream runs, somebody reads when the writer comes.
            let pin = pinning.acquire_with(&lock, reading()).unwrap();
            let waiting = scope.spawn(|| {
                let granted = writer.acquire(&lock);
                let beside = inside.load(Ordering::SeqCst);
                written.store(true, Ordering::SeqCst);
                let guard = granted.unwrap();
                assert_eq!(beside, 0, "{}: readers beside the writer", backend.name);
                let later = grants.lock().iter().any(|one| *one > guard.fencing_token());
                assert!(!later, "{}: a reader overtook the writer", backend.name);
                guard.fencing_token().get()
            });
            let ticket = joins.recv_timeout(DEADLINE).unwrap();
            drop(pin);
            (ticket, waiting.join().unwrap())
        });
        assert_eq!(token.0, token.1, "{}: passed over", backend.name);
    }
}

#[test]
fn permits_are_granted_in_the_order_of_asking() {
    for backend in backends() {
        let lock = unique("permits");
        let crowd = [0, 1, 2].map(|_| announcing(Arc::clone(&backend.store)));
        let client = &crowd[0].0;
        let permit = || AcquireOptions::new().permits(2);
        let kept = client.acquire_with(&lock, permit()).unwrap();
        let passed_on = crowd[1].0.acquire_with(&lock, permit()).unwrap();
        let none = client.try_acquire_with(&lock, permit()).unwrap();
        assert!(none.is_none(), "{}: a third permit", backend.name);
        let (mut asked, granted) = (Vec::new(), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for (client, joins) in crowd.iter().cycle().take(6) {
                let (lock, granted) = (&lock, &granted);
                scope.spawn(move || {
                    let guard = client.acquire_with(lock, permit()).unwrap();
                    granted.lock().push(guard.fencing_token().get());
                });
                asked.push(joins.recv_timeout(DEADLINE).unwrap());
            }
            assert!(granted.lock().is_empty());
            // Only one permit goes round: so there is an order.
            drop(passed_on);
        });
        assert_eq!(granted.into_inner(), asked, "{}", backend.name);
        assert!(kept.is_held());
    }
}

#[test]
fn never_more_permits_are_out_than_there_are() {
    const PERMITS: u32 = 3;
    for backend in backends() {
        let lock = unique("at-once");
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let tokens = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..3 {
                let (client, _) = announcing(Arc::clone(&backend.store));
                for _ in 0..3 {
                    let (client, lock) = (client.clone(), &lock);
                    let (inside, most, tokens) = (&inside, &most, &tokens);
                    scope.spawn(move || {
                        let mut own = Vec::new();
                        for _ in 0..5 {
                            let permit = AcquireOptions::new().permits(PERMITS);
                            let guard = client.acquire_with(lock, permit).unwrap();
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            own.push(guard.fencing_token());
                            thread::sleep(Duration::from_millis(5));
                            inside.fetch_sub(1, Ordering::SeqCst);
                            guard.release().unwrap();
                        }
                        assert!(own.is_sorted(), "{own:?}");
                        tokens.lock().extend(own);
                    });
                }
            }
        });
        let most = most.into_inner();
        assert!(
            (2..=PERMITS as usize).contains(&most),
            "{}: {most} at once",
            backend.name
        );
        assert_each_once(tokens.into_inner(), 45);
    }
}

fn assert_each_once(tokens: Vec<FencingToken>, number: usize) {
    assert_eq!(tokens.len(), number);
    let distinct: HashSet<_> = tokens.into_iter().collect();
    assert_eq!(distinct.len(), number, "a token was given twice");
}

/// Threads of two clients read, write and hold permits, whoever comes first.
#[test]
fn whoever_holds_alone_is_alone() {
    const ALONE: usize = 1_000;
    for backend in backends() {
        let lock = unique("mixed");
        let inside = AtomicUsize::new(0);
        let tokens = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..2 {
                let (client, _) = announcing(Arc::clone(&backend.store));
                for n in 0..4 {
                    let (client, lock) = (client.clone(), &lock);
                    let (inside, tokens) = (&inside, &tokens);
                    scope.spawn(move || {
                        for turn in 0..4 {
                            let (options, weight, most) = match (n + turn) % 4 {
                                0 | 1 => (reading(), 1, 7),
                                2 => (AcquireOptions::new().permits(2), 1, 7),
                                _ => (AcquireOptions::new(), ALONE, 0),
                            };
                            let guard = client.acquire_with(lock, options).unwrap();
                            let others = inside.fetch_add(weight, Ordering::SeqCst);
                            assert!(others <= most, "{others} others beside {weight}");
                            tokens.lock().push(guard.fencing_token());
                            thread::sleep(Duration::from_millis(3));
                            inside.fetch_sub(weight, Ordering::SeqCst);
                        }
                    });
                }
            }
        });
        assert_each_once(tokens.into_inner(), 32);
    }
}

/// It is told only if it really would: what it holds leaves no room.
#[test]
fn a_thread_that_would_wait_for_itself_is_told_in_every_mode() {
    let client = quick().build(MemoryStore::new()).unwrap();
    let permit = |permits| AcquireOptions::new().permits(permits);
    let alone = AcquireOptions::new;
    for (held, asked, waits_for_itself) in [
        (vec![alone()], alone(), true),
        (vec![alone()], reading(), true),
        (vec![alone()], permit(5), true),
        (vec![reading()], alone(), true),
        (vec![reading()], reading(), false),
        (vec![reading(); 3], reading(), false),
        (vec![permit(2)], permit(2), false),
        (vec![permit(2); 2], permit(2), true),
        (vec![permit(3); 2], permit(2), true),
        (vec![permit(2); 2], permit(3), false),
        (vec![permit(1)], permit(1), true),
    ] {
        let held: Vec<_> = held
            .into_iter()
            .map(|options| {
                client
                    .acquire_with("self", options.timeout(DEADLINE))
                    .unwrap()
            })
            .collect();
        let outcome = client.acquire_with("self", asked.clone());
        match &outcome {
            Err(Error::WouldDeadlock { .. }) => assert!(waits_for_itself, "{asked:?}"),
            Ok(_) => assert!(!waits_for_itself, "{asked:?}"),
            Err(error) => panic!("{asked:?}: {error}"),
        }
        drop(outcome);
        // With a time-out it may wait for itself; and another thread may for it.
        if waits_for_itself {
            let timed = asked.clone().timeout(Duration::from_millis(50));
            let timed = client.acquire_with("self", timed);
            assert!(matches!(timed, Err(Error::AcquireTimeout { .. })));
        }
        drop(held);
        // What was held is no reason.
        drop(client.acquire_with("self", asked).unwrap());
    }
    let guards = [(); 3].map(|()| read(&client, "self"));
    assert_eq!(sharers(&client, "self"), guards.len());
    let report = client.close();
    assert_eq!(report.held.len(), guards.len());
}

#[test]
fn those_who_share_are_shown() {
    for backend in backends() {
        let lock = unique("shown");
        let client = quick()
            .owner("reader 7")
            .build(Arc::clone(&backend.store))
            .unwrap();
        let (other, joins) = announcing(Arc::clone(&backend.store));
        let first = client
            .acquire_with(&lock, reading().data("report"))
            .unwrap();
        let second = read(&other, &lock);
        let status = || client.inspect(&lock).unwrap().unwrap();
        let shown = status();
        assert!(shown.holder.is_none() && shown.turn.is_none());
        assert_eq!((shown.sharers.len(), shown.waiting), (2, 0));
        let sharer = shown.sharers.iter().find(|one| one.owner == "reader 7");
        let sharer = sharer.unwrap();
        assert_eq!(sharer.data.as_deref(), Some("report"), "{}", backend.name);
        assert_eq!(sharer.lease, Duration::from_secs(3));
        assert!(sharer.since <= sharer.renewed_at);
        // Who waits for them has the turn, and says so.
        thread::scope(|scope| {
            let writer = scope.spawn(|| other.acquire(&lock).unwrap());
            let ticket = joins.recv_timeout(DEADLINE).unwrap();
            wait_for("the claim", || status().holder.is_some());
            let shown = status();
            assert_eq!(shown.holder.unwrap().token.get(), ticket);
            assert_eq!((shown.sharers.len(), shown.waiting), (2, 0));
            drop((first, second));
            let guard = writer.join().unwrap();
            let shown = status();
            assert!(shown.sharers.is_empty() && shown.holder.is_some());
            guard.release().unwrap();
        });
    }
}
