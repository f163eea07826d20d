//! What an acquire attempt is given, what it asks for, and how it ends.

use std::time::Duration;

use super::{Consistency, Moment, Pace, Stall, Watch, Write};
use crate::record::{Holder, Mode, TicketRow};
use crate::types::{HolderId, Ticket};

/// What an acquire attempt is to do, fixed when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The attempt's own identity.
    pub id: HolderId,
    /// Who this is, for people.
    pub owner: String,
    /// What the holder wants people to know.
    pub data: Option<String>,
    /// How to hold.
    pub mode: Mode,
    /// The lease to hold with.
    pub lease: Duration,
    /// For how long the others wait on top of the lease if it ends by itself.
    pub lock_delay: Duration,
    /// The claim grace, should the record have to be created.
    pub grace: Duration,
    /// How often to look.
    pub pace: Pace,
    /// For how long a sign of life in the queue counts.
    pub presence: Duration,
    /// How far the wall clocks of two clients may be apart.
    pub clock_allowance: Duration,
    /// When to stop waiting, if ever.
    pub give_up_at: Option<Moment>,
    /// For how long every single request may fail before the attempt fails.
    pub outage_limit: Duration,
    /// Whether to queue.
    pub patience: Patience,
    /// Whether the lock was contended a moment ago, so that trying first would
    /// most likely be a wasted write.
    pub contended: bool,
    /// What this client saw of the lock before: evidence that somebody is dead adds up
    /// over attempts, however short each of them is.
    pub watch: Watch,
}

/// What to do about a lock that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Patience {
    /// Draw a ticket and wait.
    Queue,
    /// Leave at once.
    TryOnly,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Send this write.
    Write(Write),
    /// Read the record.
    Read(Consistency),
    /// Read the rows of these tickets.
    Look {
        /// The first one.
        from: Ticket,
        /// The last one.
        to: Ticket,
        /// The maximum number of rows.
        limit: usize,
    },
    /// Write this row.
    Announce(TicketRow),
    /// Do nothing until this moment, or until the user wants to leave.
    Pause(Moment),
    /// The lock is held. The attempt is over.
    Granted(Grant),
    /// The attempt is over without the lock.
    GaveUp(GaveUp),
}

/// A lock that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The ticket, which is the fencing token.
    pub ticket: Ticket,
    /// Who holds.
    pub holder: Holder,
    /// How.
    pub mode: Mode,
    /// The lease that the holder counts. What the others are told may be longer, but
    /// never shorter.
    pub lease: Duration,
    /// What the hold rests on.
    pub title: Title,
}

/// What a hold rests on at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Title {
    /// A write that took the lock, sent at this moment. The lease counts from it.
    Claimed {
        /// When the write was sent.
        sent: Moment,
    },
    /// Our turn, which nobody may end before this moment although it is not
    /// claimed yet.
    Turn {
        /// When the others may begin to pass us over.
        until: Moment,
        /// When to claim, if the lock is still held by then.
        claim_at: Moment,
    },
}

/// Why an attempt ended without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GaveUp {
    /// Somebody else holds it, and the attempt was not to wait.
    Busy,
    /// The time to give up came.
    TimedOut,
    /// The user wanted to leave.
    Cancelled,
    /// A request failed for good, or all of them for too long.
    Failed,
    /// The last ticket that there can be is drawn.
    UsedUp,
    /// The record has gone back: this client has seen higher tickets of the lock.
    WentBack {
        /// The last ticket according to the record.
        found: Ticket,
        /// The highest ticket that this client has seen.
        seen: Ticket,
    },
}

/// Something about the queue that an observer may like to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A ticket was drawn.
    Enqueued {
        /// The ticket.
        ticket: Ticket,
        /// How many turns come before it.
        ahead: u64,
    },
    /// The queue moved on.
    Moved {
        /// The ticket whose turn it is now.
        turn: Ticket,
    },
    /// The turn of our ticket went by without us. Another one is drawn.
    PassedOver {
        /// The ticket that is gone.
        ticket: Ticket,
    },
    /// We ended the share of somebody who showed no sign of life.
    Evicted {
        /// Who it was, for people.
        owner: String,
    },
    /// We ended the turn of somebody who showed no sign of life, and of those
    /// after him who were gone as well.
    WentPast {
        /// The first ticket that was passed over.
        first: Ticket,
        /// The last one.
        last: Ticket,
        /// Why.
        stall: Stall,
    },
}
