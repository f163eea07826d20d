//! What the rules ask of DynamoDB, whichever library carries it there.

use std::time::Duration;

use rusoto_core::RusotoError;
use rusoto_dynamodb::{
    CreateTableError, CreateTableInput, DeleteItemError, DeleteItemInput, DescribeTableError,
    DescribeTableInput, DescribeTimeToLiveError, DescribeTimeToLiveInput, GetItemError,
    GetItemInput, QueryError, QueryInput, QueryOutput, ScanError, ScanInput, ScanOutput,
    TableDescription, TimeToLiveDescription, UpdateItemError, UpdateItemInput,
    UpdateTimeToLiveError, UpdateTimeToLiveInput,
};

use super::item::Item;

pub(super) type Asked<T, E> = Result<T, RusotoError<E>>;

/// The requests there are, in rusoto's words. Each is sent once, and answered
/// within `within`.
pub(super) trait Wire {
    /// The table that the requests are about.
    fn table(&self) -> &str;

    fn get_item(&self, input: GetItemInput, within: Duration) -> Asked<Option<Item>, GetItemError>;

    /// A condition that does not hold is no error.
    fn update_item(
        &self,
        input: UpdateItemInput,
        within: Duration,
    ) -> Asked<Updated, UpdateItemError>;

    fn delete_item(&self, input: DeleteItemInput, within: Duration) -> Asked<(), DeleteItemError>;

    fn query(&self, input: QueryInput, within: Duration) -> Asked<QueryOutput, QueryError>;

    fn scan(&self, input: ScanInput, within: Duration) -> Asked<ScanOutput, ScanError>;

    fn describe_table(
        &self,
        input: DescribeTableInput,
        within: Duration,
    ) -> Asked<TableDescription, DescribeTableError>;

    fn create_table(
        &self,
        input: CreateTableInput,
        within: Duration,
    ) -> Asked<(), CreateTableError>;

    fn describe_time_to_live(
        &self,
        input: DescribeTimeToLiveInput,
        within: Duration,
    ) -> Asked<TimeToLiveDescription, DescribeTimeToLiveError>;

    fn update_time_to_live(
        &self,
        input: UpdateTimeToLiveInput,
        within: Duration,
    ) -> Asked<(), UpdateTimeToLiveError>;
}

/// What became of an update.
pub(super) enum Updated {
    /// It was made, and left this, as far as the answer shows it.
    Done(Option<Item>),
    /// Its condition did not hold, for this, as far as the answer shows it.
    Refused(Option<Item>),
}
