//! The locking protocol, without I/O, clocks or randomness.
//!
//! Everything in here is a function of what was read, what is known and what
//! time it is. The blocking client, a simulator and a model checker run this
//! same code: they differ only in who carries the requests and who tells the
//! time. `docs/protocol.md` explains the rules.
//!
//! * [`Write`]: the conditional writes, and [`apply`], what each one does.
//! * [`Waiter`]: one acquire attempt, from the first try to the grant.
//! * [`survey`]: who of those in the queue is gone.
//! * [`Presence`]: what a waiter says about itself, and when.
//! * [`Tenure`]: what a holder knows about its own lease.
//! * [`Releasing`]: giving the lock back through lost answers.
//! * [`Breaking`]: taking a turn away because an operator says so.
//! * [`Watch`]: how long a record has stood still, as one observer saw it.
//! * [`Pace`]: how long to pause between two looks.
//! * [`Failure`]: whether, and for how long, a failed request is sent again.

mod attempt;
mod breaking;
mod failure;
mod issued;
mod pace;
mod presence;
mod release;
mod survey;
mod tenure;
mod waiter;
mod watch;
mod write;

pub use attempt::{Attempt, GaveUp, Grant, Notice, Patience, Step, Title};
pub use breaking::{BreakEnd, BreakStep, Breaking};
pub use failure::{Failure, FailureKind, REFUSED_AT_FIRST, REFUSED_LATER};
pub use pace::{Pace, Place, backoff};
pub use presence::{ANNOUNCE_DELAY, Presence, expiry};
pub use release::{ReleaseEnd, ReleaseStep, Releasing};
pub use survey::{Criteria, FURTHER_LIMIT, Finding, LOOK_LIMIT, survey};
pub use tenure::{LossReason, Standing, Tenure};
pub use waiter::Waiter;
pub use watch::{Stall, Watch, has_abandoned, is_abandoned, observed_lease, row_delay};
pub use write::{Write, apply};

pub use crate::clock::Moment;
use crate::record::{LockRecord, TicketRow};

/// What a decision may know about the instant at which it is made.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub moment: Moment,
    /// The wall clock in milliseconds since 1970. It is written down, and seeds
    /// the tokens of a new record. Nothing is decided by it but that somebody who
    /// was silent for longer than two clocks can differ is dead.
    pub wall_ms: u64,
    /// A random number from 0 (included) to 1 (excluded), fresh for each
    /// decision. It spreads pauses out.
    pub dice: f64,
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Sees every write that was answered before the read was sent.
    Strong,
    /// May be behind by a moment, at half the price.
    Eventual,
}

/// What came back for the last [`Step`] or [`ReleaseStep`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Nothing was asked yet, or the pause that was asked for is over.
    Ready,
    /// The read found this.
    Read(Option<LockRecord>),
    /// The write was applied, and left this record behind.
    Applied(LockRecord),
    /// The write's condition did not hold, and nothing was written. With the record
    /// that made it so, if the store shows it.
    Refused(Option<LockRecord>),
    /// The look found these rows.
    Rows(Vec<TicketRow>),
    /// The row was written, or was not ours to write.
    Announced,
    /// Somebody of this same client says that it is worth a look.
    Nudged,
    /// The holder before us, in this same client, claimed our turn for us, by a
    /// write sent at this moment.
    HandedOver(Moment),
    /// No usable answer.
    Failed(Failure),
}
