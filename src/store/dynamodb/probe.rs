//! Finding out, without changing anything, whether a table can be worked with: for
//! those who have to find out why it cannot.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use rusoto_core::RusotoError;
use rusoto_dynamodb::{
    DynamoDb, TransactWriteItem, TransactWriteItemsError, TransactWriteItemsInput,
};

use super::failure::explain;
use super::wire::Wire;
use super::{DynamoDbStore, deadline, listing, request};
use crate::error::StoreError;
use crate::protocol::{Consistency, Write};
use crate::store::LockStore;
use crate::types::{HolderId, LockName, Ticket};

/// What a `Date` header can tell apart.
const RESOLUTION: Duration = Duration::from_secs(1);

/// Something that this crate asks of DynamoDB, each with a permission of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Reading a lock.
    GetItem,
    /// Taking and keeping a lock.
    UpdateItem,
    /// Reading who waits.
    Query,
    /// Removing the row of a waiter.
    DeleteItem,
    /// [`LockGuard::condition_check`](crate::LockGuard::condition_check) in a
    /// transaction.
    ConditionCheckItem,
    /// [`LockClient::list`](crate::LockClient::list).
    Scan,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::GetItem,
        Self::UpdateItem,
        Self::Query,
        Self::DeleteItem,
        Self::ConditionCheckItem,
        Self::Scan,
    ];

    /// Its name in a policy, after `dynamodb:`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GetItem => "GetItem",
            Self::UpdateItem => "UpdateItem",
            Self::Query => "Query",
            Self::DeleteItem => "DeleteItem",
            Self::ConditionCheckItem => "ConditionCheckItem",
            Self::Scan => "Scan",
        }
    }
}

/// Which keys sign the requests, as far as anybody may see them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SigningKeys {
    /// The public half.
    pub access_key_id: String,
    /// Where they were found: `environment`, `profile`, `container`, `instance`, or
    /// `program` if the program handed them over.
    pub found_in: &'static str,
    /// When they expire, if they do.
    pub expires_at: Option<SystemTime>,
}

/// How far this machine's wall clock and the service's are apart, at least. What
/// cannot be told from none, within about a second, is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockOffset {
    /// No difference that could be seen.
    None,
    /// This machine is ahead by this much, or more.
    Ahead(Duration),
    /// This machine is behind by this much, or more.
    Behind(Duration),
    /// The service does not say what time it is, as some emulators do not.
    Unknown,
}

impl DynamoDbStore {
    /// Tries an action so that nothing is changed: reads, and writes that are refused
    /// because their condition cannot hold. They are about a key that no lock can
    /// have. A write that is refused is billed like one that is not.
    ///
    /// # Errors
    /// What keeps the action from being carried out, [`StoreError::Denied`] above all.
    pub fn try_action(&self, action: Action, within: Duration) -> Result<(), StoreError> {
        let lock = LockName::nobodys();
        // Nobody draws this one.
        let (ticket, id) = (Ticket::new(1), HolderId::new("nobody"));
        match action {
            Action::GetItem => self.read(&lock, Consistency::Strong, within).map(drop),
            Action::UpdateItem => {
                let renewal = Write::Renew {
                    ticket,
                    id,
                    wall_ms: 0,
                };
                self.write(&lock, &renewal, within).map(drop)
            }
            Action::Query => self.look(&lock, ticket, ticket, 1, within).map(drop),
            Action::DeleteItem => self.dequeue(&lock, ticket, &id, within),
            Action::ConditionCheckItem => self.try_condition_check(&lock, ticket, &id, within),
            Action::Scan => {
                let mut input = listing::scan(&self.table, None);
                // One row is enough to see that it is allowed.
                input.limit = Some(1);
                Wire::scan(self, input, within)
                    .map(drop)
                    .map_err(|error| explain(&self.table, error))
            }
        }
    }

    fn try_condition_check(
        &self,
        lock: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        let check = request::condition_check(&self.table, lock, ticket, id);
        let input = TransactWriteItemsInput {
            transact_items: vec![TransactWriteItem {
                condition_check: Some(check),
                ..TransactWriteItem::default()
            }],
            ..TransactWriteItemsInput::default()
        };
        match self.ask(within, |client| async move {
            client.transact_write_items(input).await
        }) {
            Ok(_) | Err(RusotoError::Service(TransactWriteItemsError::TransactionCanceled(_))) => {
                Ok(())
            }
            Err(error) => Err(explain(&self.table, error)),
        }
    }

    /// Which keys would sign a request now. Sends nothing to the table; looks for keys
    /// if there are none yet.
    ///
    /// # Errors
    /// [`StoreError::Denied`] if there are none.
    pub fn signing_keys(&self, within: Duration) -> Result<SigningKeys, StoreError> {
        match self.credentials.get(deadline(within)) {
            Ok(keys) => Ok(keys.shown()),
            Err(why) => Err(StoreError::Denied {
                source: anyhow!(why).into(),
            }),
        }
    }

    /// Compares this machine's wall clock with the service's, by the `Date` of an
    /// answer to a request that needs no permission.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] if there is no answer.
    pub fn clock_offset(&self, within: Duration) -> Result<ClockOffset, StoreError> {
        let asked = SystemTime::now();
        let date = self
            .date_of_an_answer(within)
            .map_err(|error| StoreError::Unreachable {
                source: error.into(),
            })?;
        Ok(date.map_or(ClockOffset::Unknown, |date| {
            offset(asked, date, SystemTime::now())
        }))
    }

    fn date_of_an_answer(&self, within: Duration) -> anyhow::Result<Option<SystemTime>> {
        let answer = self
            .connections
            .here()
            .context("this store was handed down through too many forks; build one here")?
            .agent
            .get(self.endpoint())
            .config()
            .timeout_global(Some(within))
            .build()
            .call()?;
        let date = answer.headers().get("date");
        let date = date.and_then(|value| value.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }
}

/// The date was read off the service's clock at some moment between the question and
/// the answer, and its fraction of a second was dropped.
fn offset(asked: SystemTime, date: SystemTime, answered: SystemTime) -> ClockOffset {
    if let Ok(behind) = date.duration_since(answered)
        && !behind.is_zero()
    {
        return ClockOffset::Behind(behind);
    }
    match asked.duration_since(date) {
        Ok(ahead) if ahead > RESOLUTION => ClockOffset::Ahead(ahead - RESOLUTION),
        _ => ClockOffset::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_only_if_the_answer_cannot_be_explained_otherwise() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let found = |asked, answered| offset(at(asked), at(60_000), at(answered));
        for (asked, answered) in [(60_000, 60_000), (60_999, 61_500), (50_000, 60_000)] {
            assert_eq!(
                found(asked, answered),
                ClockOffset::None,
                "{asked} {answered}"
            );
        }
        let ahead = ClockOffset::Ahead(Duration::from_millis(500));
        assert_eq!(found(61_500, 61_600), ahead);
        let behind = ClockOffset::Behind(Duration::from_millis(7_000));
        assert_eq!(found(52_000, 53_000), behind);
    }
}
