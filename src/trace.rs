//! Spans and events for `tracing`, if the feature of that name is on; otherwise
//! nothing, at no cost.
//!
//! A span `wait` covers the call that acquires, on the caller's thread and in the
//! caller's own span. A span `hold` covers the time that a guard is there; what the
//! heartbeat has to say about the lock is said in it.

#[cfg(feature = "tracing")]
pub(crate) use on::{Span, event, hold, wait};

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{Span, event, hold, wait};

#[cfg(feature = "tracing")]
mod on {
    use tracing::{debug, debug_span, info, trace, warn};

    use crate::event::Event;
    use crate::types::{FencingToken, LockName};

    pub(crate) type Span = tracing::Span;

    /// What subscribers filter by: the name of the crate, whatever module tells.
    const TARGET: &str = "dynamodb_fifo_lock";

    pub(crate) fn wait(lock: &LockName) -> Span {
        debug_span!(target: TARGET, "wait", lock = lock.as_str())
    }

    pub(crate) fn hold(lock: &LockName, token: FencingToken, shared: bool) -> Span {
        debug_span!(target: TARGET, "hold", lock = lock.as_str(), token = token.get(), shared)
    }

    /// Losses and what endangers a lock are warnings. That somebody was gone is worth
    /// knowing. All else is for whoever wants to look closely.
    pub(crate) fn event(event: &Event<'_>) {
        let lock = event.lock().as_str();
        match event {
            Event::Enqueued { ticket, ahead, .. } => {
                debug!(target: TARGET, lock, ticket = ticket.get(), ahead, "joined the queue");
            }
            Event::Position { ticket, ahead, .. } => {
                trace!(target: TARGET, lock, ticket = ticket.get(), ahead, "the queue moved on");
            }
            Event::Granted {
                token,
                shared,
                waited,
                ..
            } => {
                debug!(target: TARGET, lock, token = token.get(), shared, ?waited, "granted");
            }
            Event::GaveUp { waited, error, .. } => {
                debug!(target: TARGET, lock, ?waited, %error, "gave up");
            }
            Event::PassedOver { ticket, .. } => {
                warn!(target: TARGET, lock, ticket = ticket.get(), "passed over, joins again");
            }
            Event::WentPast {
                first, last, stall, ..
            } => {
                let (first, last) = (first.get(), last.get());
                info!(target: TARGET, lock, first, last, ?stall, "went past those who are gone");
            }
            Event::Evicted { owner, .. } => {
                info!(target: TARGET, lock, owner, "ended the share of somebody who is gone");
            }
            Event::WaitDisturbed { error, .. } => {
                debug!(target: TARGET, lock, %error, "a request of a waiter failed");
            }
            Event::Renewed {
                token,
                took,
                margin,
                ..
            } => {
                trace!(target: TARGET, lock, token = token.get(), ?took, ?margin, "renewed");
            }
            Event::RenewalFailed { token, error, .. } => {
                warn!(target: TARGET, lock, token = token.get(), %error, "a renewal failed");
            }
            Event::Lost { token, reason, .. } => {
                warn!(target: TARGET, lock, token = token.get(), ?reason, "lost");
            }
            Event::Released {
                token,
                held,
                handed_over,
                ..
            } => {
                debug!(target: TARGET, lock, token = token.get(), ?held, handed_over, "released");
            }
            Event::ReleaseFailed { token, error, .. } => {
                warn!(target: TARGET, lock, token = token.get(), %error, "a release failed");
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use crate::event::Event;
    use crate::types::{FencingToken, LockName};

    pub(crate) struct Span;

    impl Span {
        #[allow(clippy::unused_self, reason = "it stands in for a span of `tracing`")]
        pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }
    }

    pub(crate) fn wait(_: &LockName) -> Span {
        Span
    }

    pub(crate) fn hold(_: &LockName, _: FencingToken, _: bool) -> Span {
        Span
    }

    pub(crate) fn event(_: &Event<'_>) {}
}
