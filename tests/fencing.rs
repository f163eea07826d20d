//! A guard's condition in a transaction: nothing is written once its turn is over.

mod common;

use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::rusoto_dynamodb::{AttributeValue, ConditionCheck};
use dynamodb_fifo_lock::{HolderId, LockClient, LockName, LockStore, MemoryStore, Ticket};
use serde_json::{Value, json};

use common::{Table, quick, tables, unique};

const WITHIN: Duration = Duration::from_secs(10);

/// An attribute value as the service wants it, of the kinds that conditions use.
fn value(value: &AttributeValue) -> Value {
    match (&value.s, &value.n) {
        (Some(text), _) => json!({ "S": text }),
        (_, Some(number)) => json!({ "N": number }),
        other => panic!("{other:?}"),
    }
}

fn map<'a>(values: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>) -> Value {
    let values = values.into_iter();
    values
        .map(|(name, one)| (name.clone(), value(one)))
        .collect()
}

/// Writes a row of somebody's own in a transaction with `check`. Says whether it
/// was committed; the row has to agree.
fn commit(table: &Table, check: &ConditionCheck) -> bool {
    let key = unique("work");
    let check = json!({
        "TableName": check.table_name,
        "Key": map(&check.key),
        "ConditionExpression": check.condition_expression,
        "ExpressionAttributeNames": check.expression_attribute_names,
        "ExpressionAttributeValues": map(check.expression_attribute_values.iter().flatten()),
    });
    let item = json!({ "lock": { "S": key }, "ticket": { "N": "1" }, "done": { "BOOL": true } });
    let put = json!({ "TableName": table.table, "Item": item });
    let items = json!([{ "ConditionCheck": check }, { "Put": put }]);
    let body = json!({ "TransactItems": items });
    let (status, answer) = common::ask(&table.endpoint, "TransactWriteItems", &body);
    let done = table.get_row(&key, 1)["done"]["BOOL"] == true;
    match status {
        200 => assert!(done, "{}: {answer}", table.name),
        _ => {
            let text = answer.to_string();
            assert!(
                text.contains("ConditionalCheckFailed"),
                "{}: {text}",
                table.name
            );
            assert!(!done, "{}: {text}", table.name);
        }
    }
    status == 200
}

#[test]
fn a_transaction_commits_while_the_lock_is_held_and_not_after_its_release() {
    for table in tables() {
        let client = quick().build(table.store()).unwrap();
        let lock = unique("fenced");
        let guard = client.acquire(&lock).unwrap();
        let check = guard.condition_check().unwrap();
        assert!(commit(&table, &check) && commit(&table, &check));
        guard.release().unwrap();
        assert!(!commit(&table, &check), "{}: released", table.name);
        let next = client.acquire(&lock).unwrap();
        assert!(!commit(&table, &check), "{}: another holds", table.name);
        assert!(commit(&table, &next.condition_check().unwrap()));
        drop(next);
        table.delete(&lock);
        assert!(!commit(&table, &check), "{}: no record", table.name);
    }
}

/// The guard still believes that it holds: its client has not heard of it yet.
#[test]
fn a_transaction_is_refused_once_another_went_past_the_holder() {
    for table in tables() {
        let client = quick()
            .lease(Duration::from_secs(3_600))
            .build(table.store())
            .unwrap();
        let lock = LockName::new(&unique("passed")).unwrap();
        let guard = client.acquire(lock.as_str()).unwrap();
        let check = guard.condition_check().unwrap();
        let store = table.store();
        let record = store.read(&lock, Consistency::Strong, WITHIN);
        let record = record.unwrap().unwrap();
        let advance = Write::Advance {
            served: record.served,
            revision: record.revision,
            moved_at_ms: record.moved_at_ms,
            to: record.turn().next(),
            wall_ms: 1,
        };
        assert!(
            store
                .write(&lock, &advance, WITHIN)
                .unwrap()
                .applied()
                .is_some()
        );
        assert!(guard.is_held());
        assert!(!commit(&table, &check), "{}", table.name);
    }
}

#[test]
fn a_transaction_commits_in_a_turn_that_is_not_claimed_and_not_before_it() {
    for table in tables() {
        let store = table.store();
        let lock = LockName::new(&unique("unclaimed")).unwrap();
        let join = Write::Enqueue {
            start: Ticket::new(10),
            grace: Duration::from_secs(1),
            wall_ms: 1,
        };
        let check = |ticket: u64, id: &str| {
            let (ticket, id) = (Ticket::new(ticket), HolderId::new(id));
            store.condition_check(&lock, ticket, &id).unwrap()
        };
        assert!(!commit(&table, &check(11, "a")), "no ticket is out");
        for _ in 0..2 {
            store
                .write(&lock, &join, WITHIN)
                .unwrap()
                .applied()
                .unwrap();
        }
        assert!(commit(&table, &check(11, "a")), "{}", table.name);
        assert!(!commit(&table, &check(12, "b")), "{}", table.name);
        let release = |ticket: u64, id: &str| Write::Release {
            ticket: Ticket::new(ticket),
            id: HolderId::new(id),
            wall_ms: 1,
        };
        store
            .write(&lock, &release(11, "a"), WITHIN)
            .unwrap()
            .applied()
            .unwrap();
        assert!(!commit(&table, &check(11, "a")), "{}", table.name);
        assert!(commit(&table, &check(12, "b")), "{}", table.name);
        store
            .write(&lock, &release(12, "b"), WITHIN)
            .unwrap()
            .applied()
            .unwrap();
        assert!(!commit(&table, &check(13, "c")), "nobody drew 13");
    }
}

#[test]
fn there_is_no_condition_for_what_is_not_in_dynamodb() {
    let client = LockClient::builder().build(MemoryStore::new()).unwrap();
    let guard = client.acquire("memory").unwrap();
    assert!(guard.condition_check().is_none());
}
