//! What is done to the workers of a round, and when: decided by its seed alone.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::arena::PRESENCE;
use crate::gate::Mood;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    KillHolder,
    /// While its release is on the way. It arrives all the same, or it does not.
    KillReleasing {
        arrives: bool,
    },
    Stop,
    StopHolder,
    /// For longer than a row in the queue counts.
    StopForLong,
    /// It forks, while it holds the lock, if it does.
    Fork,
    Spoil(Mood),
    SpoilHolder(Mood),
    /// It hears nothing any more, for longer than its lease.
    CutHolderOff,
    /// For everybody.
    ServerAway,
    SpoilAll(Mood),
    /// The lock's row is deleted, if it comes free.
    DeleteRow,
}

/// One fault, for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    /// After the round's begin.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    /// The worker that it hits, unless the fault chooses by itself.
    pub(crate) victim: usize,
    pub(crate) fault: Fault,
}

#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) lease: Duration,
    pub(crate) hold: Duration,
    /// How many workers there are. Nothing is done to the last of them alone.
    pub(crate) workers: usize,
    pub(crate) faults: Vec<Planned>,
}

/// No request is later than this.
pub(crate) const LATEST: u64 = 900;

/// For so long faults begin.
const FIRE: u64 = 4_500;

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let lease_ms = dice.random_range(1_000..2_000);
        let workers = dice.random_range(3..=5);
        let presence_ms = PRESENCE.as_millis() as u64;
        let mut faults: Vec<_> = (0..dice.random_range(3..=7))
            .map(|_| {
                let fault = fault(&mut dice);
                let lasts = match fault {
                    // A holder that is gone for less than its lease only comes late.
                    Fault::StopHolder | Fault::CutHolderOff => lease_ms..lease_ms * 2,
                    Fault::StopForLong => presence_ms..presence_ms * 3 / 2,
                    _ => 100..lease_ms * 2,
                };
                Planned {
                    at: Duration::from_millis(dice.random_range(300..FIRE)),
                    lasts: Duration::from_millis(dice.random_range(lasts)),
                    victim: dice.random_range(0..workers - 1),
                    fault,
                }
            })
            .collect();
        // One row a round, and not before it is older than any request is late: a
        // request from before the row was made would make it anew with lower tokens.
        let mut deletions = 0;
        faults.retain_mut(|planned| {
            if planned.fault != Fault::DeleteRow {
                return true;
            }
            planned.at += Duration::from_millis(LATEST);
            deletions += 1;
            deletions == 1
        });
        Self {
            lease: Duration::from_millis(lease_ms),
            hold: Duration::from_millis(*[0, 5, 40, 200, 700].choose(&mut dice).unwrap()),
            workers,
            faults,
        }
    }

    /// Begins and ends, in order.
    pub(crate) fn instants(&self) -> Vec<(Duration, Moment)> {
        let mut all: Vec<_> = self
            .faults
            .iter()
            .enumerate()
            .flat_map(|(n, planned)| {
                [
                    (planned.at, Moment::Begin(n)),
                    (planned.at + planned.lasts, Moment::End(n)),
                ]
            })
            .collect();
        all.sort_by_key(|(at, _)| *at);
        all
    }
}

/// What is due: the fault with this number begins, or ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Begin(usize),
    End(usize),
}

fn fault(dice: &mut StdRng) -> Fault {
    match dice.random_range(0..26) {
        0 => Fault::Kill,
        1 | 2 => Fault::KillHolder,
        3 => Fault::KillReleasing {
            arrives: dice.random(),
        },
        4 | 5 => Fault::Stop,
        6 | 7 => Fault::StopHolder,
        18..=20 => Fault::CutHolderOff,
        8..11 => Fault::Spoil(mood(dice)),
        11..14 => Fault::SpoilHolder(mood(dice)),
        14 | 15 => Fault::SpoilAll(mood(dice)),
        16 | 17 => Fault::ServerAway,
        22..=24 => Fault::Fork,
        25 => Fault::StopForLong,
        _ => Fault::DeleteRow,
    }
}

fn mood(dice: &mut StdRng) -> Mood {
    match dice.random_range(0..16) {
        0 => Mood::RequestLost,
        1 => Mood::AnswerLost,
        2 => Mood::AnswerCut,
        3 | 4 => Mood::Late(Duration::from_millis(dice.random_range(20..LATEST))),
        5 | 6 => Mood::Silent,
        7 => Mood::Throttled,
        8 => Mood::Broken,
        9 => Mood::Unavailable,
        10 => Mood::AnswerLate(Duration::from_millis(dice.random_range(20..400))),
        11 | 12 => Mood::Denied,
        _ => Mood::Flaky,
    }
}
