//! Those who share and die, are slow, are cut off or thrown out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::{
    AcquireOptions, Error, Event, LockClient, LockGuard, LockName, LockStore, LossReason,
    MemoryStore,
};
use parking_lot::Mutex;
use serde_json::json;

use super::{announcing, read, reading, sharers};
use crate::common::{DEADLINE, backends, call, quick, tables, unique, wait_for};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};

const LEASE: Duration = Duration::from_millis(800);

fn is_renewal(request: &Request<'_>) -> bool {
    matches!(request, Request::Write(Write::RenewShare { .. }))
}

/// A client that dies when the flag is set: none of its requests gets through.
fn doomed(store: Arc<dyn LockStore>, dead: &Arc<AtomicBool>) -> LockClient {
    let dead = Arc::clone(dead);
    let store = FaultyStore::new(store, move |_, _| match dead.load(Ordering::SeqCst) {
        true => Fate::Lost,
        false => Fate::Fine,
    });
    quick()
        .lease(LEASE)
        .owner("the late reader")
        .build(store)
        .unwrap()
}

#[test]
fn a_dead_reader_delays_a_writer_by_its_lease_and_no_longer() {
    for backend in backends() {
        let lock = unique("dead");
        let dead = Arc::default();
        let stale = read(&doomed(Arc::clone(&backend.store), &dead), &lock);
        let (told, news) = unbounded();
        let (joined, joins) = unbounded();
        let evictions = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&evictions);
        let store = FaultyStore::new(backend.store, move |_, request| {
            let evicts = matches!(request, Request::Write(Write::Evict { .. }));
            counted.fetch_add(u32::from(evicts), Ordering::SeqCst);
            Fate::Fine
        });
        // Its own lease does not matter.
        let heir = quick()
            .lease(Duration::from_secs(3_600))
            .observer(move |event: &Event<'_>| match event {
                Event::Enqueued { .. } => drop(joined.send(())),
                Event::Evicted { owner, .. } => drop(told.send((*owner).to_owned())),
                _ => {}
            })
            .build(store)
            .unwrap();
        dead.store(true, Ordering::SeqCst);
        let died = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| heir.acquire_timeout(&lock, DEADLINE).unwrap());
            joins.recv_timeout(DEADLINE).unwrap();
            let guard = waiting.join().unwrap();
            // Were it granted any earlier, the two would be valid at once.
            assert!(!stale.is_held(), "{}", backend.name);
            assert!(guard.is_held() && guard.fencing_token() > stale.fencing_token());
            assert!(died.elapsed() < LEASE * 12, "{}", backend.name);
            assert_eq!(news.recv_timeout(DEADLINE).unwrap(), "the late reader");
            assert_eq!(evictions.load(Ordering::SeqCst), 1, "{}", backend.name);
            dead.store(false, Ordering::SeqCst);
            let error = stale.release().unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{error}");
            guard.release().unwrap();
        });
    }
}

/// Only as many are thrown out as are in the way, and none that live.
#[test]
fn the_permit_of_the_dead_is_granted_anew_and_those_of_the_living_stay() {
    for backend in backends() {
        let lock = unique("dead-permit");
        let permit = || AcquireOptions::new().permits(2).timeout(DEADLINE);
        let dead = Arc::default();
        let doomed = doomed(Arc::clone(&backend.store), &dead);
        let stale = doomed.acquire_with(&lock, permit()).unwrap();
        let living = quick().lease(LEASE).build(backend.store).unwrap();
        let kept = living.acquire_with(&lock, permit()).unwrap();
        dead.store(true, Ordering::SeqCst);
        let next = living.acquire_with(&lock, permit()).unwrap();
        assert!(!stale.is_held() && kept.is_held() && next.is_held());
        assert_eq!(sharers(&living, &lock), 2, "{}", backend.name);
    }
}

#[test]
fn a_reader_that_renews_is_never_evicted_however_slowly() {
    for backend in backends() {
        let lock = unique("slow");
        let renewals = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&renewals);
        // Each sign of life is late, and every other answer is lost.
        let slow = FaultyStore::new(Arc::clone(&backend.store), move |_, request| {
            if !is_renewal(request) {
                return Fate::Fine;
            }
            thread::sleep(LEASE / 8);
            match counted.fetch_add(1, Ordering::SeqCst) % 2 {
                0 => Fate::AnswerLost,
                _ => Fate::Fine,
            }
        });
        let reader = quick().lease(LEASE).build(slow).unwrap();
        let guard = read(&reader, &lock);
        let claims = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&claims);
        let watched = FaultyStore::new(Arc::clone(&backend.store), move |_, request| {
            let claims = matches!(request, Request::Write(Write::Claim { .. }));
            counted.fetch_add(u32::from(claims), Ordering::SeqCst);
            Fate::Fine
        });
        let writer = quick()
            .lease(LEASE)
            .acquire_timeout(DEADLINE)
            .build(watched)
            .unwrap();
        let began = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| writer.acquire(&lock).unwrap());
            wait_for("ten renewals", || renewals.load(Ordering::SeqCst) >= 10);
            wait_for("two leases", || began.elapsed() > LEASE * 2);
            assert!(!waiting.is_finished(), "{}", backend.name);
            guard.ensure_held().unwrap();
            guard.release().unwrap();
            waiting.join().unwrap().release().unwrap();
            // It keeps its turn by a write each quarter of its lease, and no more often.
            let quarters = (began.elapsed().as_millis() / (LEASE / 4).as_millis()) as u32;
            let claims = claims.load(Ordering::SeqCst);
            assert!(
                (3..=quarters + 2).contains(&claims),
                "{claims} of {quarters}"
            );
        });
    }
}

/// Whether a fault is about this request.
type Meant = fn(&Request<'_>) -> bool;

/// What happens to the first request of a kind.
type Happens = fn() -> Fate;

/// The first of these writes is lost, or its answer, or it is throttled: the lock is
/// shared all the same, once, and nothing is left of it in the end.
#[test]
fn one_failed_write_costs_neither_the_share_nor_a_lease() {
    let writes: [(&str, Meant); 3] = [
        ("try", |request| {
            matches!(request, Request::Write(Write::TryShare { .. }))
        }),
        ("share", |request| {
            matches!(request, Request::Write(Write::Share { .. }))
        }),
        ("unshare", |request| {
            matches!(request, Request::Write(Write::Unshare { .. }))
        }),
    ];
    let fates: [Happens; 4] = [
        || Fate::Lost,
        || Fate::AnswerLost,
        || Fate::Throttled,
        || Fate::Denied,
    ];
    for backend in backends() {
        for (name, is_meant) in writes {
            for fate in fates {
                let lock = unique("once");
                let failed = Arc::new(AtomicBool::new(false));
                let first = Arc::clone(&failed);
                let rough = FaultyStore::new(Arc::clone(&backend.store), move |_, request| {
                    match is_meant(request) && !first.swap(true, Ordering::SeqCst) {
                        true => fate(),
                        false => Fate::Fine,
                    }
                });
                // Longer than anybody waits here.
                let rough = quick()
                    .lease(Duration::from_secs(3_600))
                    .build(rough)
                    .unwrap();
                let (other, _) = announcing(Arc::clone(&backend.store));
                let ahead = other.acquire(&lock).unwrap();
                let token = ahead.fencing_token();
                let guard = thread::scope(|scope| {
                    let options = reading().timeout(DEADLINE);
                    let waiting = scope.spawn(|| rough.acquire_with(&lock, options).unwrap());
                    let waits = || other.inspect(&lock).unwrap().unwrap().waiting > 0;
                    // The try finds a free lock.
                    match name {
                        "try" => {}
                        _ => wait_for("the wait", waits),
                    }
                    drop(ahead);
                    waiting.join().unwrap()
                });
                assert!(guard.is_held() && guard.fencing_token() > token);
                assert_eq!(sharers(&other, &lock), 1, "{}: {name}", backend.name);
                guard.release().unwrap();
                assert!(failed.load(Ordering::SeqCst), "{name} was never sent");
                let next = other.acquire_timeout(&lock, DEADLINE).unwrap();
                assert!(next.fencing_token() > token, "{}: {name}", backend.name);
            }
        }
    }
}

/// A share under a ticket that is not known is given up for one under a ticket that is.
#[test]
fn a_try_whose_answer_was_lost_is_withdrawn_and_begun_anew() {
    let writes = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&writes);
    let store = MemoryStore::new();
    let rough = FaultyStore::new(store.clone(), move |_, request| {
        let Request::Write(write) = request else {
            return Fate::Fine;
        };
        log.lock().push(match write {
            Write::TryShare { .. } => "try",
            Write::Evict { .. } => "end share",
            Write::EnqueueBehind => "enqueue behind",
            Write::Enqueue { .. } => "enqueue",
            Write::Share { .. } => "share",
            _ => "other",
        });
        match write {
            Write::TryShare { .. } => Fate::AnswerLost,
            _ => Fate::Fine,
        }
    });
    let client = quick().build(rough).unwrap();
    let (other, _) = announcing(store);
    let beside = read(&other, "lost");
    let permit = AcquireOptions::new().permits(2).timeout(DEADLINE);
    let guard = client.acquire_with("lost", permit).unwrap();
    assert!(guard.fencing_token() > beside.fencing_token());
    assert_eq!(sharers(&other, "lost"), 2);
    assert_eq!(
        *writes.lock(),
        ["try", "end share", "enqueue behind", "enqueue", "share"]
    );
    drop((guard, beside));
    assert!(other.try_acquire("lost").unwrap().is_some());
}

/// Whoever does not wait, and does not know what became of its one request, has not
/// found the lock busy.
#[test]
fn a_try_whose_fate_is_not_known_is_a_failure_and_leaves_nothing() {
    let fates: [Happens; 2] = [|| Fate::Lost, || Fate::AnswerLost];
    for fate in fates {
        for options in [reading(), AcquireOptions::new()] {
            let store = MemoryStore::new();
            let tries = AtomicU32::new(0);
            let rough = FaultyStore::new(store.clone(), move |_, request| {
                let meant = matches!(
                    request,
                    Request::Write(Write::Try { .. } | Write::TryShare { .. })
                );
                match meant && tries.fetch_add(1, Ordering::SeqCst) == 0 {
                    true => fate(),
                    false => Fate::Fine,
                }
            });
            let client = quick().build(rough).unwrap();
            let (other, _) = announcing(store);
            match client.try_acquire_with("lost", options) {
                // One that holds alone can tell what it was given.
                Ok(Some(guard)) => assert!(!guard.is_shared() && guard.is_held()),
                Err(Error::Store { doing, source, .. }) => {
                    assert!(source.maybe_applied());
                    assert_eq!(doing, "acquire");
                }
                unexpected => panic!("{unexpected:?}"),
            }
            assert!(other.try_acquire("lost").unwrap().is_some());
        }
    }
}

/// One lost heartbeat is no loss, whichever way it was lost.
#[test]
fn one_failed_renewal_of_a_share_is_not_fatal() {
    let fates: [Happens; 4] = [
        || Fate::Lost,
        || Fate::AnswerLost,
        || Fate::Throttled,
        || Fate::Denied,
    ];
    for fate in fates {
        let renewals = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&renewals);
        let store = FaultyStore::new(MemoryStore::new(), move |_, request| {
            let every_other =
                is_renewal(request) && counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            if every_other { fate() } else { Fate::Fine }
        });
        let client = quick().lease(LEASE).build(store).unwrap();
        let guard = read(&client, "flaky");
        wait_for("twelve renewals", || renewals.load(Ordering::SeqCst) >= 12);
        guard.ensure_held().unwrap();
        guard.release().unwrap();
    }
}

#[test]
fn a_share_that_was_ended_is_lost_with_the_next_heartbeat() {
    for backend in backends() {
        let lock = LockName::new(&unique("evicted")).unwrap();
        let client = quick()
            .heartbeat_interval(Duration::from_millis(50))
            .build(Arc::clone(&backend.store))
            .unwrap();
        let guards = [0, 1].map(|_| read(&client, lock.as_str()));
        let store = &backend.store;
        // Somebody goes past the first, as if it had been silent.
        wait_for("the end of the share", || {
            let record = store.read(&lock, Consistency::Strong, DEADLINE).unwrap();
            let record = record.unwrap();
            let sharers = record.sharers.values();
            let first = sharers.min_by_key(|one| one.holder.since_ms).unwrap();
            let evict = Write::Evict {
                id: first.holder.id.clone(),
                beats: first.beats,
            };
            let answer = store.write(&lock, &evict, DEADLINE).unwrap();
            answer.applied().is_some()
        });
        let lost = || guards.iter().filter(|guard| !guard.is_held());
        wait_for("the loss", || lost().count() == 1);
        let guard = lost().next().unwrap();
        assert!(guard.lost().recv_timeout(DEADLINE).is_err());
        assert_superseded(guard.ensure_held());
        assert_eq!(sharers(&client, lock.as_str()), 1, "{}", backend.name);
        let [first, second] = guards.map(LockGuard::release);
        assert!(first.is_ok() != second.is_ok(), "{}", backend.name);
    }
}

fn assert_superseded(checked: Result<(), Error>) {
    let superseded = matches!(
        checked,
        Err(Error::Lost {
            reason: LossReason::Superseded,
            ..
        })
    );
    assert!(superseded, "{checked:?}");
}

#[test]
fn an_operator_who_deletes_a_share_ends_it() {
    for table in tables() {
        let lock = unique("operator");
        let client = quick()
            .heartbeat_interval(Duration::from_millis(50))
            .build(table.store())
            .unwrap();
        let guard = read(&client, &lock);
        let row = table.get(&lock);
        let mut names = row.as_object().unwrap().keys();
        let sharer = names.find(|name| name.starts_with("sharer:")).unwrap();
        let update = json!({
            "TableName": table.table,
            "Key": { "lock": { "S": lock }, "ticket": { "N": "0" } },
            "UpdateExpression": "SET sharers = sharers - :one REMOVE #sharer",
            "ExpressionAttributeNames": { "#sharer": sharer },
            "ExpressionAttributeValues": { ":one": { "N": "1" } },
        });
        call(&table.endpoint, "UpdateItem", &update);
        assert!(
            guard.lost().recv_timeout(DEADLINE).is_err(),
            "{}",
            table.name
        );
        assert_superseded(guard.ensure_held());
        let next = client.try_acquire(&lock).unwrap().unwrap();
        assert!(next.fencing_token() > guard.fencing_token());
        assert_superseded(guard.release());
    }
}
