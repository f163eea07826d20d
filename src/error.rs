//! What can go wrong, told apart by what there is to do about it.

use std::error::Error as StdError;
use std::time::Duration;

use crate::protocol::{Failure, FailureKind, LossReason};
use crate::types::{FencingToken, InvalidName, LockName};

/// The cause of a failure in a store.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a lock could not be taken, kept or given back.
///
/// That somebody else holds a lock is no error: [`try_acquire`] then returns
/// `None`, and the other verbs wait.
///
/// [`try_acquire`]: crate::LockClient::try_acquire
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot name a lock. Nothing was sent.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),

    /// A setting is out of its range. Nothing was sent.
    #[error("{setting}: {problem}")]
    InvalidSetting {
        /// The setting, by the name of its setter.
        setting: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },

    /// The lock was not granted within the time-out. The queue was left.
    #[error(
        "lock {lock:?} was not granted within {waited:?}{}; allow more time, or find out who holds it",
        ahead.map_or_else(String::new, |ahead| format!(" ({ahead} still ahead)")),
        lock = lock.as_str(),
    )]
    AcquireTimeout {
        /// The lock.
        lock: LockName,
        /// How long the call took.
        waited: Duration,
        /// How many turns still came first when this was last seen.
        ahead: Option<u64>,
    },

    /// The wait was cancelled by its user. The queue was left.
    #[error("waiting for lock {:?} was cancelled", lock.as_str())]
    Cancelled {
        /// The lock.
        lock: LockName,
    },

    /// The client was closed.
    #[error("lock {:?} was not acquired because the client was closed", lock.as_str())]
    Closed {
        /// The lock.
        lock: LockName,
    },

    /// This thread already holds the lock, alone or so many of its permits that there is
    /// no room for one more, and asked for it again without a time-out: it would have
    /// waited for itself for ever. Nothing was sent.
    ///
    /// A guard counts for the thread that acquired it, also after it was moved
    /// to another one. To queue behind it nevertheless, give a time-out.
    #[error(
        "this thread already holds lock {:?} and would wait for itself; \
         release the guard first, or give a time-out",
        lock.as_str()
    )]
    WouldDeadlock {
        /// The lock.
        lock: LockName,
    },

    /// The lock was held and is not any more, or not for sure. Stop the work it
    /// protects.
    #[error(
        "lock {:?} with token {token} was lost ({}); stop what it protects and acquire it anew",
        lock.as_str(),
        match reason {
            LossReason::LeaseExpired => "no renewal got through before the lease ended",
            LossReason::Superseded => "the table says it has moved on",
            LossReason::Forked => "held by the process that this one was forked from",
        }
    )]
    Lost {
        /// The lock.
        lock: LockName,
        /// The token of the grant that was lost.
        token: FencingToken,
        /// How it was lost.
        reason: LossReason,
    },

    /// The last of the lock's tickets, 2^53 - 1, is drawn. Nothing was taken.
    #[error(
        "all tickets of lock {lock:?} are used up; delete its row while nobody uses the lock: \
         a new one starts from the clock",
        lock = lock.as_str()
    )]
    TicketsUsedUp {
        /// The lock.
        lock: LockName,
    },

    /// The lock's record has gone back: this client has seen a higher token of the lock
    /// than the record allows for. A record that was restored from a backup does that, and
    /// would give out the same tokens a second time. The lock was not taken.
    #[error(
        "the record of lock {lock:?} has gone back from {seen} to {found}, as if restored from \
         a backup, and would give out the same tokens again; delete the lock's row: a new one \
         starts from the clock",
        lock = lock.as_str()
    )]
    WentBack {
        /// The lock.
        lock: LockName,
        /// The last token according to the record.
        found: FencingToken,
        /// The highest token that this client has seen.
        seen: FencingToken,
    },

    /// The store failed.
    #[error("could not {doing} lock {:?}: {source}", lock.as_str())]
    Store {
        /// The lock.
        lock: LockName,
        /// What was being done to it.
        doing: &'static str,
        /// What went wrong.
        source: StoreError,
    },

    /// The store failed while locks were being listed, or has a row that is no
    /// lock record.
    #[error("could not list the locks: {source}")]
    List {
        /// What went wrong. It names the row, if it is about one.
        source: StoreError,
    },

    /// This process was forked from the one that built the client. None of the client's
    /// threads are here, and its locks are the other process's. Nothing was sent.
    #[error(
        "the client asked for lock {:?} belongs to the process that this one was forked from; \
         build a client after the fork",
        lock.as_str()
    )]
    Forked {
        /// The lock.
        lock: LockName,
    },

    /// The operating system gave no random bits for an id. Nothing was sent.
    #[error(
        "could not draw a random id from the operating system; let this process use \
         getrandom(2) or read /dev/urandom"
    )]
    Randomness {
        /// What the system said.
        source: std::io::Error,
    },

    /// The operating system refused to start a thread.
    #[error(
        "could not start a heartbeat thread; raise the limit of threads of the process or its container"
    )]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a store could not read or write a lock's record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The table does not exist, or is not active yet.
    #[error(
        "table {table:?} does not exist here, or is not active yet; \
         check region and endpoint, or create it with DynamoDbStore::create_table"
    )]
    TableMissing {
        /// The table.
        table: String,
    },

    /// The table's key is not that of a lock table.
    #[error(
        "table {table:?} has the wrong key ({found}); a lock table needs the partition key \
         `lock` (S) and the sort key `ticket` (N). Use another table"
    )]
    WrongKeySchema {
        /// The table.
        table: String,
        /// What its key is.
        found: String,
    },

    /// The store asked for fewer requests. Nothing was written.
    #[error("the store is throttling; use on-demand billing or raise the table's capacity")]
    Throttled {
        /// What the store said.
        source: Cause,
    },

    /// No usable answer came. A write may have been applied all the same.
    #[error("no usable answer from the store; check the network and the endpoint: {source}")]
    Unreachable {
        /// What happened instead.
        source: Cause,
    },

    /// No credentials, or the store does not accept them for this request.
    #[error("the store denied access; check the credentials and their policy: {source}")]
    Denied {
        /// What the store, or the search for credentials, said.
        source: Cause,
    },

    /// A request was signed with another time than this machine's clock shows: by a clock
    /// of the program's, or one that the AWS SDK corrected. It was not sent. The service
    /// refuses clocks that are far off, and that no lock is taken from a living holder
    /// rests on it.
    #[error(
        "the request was not sent: {source}; set this machine's clock right, and leave \
         `time_source` and the correction of clock skew out of the SDK's configuration"
    )]
    WrongClock {
        /// Which time, and which one the clock shows.
        source: Cause,
    },

    /// The lock's row is not a lock record of this crate. It is left alone.
    #[error(
        "the record of lock {lock:?} is malformed: attribute `{attribute}` {problem}; \
         repair or delete the row, or use another table"
    )]
    Malformed {
        /// The lock.
        lock: String,
        /// The attribute at fault.
        attribute: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The lock's record was written by another version of this crate.
    #[error(
        "the record of lock {lock:?} has `{attribute}` {found}, this crate understands \
         {understood}; let all clients of a table run versions that understand each other"
    )]
    UnsupportedSchema {
        /// The lock.
        lock: String,
        /// The attribute that carries the version.
        attribute: String,
        /// The version found.
        found: u64,
        /// The version this crate understands.
        understood: u64,
    },

    /// The store rejected the request for a reason of its own.
    #[error("the store rejected the request: {source}")]
    Rejected {
        /// What the store said.
        source: Cause,
    },
}

impl StoreError {
    /// Whether a write that ended like this may have been applied.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        match self {
            // A malformed record in the answer to a write comes after the write.
            Self::Unreachable { .. } | Self::Malformed { .. } | Self::UnsupportedSchema { .. } => {
                true
            }
            Self::TableMissing { .. }
            | Self::WrongKeySchema { .. }
            | Self::Throttled { .. }
            | Self::Denied { .. }
            | Self::WrongClock { .. }
            | Self::Rejected { .. } => false,
        }
    }

    /// Whether the store could not be reached or had too much to do. What is refused for
    /// another reason is sent again as well, for some seconds: see
    /// [`failure`](Self::failure).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unreachable { .. })
    }

    /// What the protocol has to know about this. The one place that says what is sent
    /// again, whatever it was for.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure {
            maybe_applied: self.maybe_applied(),
            kind: match self {
                Self::Throttled { .. } | Self::Unreachable { .. } => FailureKind::Transient,
                // Also a rejection: codes come up that this version does not know.
                Self::Denied { .. } | Self::TableMissing { .. } | Self::Rejected { .. } => {
                    FailureKind::Refused
                }
                Self::WrongKeySchema { .. }
                | Self::WrongClock { .. }
                | Self::Malformed { .. }
                | Self::UnsupportedSchema { .. } => FailureKind::Final,
            },
        }
    }
}
