//! Creating the table, and checking one that is there.

use std::thread;
use std::time::{Duration, Instant};

use rusoto_core::RusotoError;
use rusoto_dynamodb::{
    AttributeDefinition, CreateTableError, CreateTableInput, DescribeTableInput,
    DescribeTimeToLiveInput, KeySchemaElement, TableDescription, TimeToLiveSpecification,
    UpdateTimeToLiveInput,
};

use super::DynamoDbStore;
use super::failure::explain;
use super::item::{EXPIRES_AT, LOCK, TICKET};
use super::wire::Wire;
use crate::error::{Error, StoreError};

/// How long one request about the table may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a new table may take to become active.
const CREATION: Duration = Duration::from_secs(120);

const ON_DEMAND: &str = "PAY_PER_REQUEST";

const KEY: [(&str, &str, &str); 2] = [(LOCK, "HASH", "S"), (TICKET, "RANGE", "N")];

/// Whether the table deletes the rows of waiters that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// It does.
    On,
    /// It does not: rows of waiters that died pile up. Locking works.
    Off,
    /// Expiry is on, but goes by this attribute, which the rows do not have.
    ByAnother(String),
}

impl DynamoDbStore {
    /// Checks that `name` can be a table's name, as
    /// [`build`](super::DynamoDbStoreBuilder::build) does.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] says what a name may have in it.
    pub fn check_name(name: &str) -> Result<(), Error> {
        check_name(name)
    }

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
        create(self)
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
        check(self)
    }

    /// Whether the table is billed by request. Otherwise it has a capacity that is
    /// provisioned, and may throttle.
    ///
    /// Needs permission for `dynamodb:DescribeTable`, which locking itself does not.
    ///
    /// # Errors
    /// [`StoreError::TableMissing`], or whatever kept the question from being
    /// answered.
    pub fn is_on_demand(&self) -> Result<bool, StoreError> {
        let billing = describe(self, REQUEST)?
            .billing_mode_summary
            .unwrap_or_default();
        Ok(billing.billing_mode.as_deref() == Some(ON_DEMAND))
    }

    /// Whether expiry (TTL) is on. [`create_table`](Self::create_table) turns it on.
    ///
    /// Needs permission for `dynamodb:DescribeTimeToLive`, which locking itself does
    /// not.
    ///
    /// # Errors
    /// As [`is_on_demand`](Self::is_on_demand).
    ///
    /// ```no_run
    /// use dynamodb_fifo_lock::{DynamoDbStore, Expiry};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = DynamoDbStore::builder("locks").region("eu-central-1").build()?;
    /// if store.expiry()? != Expiry::On {
    ///     eprintln!("turn on TTL on `expires_at`, or rows of dead waiters pile up");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn expiry(&self) -> Result<Expiry, StoreError> {
        expiry(self)
    }
}

pub(super) fn create(wire: &impl Wire) -> Result<(), StoreError> {
    let input = CreateTableInput {
        table_name: wire.table().into(),
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
        billing_mode: Some(ON_DEMAND.into()),
        ..CreateTableInput::default()
    };
    match wire.create_table(input, REQUEST) {
        Ok(()) | Err(RusotoError::Service(CreateTableError::ResourceInUse(_))) => {}
        Err(error) => return Err(explain(wire.table(), error)),
    }
    let until = Instant::now() + CREATION;
    loop {
        let missing = match check(wire) {
            Ok(()) => break,
            Err(error @ StoreError::TableMissing { .. }) => error,
            Err(error) => return Err(error),
        };
        if Instant::now() >= until {
            return Err(missing);
        }
        thread::sleep(Duration::from_millis(250));
    }
    turn_on_expiry(wire)
}

pub(super) fn check(wire: &impl Wire) -> Result<(), StoreError> {
    let table = describe(wire, REQUEST)?;
    // A table that is being updated serves requests.
    if !matches!(table.table_status.as_deref(), Some("ACTIVE" | "UPDATING")) {
        return Err(StoreError::TableMissing {
            table: wire.table().into(),
        });
    }
    let wanted = KEY.map(|(name, role, kind)| format!("{name} {role} {kind}"));
    let found = key_of(&table);
    if found != wanted {
        return Err(StoreError::WrongKeySchema {
            table: wire.table().into(),
            found: found.join(", "),
        });
    }
    Ok(())
}

pub(super) fn describe(wire: &impl Wire, within: Duration) -> Result<TableDescription, StoreError> {
    let input = DescribeTableInput {
        table_name: wire.table().into(),
    };
    wire.describe_table(input, within)
        .map_err(|error| explain(wire.table(), error))
}

fn expiry(wire: &impl Wire) -> Result<Expiry, StoreError> {
    let question = DescribeTimeToLiveInput {
        table_name: wire.table().into(),
    };
    let state = wire
        .describe_time_to_live(question, REQUEST)
        .map_err(|error| explain(wire.table(), error))?;
    Ok(
        match (state.time_to_live_status.as_deref(), state.attribute_name) {
            (Some("ENABLED" | "ENABLING"), Some(other)) if other != EXPIRES_AT => {
                Expiry::ByAnother(other)
            }
            (Some("ENABLED" | "ENABLING"), _) => Expiry::On,
            _ => Expiry::Off,
        },
    )
}

fn turn_on_expiry(wire: &impl Wire) -> Result<(), StoreError> {
    // A table that expires by something else is somebody's own, and stays.
    if expiry(wire)? != Expiry::Off {
        return Ok(());
    }
    let input = UpdateTimeToLiveInput {
        table_name: wire.table().into(),
        time_to_live_specification: TimeToLiveSpecification {
            attribute_name: EXPIRES_AT.into(),
            enabled: true,
        },
    };
    wire.update_time_to_live(input, REQUEST)
        .map_err(|error| explain(wire.table(), error))
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if (3..=255).contains(&name.len()) && name.chars().all(sound) {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        setting: "table",
        problem: format!(
            "{name:?} is not a table's name: 3 to 255 letters, digits and `_`, `.`, `-`"
        ),
    })
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
