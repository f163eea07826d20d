//! The lock while it is held.

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rusoto_dynamodb::ConditionCheck;

use crate::core::Core;
use crate::ending::{Unsent, said, send_elsewhere, send_here};
use crate::error::{Error, StoreError};
use crate::event::Event;
use crate::lease::{Lease, Never};
use crate::lobby::Reservation;
use crate::protocol::{Answer, LossReason, ReleaseEnd, ReleaseStep, Releasing, Standing};
use crate::record::Mode;
use crate::shared::Shared;
use crate::types::{FencingToken, LockName};

/// A lock that is held until the guard is dropped or its lease is lost.
///
/// While the guard lives, the client's heartbeat thread renews the lease. Should
/// that fail for a whole lease, or should the table say that the lock has moved
/// on, the guard turns invalid: [`is_held`](Self::is_held) says `false` and the
/// channel of [`lost`](Self::lost) closes. No lock with a lease can stop code
/// that runs on regardless, so send [`fencing_token`](Self::fencing_token) along
/// with whatever the protected code writes.
///
/// A guard that was granted after a wait may rest on its turn alone at first, which
/// nobody can end before the claim grace is over; the heartbeat thread claims the
/// lock if it is still held by then. So [`remaining`](Self::remaining) may begin
/// with less than the lease.
///
/// Dropping the guard releases the lock and blocks for that: one round trip as a
/// rule, at most twice the client's
/// [request time-out](crate::LockClientBuilder::request_timeout). Errors go to
/// the observer; [`release`](Self::release) returns them.
///
/// A guard that is never dropped holds its lock, and keeps its client's threads, until the
/// process ends: do not [`mem::forget`](std::mem::forget) it, nor keep it in a cycle of
/// `Arc`s. Nothing else tells a guard that was leaked from one whose work takes long.
///
/// A guard may be sent to another thread, and dropped anywhere: inside an async runtime, in
/// a `thread_local!` as its thread ends.
///
/// In a process that is forked from the holder's its copy is not held: it says so
/// ([`LossReason::Forked`]), and dropping it does nothing. The holder holds on. (A receiver
/// that was taken from [`lost`](Self::lost) before the fork stays silent there.)
///
/// ```
/// use dynamodb_fifo_lock::{LockClient, MemoryStore};
///
/// let client = LockClient::builder().build(MemoryStore::new())?;
/// let guard = client.acquire("invoices/2026-11")?;
/// println!("writing with token {}", guard.fencing_token());
/// guard.ensure_held()?;
/// guard.release()?;
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct LockGuard {
    lease: Arc<Lease>,
    /// Taken by whichever comes first, `release` or `drop`.
    held: Option<Arc<Shared>>,
}

impl LockGuard {
    pub(crate) fn new(lease: Arc<Lease>, shared: Arc<Shared>) -> Self {
        Self {
            lease,
            held: Some(shared),
        }
    }

    #[cfg(test)]
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// The lock's name.
    #[must_use]
    pub fn name(&self) -> &LockName {
        &self.lease.name
    }

    /// The number that proves which grant a write belongs to; see
    /// [`FencingToken`].
    #[must_use]
    pub fn fencing_token(&self) -> FencingToken {
        self.lease.token()
    }

    /// Whether the lock is held at this moment. A look at the clock; no request.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lease.standing() == Standing::Held
    }

    /// How long the lock stays held if no further renewal gets through. Zero
    /// once it is lost. No request.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lease.remaining()
    }

    /// Whether the lock is held together with others:
    /// [`AcquireOptions::shared`](crate::AcquireOptions::shared),
    /// [`permits`](crate::AcquireOptions::permits). No request.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.lease.mode != Mode::Exclusive
    }

    /// Checks that the lock is held. No request.
    ///
    /// # Errors
    /// [`Error::Lost`] if it is not.
    pub fn ensure_held(&self) -> Result<(), Error> {
        match self.lease.standing() {
            Standing::Held => Ok(()),
            Standing::Ended => Err(self.lost_by(LossReason::Superseded)),
            Standing::Lost(reason) => Err(self.lost_by(reason)),
        }
    }

    /// A channel that closes when the lock is lost, and never carries a message:
    /// for `crossbeam_channel::select!`, or for a thread that waits. It closes
    /// by the lease's end at the latest, also while the store hangs (within a second,
    /// if the machine was suspended). Clones of the receiver see it close on release
    /// as well.
    #[must_use]
    pub fn lost(&self) -> &Receiver<Never> {
        self.lease.lost()
    }

    /// A condition for a DynamoDB transaction: put it into a `TransactWriteItems`
    /// next to your own writes, and they are committed only while it is this
    /// guard's turn. `None` if the store is not in DynamoDB, if the lock is
    /// shared, and in a process that was forked from the holder's. No request.
    ///
    /// This is the strongest fencing there is. The server looks at the lock as it
    /// commits, so neither a pause of this process nor a lease that ended can let
    /// a late write through, and the tables written to need not know of tokens.
    /// Whether the lock was already lost or released is therefore *not* checked
    /// here: the server decides. A transaction that it cancels for this condition
    /// will not succeed when sent again.
    ///
    /// Needs permission for `dynamodb:ConditionCheckItem` on the table of locks.
    /// A transaction and a renewal that meet on the record get in each other's
    /// way: either may be told that there was a conflict, and is to be sent again.
    ///
    /// ```no_run
    /// use dynamodb_fifo_lock::LockGuard;
    /// use dynamodb_fifo_lock::rusoto_dynamodb::{
    ///     Put, TransactWriteItem, TransactWriteItemsInput,
    /// };
    ///
    /// fn fenced(guard: &LockGuard, put: Put) -> TransactWriteItemsInput {
    ///     let check = TransactWriteItem {
    ///         condition_check: guard.condition_check(),
    ///         ..TransactWriteItem::default()
    ///     };
    ///     let write = TransactWriteItem {
    ///         put: Some(put),
    ///         ..TransactWriteItem::default()
    ///     };
    ///     TransactWriteItemsInput {
    ///         transact_items: vec![check, write],
    ///         ..TransactWriteItemsInput::default()
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn condition_check(&self) -> Option<ConditionCheck> {
        if self.is_shared() {
            return None;
        }
        let store = &self.held.as_ref()?.core.store;
        store.condition_check(&self.lease.name, self.lease.ticket, &self.lease.id)
    }

    /// The same [condition](Self::condition_check) as the AWS SDK has it, whichever
    /// library the store uses. Needs the feature `aws-sdk`.
    ///
    /// ```no_run
    /// use dynamodb_fifo_lock::LockGuard;
    /// use dynamodb_fifo_lock::aws_sdk_dynamodb::types::{Put, TransactWriteItem};
    ///
    /// fn fenced(guard: &LockGuard, put: Put) -> Vec<TransactWriteItem> {
    ///     let check = TransactWriteItem::builder()
    ///         .set_condition_check(guard.aws_sdk_condition_check())
    ///         .build();
    ///     vec![check, TransactWriteItem::builder().put(put).build()]
    /// }
    /// ```
    #[cfg(feature = "aws-sdk")]
    #[must_use]
    pub fn aws_sdk_condition_check(&self) -> Option<aws_sdk_dynamodb::types::ConditionCheck> {
        crate::store::condition_check(self.condition_check()?)
    }

    /// Releases the lock and says whether that worked. Blocks for one round trip
    /// as a rule, at most for twice the client's
    /// [request time-out](crate::LockClientBuilder::request_timeout): for so long it is sent
    /// again if it fails or the service refuses it.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock was lost before, [`Error::Store`] if the
    /// release did not get through; the lock then comes free when its lease ends.
    pub fn release(mut self) -> Result<(), Error> {
        if self.lease.is_forked() {
            let error = self.lost_by(LossReason::Forked);
            mem::forget(self);
            return Err(error);
        }
        let Some(shared) = self.held.take() else {
            return Ok(());
        };
        let released = self.finish(&shared)?;
        self.tell_release(&shared.core, &Ok(released));
        Ok(())
    }

    fn finish(&self, shared: &Shared) -> Result<Released, Error> {
        // Before the others are told that the lock is not held any more: whoever is
        // to have it next must not go and look for itself.
        let next = match self.lease.mode {
            Mode::Exclusive => shared
                .lobby
                .reserve_next(&self.lease.name, self.lease.ticket),
            Mode::Shared { .. } => None,
        };
        // From here on the guard says that it does not hold, whatever comes of
        // the request; and a renewal still under way changes nothing any more.
        let (stood, news) = self.lease.settle(|tenure, now| tenure.end(now));
        shared.forget(&self.lease);
        if let Some(reason) = news {
            self.lease.tell_loss(&shared.core, reason);
        }
        match stood {
            Standing::Lost(reason @ LossReason::LeaseExpired) => {
                drop(next);
                // Nobody may have gone past us yet: spare them the wait.
                let _ = self.hand_on(&shared.core, None);
                Err(self.lost_by(reason))
            }
            Standing::Lost(reason) => Err(self.lost_by(reason)),
            Standing::Held | Standing::Ended => {
                let held = shared.core.machine.now().since(self.lease.granted_at);
                let handed_over = self.hand_on(&shared.core, next).inspect_err(|error| {
                    if let Error::Lost { reason, .. } = error {
                        self.lease.tell_loss(&shared.core, *reason);
                    }
                })?;
                if self.is_shared() {
                    shared.lobby.nudge_first(&self.lease.name);
                }
                Ok(Released { held, handed_over })
            }
        }
    }

    fn tell_release(&self, core: &Core, outcome: &Result<Released, Error>) {
        let (lock, token) = (&self.lease.name, self.lease.token());
        let event = match outcome {
            Ok(Released { held, handed_over }) => Event::Released {
                lock,
                token,
                held: *held,
                handed_over: *handed_over,
            },
            Err(error) => Event::ReleaseFailed { lock, token, error },
        };
        self.lease.tell(core, &event);
    }

    /// Releases the lock, or hands it over to `next`, who waits in this process. Says
    /// whether it was handed over.
    fn hand_on(&self, core: &Arc<Core>, next: Option<Reservation>) -> Result<bool, Error> {
        let limit = core.settings.request_timeout;
        let give_up_at = core.machine.now().plus(limit * 2);
        let mut releasing = Releasing::new(
            self.lease.ticket,
            self.lease.id.clone(),
            self.lease.mode,
            next.as_ref().map(|next| next.holder.clone()),
            give_up_at,
        );
        let mut answer = Answer::Ready;
        let mut first_failure: Option<StoreError> = None;
        let mut panicked = false;
        loop {
            let now = core.now();
            answer = match releasing.step(answer, now) {
                ReleaseStep::Write(write) => {
                    let within = limit.min(give_up_at.since(now.moment));
                    // While a thread ends a store may panic for want of thread-local
                    // variables. It is asked again on another one.
                    let sent = match panicked {
                        false => send_here(core, &self.lease.name, &write, within),
                        true => send_elsewhere(core, &self.lease.name, write, within),
                    };
                    match sent {
                        Ok(written) => written.into(),
                        Err(Unsent { error, by_panic }) => {
                            panicked |= by_panic;
                            let failure = error.failure();
                            first_failure.get_or_insert(error);
                            Answer::Failed(failure)
                        }
                    }
                }
                ReleaseStep::Pause(until) => {
                    core.machine.wait(&[], until);
                    Answer::Ready
                }
                ReleaseStep::Done(ReleaseEnd::HandedOver(sent)) => {
                    if let Some(next) = next {
                        next.handed_over(sent);
                    }
                    return Ok(true);
                }
                ReleaseStep::Done(ReleaseEnd::Released) => return Ok(false),
                ReleaseStep::Done(end) => {
                    return Err(match (end, first_failure) {
                        (ReleaseEnd::Failed, Some(source)) => Error::Store {
                            lock: self.lease.name.clone(),
                            doing: "release",
                            source,
                        },
                        _ => self.lost_by(LossReason::Superseded),
                    });
                }
            };
        }
    }

    /// What is told of a release that ended in a panic.
    fn panicked(&self, panic: &(dyn Any + Send)) -> Error {
        Error::Store {
            lock: self.lease.name.clone(),
            doing: "release",
            source: said(panic),
        }
    }

    fn lost_by(&self, reason: LossReason) -> Error {
        Error::Lost {
            lock: self.lease.name.clone(),
            token: self.lease.token(),
            reason,
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let Some(shared) = self.held.take() else {
            return;
        };
        if self.lease.is_forked() {
            // Kept alive for ever: what is in there may be locked by threads that are not.
            mem::forget((shared, Arc::clone(&self.lease)));
            return;
        }
        // A panic here, in a store or an observer, could abort the process if
        // the guard is dropped by a panic in its turn.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.finish(&shared)))
            .unwrap_or_else(|panic| Err(self.panicked(&*panic)));
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.tell_release(&shared.core, &outcome);
            drop(shared);
        }));
    }
}

/// How a release went that got through.
struct Released {
    /// From the grant to the release.
    held: Duration,
    handed_over: bool,
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", &self.lease.name.as_str())
            .field("fencing_token", &self.fencing_token().get())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
