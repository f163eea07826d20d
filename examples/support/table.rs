//! Where examples keep their locks: a table of their own in the DynamoDB that
//! `DYNAMODB_ENDPOINT` names, or in one that runs inside this process.

mod embedded;

use std::env;

use dynamodb_fifo_lock::{AccessKeys, Credentials, DynamoDbStore};

use embedded::Embedded;

/// A new table; the server inside this process, if there is one, ends with it.
pub(crate) struct Table {
    store: DynamoDbStore,
    _server: Option<Embedded>,
}

impl Table {
    pub(crate) fn new(prefix: &str) -> anyhow::Result<Self> {
        let named = env::var("DYNAMODB_ENDPOINT").ok();
        let (endpoint, server) = match named.filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => (endpoint, None),
            None => {
                let server = Embedded::start()?;
                (server.endpoint().to_owned(), Some(server))
            }
        };
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        let store = DynamoDbStore::builder(&name)
            .region("us-east-1")
            .endpoint(&endpoint)
            .credentials(Credentials::fixed(AccessKeys::new("test", "test")))
            .build()?;
        store.create_table()?;
        println!("table {name} at {endpoint}");
        Ok(Self {
            store,
            _server: server,
        })
    }

    pub(crate) fn store(&self) -> DynamoDbStore {
        self.store.clone()
    }
}
