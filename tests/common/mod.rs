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
    MemoryStore, StoreError,
};
#[cfg(feature = "aws-sdk")]
use dynamodb_fifo_lock::{AwsSdkStore, aws_sdk_dynamodb};
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
/// `DYNAMODB_ENDPOINT` names, if it does; with the feature `aws-sdk`, each server a
/// second time.
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

/// A table on a server, and the way there.
#[derive(Clone)]
pub struct Table {
    pub name: &'static str,
    pub wire: Wire,
    pub endpoint: String,
    pub table: String,
}

/// The tables under test, one over each wire: on the embedded server, and on the one
/// that `DYNAMODB_ENDPOINT` names.
pub fn tables() -> Vec<Table> {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(fresh_tables).clone()
}

/// Empty tables that no other test has. `FIFOLOCK_ONLY_NAMED` leaves the embedded server
/// out, for what takes long and has passed there before.
pub fn fresh_tables() -> Vec<Table> {
    let named = named_endpoint();
    let mut ways = Vec::new();
    if named.is_none() || std::env::var_os("FIFOLOCK_ONLY_NAMED").is_none() {
        ways.push(("embedded", Wire::Rusoto, embedded_endpoint()));
        #[cfg(feature = "aws-sdk")]
        ways.push(("embedded, AWS SDK", Wire::AwsSdk, embedded_endpoint()));
    }
    if let Some(endpoint) = named {
        ways.push(("named", Wire::Rusoto, endpoint.clone()));
        #[cfg(feature = "aws-sdk")]
        ways.push(("named, AWS SDK", Wire::AwsSdk, endpoint));
    }
    ways.into_iter()
        .map(|(name, wire, endpoint)| Table::create_over(wire, name, endpoint))
        .collect()
}

/// The table on the embedded server.
pub fn embedded_table() -> Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let create = || Table::create("embedded", embedded_endpoint());
    TABLE.get_or_init(create).clone()
}

/// The tables on the embedded server, one over each wire.
pub fn embedded_tables() -> impl Iterator<Item = Table> {
    let embedded = embedded_endpoint();
    tables()
        .into_iter()
        .filter(move |table| table.endpoint == embedded)
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

/// The ways there are to DynamoDB.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Rusoto,
    #[cfg(feature = "aws-sdk")]
    AwsSdk,
}

impl Wire {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rusoto => "rusoto",
            #[cfg(feature = "aws-sdk")]
            Self::AwsSdk => "AWS SDK",
        }
    }

    pub fn named(name: &str) -> Self {
        match name {
            #[cfg(feature = "aws-sdk")]
            "AWS SDK" => Self::AwsSdk,
            _ => Self::Rusoto,
        }
    }

    pub fn store_at(self, endpoint: &str, table: &str) -> TestStore {
        match self {
            Self::Rusoto => Arc::new(store_at(endpoint, table)),
            #[cfg(feature = "aws-sdk")]
            Self::AwsSdk => Arc::new(AwsSdkStore::new(table, sdk_config(endpoint)).unwrap()),
        }
    }
}

/// A store that has a table.
pub trait TableStore: LockStore {
    fn create_table(&self) -> Result<(), StoreError>;
    fn check_table(&self) -> Result<(), StoreError>;
}

pub type TestStore = Arc<dyn TableStore>;

impl TableStore for DynamoDbStore {
    fn create_table(&self) -> Result<(), StoreError> {
        self.create_table()
    }

    fn check_table(&self) -> Result<(), StoreError> {
        self.check_table()
    }
}

#[cfg(feature = "aws-sdk")]
impl TableStore for AwsSdkStore {
    fn create_table(&self) -> Result<(), StoreError> {
        self.create_table()
    }

    fn check_table(&self) -> Result<(), StoreError> {
        self.check_table()
    }
}

/// What the SDK has to know to reach an emulator.
#[cfg(feature = "aws-sdk")]
pub fn sdk_config(endpoint: &str) -> aws_sdk_dynamodb::Config {
    use aws_sdk_dynamodb::config::{Credentials, Region};

    aws_sdk_dynamodb::Config::builder()
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .build()
}

/// A store over rusoto.
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
        Self::create_over(Wire::Rusoto, name, endpoint)
    }

    fn create_over(wire: Wire, name: &'static str, endpoint: String) -> Self {
        let table = Self {
            name,
            wire,
            endpoint,
            table: unique("locks"),
        };
        table.store().create_table().unwrap();
        table
    }

    pub fn store(&self) -> TestStore {
        self.store_through(&self.endpoint)
    }

    /// A store that comes to the table by this address.
    pub fn store_through(&self, endpoint: &str) -> TestStore {
        self.wire.store_at(endpoint, &self.table)
    }

    /// A table on the same server, which need not be there.
    pub fn beside(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.table = name.to_owned();
        other
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
