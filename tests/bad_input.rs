//! Bad input gets a typed error that says what is wrong, and writes nothing.

mod common;
#[path = "bad_input/sharers.rs"]
mod sharers;

use std::time::Duration;

use dynamodb_fifo_lock::record::{TicketRow, TicketState};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore};
use dynamodb_fifo_lock::{
    DynamoDbStore, Error, HolderId, LockClient, LockName, LockStore, MemoryStore, StoreError,
    Ticket,
};
use serde_json::{Value, json};

use common::{Table, embedded_endpoint, quick, tables, test_keys, unique};

/// A free lock's record, as this crate writes it.
fn free() -> Value {
    json!({
        "schema": { "N": "2" }, "issued": { "N": "50" }, "served": { "N": "50" },
        "revision": { "N": "9" }, "grace_ms": { "N": "1000" }, "moved_at": { "N": "7" },
        "mark": { "N": "50" },
    })
}

/// A held lock's record.
fn held() -> Value {
    let mut record = free();
    record["issued"] = json!({ "N": "51" });
    record["holder"] = json!({ "M": {
        "id": { "S": "somebody" }, "lease_ms": { "N": "3000" }, "owner": { "S": "else" },
        "since": { "N": "1" }, "renewed_at": { "N": "1" },
    } });
    record
}

fn with(mut record: Value, path: &str, value: Option<Value>) -> Value {
    let (map, name) = match path.strip_prefix("holder.") {
        Some(name) => (&mut record["holder"]["M"], name),
        None => (&mut record, path),
    };
    let map = map.as_object_mut().unwrap();
    match value {
        Some(value) => map.insert(name.into(), value),
        None => map.remove(name),
    };
    record
}

/// Records that are not ours, and the attribute at fault in each.
fn malformed() -> Vec<(Value, &'static str)> {
    let n = |text: &str| Some(json!({ "N": text }));
    let s = |text: &str| Some(json!({ "S": text }));
    let mut all = Vec::new();
    for attribute in [
        "schema", "issued", "served", "revision", "grace_ms", "moved_at", "mark",
    ] {
        for value in [None, s("50"), n("-1"), n("1.5"), n("1e30")] {
            all.push((with(free(), attribute, value), attribute));
        }
    }
    all.push((with(free(), "served", n("51")), "served"));
    all.push((with(free(), "grace_ms", n("0")), "grace_ms"));
    all.push((with(free(), "holder", s("me")), "holder"));
    all.push((with(held(), "issued", n("50")), "holder"));
    all.push((with(held(), "holder", s("me")), "holder"));
    for attribute in ["lease_ms", "since", "renewed_at"] {
        for value in [None, s("50"), n("-1")] {
            let path = format!("holder.{attribute}");
            all.push((with(held(), &path, value), path.leak()));
        }
    }
    for attribute in ["id", "owner"] {
        for value in [None, n("50")] {
            let path = format!("holder.{attribute}");
            all.push((with(held(), &path, value), path.leak()));
        }
    }
    all.push((with(held(), "holder.lease_ms", n("0")), "holder.lease_ms"));
    all.push((with(held(), "holder.data", n("50")), "holder.data"));
    all.push((with(held(), "holder.color", s("red")), "holder.color"));
    let with_data = with(held(), "holder.data", s("a job"));
    all.push((with(with_data.clone(), "holder.id", None), "holder.id"));
    all.push((with(with_data, "holder.color", s("red")), "holder.color"));
    // A row of somebody else's making.
    all.push((json!({ "color": { "S": "red" } }), "schema"));
    all
}

/// Every fractional number passes DynamoDB's conditions, which know no whole
/// numbers. All else is refused by the condition itself.
fn is_fraction(record: &Value) -> bool {
    record.to_string().contains("1.5")
}

fn assert_malformed(error: Error, lock: &str, attribute: &str, context: &Value) {
    let Error::Store { source, .. } = &error else {
        panic!("{error} for {context}");
    };
    let (found_lock, found) = match source {
        StoreError::Malformed {
            lock, attribute, ..
        }
        | StoreError::UnsupportedSchema {
            lock, attribute, ..
        } => (lock, attribute),
        other => panic!("{other} for {context}"),
    };
    assert_eq!(
        (found_lock.as_str(), found.as_str()),
        (lock, attribute),
        "{context}"
    );
    let text = error.to_string();
    assert!(text.contains(lock) && text.contains(attribute), "{text}");
}

fn client(table: &Table) -> LockClient {
    quick().build(table.store()).unwrap()
}

#[test]
fn a_malformed_record_is_named_and_left_alone() {
    for table in tables() {
        let client = client(&table);
        for (record, attribute) in malformed() {
            let lock = unique("malformed");
            table.put(&lock, record.clone());
            let before = table.get(&lock);
            let error = client.acquire(&lock).unwrap_err();
            assert_malformed(error, &lock, attribute, &record);
            if !is_fraction(&record) {
                assert_eq!(table.get(&lock), before, "{}: acquire wrote", table.name);
            }
            let lock = unique("malformed");
            table.put(&lock, record.clone());
            let before = table.get(&lock);
            let error = client.try_acquire(&lock).unwrap_err();
            assert_malformed(error, &lock, attribute, &record);
            if !is_fraction(&record) {
                assert_eq!(table.get(&lock), before, "{}: try wrote", table.name);
            }
        }
    }
}

#[test]
fn a_record_of_another_version_is_refused_and_left_alone() {
    let versions = [1, 3];
    for table in tables() {
        for (record, version) in [free(), held()].into_iter().zip(versions) {
            let record = with(record, "schema", Some(json!({ "N": version.to_string() })));
            let lock = unique("version");
            table.put(&lock, record.clone());
            let before = table.get(&lock);
            let error = client(&table).acquire(&lock).unwrap_err();
            assert!(
                matches!(
                    &error,
                    Error::Store {
                        source: StoreError::UnsupportedSchema { found, .. },
                        ..
                    } if *found == version
                ),
                "{error}"
            );
            assert_malformed(error, &lock, "schema", &record);
            assert_eq!(table.get(&lock), before, "{}", table.name);
        }
    }
}

/// A condition cannot see attributes that it does not name, so this one shows
/// only in the answer. What was taken is given back, and nothing is lost.
#[test]
fn an_unknown_attribute_is_named_and_survives_and_the_lock_is_not_kept() {
    for table in tables() {
        let record = with(free(), "color", Some(json!({ "S": "red" })));
        let lock = unique("extra");
        table.put(&lock, record.clone());
        for attempt in 0..2 {
            let error = match attempt {
                0 => client(&table).acquire(&lock).unwrap_err(),
                _ => client(&table).try_acquire(&lock).unwrap_err(),
            };
            assert_malformed(error, &lock, "color", &record);
            let after = table.get(&lock);
            assert_eq!(after["color"], json!({ "S": "red" }));
            assert_eq!(after["issued"], after["served"], "it was given back");
            assert!(after.get("holder").is_none());
        }
    }
}

#[test]
fn a_holder_keeps_its_lock_when_somebody_adds_an_attribute() {
    for table in tables() {
        let lock = unique("tagged");
        let client = quick()
            .heartbeat_interval(Duration::from_millis(50))
            .build(table.store())
            .unwrap();
        let guard = client.acquire(&lock).unwrap();
        let mut row = table.get(&lock);
        row["color"] = json!({ "S": "red" });
        table.put(&lock, row.clone());
        let renewed = || table.get(&lock)["revision"] != row["revision"];
        common::wait_for("a renewal", renewed);
        assert!(guard.is_held());
        guard.release().unwrap();
        assert_eq!(table.get(&lock)["color"], json!({ "S": "red" }));
    }
}

/// The row of a waiter, as this crate writes it.
fn waiting() -> Value {
    json!({
        "schema": { "N": "2" }, "id": { "S": "somebody" }, "owner": { "S": "else" },
        "state": { "S": "waiting" }, "since": { "N": "1" }, "expires_at": { "N": "4000000000" },
    })
}

/// Rows that are not ours, and the attribute at fault in each.
fn malformed_rows() -> Vec<(Value, &'static str)> {
    let n = |text: &str| Some(json!({ "N": text }));
    let s = |text: &str| Some(json!({ "S": text }));
    let mut all = Vec::new();
    for attribute in ["schema", "since", "expires_at"] {
        for value in [None, s("50"), n("-1"), n("1.5")] {
            all.push((with(waiting(), attribute, value), attribute));
        }
    }
    for attribute in ["id", "owner", "state"] {
        for value in [None, n("50")] {
            all.push((with(waiting(), attribute, value), attribute));
        }
    }
    all.push((with(waiting(), "state", s("asleep")), "state"));
    all.push((with(waiting(), "schema", n("3")), "schema"));
    all.push((json!({ "color": { "S": "red" } }), "schema"));
    all
}

#[test]
fn a_malformed_row_is_named_and_left_alone() {
    let within = Duration::from_secs(10);
    for table in tables() {
        let store = table.store();
        for (item, attribute) in malformed_rows() {
            let lock = LockName::new(&unique("row")).unwrap();
            table.put_row(lock.as_str(), 7, item);
            let before = table.get_row(lock.as_str(), 7);
            let error = store
                .look(&lock, Ticket::new(1), Ticket::MAX, 10, within)
                .unwrap_err();
            match &error {
                StoreError::Malformed {
                    lock: named,
                    attribute: at_fault,
                    problem,
                } => {
                    assert_eq!(
                        (named.as_str(), at_fault.as_str()),
                        (lock.as_str(), attribute)
                    );
                    assert!(problem.contains("ticket 7"), "{problem}");
                }
                StoreError::UnsupportedSchema { lock: named, .. } => {
                    assert_eq!((named.as_str(), "schema"), (lock.as_str(), attribute));
                }
                other => panic!("{other} for {before}"),
            }
            let row = TicketRow {
                ticket: Ticket::new(7),
                id: HolderId::new("me"),
                owner: "me".into(),
                state: TicketState::Waiting,
                since_ms: 1,
                expires_at_s: 4_000_000_000,
            };
            assert!(!store.announce(&lock, &row, within).unwrap());
            store.dequeue(&lock, row.ticket, &row.id, within).unwrap();
            assert_eq!(table.get_row(lock.as_str(), 7), before, "{}", table.name);
        }
    }
}

/// Rows are hints: what we do not know in one of ours can do no harm.
#[test]
fn an_unknown_attribute_of_a_row_is_tolerated_and_kept() {
    let within = Duration::from_secs(10);
    for table in tables() {
        let store = table.store();
        let lock = LockName::new(&unique("hint")).unwrap();
        let item = with(waiting(), "color", Some(json!({ "S": "red" })));
        table.put_row(lock.as_str(), 7, item);
        let look = || store.look(&lock, Ticket::new(1), Ticket::MAX, 10, within);
        let row = look().unwrap().remove(0);
        assert_eq!(row.id.as_str(), "somebody");
        assert!(store.announce(&lock, &row, within).unwrap());
        assert_eq!(look().unwrap(), [row]);
        let kept = table.get_row(lock.as_str(), 7);
        assert_eq!(kept["color"], json!({ "S": "red" }), "{}", table.name);
    }
}

#[test]
fn bad_names_are_refused_before_any_request() {
    let store = FaultyStore::new(MemoryStore::new(), |_, _| -> Fate {
        panic!("a request was sent")
    });
    let client = LockClient::builder().build(store).unwrap();
    let long = "x".repeat(2049);
    for name in ["", long.as_str(), "two\nlines", "nul\0", "\u{1b}[31m"] {
        let results = [
            client.acquire(name).map(drop),
            client.try_acquire(name).map(drop),
            client
                .acquire_timeout(name, Duration::from_secs(1))
                .map(drop),
            client.with_lock(name, |_| Ok(())),
            client.inspect(name).map(drop),
        ];
        for result in results {
            assert!(matches!(result, Err(Error::InvalidName(_))), "{name:?}");
        }
    }
}

#[test]
fn bad_time_outs_are_refused_before_any_request() {
    let store = FaultyStore::new(MemoryStore::new(), |_, _| -> Fate {
        panic!("a request was sent")
    });
    let client = LockClient::builder().build(store).unwrap();
    for timeout in [Duration::ZERO, Duration::MAX] {
        let error = client.acquire_timeout("x", timeout).unwrap_err();
        assert!(
            matches!(
                error,
                Error::InvalidSetting {
                    setting: "acquire_timeout",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_store_that_makes_no_sense_is_refused_by_setting() {
    let refused = |builder: dynamodb_fifo_lock::DynamoDbStoreBuilder| match builder.build() {
        Err(Error::InvalidSetting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    let builder = |table: &str| DynamoDbStore::builder(table).region("eu-west-1");
    assert_eq!(refused(builder("")), "table");
    assert_eq!(refused(builder("no spaces")), "table");
    assert_eq!(refused(builder("locks").region("Earth")), "region");
    assert_eq!(refused(builder("locks").endpoint("nowhere")), "endpoint");
    assert_eq!(refused(builder("locks").ca_bundle("/no/file")), "ca_bundle");
}

#[test]
fn a_missing_table_is_named_with_what_to_do() {
    for table in tables() {
        let store = table.beside("nowhere").store();
        let missing = |error: &StoreError| matches!(error, StoreError::TableMissing { table } if table == "nowhere");
        assert!(missing(&store.check_table().unwrap_err()));
        let client = quick().build(store).unwrap();
        for error in [
            client.acquire("x").unwrap_err(),
            client.try_acquire("x").unwrap_err(),
        ] {
            let Error::Store { source, .. } = &error else {
                panic!("{error}");
            };
            assert!(missing(source), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("\"nowhere\"") && text.contains("create_table"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_table_with_another_key_is_named_with_its_key() {
    let shapes = [
        (vec![("id", "S", "HASH")], "id HASH S"),
        (vec![("lock", "S", "HASH")], "lock HASH S"),
        (
            vec![("lock", "S", "HASH"), ("ticket", "S", "RANGE")],
            "lock HASH S, ticket RANGE S",
        ),
    ];
    for way in tables() {
        for (shape, shown) in &shapes {
            let table = unique("other");
            let definitions: Vec<_> = shape
                .iter()
                .map(|(name, kind, _)| json!({ "AttributeName": name, "AttributeType": kind }))
                .collect();
            let key: Vec<_> = shape
                .iter()
                .map(|(name, _, role)| json!({ "AttributeName": name, "KeyType": role }))
                .collect();
            let creation = json!({
                "TableName": table, "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": definitions, "KeySchema": key,
            });
            common::call(&way.endpoint, "CreateTable", &creation);
            let store = way.beside(&table).store();
            let wrong = |error: &StoreError| matches!(error, StoreError::WrongKeySchema { found, .. } if found == shown);
            assert!(wrong(&store.check_table().unwrap_err()));
            assert!(wrong(&store.create_table().unwrap_err()));
            let lock = LockName::new("x").unwrap();
            let (first, id) = (Ticket::new(1), HolderId::new("me"));
            let within = Duration::from_secs(10);
            for error in [
                store.look(&lock, first, first, 1, within).unwrap_err(),
                store.dequeue(&lock, first, &id, within).unwrap_err(),
            ] {
                assert!(wrong(&error), "{error}");
            }
            let error = quick().build(store).unwrap().acquire("x").unwrap_err();
            let Error::Store { source, .. } = &error else {
                panic!("{error}");
            };
            assert!(wrong(source), "{error}");
            let scan = json!({ "TableName": table });
            assert_eq!(common::call(&way.endpoint, "Scan", &scan)["Count"], 0);
        }
    }
}

#[test]
fn creating_the_table_twice_is_fine_and_turns_expiry_on() {
    for table in tables() {
        let name = unique("twice");
        let store = table.beside(&name).store();
        store.create_table().unwrap();
        store.create_table().unwrap();
        store.check_table().unwrap();
        let question = json!({ "TableName": name });
        let answer = common::call(&table.endpoint, "DescribeTimeToLive", &question);
        let state = &answer["TimeToLiveDescription"];
        assert_eq!(state["AttributeName"], "expires_at");
        let status = state["TimeToLiveStatus"].as_str();
        assert!(matches!(status, Some("ENABLED" | "ENABLING")), "{state}");
    }
}

#[test]
fn missing_credentials_are_told_apart() {
    let store = DynamoDbStore::builder("locks")
        .region("us-east-1")
        .endpoint(embedded_endpoint())
        .credentials(dynamodb_fifo_lock::Credentials::from_fn(|| {
            Err("the vault is closed".into())
        }))
        .build()
        .unwrap();
    let error = quick().build(store).unwrap().acquire("x").unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Store {
                source: StoreError::Denied { .. },
                ..
            }
        ) && error.to_string().contains("the vault is closed"),
        "{error}"
    );
    // The same store with keys works: it was the keys.
    let _ = test_keys();
}
