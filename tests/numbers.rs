//! What a client makes of a record whose numbers cannot go on.

mod common;

use dynamodb_fifo_lock::Error;
use serde_json::json;

use common::{announcing, quick, tables, unique};

const LAST: u64 = (1 << 53) - 1;

/// A record that was restored from a backup would give out the same tokens again.
#[test]
fn a_client_that_has_seen_higher_tokens_refuses_a_record_that_went_back() {
    for table in tables() {
        let lock = unique("restored");
        let client = quick().build(table.store()).unwrap();
        client.acquire(&lock).unwrap().release().unwrap();
        let backup = table.get(&lock);
        let mut token = None;
        for _ in 0..4 {
            let guard = client.acquire(&lock).unwrap();
            token = Some(guard.fencing_token());
            guard.release().unwrap();
        }
        let token = token.unwrap();
        table.put(&lock, backup.clone());
        for attempt in ["wait", "try"] {
            let outcome = match attempt {
                "wait" => client.acquire(&lock).map(drop),
                _ => client.try_acquire(&lock).map(drop),
            };
            let error = outcome.unwrap_err();
            match &error {
                Error::WentBack { seen, found, .. } => assert!(*seen == token && found < seen),
                other => panic!("{attempt}: {other}"),
            }
            assert!(
                error.to_string().contains("delete the lock's row"),
                "{error}"
            );
            let row = table.get(&lock);
            assert_eq!(row["issued"], row["served"], "{attempt}: it was given back");
        }
        // As the error says.
        table.delete(&lock);
        let guard = client.acquire(&lock).unwrap();
        assert!(guard.fencing_token() > token);
    }
}

#[test]
fn a_waiter_refuses_a_record_that_went_back_while_it_waited() {
    for table in tables() {
        let lock = unique("restored");
        let (client, enqueued) = announcing(quick(), table.store());
        let other = quick().build(table.store()).unwrap();
        other.acquire(&lock).unwrap().release().unwrap();
        let backup = table.get(&lock);
        let guard = other.acquire(&lock).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| client.acquire(&lock).map(drop));
            enqueued.recv().unwrap();
            table.put(&lock, backup);
            assert!(matches!(
                waiting.join().unwrap(),
                Err(Error::WentBack { .. })
            ));
        });
        drop(guard);
    }
}

#[test]
fn the_last_ticket_is_granted_and_then_the_lock_says_that_it_is_at_its_end() {
    for table in tables() {
        let lock = unique("last");
        table.put(
            &lock,
            json!({
                "schema": { "N": "2" }, "issued": { "N": (LAST - 1).to_string() },
                "served": { "N": (LAST - 1).to_string() }, "revision": { "N": "9" },
                "grace_ms": { "N": "1000" }, "moved_at": { "N": "7" }, "mark": { "N": "50" },
            }),
        );
        let client = quick().build(table.store()).unwrap();
        let guard = client.acquire(&lock).unwrap();
        assert_eq!(guard.fencing_token().get(), LAST);
        // Nobody can be told that it is the next.
        assert!(matches!(
            quick().build(table.store()).unwrap().acquire(&lock),
            Err(Error::TicketsUsedUp { .. })
        ));
        guard.release().unwrap();
        for outcome in [
            client.acquire(&lock).map(drop),
            client.try_acquire(&lock).map(drop),
        ] {
            assert!(
                matches!(outcome, Err(Error::TicketsUsedUp { .. })),
                "{outcome:?}"
            );
        }
    }
}
