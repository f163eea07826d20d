//! What the tests share: backends, raw items, faulty stores, waiting.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary compiles this and none uses all of it"
)]

#[path = "../../examples/support/embedded.rs"]
pub mod embedded;
pub mod proxy;
pub mod turns;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use dynamodb_fifo_lock::{
    AccessKeys, Credentials, DynamoDbStore, Event, LockClient, LockClientBuilder, LockStore,
    MemoryStore,
};
use serde_json::{Value, json};

use embedded::Embedded;

/// No test waits longer than this for what it expects.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A store under test.
pub struct Backend {
    pub name: &'static str,
    pub store: Arc<dyn LockStore>,
}

/// Memory, the embedded server over HTTP, and the server that
/// `DYNAMODB_ENDPOINT` names, if it does.
pub fn backends() -> Vec<Backend> {
    over(&tables())
}

/// The same, with nothing in them.
pub fn fresh_backends() -> Vec<Backend> {
    over(&fresh_tables())
}

fn over(tables: &[Table]) -> Vec<Backend> {
    let mut all = vec![Backend {
        name: "memory",
        store: Arc::new(MemoryStore::new()),
    }];
    all.extend(tables.iter().map(|table| Backend {
        name: table.name,
        store: Arc::new(table.store()),
    }));
    all
}

/// A table on a server.
#[derive(Clone)]
pub struct Table {
    pub name: &'static str,
    pub endpoint: String,
    pub table: String,
}

/// The tables under test: on the embedded server, and on the one that
/// `DYNAMODB_ENDPOINT` names.
pub fn tables() -> Vec<Table> {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(fresh_tables).clone()
}

/// Empty tables that no other test has.
pub fn fresh_tables() -> Vec<Table> {
    let mut endpoints = vec![("embedded", embedded_endpoint())];
    if let Some(endpoint) = named_endpoint() {
        endpoints.push(("named", endpoint));
    }
    endpoints
        .into_iter()
        .map(|(name, endpoint)| Table::create(name, endpoint))
        .collect()
}

/// The table on the embedded server.
pub fn embedded_table() -> Table {
    tables().swap_remove(0)
}

/// The address of this process's embedded server.
pub fn embedded_endpoint() -> String {
    static SERVER: OnceLock<Embedded> = OnceLock::new();
    SERVER
        .get_or_init(|| Embedded::start().unwrap())
        .endpoint()
        .to_owned()
}

pub fn named_endpoint() -> Option<String> {
    std::env::var("DYNAMODB_ENDPOINT")
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
}

/// Keys that an emulator accepts.
pub fn test_keys() -> Credentials {
    Credentials::fixed(AccessKeys::new("test", "test"))
}

pub fn store_at(endpoint: &str, table: &str) -> DynamoDbStore {
    DynamoDbStore::builder(table)
        .region("us-east-1")
        .endpoint(endpoint)
        .credentials(test_keys())
        .build()
        .unwrap()
}

impl Table {
    /// An empty table on the server at `endpoint`.
    pub fn create(name: &'static str, endpoint: String) -> Self {
        let table = Self {
            name,
            endpoint,
            table: unique("locks"),
        };
        table.store().create_table().unwrap();
        table
    }

    pub fn store(&self) -> DynamoDbStore {
        store_at(&self.endpoint, &self.table)
    }

    /// Puts a lock's row as it is, past every check.
    pub fn put(&self, lock: &str, item: Value) {
        self.put_row(lock, 0, item);
    }

    /// Puts the row of a ticket as it is, past every check.
    pub fn put_row(&self, lock: &str, ticket: u64, mut item: Value) {
        item["lock"] = json!({ "S": lock });
        item["ticket"] = json!({ "N": ticket.to_string() });
        call(
            &self.endpoint,
            "PutItem",
            &json!({ "TableName": self.table, "Item": item }),
        );
    }

    /// A lock's row as it is.
    pub fn get(&self, lock: &str) -> Value {
        self.get_row(lock, 0)
    }

    /// The row of a ticket as it is.
    pub fn get_row(&self, lock: &str, ticket: u64) -> Value {
        let key = json!({ "lock": { "S": lock }, "ticket": { "N": ticket.to_string() } });
        let question = json!({ "TableName": self.table, "Key": key, "ConsistentRead": true });
        call(&self.endpoint, "GetItem", &question)["Item"].clone()
    }

    /// Deletes a lock's row.
    pub fn delete(&self, lock: &str) {
        let key = json!({ "lock": { "S": lock }, "ticket": { "N": "0" } });
        call(
            &self.endpoint,
            "DeleteItem",
            &json!({ "TableName": self.table, "Key": key }),
        );
    }
}

/// One request to a server, without rusoto, that has to succeed.
pub fn call(endpoint: &str, operation: &str, body: &Value) -> Value {
    let (status, answer) = ask(endpoint, operation, body);
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// One request to a server, without rusoto: the status and the answer.
pub fn ask(endpoint: &str, operation: &str, body: &Value) -> (u16, Value) {
    let mut answer = ureq::post(endpoint)
        .config()
        .http_status_as_error(false)
        .build()
        .header("Content-Type", "application/x-amz-json-1.0")
        .header("X-Amz-Target", format!("DynamoDB_20120810.{operation}"))
        .header("X-Amz-Date", "20260101T000000Z")
        .header(
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-target, Signature=0",
        )
        .send(body.to_string())
        .unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (
        answer.status().as_u16(),
        serde_json::from_str(&text).unwrap(),
    )
}

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:016x}", rand::random::<u64>())
}

/// Settings that let a test end soon, on a slow machine too.
pub fn quick() -> LockClientBuilder {
    LockClient::builder()
        .lease(Duration::from_secs(3))
        .poll_interval(Duration::from_millis(20))
}

/// A client that says on a channel when it has joined a queue.
pub fn announcing(
    builder: LockClientBuilder,
    store: impl LockStore + 'static,
) -> (LockClient, Receiver<u64>) {
    let (joined, joins) = unbounded();
    let client = builder
        .observer(move |event: &Event<'_>| {
            if let Event::Enqueued { ticket, .. } = event {
                let _ = joined.send(ticket.get());
            }
        })
        .build(store)
        .unwrap();
    (client, joins)
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
