//! A blocking, first-come-first-served distributed lock on DynamoDB, with RAII
//! guards, a heartbeat thread and fencing tokens.
//!
//! * [`LockClient`] acquires locks: [`acquire`](LockClient::acquire),
//!   [`try_acquire`](LockClient::try_acquire),
//!   [`acquire_timeout`](LockClient::acquire_timeout),
//!   [`acquire_with`](LockClient::acquire_with),
//!   [`with_lock`](LockClient::with_lock).
//! * [`LockGuard`] is a lock while it is held. Dropping it releases the lock.
//! * [`LockStatus`] is what a lock looks like from outside:
//!   [`inspect`](LockClient::inspect), [`list`](LockClient::list). An operator takes
//!   one away with [`break_lock`](LockClient::break_lock).
//! * [`FencingToken`] proves which grant a write belongs to.
//! * [`DynamoDbStore`] keeps the records in a table, [`MemoryStore`] in memory.
//! * [`protocol`] has the rules, without I/O or clocks.
//!
//! The rest of this page is the README.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod acquire;
mod attendance;
mod breaking;
mod builder;
mod chance;
mod client;
mod clock;
mod core;
mod departure;
mod ending;
mod error;
mod event;
mod guard;
/// How to use locks well, from choosing a lease to ending in good order.
///
#[doc = include_str!("../docs/guide.md")]
#[cfg(any(doc, doctest))]
pub mod guide {}
mod heartbeat;
mod inspect;
mod lease;
mod lobby;
mod lock_set;
mod machine;
mod memory;
#[cfg(feature = "metrics")]
mod meter;
mod options;
mod presence;
mod process;
pub mod protocol;
pub mod record;
mod semaphore;
mod shared;
#[cfg(test)]
mod simulation;
mod store;
#[cfg(feature = "test-util")]
pub mod testing;
mod trace;
mod types;

pub use attendance::CloseReport;
pub use builder::LockClientBuilder;
pub use client::LockClient;
pub use error::{Cause, Error, StoreError};
pub use event::{Event, Observer};
pub use guard::LockGuard;
pub use inspect::{HolderStatus, LockStatus, Locks, SharerStatus, WaiterStatus};
pub use lease::Never;
pub use lock_set::LockSet;
#[cfg(feature = "metrics")]
pub use meter::Meter;
pub use options::AcquireOptions;
pub use protocol::LossReason;
#[cfg(feature = "aws-sdk")]
pub use store::AwsSdkStore;
pub use store::{
    AccessKeys, Action, ClockOffset, Credentials, DynamoDbStore, DynamoDbStoreBuilder, Expiry,
    LockStore, MemoryStore, Page, PageEnd, SigningKeys, Written,
};
pub use types::{FencingToken, HolderId, InvalidName, LockName, Ticket};

/// The crate whose channels stand in our signatures.
pub use crossbeam_channel;

/// The crate whose [`ConditionCheck`](rusoto_dynamodb::ConditionCheck) stands in
/// our signatures.
pub use rusoto_dynamodb;

/// The crate whose [`Config`](aws_sdk_dynamodb::Config) stands in our signatures.
#[cfg(feature = "aws-sdk")]
pub use aws_sdk_dynamodb;
