//! The same over the current AWS SDK: its client, its credentials, its signatures.

mod clock;
mod http;
mod keys;
mod values;
mod wire;

use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::{Client, Config};
use rusoto_dynamodb::ConditionCheck;

use self::http::Post;
use self::keys::Keys;
pub(crate) use self::values::condition_check;
use super::connections::Connections;
use super::rules::store_over_a_wire;
use super::{request, rules, table};
use crate::error::{Error, StoreError};
use crate::protocol::{Consistency, Write};
use crate::record::{LockRecord, TicketRow};
use crate::store::{LockStore, Page, PageEnd, Written};
use crate::types::{HolderId, LockName, Ticket};

/// A store in a DynamoDB table, reached through the current AWS SDK for Rust. Clones
/// share connections and credentials. Needs the feature `aws-sdk`.
///
/// It works with the same table as [`DynamoDbStore`](crate::DynamoDbStore), row for
/// row: clients of either kind may share locks.
///
/// ```no_run
/// use dynamodb_fifo_lock::aws_sdk_dynamodb::Client;
/// use dynamodb_fifo_lock::{AwsSdkStore, LockClient};
///
/// fn locks(client: &Client) -> Result<LockClient, Box<dyn std::error::Error>> {
///     let store = AwsSdkStore::new("locks", client.config().clone())?;
///     store.create_table()?;
///     Ok(LockClient::builder().build(store)?)
/// }
/// ```
#[derive(Clone)]
pub struct AwsSdkStore {
    table: String,
    client: Client,
}

impl AwsSdkStore {
    /// A store in the table `table`, with the configuration of a client that there is
    /// (`client.config().clone()`) or the one that every client is made from
    /// (`&sdk_config`). Sends nothing: a missing table or a wrong key shows with the
    /// first request, or with [`check_table`](Self::check_table).
    ///
    /// Region, endpoint, credentials, app name and interceptors are the
    /// configuration's. What would make a lock unsafe is not:
    /// * Requests go through connections of the store's own, on the calling thread,
    ///   whichever it is. Nothing depends on an async runtime that may be blocked, and
    ///   nothing is left to be shut down.
    /// * Requests are signed with the time of this machine's clock: the SDK's correction
    ///   of clock skew has no effect, and a request that was signed with another time, by
    ///   a `time_source` for example, is not sent ([`StoreError::WrongClock`]). That no
    ///   living holder loses its lock rests on the service's refusing clocks that are far
    ///   off.
    /// * Retries are off, and time-outs are the lock client's: a write is sent once.
    /// * Credentials are found as the configuration says, on a thread of their own,
    ///   five minutes before the old ones end, which serve meanwhile.
    ///
    /// A resolver of endpoints or of authentication schemes that does more than
    /// answer at once cannot be used: every request fails.
    ///
    /// TLS trusts Mozilla's list as compiled in, or only the certificates in the file
    /// that `AWS_CA_BUNDLE` names. Proxies are taken from the environment.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a name that no table can have, a configuration
    /// without a region, or a file of certificates that cannot be read.
    pub fn new(table: impl Into<String>, config: impl Into<Config>) -> Result<Self, Error> {
        let table = table.into();
        super::table::check_name(&table)?;
        let config: Config = config.into();
        if config.region().is_none() {
            return Err(Error::InvalidSetting {
                setting: "region",
                problem: "the SDK's configuration has none; set it there, or in AWS_REGION".into(),
            });
        }
        let post = Post {
            connections: Connections::new(super::trusted(None)?),
        };
        let config = config
            .to_builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(post)
            .identity_cache(Keys::new())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Ok(Self {
            table,
            client: Client::from_conf(config),
        })
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// As [`DynamoDbStore::create_table`](crate::DynamoDbStore::create_table).
    ///
    /// # Errors
    /// As there.
    pub fn create_table(&self) -> Result<(), StoreError> {
        table::create(self)
    }

    /// As [`DynamoDbStore::check_table`](crate::DynamoDbStore::check_table).
    ///
    /// # Errors
    /// As there.
    pub fn check_table(&self) -> Result<(), StoreError> {
        table::check(self)
    }
}

impl fmt::Debug for AwsSdkStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsSdkStore")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

store_over_a_wire!(AwsSdkStore);
