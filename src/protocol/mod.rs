//! The locking protocol, without I/O, clocks or randomness.
//!
//! Everything in here is a function of what was read, what is known and what
//! time it is. The blocking client, a simulator and a model checker run this
//! same code: they differ only in who carries the requests and who tells the
//! time. `docs/protocol.md` explains the rules.
//!
//! * [`Write`]: the conditional writes, and [`apply`], what each one does.
//! * [`Waiter`]: one acquire attempt, from the first try to the grant.
//! * [`Tenure`]: what a holder knows about its own lease.
//! * [`Releasing`]: giving the lock back through lost answers.
//! * [`Watch`]: how long a record has stood still, as one observer saw it.
//! * [`Pace`]: how long to pause between two looks.

mod pace;
mod release;
mod tenure;
mod waiter;
mod watch;
mod write;

pub use pace::{Pace, backoff};
pub use release::{ReleaseEnd, ReleaseStep, Releasing};
pub use tenure::{LossReason, Standing, Tenure};
pub use waiter::{Attempt, GaveUp, Grant, Notice, Patience, Step, Waiter};
pub use watch::{Stall, Watch, observed_lease};
pub use write::{Write, apply};

pub use crate::clock::Moment;
use crate::record::LockRecord;

/// What a decision may know about the instant at which it is made.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock. Everything is decided by it.
    pub moment: Moment,
    /// The wall clock in milliseconds since 1970. It is written down for
    /// people and seeds the tokens of a new record.
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
    /// The write's condition did not hold. Nothing was written.
    Refused,
    /// No usable answer.
    Failed(Failure),
}

/// What is known about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whether the request, if it was a write, may have been applied all the same.
    pub maybe_applied: bool,
    /// Whether sending again can help.
    pub transient: bool,
}
