//! What sharing costs, counted at the HTTP layer; and what it shows to a transaction.

use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::Consistency;
use dynamodb_fifo_lock::{AcquireOptions, LockClient, LockName, LockStore};
use serde_json::json;

use super::{announcing, read, reading};
use crate::common::proxy::{Fault, Proxy};
use crate::common::{DEADLINE, Table, call, quick, store_at, tables, unique, wait_for};

/// A client whose requests the proxy counts.
fn counted(table: &Table) -> (Proxy, LockClient) {
    let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
    let client = LockClient::builder()
        .lease(Duration::from_secs(3_600))
        .acquire_timeout(DEADLINE)
        .build(store_at(&proxy.endpoint, &table.table))
        .unwrap();
    (proxy, client)
}

#[test]
fn an_uncontended_share_and_its_end_are_two_writes_and_no_read() {
    for table in tables() {
        let (proxy, client) = counted(&table);
        let (other, _) = announcing(table.store());
        let lock = unique("two");
        // The lock's very first share, one of a lock that is known, and one beside
        // somebody else's.
        let mut beside = None;
        for _ in 0..3 {
            let guard = client.acquire_with(&lock, reading()).unwrap();
            assert_eq!(proxy.take_operations(), ["UpdateItem"], "{}", table.name);
            guard.release().unwrap();
            assert_eq!(proxy.take_operations(), ["UpdateItem"], "{}", table.name);
            beside.get_or_insert_with(|| read(&other, &lock));
        }
        let permit = || AcquireOptions::new().permits(2);
        drop(client.acquire_with(&lock, permit()).unwrap());
        assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
    }
}

#[test]
fn a_try_is_one_request_and_two_if_there_is_no_room() {
    for table in tables() {
        let (proxy, client) = counted(&table);
        let lock = unique("try");
        let permit = || AcquireOptions::new().permits(1);
        let guard = client.try_acquire_with(&lock, permit()).unwrap().unwrap();
        assert_eq!(proxy.take_operations(), ["UpdateItem"], "{}", table.name);
        // All permits are out; and who wants it alone finds somebody there.
        for options in [permit(), AcquireOptions::new()] {
            assert!(client.try_acquire_with(&lock, options).unwrap().is_none());
            assert_eq!(proxy.take_operations(), ["UpdateItem", "GetItem"]);
        }
        drop(guard);
        let guard = client.try_acquire(&lock).unwrap().unwrap();
        proxy.take_operations();
        assert!(client.try_acquire_with(&lock, reading()).unwrap().is_none());
        assert_eq!(proxy.take_operations(), ["UpdateItem", "GetItem"]);
        drop(guard);
    }
}

/// How many writes a client makes from its asking to its end, if it asks while another
/// one is in the way.
fn writes_after_a_wait(table: &Table, in_the_way: AcquireOptions, asked: AcquireOptions) -> usize {
    let (proxy, client) = counted(table);
    let (other, _) = announcing(table.store());
    let lock = unique("wait");
    let guard = other.acquire_with(&lock, in_the_way).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.acquire_with(&lock, asked).unwrap());
        wait_for("the wait", || {
            let status = other.inspect(&lock).unwrap().unwrap();
            match guard.is_shared() {
                // Who waits for room has claimed its turn.
                true => status.holder.is_some(),
                false => status.waiting > 0,
            }
        });
        guard.release().unwrap();
        waiting.join().unwrap().release().unwrap();
    });
    proxy.take_cost().writes
}

#[test]
fn after_a_wait_a_share_is_three_writes_and_being_alone_after_readers_four() {
    // A client that has not met others at this lock tries first.
    const TRY: usize = 1;
    // Nor does it know that nobody waits for the lock that others share.
    const BEHIND: usize = 1;
    for table in tables() {
        let alone = AcquireOptions::new;
        // Enqueue, share, unshare.
        let writes = writes_after_a_wait(&table, alone(), reading());
        assert_eq!(writes, TRY + 3, "{}: a reader after a writer", table.name);
        // Enqueue, a claim that keeps the turn, a claim that begins the lease, release.
        let writes = writes_after_a_wait(&table, reading(), alone());
        assert_eq!(
            writes,
            TRY + BEHIND + 4,
            "{}: a writer after a reader",
            table.name
        );
        // Enqueue, a claim that keeps the turn, share, unshare.
        let permit = || AcquireOptions::new().permits(1);
        let writes = writes_after_a_wait(&table, permit(), permit());
        assert_eq!(
            writes,
            TRY + BEHIND + 4,
            "{}: a permit after another",
            table.name
        );
    }
}

/// Eight clients take turns at four permits and hold each for 20 ms.
#[test]
fn eight_clients_at_four_permits_pay_no_more_than_four_writes_a_grant() {
    const EACH: usize = 12;
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let lock = unique("crowd");
        thread::scope(|scope| {
            for _ in 0..8 {
                let store = store_at(&proxy.endpoint, &table.table);
                let client = LockClient::builder()
                    .acquire_timeout(DEADLINE)
                    .build(store)
                    .unwrap();
                let lock = &lock;
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let permit = AcquireOptions::new().permits(4);
                        let guard = client.acquire_with(lock, permit).unwrap();
                        thread::sleep(Duration::from_millis(20));
                        guard.release().unwrap();
                    }
                });
            }
        });
        let cost = proxy.take_cost();
        let grants = (8 * EACH) as f64;
        let (writes, units) = (cost.writes as f64 / grants, cost.reads / grants);
        println!(
            "{}: {writes:.1} writes and {units:.1} read units",
            table.name
        );
        assert!(writes <= 4.0, "{}: {writes} writes a grant", table.name);
    }
}

#[test]
fn a_share_is_renewed_by_one_write_a_heartbeat() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let client = quick()
            .heartbeat_interval(Duration::from_millis(50))
            .build(store_at(&proxy.endpoint, &table.table))
            .unwrap();
        let (store, name) = (table.store(), LockName::new(&unique("beats")).unwrap());
        let beats = || {
            let record = store.read(&name, Consistency::Strong, DEADLINE).unwrap();
            let sharer = record.unwrap().sharers.into_values().next();
            sharer.unwrap().beats
        };
        let guard = read(&client, name.as_str());
        wait_for("signs of life", || beats() >= 4);
        let before = beats();
        let operations = proxy.take_operations();
        let after = beats();
        // The first one began the share. One may have been on its way.
        let renewals = operations.len() as u64 - 1;
        assert!(
            (before..=after + 1).contains(&renewals),
            "{before} {renewals} {after}"
        );
        assert!(operations.iter().all(|name| name == "UpdateItem"));
        guard.release().unwrap();
    }
}

/// Every write to a row costs a unit for each kilobyte of it.
#[test]
fn seven_who_share_fit_into_one_write_unit_and_eight_into_each_of_the_next() {
    for table in tables() {
        let client = quick()
            .lease(Duration::from_secs(20))
            .owner("ip-10-0-12-34/123456")
            .build(table.store())
            .unwrap();
        let lock = unique("units");
        let mut guards = Vec::new();
        for (sharing, units) in [(1, 1.0), (7, 1.0), (15, 2.0), (23, 3.0)] {
            guards.resize_with(sharing, || read(&client, &lock));
            let put = json!({
                "TableName": table.table, "Item": table.get(&lock),
                "ReturnConsumedCapacity": "TOTAL",
            });
            let answer = call(&table.endpoint, "PutItem", &put);
            let capacity = &answer["ConsumedCapacity"]["CapacityUnits"];
            assert_eq!(capacity, &json!(units), "{}: {sharing}", table.name);
        }
    }
}

/// The condition of a transaction names the turn, which whoever shares has passed on.
#[test]
fn a_share_has_no_condition_for_a_transaction() {
    for table in tables() {
        let (client, _) = announcing(table.store());
        let lock = unique("condition");
        assert!(read(&client, &lock).condition_check().is_none());
        let permit = AcquireOptions::new().permits(1).timeout(DEADLINE);
        let guard = client.acquire_with(&lock, permit).unwrap();
        assert!(guard.condition_check().is_none());
        drop(guard);
        let guard = client.acquire(&lock).unwrap();
        assert!(guard.condition_check().is_some(), "{}", table.name);
    }
}
