//! From the command line to a store.

use dynamodb_fifo_lock::{Credentials, DynamoDbStore, Error};

use crate::args::Connection;

impl Connection {
    pub(crate) fn store(&self) -> Result<DynamoDbStore, Error> {
        let mut builder = DynamoDbStore::builder(&self.table);
        if let Some(region) = &self.region {
            builder = builder.region(region);
        }
        if let Some(endpoint) = &self.endpoint_url {
            builder = builder.endpoint(endpoint);
        }
        if let Some(profile) = &self.profile {
            builder = builder.credentials(Credentials::named_profile(profile));
        }
        builder.build()
    }
}
