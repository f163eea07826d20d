//! Exit codes. Scripts rest on them: they are never renumbered.
//!
//! They are those of sysexits(3), timeout(1) and env(1) where these have one that
//! fits, so that few commands use them for something else.

use dynamodb_fifo_lock::{Error, StoreError};

pub(crate) const OK: u8 = 0;
/// What was asked for is not there, or something failed for which there is no
/// better code.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;
/// The store cannot be reached, or throttles (`EX_UNAVAILABLE`).
pub(crate) const UNREACHABLE: u8 = 69;
/// The lock is busy, and was only to be tried (`EX_TEMPFAIL`).
pub(crate) const BUSY: u8 = 75;
/// The store denies access (`EX_NOPERM`).
pub(crate) const DENIED: u8 = 77;
/// The table is missing or unfit, or a row in it is (`EX_CONFIG`).
pub(crate) const UNFIT: u8 = 78;
/// The lock was lost while the command ran.
pub(crate) const LOST: u8 = 79;
/// The lock was lost, and a process of the command could not be stopped.
#[cfg(unix)]
pub(crate) const RUNS_ON: u8 = 80;
/// The lock was not granted in time.
pub(crate) const TIMED_OUT: u8 = 124;
/// The command to run under the lock cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;
/// There is no such command.
pub(crate) const NOT_FOUND: u8 = 127;

/// The user ended it with Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The code for a failure.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    let mut chain = error.chain();
    chain
        .find_map(|cause| {
            let by_lock = cause.downcast_ref().map(code_of_error);
            by_lock.or_else(|| cause.downcast_ref().map(code_of_store_error))
        })
        .unwrap_or(FAILED)
}

fn code_of_error(error: &Error) -> u8 {
    match error {
        Error::InvalidName(_) | Error::InvalidSetting { .. } => USAGE,
        Error::AcquireTimeout { .. } => TIMED_OUT,
        Error::Lost { .. } => LOST,
        Error::Store { source, .. } | Error::List { source } => code_of_store_error(source),
        Error::WentBack { .. } | Error::TicketsUsedUp { .. } => UNFIT,
        _ => FAILED,
    }
}

fn code_of_store_error(error: &StoreError) -> u8 {
    match error {
        StoreError::Unreachable { .. } | StoreError::Throttled { .. } => UNREACHABLE,
        StoreError::Denied { .. } | StoreError::WrongClock { .. } => DENIED,
        StoreError::TableMissing { .. }
        | StoreError::WrongKeySchema { .. }
        | StoreError::Malformed { .. }
        | StoreError::UnsupportedSchema { .. } => UNFIT,
        _ => FAILED,
    }
}
