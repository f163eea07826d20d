//! The rows of waiters: what is asked for, and what is answered.
//!
//! They are hints that waiters give about themselves. So an attribute that we do
//! not know is tolerated, and kept: it can lead to no wrong decision.

use rusoto_dynamodb::{AttributeValue, DeleteItemInput, QueryInput, UpdateItemInput};

use super::item::{
    EXPIRES_AT, ID, Item, OWNER, Reader, SINCE, STATE, TICKET, key_of_row, number, text,
};
use super::request::{names, owned};
use crate::error::StoreError;
use crate::record::{SCHEMA_VERSION, TicketRow, TicketState};
use crate::types::{HolderId, LockName, Ticket};

const WAITING: &str = "waiting";
const LEFT: &str = "left";

/// The row is not there yet, or it is the attempt's own and the attempt has not
/// left.
const OURS_TO_WRITE: &str = "attribute_not_exists(#lock) \
    OR (#schema = :schema AND #id = :id AND #state = :waiting)";

/// An update and not a put: it keeps what others added to the row, and needs no
/// permission that locking does not need anyway.
pub(super) fn announce(table: &str, lock: &LockName, row: &TicketRow) -> UpdateItemInput {
    let update = "SET #schema = :schema, #id = :id, #owner = :owner, #state = :state, \
        #since = :since, #expires_at = :expires_at";
    let state = match row.state {
        TicketState::Waiting => WAITING,
        TicketState::Left => LEFT,
    };
    UpdateItemInput {
        table_name: table.into(),
        key: key_of_row(lock, row.ticket.get()),
        expression_attribute_names: Some(names(&[OURS_TO_WRITE, update])),
        expression_attribute_values: Some(owned(vec![
            (":schema", number(SCHEMA_VERSION)),
            (":id", text(row.id.as_str())),
            (":owner", text(&row.owner)),
            (":state", text(state)),
            (":waiting", text(WAITING)),
            (":since", number(row.since_ms)),
            (":expires_at", number(row.expires_at_s)),
        ])),
        condition_expression: Some(OURS_TO_WRITE.into()),
        update_expression: Some(update.into()),
        ..UpdateItemInput::default()
    }
}

pub(super) fn dequeue(
    table: &str,
    lock: &LockName,
    ticket: Ticket,
    id: &HolderId,
) -> DeleteItemInput {
    let condition = "#id = :id";
    DeleteItemInput {
        table_name: table.into(),
        key: key_of_row(lock, ticket.get()),
        expression_attribute_names: Some(names(&[condition])),
        expression_attribute_values: Some(owned(vec![(":id", text(id.as_str()))])),
        condition_expression: Some(condition.into()),
        ..DeleteItemInput::default()
    }
}

/// One page of rows, beginning after the key `after`.
pub(super) fn look(
    table: &str,
    lock: &LockName,
    from: Ticket,
    to: Ticket,
    limit: usize,
    after: Option<Item>,
) -> QueryInput {
    let condition = "#lock = :lock AND #ticket BETWEEN :from AND :to";
    QueryInput {
        table_name: table.into(),
        key_condition_expression: Some(condition.into()),
        expression_attribute_names: Some(names(&[condition])),
        expression_attribute_values: Some(owned(vec![
            (":lock", text(lock.as_str())),
            (":from", number(from.get())),
            (":to", number(to.get())),
        ])),
        consistent_read: Some(true),
        scan_index_forward: Some(true),
        limit: Some(i64::try_from(limit).unwrap_or(i64::MAX)),
        exclusive_start_key: after,
        ..QueryInput::default()
    }
}

/// Reads the row of a ticket.
pub(super) fn row(lock: &LockName, item: &Item) -> Result<TicketRow, StoreError> {
    let shown = match item.get(TICKET) {
        Some(AttributeValue { n: Some(text), .. }) => text,
        _ => "?",
    };
    let row = Reader {
        lock,
        prefix: "",
        suffix: &format!(" (in the row of ticket {shown})"),
        item,
    };
    row.check_schema()?;
    let state = match row.text(STATE)? {
        WAITING => TicketState::Waiting,
        LEFT => TicketState::Left,
        other => {
            let problem = format!("is {other:?}, neither {WAITING:?} nor {LEFT:?}");
            return Err(row.malformed(STATE, problem));
        }
    };
    Ok(TicketRow {
        ticket: Ticket::new(row.number(TICKET, 1..=Ticket::MAX.get())?),
        id: HolderId::new(row.text(ID)?),
        owner: row.text(OWNER)?.into(),
        state,
        since_ms: row.number(SINCE, 0..=Ticket::MAX.get())?,
        expires_at_s: row.number(EXPIRES_AT, 0..=Ticket::MAX.get())?,
    })
}
