//! What is wrong about those who share a lock.

use std::time::Duration;

use dynamodb_fifo_lock::{AcquireOptions, Error, LockClient, MemoryStore};
use serde_json::{Value, json};

use super::{assert_malformed, client, free};
use crate::common::{tables, unique};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore};

/// The record of a lock that two share.
fn shared() -> Value {
    let mut record = free();
    record["sharers"] = json!({ "N": "2" });
    for name in ["sharer:one", "sharer:two"] {
        record[name] = json!({ "M": {
            "beats": { "N": "3" }, "lease_ms": { "N": "3000" }, "owner": { "S": "else" },
            "since": { "N": "1" }, "renewed_at": { "N": "1" },
        } });
    }
    record
}

fn with(name: &str, value: Value) -> Value {
    let mut record = shared();
    record[name] = value;
    record
}

fn with_part(name: &str, value: Option<Value>) -> Value {
    let mut record = shared();
    let parts = record["sharer:one"]["M"].as_object_mut().unwrap();
    match value {
        Some(value) => parts.insert(name.into(), value),
        None => parts.remove(name),
    };
    record
}

/// Counts that are none. The server sees that for itself.
fn miscounted() -> Vec<(Value, String)> {
    let counts = [
        json!({ "S": "2" }),
        json!({ "N": "-1" }),
        json!({ "M": {} }),
    ];
    let wrong = |count| (with("sharers", count), "sharers".into());
    counts.map(wrong).into()
}

/// What a condition cannot see, because it does not name it.
fn unseen() -> Vec<(Value, String)> {
    let n = |text: &str| json!({ "N": text });
    let s = |text: &str| json!({ "S": text });
    let mut all = vec![
        (with("sharers", n("1")), "sharers".into()),
        (with("sharers", n("3")), "sharers".into()),
        (with("sharers", n("1.5")), "sharers".into()),
        (with("sharer:one", s("me")), "sharer:one".into()),
        (with("sharer:one", n("7")), "sharer:one".into()),
    ];
    let mut uncounted = shared();
    uncounted.as_object_mut().unwrap().remove("sharers");
    all.push((uncounted, "sharers".into()));
    for part in ["beats", "lease_ms", "since", "renewed_at"] {
        for value in [None, Some(s("50")), Some(n("-1")), Some(n("1.5"))] {
            all.push((with_part(part, value), format!("sharer:one.{part}")));
        }
    }
    for value in [None, Some(n("50"))] {
        all.push((with_part("owner", value), "sharer:one.owner".into()));
    }
    for (part, value) in [
        ("lease_ms", n("0")),
        ("data", n("50")),
        ("color", s("red")),
        // It is part of the attribute's name.
        ("id", s("one")),
        ("sharer:two", s("me")),
    ] {
        all.push((with_part(part, Some(value)), format!("sharer:one.{part}")));
    }
    all
}

/// Everything that asks for a lock, and what it is told.
fn refusals(client: &LockClient, lock: &str) -> [Error; 4] {
    let shared = || AcquireOptions::new().shared();
    [
        client.try_acquire(lock).unwrap_err(),
        client.try_acquire_with(lock, shared()).unwrap_err(),
        client.acquire(lock).unwrap_err(),
        client.acquire_with(lock, shared()).unwrap_err(),
    ]
}

#[test]
fn a_wrong_count_of_sharers_is_named_and_left_alone() {
    for table in tables() {
        let client = client(&table);
        for (record, attribute) in miscounted() {
            let lock = unique("miscounted");
            table.put(&lock, record.clone());
            let before = table.get(&lock);
            for error in refusals(&client, &lock) {
                assert_malformed(error, &lock, &attribute, &record);
                assert_eq!(table.get(&lock), before, "{}: somebody wrote", table.name);
            }
        }
    }
}

/// Tickets may be drawn meanwhile, and are given back as far as they are known.
#[test]
fn a_malformed_sharer_is_named_and_never_overwritten() {
    for table in tables() {
        let client = client(&table);
        for (record, attribute) in unseen() {
            let lock = unique("sharer");
            table.put(&lock, record.clone());
            let before = table.get(&lock);
            for error in refusals(&client, &lock) {
                assert_malformed(error, &lock, &attribute, &record);
            }
            let after = table.get(&lock);
            assert!(after.get("holder").is_none(), "{}: {after}", table.name);
            let about_sharers = |row: &Value| {
                let mut row = row.as_object().unwrap().clone();
                row.retain(|name, _| name.starts_with("sharer"));
                // None that are counted is a count of zero.
                row.entry("sharers").or_insert_with(|| json!({ "N": "0" }));
                row
            };
            // Whoever tried to share, and could not read who else does, has left.
            assert_eq!(about_sharers(&after), about_sharers(&before), "{attribute}");
        }
    }
}

/// A part of who shares is no more at home in a holder than any other.
#[test]
fn a_holder_has_no_sharers_inside() {
    for table in tables() {
        let mut record = super::held();
        record["holder"]["M"]["sharer:one"] = json!({ "S": "me" });
        let lock = unique("inside");
        table.put(&lock, record.clone());
        let before = table.get(&lock);
        for error in refusals(&client(&table), &lock) {
            assert_malformed(error, &lock, "holder.sharer:one", &record);
        }
        assert_eq!(table.get(&lock), before, "{}", table.name);
    }
}

#[test]
fn too_many_permits_and_none_are_refused_before_any_request() {
    let store = FaultyStore::new(MemoryStore::new(), |_, _| -> Fate {
        panic!("a request was sent")
    });
    let client = LockClient::builder().build(store).unwrap();
    for permits in [0, 101, u32::MAX] {
        let options = || AcquireOptions::new().permits(permits);
        for error in [
            client.acquire_with("x", options()).unwrap_err(),
            client.try_acquire_with("x", options()).unwrap_err(),
        ] {
            let named = matches!(
                error,
                Error::InvalidSetting {
                    setting: "permits",
                    ..
                }
            );
            assert!(named && error.to_string().contains("1 to 100"), "{error}");
        }
    }
}

#[test]
fn a_lock_delay_has_its_limits() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let build = |lease: Duration, delay: Duration| {
        let builder = LockClient::builder().lease(lease).lock_delay(delay);
        builder.build(MemoryStore::new())
    };
    for (lease, delay) in [(HOUR, HOUR), (23 * HOUR, HOUR), (24 * HOUR, Duration::ZERO)] {
        assert!(build(lease, delay).is_ok(), "{lease:?}, {delay:?}");
    }
    let over = Duration::from_millis(1);
    for (lease, delay) in [
        (HOUR, HOUR + over),
        (HOUR, Duration::MAX),
        (23 * HOUR + over, HOUR),
        (24 * HOUR, over),
    ] {
        let error = build(lease, delay).unwrap_err();
        let named = matches!(
            error,
            Error::InvalidSetting {
                setting: "lock_delay",
                ..
            }
        );
        assert!(named, "{lease:?}, {delay:?}: {error}");
    }
}
