//! Listing the locks of a table: what is asked for, and what is answered.

use std::collections::HashMap;

use rusoto_dynamodb::{AttributeValue, ScanInput};

use super::item::{self, Item, LOCK, RECORD_KEY, Strangers, TICKET, number, text};
use super::request::{names, owned};
use crate::error::StoreError;
use crate::record::LockRecord;
use crate::store::PageEnd;
use crate::types::LockName;

/// One page of lock records. The rows of waiters between them are read, and paid
/// for, but not sent.
pub(super) fn scan(table: &str, after: Option<&PageEnd>) -> ScanInput {
    let filter = "#ticket = :record";
    ScanInput {
        table_name: table.into(),
        filter_expression: Some(filter.into()),
        expression_attribute_names: Some(names(&[filter])),
        expression_attribute_values: Some(owned(vec![(":record", number(RECORD_KEY))])),
        exclusive_start_key: after.map(start_key),
        ..ScanInput::default()
    }
}

fn start_key(after: &PageEnd) -> Item {
    let ticket = AttributeValue {
        n: Some(after.ticket.clone()),
        ..AttributeValue::default()
    };
    HashMap::from([(LOCK.into(), text(&after.lock)), (TICKET.into(), ticket)])
}

/// Where a page ended, by the key of the last row that was read for it.
pub(super) fn page_end(table: &str, key: &Item) -> Result<PageEnd, StoreError> {
    let lock = key.get(LOCK).and_then(|value| value.s.clone());
    let ticket = key.get(TICKET).and_then(|value| value.n.clone());
    match (lock, ticket) {
        (Some(lock), Some(ticket)) => Ok(PageEnd { lock, ticket }),
        _ => {
            let mut found: Vec<_> = key.keys().map(String::as_str).collect();
            found.sort_unstable();
            Err(StoreError::WrongKeySchema {
                table: table.into(),
                found: found.join(", "),
            })
        }
    }
}

/// Reads a lock's name and record.
pub(super) fn lock(item: &Item) -> Result<(LockName, LockRecord), StoreError> {
    let shown = item.get(LOCK).and_then(|value| value.s.as_deref());
    let shown = shown.unwrap_or_default();
    let name = LockName::new(shown).map_err(|error| StoreError::Malformed {
        lock: shown.into(),
        attribute: LOCK.into(),
        problem: format!("is not the name of a lock ({error})"),
    })?;
    let record = item::record(&name, item, Strangers::Refused)?;
    Ok((name, record))
}
