//! What a store says about its table, its keys and its clock, and that asking changes
//! nothing.

mod common;

use std::time::Duration;

use dynamodb_fifo_lock::{Action, ClockOffset, DynamoDbStore, Error, Expiry, StoreError};
use serde_json::json;

use common::proxy::{Fault, Proxy};
use common::{Table, call, embedded_table, fresh_tables, store_at, tables, unique};

const WITHIN: Duration = Duration::from_secs(10);

/// These questions are asked by the one store only.
fn rusoto_store(table: &Table) -> DynamoDbStore {
    store_at(&table.endpoint, &table.table)
}

/// A table with the key of a lock table and nothing else, on each server.
fn plain_tables() -> Vec<Table> {
    let plain = |table: Table| {
        let table = Table {
            table: unique("plain"),
            ..table
        };
        let question = json!({
            "TableName": table.table,
            "BillingMode": "PROVISIONED",
            "ProvisionedThroughput": { "ReadCapacityUnits": 5, "WriteCapacityUnits": 5 },
            "AttributeDefinitions": [
                { "AttributeName": "lock", "AttributeType": "S" },
                { "AttributeName": "ticket", "AttributeType": "N" },
            ],
            "KeySchema": [
                { "AttributeName": "lock", "KeyType": "HASH" },
                { "AttributeName": "ticket", "KeyType": "RANGE" },
            ],
        });
        call(&table.endpoint, "CreateTable", &question);
        table
    };
    tables().into_iter().map(plain).collect()
}

#[test]
fn a_table_that_was_created_here_expires_and_is_on_demand() {
    for table in tables() {
        assert_eq!(
            rusoto_store(&table).expiry().unwrap(),
            Expiry::On,
            "{}",
            table.name
        );
        assert!(
            rusoto_store(&table).is_on_demand().unwrap(),
            "{}",
            table.name
        );
    }
}

#[test]
fn other_tables_are_told_apart() {
    for table in plain_tables() {
        let store = rusoto_store(&table);
        assert!(!store.is_on_demand().unwrap(), "{}", table.name);
        assert_eq!(store.expiry().unwrap(), Expiry::Off, "{}", table.name);
        let specification = json!({ "AttributeName": "gone_at", "Enabled": true });
        let question =
            json!({ "TableName": table.table, "TimeToLiveSpecification": specification });
        call(&table.endpoint, "UpdateTimeToLive", &question);
        let by_another = Expiry::ByAnother("gone_at".into());
        assert_eq!(store.expiry().unwrap(), by_another);
        // It is somebody's own, and stays.
        store.create_table().unwrap();
        assert_eq!(store.expiry().unwrap(), by_another, "{}", table.name);
    }
    for table in tables() {
        let absent = store_at(&table.endpoint, &unique("absent"));
        assert!(matches!(
            absent.expiry(),
            Err(StoreError::TableMissing { .. })
        ));
        assert!(matches!(
            absent.is_on_demand(),
            Err(StoreError::TableMissing { .. })
        ));
        for action in Action::ALL {
            let tried = absent.try_action(action, WITHIN);
            assert!(
                matches!(tried, Err(StoreError::TableMissing { .. })),
                "{action:?}: {tried:?}"
            );
        }
    }
}

#[test]
fn trying_an_action_asks_for_it_and_changes_nothing() {
    for table in fresh_tables() {
        table.put("in use", json!({ "anything": { "S": "at all" } }));
        let all = || {
            let question = json!({ "TableName": table.table, "ConsistentRead": true });
            call(&table.endpoint, "Scan", &question)["Items"].to_string()
        };
        let before = all();
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let store = store_at(&proxy.endpoint, &table.table);
        for action in Action::ALL {
            store.try_action(action, WITHIN).unwrap();
            let expected = match action {
                Action::ConditionCheckItem => "TransactWriteItems",
                other => other.name(),
            };
            assert_eq!(proxy.take_operations(), [expected]);
        }
        assert_eq!(all(), before, "{}", table.name);
    }
}

#[test]
fn the_public_half_of_the_keys_is_shown() {
    let keys = rusoto_store(&embedded_table())
        .signing_keys(WITHIN)
        .unwrap();
    assert_eq!(
        (keys.access_key_id.as_str(), keys.found_in),
        ("test", "program")
    );
    assert!(keys.expires_at.is_none());
}

#[test]
fn the_clock_of_a_server_on_this_machine_is_this_machines() {
    let offset = rusoto_store(&embedded_table())
        .clock_offset(WITHIN)
        .unwrap();
    assert_eq!(offset, ClockOffset::None);
    // Nobody listens there.
    let offset = store_at("http://127.0.0.1:9", "locks").clock_offset(WITHIN);
    assert!(matches!(offset, Err(StoreError::Unreachable { .. })));
}

#[test]
fn a_store_says_where_it_is() {
    let store = DynamoDbStore::builder("locks")
        .region("eu-central-2")
        .endpoint("http://localhost:1");
    let store = store.build().unwrap();
    assert_eq!(
        (store.region(), store.endpoint()),
        ("eu-central-2", "http://localhost:1")
    );
    assert!(DynamoDbStore::check_name("locks").is_ok());
    let wrong = DynamoDbStore::check_name("my locks");
    assert!(matches!(
        wrong,
        Err(Error::InvalidSetting {
            setting: "table",
            ..
        })
    ));
}
