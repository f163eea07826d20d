//! rusoto's requests as the SDK's, and the SDK's answers as rusoto's.
//!
//! A field that this crate does not set is not carried over.

use std::error::Error;
use std::future::Future;
use std::iter::successors;
use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError as SdkUpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, KeySchemaElement, ReturnValue, ReturnValuesOnConditionCheckFailure,
    TimeToLiveSpecification,
};
use futures_util::FutureExt;
use rusoto_core::credential::CredentialsError;
use rusoto_core::request::BufferedHttpResponse;
use rusoto_core::{HttpDispatchError, RusotoError};
use rusoto_dynamodb::{
    self as rusoto, CreateTableError, CreateTableInput, DeleteItemError, DeleteItemInput,
    DescribeTableError, DescribeTableInput, DescribeTimeToLiveError, DescribeTimeToLiveInput,
    GetItemError, GetItemInput, QueryError, QueryInput, QueryOutput, ScanError, ScanInput,
    ScanOutput, TableDescription, TimeToLiveDescription, UpdateItemError, UpdateItemInput,
    UpdateTimeToLiveError, UpdateTimeToLiveInput,
};
use serde_json::json;

use super::AwsSdkStore;
use super::clock::WrongClock;
use super::http::Deadline;
use super::keys::NoKeys;
use super::values::{SdkItem, item_from_sdk, item_to_sdk};
use crate::store::dynamodb::deadline;
use crate::store::dynamodb::failure::WRONG_CLOCK;
use crate::store::dynamodb::item::Item;
use crate::store::dynamodb::wire::{Asked, Updated, Wire};

impl AwsSdkStore {
    /// Makes one request within `within`.
    fn ask<T, E, F>(
        &self,
        within: Duration,
        request: impl FnOnce(Deadline) -> F,
    ) -> Result<T, SdkError<E>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        // Keys and post do their work when polled, on this thread, so the first poll
        // is the last. There is nothing to wait on.
        request(Deadline(deadline(within)))
            .now_or_never()
            .unwrap_or_else(|| {
                Err(SdkError::construction_failure(
                    "something in the client's configuration does not answer at once",
                ))
            })
    }
}

/// What rusoto would have made of the same answer.
fn as_rusoto<E, R>(
    error: SdkError<E>,
    read: fn(BufferedHttpResponse) -> RusotoError<R>,
) -> RusotoError<R>
where
    E: Error + 'static,
{
    if let SdkError::ServiceError(answer) = &error
        && !answer.raw().status().is_success()
        && let Ok(status) = http::StatusCode::from_u16(answer.raw().status().as_u16())
    {
        return read(BufferedHttpResponse {
            status,
            body: answer
                .raw()
                .body()
                .bytes()
                .unwrap_or_default()
                .to_vec()
                .into(),
            headers: http::HeaderMap::default(),
        });
    }
    let causes = causes(&error);
    let no_keys = causes
        .clone()
        .find_map(|cause| cause.downcast_ref::<NoKeys>());
    if let Some(why) = no_keys {
        return RusotoError::Credentials(CredentialsError::new(why));
    }
    let wrong_clock = causes
        .clone()
        .find_map(|cause| cause.downcast_ref::<WrongClock>());
    if let Some(why) = wrong_clock {
        let answer = json!({ "__type": WRONG_CLOCK, "message": why.to_string() });
        return RusotoError::Unknown(BufferedHttpResponse {
            status: http::StatusCode::BAD_REQUEST,
            body: answer.to_string().into(),
            headers: http::HeaderMap::default(),
        });
    }
    let told: Vec<_> = causes.map(ToString::to_string).collect();
    HttpDispatchError::new(told.join(": ")).into()
}

/// An error and what lies below it.
fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> + Clone {
    successors(Some(error), |&error| error.source())
}

impl Wire for AwsSdkStore {
    fn table(&self) -> &str {
        &self.table
    }

    fn get_item(&self, input: GetItemInput, within: Duration) -> Asked<Option<Item>, GetItemError> {
        let request = self
            .client
            .get_item()
            .table_name(input.table_name)
            .set_key(Some(item_to_sdk(input.key)))
            .set_consistent_read(input.consistent_read)
            .customize();
        self.ask(within, |deadline| request.interceptor(deadline).send())
            .map(|answer| answer.item.map(item_from_sdk))
            .map_err(|error| as_rusoto(error, GetItemError::from_response))
    }

    fn update_item(
        &self,
        input: UpdateItemInput,
        within: Duration,
    ) -> Asked<Updated, UpdateItemError> {
        let request = self
            .client
            .update_item()
            .table_name(input.table_name)
            .set_key(Some(item_to_sdk(input.key)))
            .set_update_expression(input.update_expression)
            .set_condition_expression(input.condition_expression)
            .set_expression_attribute_names(input.expression_attribute_names)
            .set_expression_attribute_values(input.expression_attribute_values.map(item_to_sdk))
            .set_return_values(input.return_values.as_deref().map(ReturnValue::from))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .customize();
        match self.ask(within, |deadline| request.interceptor(deadline).send()) {
            Ok(answer) => Ok(Updated::Done(answer.attributes.map(item_from_sdk))),
            Err(error) => match error.as_service_error() {
                Some(SdkUpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(Updated::Refused(refusal.item.clone().map(item_from_sdk)))
                }
                _ => Err(as_rusoto(error, UpdateItemError::from_response)),
            },
        }
    }

    fn delete_item(&self, input: DeleteItemInput, within: Duration) -> Asked<(), DeleteItemError> {
        let request = self
            .client
            .delete_item()
            .table_name(input.table_name)
            .set_key(Some(item_to_sdk(input.key)))
            .set_condition_expression(input.condition_expression)
            .set_expression_attribute_names(input.expression_attribute_names)
            .set_expression_attribute_values(input.expression_attribute_values.map(item_to_sdk))
            .customize();
        self.ask(within, |deadline| request.interceptor(deadline).send())
            .map(drop)
            .map_err(|error| as_rusoto(error, DeleteItemError::from_response))
    }

    fn query(&self, input: QueryInput, within: Duration) -> Asked<QueryOutput, QueryError> {
        let request = self
            .client
            .query()
            .table_name(input.table_name)
            .set_key_condition_expression(input.key_condition_expression)
            .set_expression_attribute_names(input.expression_attribute_names)
            .set_expression_attribute_values(input.expression_attribute_values.map(item_to_sdk))
            .set_exclusive_start_key(input.exclusive_start_key.map(item_to_sdk))
            .set_consistent_read(input.consistent_read)
            .set_scan_index_forward(input.scan_index_forward)
            .set_limit(input.limit.map(limit))
            .customize();
        self.ask(within, |deadline| request.interceptor(deadline).send())
            .map(|answer| QueryOutput {
                items: answer.items.map(items_from_sdk),
                last_evaluated_key: answer.last_evaluated_key.map(item_from_sdk),
                ..QueryOutput::default()
            })
            .map_err(|error| as_rusoto(error, QueryError::from_response))
    }

    fn scan(&self, input: ScanInput, within: Duration) -> Asked<ScanOutput, ScanError> {
        let request = self
            .client
            .scan()
            .table_name(input.table_name)
            .set_filter_expression(input.filter_expression)
            .set_expression_attribute_names(input.expression_attribute_names)
            .set_expression_attribute_values(input.expression_attribute_values.map(item_to_sdk))
            .set_exclusive_start_key(input.exclusive_start_key.map(item_to_sdk))
            .set_limit(input.limit.map(limit))
            .customize();
        self.ask(within, |deadline| request.interceptor(deadline).send())
            .map(|answer| ScanOutput {
                items: answer.items.map(items_from_sdk),
                last_evaluated_key: answer.last_evaluated_key.map(item_from_sdk),
                ..ScanOutput::default()
            })
            .map_err(|error| as_rusoto(error, ScanError::from_response))
    }

    fn describe_table(
        &self,
        input: DescribeTableInput,
        within: Duration,
    ) -> Asked<TableDescription, DescribeTableError> {
        let request = self
            .client
            .describe_table()
            .table_name(input.table_name)
            .customize();
        let table = self
            .ask(within, |deadline| request.interceptor(deadline).send())
            .map_err(|error| as_rusoto(error, DescribeTableError::from_response))?
            .table;
        let Some(table) = table else {
            return Ok(TableDescription::default());
        };
        let key_schema = table.key_schema().iter();
        let attributes = table.attribute_definitions().iter();
        Ok(TableDescription {
            key_schema: Some(
                key_schema
                    .map(|part| rusoto::KeySchemaElement {
                        attribute_name: part.attribute_name().into(),
                        key_type: part.key_type().to_string(),
                    })
                    .collect(),
            ),
            attribute_definitions: Some(
                attributes
                    .map(|attribute| rusoto::AttributeDefinition {
                        attribute_name: attribute.attribute_name().into(),
                        attribute_type: attribute.attribute_type().to_string(),
                    })
                    .collect(),
            ),
            table_status: table.table_status().map(ToString::to_string),
            ..TableDescription::default()
        })
    }

    fn create_table(
        &self,
        input: CreateTableInput,
        within: Duration,
    ) -> Asked<(), CreateTableError> {
        let mut request = self
            .client
            .create_table()
            .table_name(input.table_name)
            .set_billing_mode(input.billing_mode.as_deref().map(Into::into));
        for part in input.key_schema {
            let part = KeySchemaElement::builder()
                .attribute_name(part.attribute_name)
                .key_type(part.key_type.as_str().into())
                .build();
            request = request.key_schema(part.map_err(cannot_be_built)?);
        }
        for attribute in input.attribute_definitions {
            let attribute = AttributeDefinition::builder()
                .attribute_name(attribute.attribute_name)
                .attribute_type(attribute.attribute_type.as_str().into())
                .build();
            request = request.attribute_definitions(attribute.map_err(cannot_be_built)?);
        }
        let request = request.customize();
        self.ask(within, |deadline| request.interceptor(deadline).send())
            .map(drop)
            .map_err(|error| as_rusoto(error, CreateTableError::from_response))
    }

    fn describe_time_to_live(
        &self,
        input: DescribeTimeToLiveInput,
        within: Duration,
    ) -> Asked<TimeToLiveDescription, DescribeTimeToLiveError> {
        let request = self
            .client
            .describe_time_to_live()
            .table_name(input.table_name)
            .customize();
        let state = self
            .ask(within, |deadline| request.interceptor(deadline).send())
            .map_err(|error| as_rusoto(error, DescribeTimeToLiveError::from_response))?
            .time_to_live_description;
        Ok(state.map_or_else(TimeToLiveDescription::default, |state| {
            TimeToLiveDescription {
                attribute_name: state.attribute_name,
                time_to_live_status: state.time_to_live_status.map(|status| status.to_string()),
            }
        }))
    }

    fn update_time_to_live(
        &self,
        input: UpdateTimeToLiveInput,
        within: Duration,
    ) -> Asked<(), UpdateTimeToLiveError> {
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(input.time_to_live_specification.attribute_name)
            .enabled(input.time_to_live_specification.enabled)
            .build()
            .map_err(cannot_be_built)?;
        let request = self
            .client
            .update_time_to_live()
            .table_name(input.table_name)
            .time_to_live_specification(specification)
            .customize();
        self.ask(within, |deadline| request.interceptor(deadline).send())
            .map(drop)
            .map_err(|error| as_rusoto(error, UpdateTimeToLiveError::from_response))
    }
}

fn items_from_sdk(items: Vec<SdkItem>) -> Vec<Item> {
    items.into_iter().map(item_from_sdk).collect()
}

fn limit(rows: i64) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}

/// Every part that the SDK insists on is there, so this is never seen.
fn cannot_be_built<E>(error: aws_sdk_dynamodb::error::BuildError) -> RusotoError<E> {
    RusotoError::Validation(error.to_string())
}
