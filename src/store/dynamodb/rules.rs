//! What a store in DynamoDB does, over any wire: which requests it makes, and what
//! it takes the answers for.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use rusoto_core::RusotoError;
use rusoto_dynamodb::{DeleteItemError, GetItemInput};

use super::failure::{Classify, explain};
use super::item::{self, Strangers};
use super::wire::{Updated, Wire};
use super::{listing, request, rows, table};
use crate::error::StoreError;
use crate::protocol::{Consistency, Write};
use crate::record::{LockRecord, TicketRow};
use crate::store::{FIRST_TICKET, Page, PageEnd, Written, check_ticket};
use crate::types::{HolderId, LockName, Ticket};

pub(super) fn read(
    wire: &impl Wire,
    lock: &LockName,
    consistency: Consistency,
    within: Duration,
) -> Result<Option<LockRecord>, StoreError> {
    let began = Instant::now();
    let input = GetItemInput {
        table_name: wire.table().into(),
        key: item::key(lock),
        consistent_read: Some(consistency == Consistency::Strong),
        ..GetItemInput::default()
    };
    match wire.get_item(input, within) {
        Ok(found) => found
            .map(|item| item::record(lock, &item, Strangers::Refused))
            .transpose(),
        Err(error) => Err(look_at_key(wire, error, began, within)),
    }
}

pub(super) fn write(
    wire: &impl Wire,
    lock: &LockName,
    write: &Write,
    within: Duration,
) -> Result<Written, StoreError> {
    let began = Instant::now();
    let input = request::update(wire.table(), lock, write);
    match wire.update_item(input, within) {
        Ok(Updated::Done(Some(item))) => {
            // Whoever holds, or has the turn, goes on holding, and can give back,
            // whatever somebody added to the record meanwhile.
            let strangers = match write {
                Write::Renew { .. }
                | Write::Claim { .. }
                | Write::Release { .. }
                | Write::HandOver { .. }
                | Write::Withdraw { .. }
                | Write::Share { .. }
                | Write::RenewShare { .. }
                | Write::Unshare { .. } => Strangers::Ignored,
                _ => Strangers::Refused,
            };
            item::record(lock, &item, strangers).map(Written::Applied)
        }
        Ok(Updated::Done(None)) => Err(StoreError::Unreachable {
            source: anyhow!("the answer to a write does not show the record").into(),
        }),
        // Whatever is wrong with a record that cannot be read is for a read to say.
        Ok(Updated::Refused(seen)) => {
            Ok(Written::Refused(seen.and_then(|item| {
                item::record(lock, &item, Strangers::Refused).ok()
            })))
        }
        Err(error) => Err(look_at_key(wire, error, began, within)),
    }
}

pub(super) fn announce(
    wire: &impl Wire,
    lock: &LockName,
    row: &TicketRow,
    within: Duration,
) -> Result<bool, StoreError> {
    check_ticket(row.ticket)?;
    let began = Instant::now();
    let input = rows::announce(wire.table(), lock, row);
    match wire.update_item(input, within) {
        Ok(updated) => Ok(matches!(updated, Updated::Done(_))),
        Err(error) => Err(look_at_key(wire, error, began, within)),
    }
}

pub(super) fn dequeue(
    wire: &impl Wire,
    lock: &LockName,
    ticket: Ticket,
    id: &HolderId,
    within: Duration,
) -> Result<(), StoreError> {
    check_ticket(ticket)?;
    let began = Instant::now();
    let input = rows::dequeue(wire.table(), lock, ticket, id);
    match wire.delete_item(input, within) {
        Ok(()) | Err(RusotoError::Service(DeleteItemError::ConditionalCheckFailed(_))) => Ok(()),
        Err(error) => Err(look_at_key(wire, error, began, within)),
    }
}

pub(super) fn look(
    wire: &impl Wire,
    lock: &LockName,
    from: Ticket,
    to: Ticket,
    limit: usize,
    within: Duration,
) -> Result<Vec<TicketRow>, StoreError> {
    let began = Instant::now();
    let from = from.max(FIRST_TICKET);
    let mut found = Vec::new();
    let mut after = None;
    // DynamoDB rejects a range that ends before it begins, and a limit of 0.
    while from <= to && found.len() < limit {
        let input = rows::look(wire.table(), lock, from, to, limit - found.len(), after);
        let left = within.saturating_sub(began.elapsed());
        let answer = wire
            .query(input, left)
            .map_err(|error| look_at_key(wire, error, began, within))?;
        let items = answer.items.ok_or_else(shows_nothing)?;
        for item in &items {
            found.push(rows::row(lock, item)?);
        }
        after = answer.last_evaluated_key;
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

pub(super) fn list(
    wire: &impl Wire,
    after: Option<&PageEnd>,
    within: Duration,
) -> Result<Page, StoreError> {
    let input = listing::scan(wire.table(), after);
    let answer = wire
        .scan(input, within)
        .map_err(|error| explain(wire.table(), error))?;
    let items = answer.items.ok_or_else(shows_nothing)?;
    let next = match answer.last_evaluated_key {
        Some(key) => Some(listing::page_end(wire.table(), &key)?),
        None => None,
    };
    Ok(Page {
        locks: items.iter().map(listing::lock).collect(),
        next,
    })
}

/// The service does not say what is wrong with a key; the table does, if there is time
/// left to ask.
fn look_at_key<W: Wire, E: Classify>(
    wire: &W,
    error: RusotoError<E>,
    began: Instant,
    within: Duration,
) -> StoreError {
    let error = explain(wire.table(), error);
    let StoreError::WrongKeySchema { .. } = &error else {
        return error;
    };
    match table::describe(wire, within.saturating_sub(began.elapsed())) {
        Ok(table) => StoreError::WrongKeySchema {
            table: wire.table().into(),
            found: table::key_of(&table).join(", "),
        },
        Err(_) => error,
    }
}

/// An answer without rows is not the answer that there are none.
fn shows_nothing() -> StoreError {
    StoreError::Unreachable {
        source: anyhow!("the answer to a question for rows does not show any list").into(),
    }
}

/// Makes a store of a type with a `table` that is a [`Wire`].
macro_rules! store_over_a_wire {
    ($store:ty) => {
        impl LockStore for $store {
            fn read(
                &self,
                lock: &LockName,
                consistency: Consistency,
                within: Duration,
            ) -> Result<Option<LockRecord>, StoreError> {
                rules::read(self, lock, consistency, within)
            }

            fn write(
                &self,
                lock: &LockName,
                write: &Write,
                within: Duration,
            ) -> Result<Written, StoreError> {
                rules::write(self, lock, write, within)
            }

            fn announce(
                &self,
                lock: &LockName,
                row: &TicketRow,
                within: Duration,
            ) -> Result<bool, StoreError> {
                rules::announce(self, lock, row, within)
            }

            fn dequeue(
                &self,
                lock: &LockName,
                ticket: Ticket,
                id: &HolderId,
                within: Duration,
            ) -> Result<(), StoreError> {
                rules::dequeue(self, lock, ticket, id, within)
            }

            fn look(
                &self,
                lock: &LockName,
                from: Ticket,
                to: Ticket,
                limit: usize,
                within: Duration,
            ) -> Result<Vec<TicketRow>, StoreError> {
                rules::look(self, lock, from, to, limit, within)
            }

            fn list(&self, after: Option<&PageEnd>, within: Duration) -> Result<Page, StoreError> {
                rules::list(self, after, within)
            }

            fn condition_check(
                &self,
                lock: &LockName,
                ticket: Ticket,
                id: &HolderId,
            ) -> Option<ConditionCheck> {
                Some(request::condition_check(&self.table, lock, ticket, id))
            }
        }
    };
}

pub(super) use store_over_a_wire;
