//! A blocking, first-come-first-served distributed lock on DynamoDB.

mod acquire;
mod carriers;
mod client;
mod clock;
mod core;
mod error;
mod event;
mod guard;
mod heartbeat;
mod lease;
mod options;
pub mod protocol;
pub mod record;
mod store;
mod types;

pub use client::{LockClient, LockClientBuilder};
pub use error::{Cause, Error, StoreError};
pub use event::{Event, Observer};
pub use guard::LockGuard;
pub use lease::Never;
pub use options::AcquireOptions;
pub use protocol::LossReason;
pub use store::{
    AccessKeys, Credentials, DynamoDbStore, DynamoDbStoreBuilder, LockStore, MemoryStore,
};
pub use types::{FencingToken, HolderId, InvalidName, LockName, Ticket};

pub use crossbeam_channel;
