//! Ways to drive the protocol wrongly. The check is worth something if it notices
//! each of them.

use super::bounds::{
    ASKERS, Bounds, DELAYED, Fault, IMPATIENT, LOST_SHARES, OLD_READER, OPEN, ORPHAN, PAIR,
    PERMITS, READERS, RESIDENT, STUCK,
};
use super::state::Law;

/// One thing done wrongly, by the harness around the shipped code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    ObserverCountsFromAsking,
    LeaseCountsFromAnswer,
    TurnCountsFromAnswer,
    TurnFromStaleReads,
    GraceOfOnesOwn,
    ClockStopsWhilePaused,
    RenewalRevivesTheLost,
    ReleaseBeforeLettingGo,
    LostReleaseBelieved,
    ClaimUnchecked,
    ReleaseUnchecked,
    HandOverUnchecked,
    AdvanceWithoutRevision,
    TryOvertakes,
    NoClockAllowance,
    LostEnqueueBelieved,
    TombstoneForAnother,
    TicketsAsText,
    TokensStartFromZero,
    EveryLookIsASignOfLife,
    ShareWithoutLimit,
    TryAmongSharers,
    TryShareOvertakes,
    SharersUnseen,
    UnshareOfAnother,
    EvictWithoutBeats,
    BeatsUncounted,
    BeatsMoveTheQueue,
    SharesBeginAlike,
    LostTryShareBelieved,
    LockDelayForgotten,
    EvidenceForgotten,
    JoiningUnstamped,
    JoiningNeedsAQueue,
    SameIdTwice,
    ClockHoursOff,
    PresenceWithoutProgress,
}

/// A mutation, the bounds within which it is looked for, and what it breaks first.
pub struct Entry {
    pub mutation: Mutation,
    /// What is done wrongly.
    pub wrong: &'static str,
    pub bounds: Bounds,
    pub law: Law,
}

const fn entry(mutation: Mutation, wrong: &'static str, bounds: Bounds, law: Law) -> Entry {
    Entry {
        mutation,
        wrong,
        bounds,
        law,
    }
}

/// Two clients and one fault.
const SMALL: Bounds = Bounds {
    name: "small",
    horizon: 8,
    faults: 1,
    ..PAIR
};

/// The same with a lease that is longer than the grace, whoever's that is.
const PATIENT: Bounds = Bounds {
    name: "patient",
    lease: 7,
    ..SMALL
};

/// The two of them in one process.
const SIBLINGS: Bounds = Bounds {
    name: "siblings",
    scripts: &[OPEN.scripts[0], OPEN.scripts[1]],
    ..SMALL
};

/// What delays a look, and silences a holder afterwards.
const DELAYS: Bounds = Bounds {
    name: "delays",
    horizon: 6,
    faults: 2,
    kinds: &[Fault::SlowRequest, Fault::Silence],
    ..PAIR
};

/// Nobody but users and the dead ticket at the front.
const QUEUE: Bounds = Bounds {
    name: "queue",
    horizon: 10,
    faults: 0,
    eager: true,
    ..ORPHAN
};

/// Somebody leaves a queue with others in it, and somebody else does not wait.
const DEPARTURE: Bounds = Bounds {
    name: "departure",
    scripts: IMPATIENT.scripts,
    eager: false,
    ..QUEUE
};

/// Three clients and nothing that goes wrong.
const CROWD: Bounds = Bounds {
    name: "crowd",
    horizon: 2,
    faults: 0,
    ..OPEN
};

/// Three clients and one fault.
const CROWD_IN_TROUBLE: Bounds = Bounds {
    name: "crowd in trouble",
    horizon: 2,
    faults: 1,
    ..OPEN
};

/// Two that share, one that does not, and nothing that goes wrong.
const READERS_AT_PEACE: Bounds = Bounds {
    name: "readers at peace",
    horizon: 2,
    faults: 0,
    ..READERS
};

/// Three clients, two permits, and nothing that goes wrong.
const PERMITS_AT_PEACE: Bounds = Bounds {
    name: "permits at peace",
    scripts: PERMITS.scripts,
    ..READERS_AT_PEACE
};

/// One that shares, one that does not, and one fault.
const READER: Bounds = Bounds {
    name: "reader",
    scripts: &[READERS.scripts[0], READERS.scripts[2]],
    ..SMALL
};

/// What delays a look at those who share, or a sign of life.
const DELAYS_OF_A_READER: Bounds = Bounds {
    name: "delays of a reader",
    scripts: READER.scripts,
    kinds: &[Fault::SlowRequest, Fault::SlowAnswer],
    ..DELAYS
};

/// One that gets stuck, and one that does not.
const STUCK_PAIR: Bounds = Bounds {
    name: "stuck pair",
    scripts: &[OPEN.scripts[0], OPEN.scripts[2]],
    ..STUCK
};

/// Where mutations are looked for. Without them there is nothing to be found.
pub const GROUNDS: &[Bounds] = &[
    SMALL,
    PATIENT,
    SIBLINGS,
    DELAYS,
    QUEUE,
    DEPARTURE,
    CROWD,
    CROWD_IN_TROUBLE,
    READERS_AT_PEACE,
    PERMITS_AT_PEACE,
    READER,
    DELAYS_OF_A_READER,
    STUCK_PAIR,
];

/// All of them.
pub const MUTATIONS: &[Entry] = &[
    entry(
        Mutation::ObserverCountsFromAsking,
        "an observer counts a lease from when it asked, not from the answer",
        DELAYS,
        Law::OneHolder,
    ),
    entry(
        Mutation::LeaseCountsFromAnswer,
        "a holder counts its lease from the answer, not from the send",
        SMALL,
        Law::GuardEnds,
    ),
    entry(
        Mutation::TurnCountsFromAnswer,
        "a guard on its turn alone counts the grace from when it got the guard",
        SMALL,
        Law::GuardEnds,
    ),
    entry(
        Mutation::TurnFromStaleReads,
        "the proof that it was not our turn comes from reads that may be behind",
        SMALL,
        Law::GuardEnds,
    ),
    entry(
        Mutation::GraceOfOnesOwn,
        "one client obeys a grace of its own, not the record's",
        PATIENT,
        Law::GuardEnds,
    ),
    entry(
        Mutation::ClockStopsWhilePaused,
        "the holder's clock stands still while it is paused",
        SMALL,
        Law::GuardEnds,
    ),
    entry(
        Mutation::RenewalRevivesTheLost,
        "the answer to a renewal counts although the lease has ended",
        SMALL,
        Law::GuardEnds,
    ),
    entry(
        Mutation::ReleaseBeforeLettingGo,
        "a guard says that it holds until its release is answered",
        SMALL,
        Law::OneHolder,
    ),
    entry(
        Mutation::LostReleaseBelieved,
        "a release without an answer is taken for a success",
        SMALL,
        Law::Release,
    ),
    entry(
        Mutation::ClaimUnchecked,
        "claim without its condition",
        SMALL,
        Law::OneHolder,
    ),
    entry(
        Mutation::ReleaseUnchecked,
        "release without its condition",
        SMALL,
        Law::Release,
    ),
    entry(
        Mutation::HandOverUnchecked,
        "hand-over without checking that it holds",
        SIBLINGS,
        Law::Release,
    ),
    entry(
        Mutation::AdvanceWithoutRevision,
        "advance although the revision is not as seen",
        SMALL,
        Law::OneHolder,
    ),
    entry(
        Mutation::TryOvertakes,
        "try succeeds when nobody holds, although somebody waits",
        CROWD,
        Law::Order,
    ),
    entry(
        Mutation::NoClockAllowance,
        "wall clocks are compared without an allowance",
        SMALL,
        Law::OneHolder,
    ),
    entry(
        Mutation::LostEnqueueBelieved,
        "an enqueue without an answer is believed to have drawn the last ticket",
        CROWD_IN_TROUBLE,
        Law::OneHolder,
    ),
    entry(
        Mutation::TombstoneForAnother,
        "who leaves writes the tombstone of the next ticket",
        DEPARTURE,
        Law::OneHolder,
    ),
    entry(
        Mutation::TicketsAsText,
        "rows are selected and sorted as text, 10 before 9",
        QUEUE,
        Law::Order,
    ),
    entry(
        Mutation::TokensStartFromZero,
        "a new record starts from zero, not from the wall clock",
        SMALL,
        Law::TokensGrow,
    ),
    entry(
        Mutation::EveryLookIsASignOfLife,
        "an observer takes every answer for a sign of life",
        SMALL,
        Law::Progress,
    ),
    entry(
        Mutation::ShareWithoutLimit,
        "share whatever the number of those who do",
        PERMITS_AT_PEACE,
        Law::OneHolder,
    ),
    entry(
        Mutation::TryAmongSharers,
        "try succeeds although others share",
        READERS_AT_PEACE,
        Law::OneHolder,
    ),
    entry(
        Mutation::TryShareOvertakes,
        "a try to share succeeds although somebody waits",
        READERS_AT_PEACE,
        Law::Order,
    ),
    entry(
        Mutation::SharersUnseen,
        "who wants the lock alone does not look who shares it",
        READERS_AT_PEACE,
        Law::OneHolder,
    ),
    entry(
        Mutation::UnshareOfAnother,
        "unshare ends the first share there is",
        READERS_AT_PEACE,
        Law::Release,
    ),
    entry(
        Mutation::EvictWithoutBeats,
        "evict although there were signs of life since",
        DELAYS_OF_A_READER,
        Law::Release,
    ),
    entry(
        Mutation::BeatsUncounted,
        "the signs of life of those who share are not counted",
        READER,
        Law::Release,
    ),
    entry(
        Mutation::ObserverCountsFromAsking,
        "an observer counts the lease of who shares from when it asked",
        DELAYS_OF_A_READER,
        Law::Release,
    ),
    entry(
        Mutation::LeaseCountsFromAnswer,
        "who shares counts its lease from the answer",
        READER,
        Law::GuardEnds,
    ),
    entry(
        Mutation::BeatsMoveTheQueue,
        "a sign of life of who shares is taken for one of who has the turn",
        RESIDENT,
        Law::Progress,
    ),
    entry(
        Mutation::SharesBeginAlike,
        "a share at a turn looks like one that a try began",
        LOST_SHARES,
        Law::Release,
    ),
    entry(
        Mutation::LostTryShareBelieved,
        "a try to share without an answer is taken for a success",
        LOST_SHARES,
        Law::GuardEnds,
    ),
    entry(
        Mutation::PresenceWithoutProgress,
        "a row is renewed as long as the process lives",
        STUCK_PAIR,
        Law::Progress,
    ),
    entry(
        Mutation::LockDelayForgotten,
        "an observer waits for the lease without the lock delay",
        DELAYED,
        Law::OneHolder,
    ),
    entry(
        Mutation::EvidenceForgotten,
        "what an attempt has seen is forgotten when it ends",
        ASKERS,
        Law::Progress,
    ),
    entry(
        Mutation::JoiningUnstamped,
        "joining an idle queue leaves the time of its last move alone",
        OLD_READER,
        Law::Order,
    ),
    entry(
        Mutation::JoiningNeedsAQueue,
        "a ticket is drawn only behind another one",
        READERS_AT_PEACE,
        Law::Progress,
    ),
    entry(
        Mutation::SameIdTwice,
        "two processes draw the same id",
        SMALL,
        Law::OneHolder,
    ),
    entry(
        Mutation::ClockHoursOff,
        "one client's wall clock is hours off, and the store accepts its requests",
        SMALL,
        Law::OneHolder,
    ),
];
