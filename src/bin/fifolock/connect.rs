//! From the command line to a store.

use anyhow::Result;
use dynamodb_fifo_lock::{DynamoDbStore, LockClient};

use crate::args::Connection;

const DEFAULT_TABLE: &str = "locks";

impl Connection {
    /// The name of the table.
    pub(crate) fn table(&self) -> String {
        self.table
            .clone()
            .or_else(|| from_environment("FIFOLOCK_TABLE"))
            .unwrap_or_else(|| DEFAULT_TABLE.into())
    }

    /// Whether the command line itself says where the locks are.
    pub(crate) fn is_explicit(&self) -> bool {
        #[cfg(feature = "dev")]
        if self.dev.is_some() {
            return true;
        }
        self.table.is_some() || self.endpoint_url.is_some()
    }

    pub(crate) fn store(&self) -> Result<DynamoDbStore> {
        #[cfg(feature = "dev")]
        if let Some(file) = &self.dev {
            return crate::dev::store(file.as_deref(), &self.table());
        }
        let mut builder = DynamoDbStore::builder(self.table());
        if let Some(region) = &self.region {
            builder = builder.region(region);
        }
        if let Some(endpoint) = &self.endpoint_url {
            builder = builder.endpoint(endpoint);
        }
        if let Some(profile) = &self.profile {
            builder = builder.profile(profile);
        }
        Ok(builder.build()?)
    }

    /// A client that looks, and is never granted anything.
    pub(crate) fn observer(&self) -> Result<LockClient> {
        Ok(LockClient::builder().build(self.store()?)?)
    }
}

/// Reads an environment variable; empty counts as absent.
pub(crate) fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
