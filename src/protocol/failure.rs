//! What a failed request means for the one who sent it.

use std::time::Duration;

use super::Moment;

/// For how long an attempt that never had an answer sends a request again that the
/// service refuses: a wrong policy or table name shows soon.
pub const REFUSED_AT_FIRST: Duration = Duration::from_secs(2);

/// The same for an attempt that had answers before. Permissions and keys take some
/// seconds to be known everywhere, and a place in the queue is worth the wait.
pub const REFUSED_LATER: Duration = Duration::from_secs(15);

/// What is known about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whether the request, if it was a write, may have been applied all the same.
    pub maybe_applied: bool,
    /// Whether sending it again can help.
    pub kind: FailureKind,
}

/// Whether it can help to send a failed request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No usable answer, or too many requests at this moment: it can.
    Transient,
    /// The service refuses it: access denied, keys expired, no such table. It can, for
    /// some seconds, and then it does not.
    Refused,
    /// It cannot: what is wrong is in the table, or in this machine.
    Final,
}

/// Since when the service refuses the requests of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Refusals {
    answered: bool,
    since: Option<Moment>,
}

impl Refusals {
    /// There was a usable answer.
    pub(super) fn answered(&mut self) {
        self.answered = true;
        self.since = None;
    }

    /// A request sent at `sent` was refused. Returns when to stop sending it again.
    pub(super) fn refused(&mut self, sent: Moment) -> Moment {
        let since = *self.since.get_or_insert(sent);
        since.plus(match self.answered {
            true => REFUSED_LATER,
            false => REFUSED_AT_FIRST,
        })
    }
}
