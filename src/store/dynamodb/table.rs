//! Creating the table, and checking one that is there.

use std::thread;
use std::time::{Duration, Instant};

use rusoto_core::RusotoError;
use rusoto_dynamodb::{
    AttributeDefinition, CreateTableError, CreateTableInput, DescribeTableInput,
    DescribeTimeToLiveInput, DynamoDb, KeySchemaElement, TableDescription, TimeToLiveSpecification,
    UpdateTimeToLiveInput,
};

use super::DynamoDbStore;
use super::failure::explain;
use super::item::{EXPIRES_AT, LOCK, TICKET};
use crate::error::StoreError;

/// How long one request about the table may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a new table may take to become active.
const CREATION: Duration = Duration::from_secs(120);

const KEY: [(&str, &str, &str); 2] = [(LOCK, "HASH", "S"), (TICKET, "RANGE", "N")];

impl DynamoDbStore {
    /// Creates the table, with on-demand billing, waits until it is active, and
    /// turns on expiry (TTL) of the rows of waiters that are gone. A table that
    /// is already there is checked and left as it is, but for the TTL.
    ///
    /// Needs permission for `dynamodb:CreateTable`, `DescribeTable`,
    /// `DescribeTimeToLive` and `UpdateTimeToLive`. Blocks for two minutes at
    /// most; a new table takes some seconds.
    ///
    /// # Errors
    /// Any [`StoreError`]; [`StoreError::WrongKeySchema`] if there is a table of
    /// that name which cannot hold locks.
    pub fn create_table(&self) -> Result<(), StoreError> {
        let input = CreateTableInput {
            table_name: self.table.clone(),
            attribute_definitions: KEY
                .map(|(name, _, kind)| AttributeDefinition {
                    attribute_name: name.into(),
                    attribute_type: kind.into(),
                })
                .into(),
            key_schema: KEY
                .map(|(name, role, _)| KeySchemaElement {
                    attribute_name: name.into(),
                    key_type: role.into(),
                })
                .into(),
            billing_mode: Some("PAY_PER_REQUEST".into()),
            ..CreateTableInput::default()
        };
        match self.ask(
            REQUEST,
            |client| async move { client.create_table(input).await },
        ) {
            Ok(_) | Err(RusotoError::Service(CreateTableError::ResourceInUse(_))) => {}
            Err(error) => return Err(explain(&self.table, error)),
        }
        let until = Instant::now() + CREATION;
        loop {
            let missing = match self.check_table() {
                Ok(()) => break,
                Err(error @ StoreError::TableMissing { .. }) => error,
                Err(error) => return Err(error),
            };
            if Instant::now() >= until {
                return Err(missing);
            }
            thread::sleep(Duration::from_millis(250));
        }
        self.turn_on_expiry()
    }

    /// Checks that the table exists, is active and has the key of a lock table.
    ///
    /// Not needed before locks are used: the first request says the same. Needs
    /// permission for `dynamodb:DescribeTable`, which locking itself does not.
    ///
    /// # Errors
    /// [`StoreError::TableMissing`], [`StoreError::WrongKeySchema`], or whatever
    /// kept the question from being answered.
    pub fn check_table(&self) -> Result<(), StoreError> {
        let input = DescribeTableInput {
            table_name: self.table.clone(),
        };
        let answer = self
            .ask(REQUEST, |client| async move {
                client.describe_table(input).await
            })
            .map_err(|error| explain(&self.table, error))?;
        let table = answer.table.unwrap_or_default();
        // A table that is being updated serves requests.
        if !matches!(table.table_status.as_deref(), Some("ACTIVE" | "UPDATING")) {
            return Err(StoreError::TableMissing {
                table: self.table.clone(),
            });
        }
        let wanted = KEY.map(|(name, role, kind)| format!("{name} {role} {kind}"));
        let found = key_of(&table);
        if found != wanted {
            return Err(StoreError::WrongKeySchema {
                table: self.table.clone(),
                found: found.join(", "),
            });
        }
        Ok(())
    }

    fn turn_on_expiry(&self) -> Result<(), StoreError> {
        let question = DescribeTimeToLiveInput {
            table_name: self.table.clone(),
        };
        let answer = self
            .ask(REQUEST, |client| async move {
                client.describe_time_to_live(question).await
            })
            .map_err(|error| explain(&self.table, error))?;
        let state = answer.time_to_live_description.unwrap_or_default();
        if matches!(
            state.time_to_live_status.as_deref(),
            Some("ENABLED" | "ENABLING")
        ) {
            return Ok(());
        }
        let input = UpdateTimeToLiveInput {
            table_name: self.table.clone(),
            time_to_live_specification: TimeToLiveSpecification {
                attribute_name: EXPIRES_AT.into(),
                enabled: true,
            },
        };
        self.ask(REQUEST, |client| async move {
            client.update_time_to_live(input).await
        })
        .map(drop)
        .map_err(|error| explain(&self.table, error))
    }
}

pub(super) fn key_of(table: &TableDescription) -> Vec<String> {
    let kind = |name: &str| {
        table
            .attribute_definitions
            .iter()
            .flatten()
            .find(|attribute| attribute.attribute_name == name)
            .map_or("?", |attribute| &attribute.attribute_type)
    };
    table
        .key_schema
        .iter()
        .flatten()
        .map(|part| {
            let name = &part.attribute_name;
            format!("{name} {} {}", part.key_type, kind(name))
        })
        .collect()
}
