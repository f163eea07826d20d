//! An observer that counts and measures, for the `metrics` facade.

use metrics::{Label, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::error::{Error, StoreError};
use crate::event::{Event, Observer};
use crate::protocol::LossReason;

const WAIT: &str = "fifolock_wait_seconds";
const HOLD: &str = "fifolock_hold_seconds";
const RENEWAL: &str = "fifolock_renewal_seconds";
const MARGIN: &str = "fifolock_lease_margin_seconds";
const AHEAD: &str = "fifolock_queue_ahead";
const GIVEN_UP: &str = "fifolock_given_up_total";
const LOST: &str = "fifolock_lost_total";
const FAILED: &str = "fifolock_failed_requests_total";
const RELEASES_FAILED: &str = "fifolock_failed_releases_total";
const GONE: &str = "fifolock_gone_total";
const PASSED_OVER: &str = "fifolock_passed_over_total";

/// Feeds the [`metrics`](::metrics) facade: give it to
/// [`LockClientBuilder::observer`](crate::LockClientBuilder::observer). Feature
/// `metrics`.
///
/// | metric | kind | meaning |
/// |---|---|---|
/// | `fifolock_wait_seconds` | histogram | from the call to the grant |
/// | `fifolock_hold_seconds` | histogram | from the grant to the release |
/// | `fifolock_renewal_seconds` | histogram | from the send of a renewal to its answer |
/// | `fifolock_lease_margin_seconds` | histogram | what was left of the lease when a renewal was answered |
/// | `fifolock_queue_ahead` | histogram | how many turns came first when a waiter joined |
/// | `fifolock_given_up_total` | counter | acquires that ended without the lock, by `reason` |
/// | `fifolock_lost_total` | counter | losses, by `reason` |
/// | `fifolock_failed_requests_total` | counter | requests of waiters and renewals without an answer, by `reason`: `throttled` is one |
/// | `fifolock_failed_releases_total` | counter | guards that were dropped and could not be released, those whose lock was lost included |
/// | `fifolock_gone_total` | counter | turns and shares that were ended because their owners were gone |
/// | `fifolock_passed_over_total` | counter | waiters of this client that missed their turns |
///
/// ```
/// use dynamodb_fifo_lock::{LockClient, MemoryStore, Meter};
///
/// let client = LockClient::builder()
///     .observer(Meter::new().by_lock())
///     .build(MemoryStore::new())?;
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    by_lock: bool,
}

impl Meter {
    /// Describes the metrics to the recorder that is installed by now.
    #[must_use]
    pub fn new() -> Self {
        describe_histogram!(WAIT, Unit::Seconds, "From the call to the grant");
        describe_histogram!(HOLD, Unit::Seconds, "From the grant to the release");
        describe_histogram!(RENEWAL, Unit::Seconds, "From a renewal to its answer");
        describe_histogram!(
            MARGIN,
            Unit::Seconds,
            "What was left of the lease at a renewal"
        );
        describe_histogram!(AHEAD, "Turns that came first when a waiter joined");
        describe_counter!(GIVEN_UP, "Acquires that ended without the lock");
        describe_counter!(LOST, "Locks that were lost while they were held");
        describe_counter!(FAILED, "Requests of waiters and renewals that failed");
        describe_counter!(RELEASES_FAILED, "Guards that could not be released");
        describe_counter!(GONE, "Turns and shares whose owners were gone");
        describe_counter!(PASSED_OVER, "Waiters that missed their turns");
        Self { by_lock: false }
    }

    /// Gives each metric a label `lock` with the lock's name. Not for locks whose names
    /// never come again: each is a time series of its own. Defaults to no such label.
    #[must_use]
    pub fn by_lock(self) -> Self {
        Self { by_lock: true }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Meter {
    fn on_event(&self, event: &Event<'_>) {
        let mut labels = Vec::new();
        if self.by_lock {
            labels.push(Label::new("lock", event.lock().to_string()));
        }
        let because = |reason: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("reason", reason));
            labels
        };
        match event {
            Event::Enqueued { ahead, .. } => {
                // A queue that long is longer than a float can count one by one.
                #[allow(clippy::cast_precision_loss, reason = "it is for a dashboard")]
                histogram!(AHEAD, labels).record(*ahead as f64);
            }
            Event::Granted { waited, .. } => histogram!(WAIT, labels).record(*waited),
            Event::GaveUp { error, .. } => {
                counter!(GIVEN_UP, because(why_without(error))).increment(1);
            }
            Event::PassedOver { .. } => counter!(PASSED_OVER, labels).increment(1),
            Event::WentPast { first, last, .. } => {
                let gone = (last.get() + 1).saturating_sub(first.get());
                counter!(GONE, labels).increment(gone);
            }
            Event::Evicted { .. } => counter!(GONE, labels).increment(1),
            Event::WaitDisturbed { error, .. } | Event::RenewalFailed { error, .. } => {
                counter!(FAILED, because(why_failed(error))).increment(1);
            }
            Event::Renewed { took, margin, .. } => {
                histogram!(RENEWAL, labels.clone()).record(*took);
                histogram!(MARGIN, labels).record(*margin);
            }
            Event::Lost { reason, .. } => {
                let reason = match reason {
                    LossReason::LeaseExpired => "lease_expired",
                    LossReason::Superseded => "superseded",
                    LossReason::Forked => "forked",
                };
                counter!(LOST, because(reason)).increment(1);
            }
            Event::Released { held, .. } => histogram!(HOLD, labels).record(*held),
            Event::ReleaseFailed { .. } => counter!(RELEASES_FAILED, labels).increment(1),
            Event::Position { .. } => {}
        }
    }
}

fn why_without(error: &Error) -> &'static str {
    match error {
        Error::AcquireTimeout { .. } => "timed_out",
        Error::Cancelled { .. } => "cancelled",
        Error::Closed { .. } => "closed",
        Error::Store { source, .. } => why_failed(source),
        _ => "other",
    }
}

fn why_failed(error: &StoreError) -> &'static str {
    match error {
        StoreError::Throttled { .. } => "throttled",
        StoreError::Unreachable { .. } => "unreachable",
        StoreError::Denied { .. } => "denied",
        StoreError::WrongClock { .. } => "clock",
        StoreError::TableMissing { .. } | StoreError::WrongKeySchema { .. } => "table",
        StoreError::Malformed { .. } | StoreError::UnsupportedSchema { .. } => "record",
        StoreError::Rejected { .. } => "rejected",
    }
}
