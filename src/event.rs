//! What happens out of the caller's sight, for logs and metrics.

use std::time::Duration;

use crate::error::{Error, StoreError};
use crate::protocol::{LossReason, Stall};
use crate::types::{FencingToken, LockName, Ticket};

/// Something worth a log line or a counter.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A waiter joined the queue.
    Enqueued {
        /// The lock.
        lock: &'a LockName,
        /// The ticket drawn.
        ticket: Ticket,
        /// How many turns come first.
        ahead: u64,
    },
    /// The queue moved on. Told for every waiter of the client, by whichever of
    /// them looked.
    Position {
        /// The lock.
        lock: &'a LockName,
        /// The waiter's ticket.
        ticket: Ticket,
        /// How many turns still come first.
        ahead: u64,
    },
    /// A lock was granted.
    Granted {
        /// The lock.
        lock: &'a LockName,
        /// The grant's token.
        token: FencingToken,
        /// Whether it is held together with others.
        shared: bool,
        /// How long the call waited.
        waited: Duration,
    },
    /// An acquire ended without the lock, after it had asked for it. A try that found
    /// the lock busy is none.
    GaveUp {
        /// The lock.
        lock: &'a LockName,
        /// How long the call waited.
        waited: Duration,
        /// What it returns.
        error: &'a Error,
    },
    /// A waiter's turn went by without it. It joins the queue again at its end.
    PassedOver {
        /// The lock.
        lock: &'a LockName,
        /// The ticket that is gone.
        ticket: Ticket,
    },
    /// This client ended the share of somebody who showed no sign of life.
    Evicted {
        /// The lock.
        lock: &'a LockName,
        /// Who it was: the owner's text.
        owner: &'a str,
    },
    /// This client ended the turn of somebody who showed no sign of life, and of
    /// those after him who were gone as well.
    WentPast {
        /// The lock.
        lock: &'a LockName,
        /// The first ticket that was passed over.
        first: Ticket,
        /// The last one.
        last: Ticket,
        /// Why.
        stall: &'a Stall,
    },
    /// A request of a waiter failed. If it still waits, it will be sent again.
    WaitDisturbed {
        /// The lock.
        lock: &'a LockName,
        /// What went wrong.
        error: &'a StoreError,
    },
    /// A held lock was renewed. The first claim of a turn that was granted without one
    /// is none.
    Renewed {
        /// The lock.
        lock: &'a LockName,
        /// The grant's token.
        token: FencingToken,
        /// From the send to the answer.
        took: Duration,
        /// What was left of the lease when the answer came.
        margin: Duration,
    },
    /// A renewal failed. It will be sent again until the lease ends.
    RenewalFailed {
        /// The lock.
        lock: &'a LockName,
        /// The grant's token.
        token: FencingToken,
        /// What went wrong.
        error: &'a StoreError,
    },
    /// A held lock was lost.
    Lost {
        /// The lock.
        lock: &'a LockName,
        /// The token of the grant that was lost.
        token: FencingToken,
        /// How.
        reason: LossReason,
    },
    /// A held lock was given back.
    Released {
        /// The lock.
        lock: &'a LockName,
        /// The grant's token.
        token: FencingToken,
        /// From the grant to the release.
        held: Duration,
        /// Whether the next waiter, of this same client, got it in the same request.
        handed_over: bool,
    },
    /// A guard was dropped, or a `with_lock` ended, and the release failed. The
    /// lock comes free when its lease ends.
    ReleaseFailed {
        /// The lock.
        lock: &'a LockName,
        /// The grant's token.
        token: FencingToken,
        /// What went wrong.
        error: &'a Error,
    },
}

impl Event<'_> {
    /// The lock that the event is about.
    #[must_use]
    pub fn lock(&self) -> &LockName {
        match self {
            Self::Enqueued { lock, .. }
            | Self::Position { lock, .. }
            | Self::Granted { lock, .. }
            | Self::GaveUp { lock, .. }
            | Self::PassedOver { lock, .. }
            | Self::Evicted { lock, .. }
            | Self::WentPast { lock, .. }
            | Self::WaitDisturbed { lock, .. }
            | Self::Renewed { lock, .. }
            | Self::RenewalFailed { lock, .. }
            | Self::Lost { lock, .. }
            | Self::Released { lock, .. }
            | Self::ReleaseFailed { lock, .. } => lock,
        }
    }
}

/// Hears of [`Event`]s. Every `Fn(&Event)` is one.
///
/// An observer is called on the thread where the event happens: a caller's
/// thread, or one of the threads that carry renewals, but never the heartbeat
/// thread itself, and never with a lock of this crate held. It may be called
/// from several threads at once. One that blocks holds that thread up: a waiter
/// that it keeps from its turn for longer than the client's
/// [`presence`](crate::LockClientBuilder::presence) loses its place, and a holder that it
/// keeps from its guard holds on.
///
/// ```
/// use dynamodb_fifo_lock::{Event, LockClient, MemoryStore};
///
/// let client = LockClient::builder()
///     .observer(|event: &Event<'_>| {
///         if let Event::Lost { lock, token, .. } = event {
///             eprintln!("lost {lock} (token {token})");
///         }
///     })
///     .build(MemoryStore::new())?;
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Called when something happened.
    fn on_event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// Both hear of everything, one after the other.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn on_event(&self, event: &Event<'_>) {
        self.0.on_event(event);
        self.1.on_event(event);
    }
}

/// The observer of a client that was given none.
pub(crate) struct Silence;

impl Observer for Silence {
    fn on_event(&self, _: &Event<'_>) {}
}
