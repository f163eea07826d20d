//! Lock records in a DynamoDB table, over rusoto.

#![allow(
    clippy::result_large_err,
    reason = "the size is rusoto's, and no error here is on a hot path"
)]

#[cfg(feature = "aws-sdk")]
mod aws;
mod connections;
mod credentials;
mod failure;
mod http;
mod item;
mod listing;
mod metadata;
mod names;
mod probe;
mod region;
mod request;
mod rows;
mod rules;
mod table;
mod wire;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rusoto_core::{Client, HttpDispatchError, Region, RusotoError};
use rusoto_dynamodb::{
    ConditionCheck, CreateTableError, CreateTableInput, DeleteItemError, DeleteItemInput,
    DescribeTableError, DescribeTableInput, DescribeTimeToLiveError, DescribeTimeToLiveInput,
    DynamoDb, DynamoDbClient, GetItemError, GetItemInput, QueryError, QueryInput, QueryOutput,
    ScanError, ScanInput, ScanOutput, TableDescription, TimeToLiveDescription, UpdateItemError,
    UpdateItemInput, UpdateTimeToLiveError, UpdateTimeToLiveInput,
};
use ureq::tls::{PemItem, RootCerts, parse_pem};

#[cfg(feature = "aws-sdk")]
pub use self::aws::AwsSdkStore;
#[cfg(feature = "aws-sdk")]
pub(crate) use self::aws::condition_check;
use self::connections::Connections;
pub use self::credentials::{AccessKeys, Credentials};
use self::credentials::{Cache, Signer};
use self::http::Courier;
use self::item::Item;
pub use self::probe::{Action, ClockOffset, SigningKeys};
use self::region::from_environment;
use self::rules::store_over_a_wire;
pub use self::table::Expiry;
use self::wire::{Asked, Updated, Wire};
use super::{LockStore, Page, PageEnd, Written};
use crate::error::{Error, StoreError};
use crate::protocol::{Consistency, Write};
use crate::record::{LockRecord, TicketRow};
use crate::types::{HolderId, LockName, Ticket};

/// Stands for a limit that is further away than the clock can count.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A store in a DynamoDB table. Clones share connections and credentials.
///
/// The table has the partition key `lock` (a string) and the sort key `ticket`
/// (a number). [`create_table`](Self::create_table) makes one.
///
/// Requests run on the calling thread, over HTTP/1.1, without an async runtime.
/// Each has a deadline, and none is sent twice by itself.
///
/// A store may be used in a process that is forked from its own, by a client that is built
/// there. It opens connections and fetches credentials of its own then.
///
/// ```no_run
/// use dynamodb_fifo_lock::{DynamoDbStore, LockClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = DynamoDbStore::builder("locks").region("eu-central-1").build()?;
/// store.create_table()?;
/// let client = LockClient::builder().build(store)?;
/// let guard = client.acquire("invoices")?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DynamoDbStore {
    table: String,
    region: Region,
    connections: Arc<Connections>,
    credentials: Arc<Cache>,
}

impl DynamoDbStore {
    /// Settings for a store in the table `table`, all at their defaults.
    pub fn builder(table: impl Into<String>) -> DynamoDbStoreBuilder {
        DynamoDbStoreBuilder {
            table: table.into(),
            region: None,
            endpoint: None,
            profile: None,
            credentials: None,
            ca_bundle: None,
        }
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The region that requests are signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        self.region.name()
    }

    /// Where requests go.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match &self.region {
            Region::Custom { endpoint, .. } => endpoint,
            other => other.name(),
        }
    }

    /// Makes one request within `within`.
    fn ask<T, E, F>(
        &self,
        within: Duration,
        request: impl FnOnce(DynamoDbClient) -> F,
    ) -> Result<T, RusotoError<E>>
    where
        F: Future<Output = Result<T, RusotoError<E>>>,
    {
        let deadline = deadline(within);
        let signer = Signer {
            cache: Arc::clone(&self.credentials),
            deadline,
        };
        let courier = Courier {
            line: self.connections.here(),
            deadline,
        };
        let client = Client::new_with(signer, courier);
        let client = DynamoDbClient::new_with_client(client, self.region.clone());
        // Signer and courier do their work when polled, on this thread, so the
        // first poll is the last. There is nothing to wait on.
        let unfinished = || HttpDispatchError::new("the request was not finished".into());
        async { request(client).await }
            .now_or_never()
            .unwrap_or_else(|| Err(unfinished().into()))
    }
}

impl Wire for DynamoDbStore {
    fn table(&self) -> &str {
        &self.table
    }

    fn get_item(&self, input: GetItemInput, within: Duration) -> Asked<Option<Item>, GetItemError> {
        self.ask(within, |client| async move { client.get_item(input).await })
            .map(|answer| answer.item)
    }

    fn update_item(
        &self,
        input: UpdateItemInput,
        within: Duration,
    ) -> Asked<Updated, UpdateItemError> {
        let answer = self.ask(
            within,
            |client| async move { client.update_item(input).await },
        );
        match answer {
            Ok(answer) => Ok(Updated::Done(answer.attributes)),
            // rusoto does not know the parameter that would make it show the record.
            Err(RusotoError::Service(UpdateItemError::ConditionalCheckFailed(_))) => {
                Ok(Updated::Refused(None))
            }
            Err(error) => Err(error),
        }
    }

    fn delete_item(&self, input: DeleteItemInput, within: Duration) -> Asked<(), DeleteItemError> {
        self.ask(
            within,
            |client| async move { client.delete_item(input).await },
        )
        .map(drop)
    }

    fn query(&self, input: QueryInput, within: Duration) -> Asked<QueryOutput, QueryError> {
        self.ask(within, |client| async move { client.query(input).await })
    }

    fn scan(&self, input: ScanInput, within: Duration) -> Asked<ScanOutput, ScanError> {
        self.ask(within, |client| async move { client.scan(input).await })
    }

    fn describe_table(
        &self,
        input: DescribeTableInput,
        within: Duration,
    ) -> Asked<TableDescription, DescribeTableError> {
        self.ask(within, |client| async move {
            client.describe_table(input).await
        })
        .map(|answer| answer.table.unwrap_or_default())
    }

    fn create_table(
        &self,
        input: CreateTableInput,
        within: Duration,
    ) -> Asked<(), CreateTableError> {
        self.ask(
            within,
            |client| async move { client.create_table(input).await },
        )
        .map(drop)
    }

    fn describe_time_to_live(
        &self,
        input: DescribeTimeToLiveInput,
        within: Duration,
    ) -> Asked<TimeToLiveDescription, DescribeTimeToLiveError> {
        self.ask(within, |client| async move {
            client.describe_time_to_live(input).await
        })
        .map(|answer| answer.time_to_live_description.unwrap_or_default())
    }

    fn update_time_to_live(
        &self,
        input: UpdateTimeToLiveInput,
        within: Duration,
    ) -> Asked<(), UpdateTimeToLiveError> {
        self.ask(within, |client| async move {
            client.update_time_to_live(input).await
        })
        .map(drop)
    }
}

/// When `within` from now is.
fn deadline(within: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(within).unwrap_or(now + LONGEST)
}

store_over_a_wire!(DynamoDbStore);

impl fmt::Debug for DynamoDbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbStore")
            .field("table", &self.table)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`DynamoDbStore`]. No setter fails; [`build`](Self::build)
/// checks everything.
#[derive(Clone, Debug)]
#[must_use]
pub struct DynamoDbStoreBuilder {
    table: String,
    region: Option<String>,
    endpoint: Option<String>,
    profile: Option<String>,
    credentials: Option<Credentials>,
    ca_bundle: Option<PathBuf>,
}

impl DynamoDbStoreBuilder {
    /// The table's region, by its name. Defaults to `AWS_REGION`, else
    /// `AWS_DEFAULT_REGION`, else the profile's. With an `http://` endpoint it may
    /// be left out.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Where the service is, an `http://` or `https://` address. Defaults to
    /// `AWS_ENDPOINT_URL_DYNAMODB`, else `AWS_ENDPOINT_URL`, else the region's
    /// public endpoint.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The profile that gives the credentials and, if neither
    /// [`region`](Self::region) nor the environment does, the region. Defaults to
    /// `AWS_PROFILE`, else `default`, for the region, and to
    /// [`Credentials::chain`] for the credentials.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// Where credentials come from. Defaults to the [`profile`](Self::profile) if
    /// one is given, else to [`Credentials::chain`].
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// A PEM file of the only certificate authorities to trust. Defaults to
    /// `AWS_CA_BUNDLE`, else to Mozilla's list as compiled in.
    pub fn ca_bundle(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_bundle = Some(file.into());
        self
    }

    /// Checks the settings. Sends nothing: a missing table or a wrong key shows
    /// with the first request, or with
    /// [`check_table`](DynamoDbStore::check_table).
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the setting that is missing or makes no
    /// sense.
    pub fn build(self) -> Result<DynamoDbStore, Error> {
        table::check_name(&self.table)?;
        let profile = self.profile.as_deref();
        let region = region::settle(self.region, self.endpoint, profile, &from_environment)?;
        let roots = trusted(self.ca_bundle)?;
        let credentials = match (self.credentials, self.profile) {
            (Some(credentials), _) => credentials,
            (None, Some(profile)) => Credentials::named_profile(profile),
            (None, None) => Credentials::chain(),
        };
        Ok(DynamoDbStore {
            table: self.table,
            region,
            connections: Connections::new(roots),
            credentials: Cache::new(credentials),
        })
    }
}

/// Who vouches for the service: the file that is given, else the environment's, else
/// Mozilla's list.
fn trusted(ca_bundle: Option<PathBuf>) -> Result<RootCerts, Error> {
    match ca_bundle.or_else(|| from_environment("AWS_CA_BUNDLE").map(Into::into)) {
        Some(file) => read_roots(&file),
        None => Ok(RootCerts::WebPki),
    }
}

fn read_roots(file: &std::path::Path) -> Result<RootCerts, Error> {
    let wrong = |problem: String| Error::InvalidSetting {
        setting: "ca_bundle",
        problem: format!("{}: {problem}", file.display()),
    };
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong("there is no certificate in it".into()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
