//! How far a check goes: who takes part, for how long, and what may go wrong.

use std::time::Duration;

use dynamodb_fifo_lock::protocol::Patience;
use dynamodb_fifo_lock::record::Mode;

/// How long a turn may stay unclaimed, in ticks.
pub const GRACE: u8 = 4;
/// For how long a row in the queue counts, in ticks: the shortest that the client
/// accepts.
pub const PRESENCE: u8 = 6;
/// How often a holder renews, in ticks.
pub const HEARTBEAT: u8 = 2;
/// When a client stops waiting for an answer, in ticks. An answer comes within the
/// tick in which it was asked for, or it is slow by this much, or not at all.
pub const TIMEOUT: u8 = 1;
/// How far ahead the wall clocks of clients with fast clocks are.
pub const SKEW: Duration = Duration::from_millis(1_500);
/// What clients allow for wall clocks that are apart, if not as much as they really
/// are: the default, which is longer than any check lasts.
pub const ALLOWANCE: Duration = Duration::from_secs(1_800);

/// A hold that outlasts every check.
pub const FOR_EVER: u8 = 100;

/// What may go wrong. Each time costs one of the check's faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A request reaches the store a tick late.
    SlowRequest,
    /// An answer reaches the client a tick late.
    SlowAnswer,
    /// The client hears nothing. The request reaches the store at some time from
    /// now on, or never: so it stands for one lost on its way, for a lost answer,
    /// and for a request that outlives its client's patience.
    Silence,
    /// A client does not run, until it is woken: that is a pause. If it never is,
    /// it is a crash.
    Stop,
    /// The thread that acquires or releases does not run, until it is woken or for ever,
    /// while its client's heartbeat does.
    Stick,
    /// The user wants to leave.
    Cancel,
    /// The record is deleted while the lock is free.
    Delete,
}

/// All that may go wrong.
const ALL: &[Fault] = &[
    Fault::SlowRequest,
    Fault::SlowAnswer,
    Fault::Silence,
    Fault::Stop,
    Fault::Cancel,
    Fault::Delete,
];

/// One acquisition.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub mode: Mode,
    pub patience: Patience,
    /// After how many ticks the client gives up waiting.
    pub limit: Option<u8>,
    /// For how many ticks it holds; if that is left open, it gives the lock back at
    /// any time.
    pub hold: Option<u8>,
}

/// Waits for as long as it takes.
const WAIT: Plan = Plan {
    mode: Mode::Exclusive,
    patience: Patience::Queue,
    limit: None,
    hold: None,
};

/// The same, and holds for no longer than a moment.
const WAIT_HOLD_0: Plan = Plan {
    hold: Some(0),
    ..WAIT
};

/// The same, and holds for a tick.
const WAIT_HOLD_1: Plan = Plan {
    hold: Some(1),
    ..WAIT
};

/// Gives up after three ticks: neither at once nor after the end of a lease.
const WAIT_A_LITTLE: Plan = Plan {
    limit: Some(3),
    ..WAIT
};

/// Takes the lock if it is free.
const TRY: Plan = Plan {
    patience: Patience::TryOnly,
    ..WAIT
};

/// Waits to share the lock with any number.
const SHARE: Plan = Plan {
    mode: Mode::Shared { limit: 100 },
    ..WAIT
};

/// The same, and holds for a tick.
const SHARE_HOLD_1: Plan = Plan {
    hold: Some(1),
    ..SHARE
};

/// The same, and holds until wall clocks can tell that nothing has moved for long.
const SHARE_HOLD_10: Plan = Plan {
    hold: Some(10),
    ..SHARE
};

/// Shares it, and never gives it back.
const SHARE_FOR_EVER: Plan = Plan {
    hold: Some(FOR_EVER),
    ..SHARE
};

/// Waits for one of two permits.
const PERMIT_OF_2: Plan = Plan {
    mode: Mode::Shared { limit: 2 },
    ..WAIT
};

/// Waits for the only permit there is.
const PERMIT_OF_1: Plan = Plan {
    mode: Mode::Shared { limit: 1 },
    ..WAIT
};

/// Shares the lock if nobody waits.
const TRY_TO_SHARE: Plan = Plan {
    patience: Patience::TryOnly,
    ..SHARE
};

/// The same, and holds for no longer than a moment.
const TRY_TO_SHARE_HOLD_0: Plan = Plan {
    hold: Some(0),
    ..TRY_TO_SHARE
};

/// What one client does.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Clients of one process hand the lock over to each other in one write.
    pub process: u8,
    /// A fast clock gains a five-hundredth on a slow one: as much as an observer
    /// allows for, so that a fast observer's count of a slow holder's lease ends in
    /// the very tick in which the holder's own does.
    pub fast: bool,
    pub acquisitions: &'static [Plan],
}

/// An attempt that the last client of a script makes again and again, once nothing goes
/// wrong any more.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub plan: Plan,
    /// Whether each attempt is that of a new process, which knows nothing of the earlier
    /// ones.
    pub forgets: bool,
}

/// What the table holds at the beginning.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// Nothing.
    Empty,
    /// A record in which this ticket, whose owner is gone, has its turn.
    Orphan(u64),
}

/// The bounds of one check.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub name: &'static str,
    pub scripts: &'static [Script],
    /// Whether clients begin as soon as they can, or at any time from then on.
    pub eager: bool,
    /// The last tick.
    pub horizon: u8,
    /// How many faults there may be.
    pub faults: u8,
    /// The last tick and the number of faults of the large check.
    pub large: (u8, u8),
    pub kinds: &'static [Fault],
    /// How far apart the clients take wall clocks to be. Where that is as little as
    /// [`SKEW`] no request may be late for long: the server refuses one that was
    /// signed too long ago, and the allowance counts on that.
    pub allowance: Duration,
    /// How long a holder's lease lasts, in ticks.
    pub lease: u8,
    /// For how long the others wait on top of it if it ends by itself, in ticks.
    pub lock_delay: u8,
    pub start: Start,
    /// Attempts one of which has to be granted the lock within a bounded time, each kind
    /// by itself.
    pub askers: &'static [Asker],
}

const fn slow(process: u8, acquisitions: &'static [Plan]) -> Script {
    Script {
        process,
        fast: false,
        acquisitions,
    }
}

const fn fast(process: u8, acquisitions: &'static [Plan]) -> Script {
    Script {
        process,
        fast: true,
        acquisitions,
    }
}

/// Three clients, two of them in one process, that hold for as long as they like.
pub const OPEN: Bounds = Bounds {
    name: "open",
    scripts: &[slow(0, &[WAIT]), slow(0, &[WAIT]), fast(1, &[WAIT])],
    eager: true,
    horizon: 5,
    faults: 1,
    large: (7, 1),
    kinds: ALL,
    allowance: ALLOWANCE,
    lease: 4,
    lock_delay: 0,
    start: Start::Empty,
    askers: &[],
};

/// The same three with two acquisitions each, short ones.
pub const AGAIN: Bounds = Bounds {
    name: "again",
    scripts: &[
        slow(0, &[WAIT_HOLD_1, WAIT_HOLD_0]),
        slow(0, &[WAIT_HOLD_0, WAIT_HOLD_1]),
        fast(1, &[WAIT_HOLD_1, WAIT_HOLD_1]),
    ],
    horizon: 3,
    large: (4, 1),
    ..OPEN
};

/// The same again, for longer, and nothing goes wrong.
pub const CALM: Bounds = Bounds {
    name: "calm",
    horizon: 10,
    faults: 0,
    large: (14, 0),
    ..AGAIN
};

/// Two clients, and more that goes wrong.
pub const PAIR: Bounds = Bounds {
    name: "pair",
    scripts: &[slow(0, &[WAIT]), fast(1, &[WAIT])],
    horizon: 6,
    faults: 2,
    large: (6, 3),
    ..OPEN
};

/// The same with a lease that is shorter than the claim grace.
pub const HASTY: Bounds = Bounds {
    name: "hasty",
    lease: 3,
    ..PAIR
};

/// Two clients that begin whenever they like behind a ticket nobody will claim: long
/// enough to announce themselves, and for rows to expire.
pub const ORPHAN: Bounds = Bounds {
    name: "orphan",
    eager: false,
    horizon: 9,
    faults: 1,
    large: (14, 1),
    start: Start::Orphan(9),
    ..PAIR
};

/// One that waits, one that gives up, and one that does not wait at all; and an
/// allowance so small that the dead are told by the wall clock.
pub const IMPATIENT: Bounds = Bounds {
    name: "impatient",
    scripts: &[slow(0, &[WAIT_A_LITTLE]), fast(1, &[WAIT]), fast(2, &[TRY])],
    horizon: 8,
    large: (8, 2),
    kinds: &[
        Fault::SlowRequest,
        Fault::SlowAnswer,
        Fault::Stop,
        Fault::Cancel,
        Fault::Delete,
    ],
    allowance: SKEW,
    ..OPEN
};

/// Two that share the lock, one of them for a tick, and one that wants it alone.
pub const READERS: Bounds = Bounds {
    name: "readers",
    scripts: &[
        slow(0, &[SHARE]),
        slow(1, &[SHARE_HOLD_1]),
        fast(2, &[WAIT]),
    ],
    horizon: 5,
    large: (6, 1),
    ..OPEN
};

/// Three clients and two permits.
pub const PERMITS: Bounds = Bounds {
    name: "permits",
    scripts: &[
        slow(0, &[PERMIT_OF_2]),
        slow(0, &[PERMIT_OF_2]),
        fast(1, &[PERMIT_OF_2]),
    ],
    horizon: 3,
    large: (4, 1),
    ..READERS
};

/// One process in which two hand the lock over and a third one shares it.
pub const FAMILY: Bounds = Bounds {
    name: "family",
    scripts: &[slow(0, &[WAIT]), slow(0, &[WAIT]), slow(0, &[SHARE])],
    horizon: 3,
    large: (4, 1),
    ..READERS
};

/// Who shares, and who wants the only permit, while requests get lost or come late.
pub const LOST_SHARES: Bounds = Bounds {
    name: "lost shares",
    scripts: &[slow(0, &[SHARE]), fast(1, &[PERMIT_OF_1])],
    horizon: 6,
    faults: 2,
    large: (6, 3),
    kinds: &[Fault::SlowAnswer, Fault::Silence, Fault::Stop],
    ..READERS
};

/// One that waits to share and two that do not wait at all; the dead are told by the
/// wall clock.
pub const TRIES: Bounds = Bounds {
    name: "tries",
    scripts: &[slow(0, &[SHARE]), fast(1, &[TRY]), fast(2, &[TRY_TO_SHARE])],
    ..IMPATIENT
};

/// A lease that the others respect for two ticks longer.
pub const DELAYED: Bounds = Bounds {
    name: "delayed",
    scripts: &[slow(0, &[WAIT]), fast(1, &[SHARE])],
    lock_delay: 2,
    ..HASTY
};

/// One that shares and stays, one that wants the lock alone for a little while, and
/// one behind it that wants to share.
pub const RESIDENT: Bounds = Bounds {
    name: "resident",
    scripts: &[
        slow(0, &[SHARE_FOR_EVER]),
        slow(1, &[WAIT_A_LITTLE]),
        fast(2, &[SHARE]),
    ],
    horizon: 5,
    kinds: &[Fault::Stop],
    ..READERS
};

/// Gives up after two ticks: half of the grace.
const WAIT_2: Plan = Plan {
    limit: Some(2),
    ..WAIT
};

/// Clients that die, leave and do not wait, behind a ticket nobody will claim; and then
/// one that asks with attempts that are shorter than the grace, or that do not wait.
pub const ASKERS: Bounds = Bounds {
    name: "askers",
    scripts: &[slow(0, &[WAIT_A_LITTLE]), fast(1, &[WAIT_2])],
    eager: false,
    horizon: 6,
    faults: 1,
    large: (7, 2),
    kinds: &[Fault::Silence, Fault::Stop, Fault::Cancel],
    start: Start::Orphan(9),
    askers: &[
        Asker {
            plan: WAIT_2,
            forgets: false,
        },
        Asker {
            plan: TRY,
            forgets: false,
        },
    ],
    ..OPEN
};

/// The same with attempts each of which is that of a new process; the dead are told by
/// the wall clock.
pub const ANEW: Bounds = Bounds {
    name: "anew",
    kinds: &[Fault::Stop, Fault::Cancel],
    allowance: SKEW,
    askers: &[
        Asker {
            plan: WAIT_2,
            forgets: true,
        },
        Asker {
            plan: TRY,
            forgets: true,
        },
    ],
    ..ASKERS
};

/// One that has shared the lock for longer than the wall clocks are apart, one that wants
/// it alone, and one that does not wait.
pub const OLD_READER: Bounds = Bounds {
    name: "old reader",
    scripts: &[
        slow(0, &[SHARE_HOLD_10]),
        slow(1, &[WAIT_HOLD_0]),
        fast(2, &[TRY_TO_SHARE_HOLD_0]),
    ],
    eager: false,
    horizon: 10,
    faults: 0,
    large: (12, 0),
    allowance: SKEW,
    ..READERS
};

/// Behind the same dead ticket, one that waits and gets stuck although its client lives,
/// one of the same client, and one elsewhere.
pub const STUCK: Bounds = Bounds {
    name: "stuck",
    scripts: OPEN.scripts,
    eager: true,
    horizon: 7,
    large: (12, 1),
    kinds: &[Fault::Stick],
    ..ORPHAN
};

/// What has to be free of violations.
pub const CHECKS: &[Bounds] = &[
    OPEN,
    AGAIN,
    CALM,
    PAIR,
    HASTY,
    ORPHAN,
    IMPATIENT,
    READERS,
    PERMITS,
    FAMILY,
    LOST_SHARES,
    TRIES,
    DELAYED,
    RESIDENT,
    ASKERS,
    ANEW,
    OLD_READER,
    STUCK,
];
