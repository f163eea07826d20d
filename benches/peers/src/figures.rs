//! What the stamps of a contest come to: waits, hand-overs, order, and exclusion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a contender says, with the moment in nanoseconds of the machine's monotonic
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) who: usize,
    pub(crate) what: What,
    pub(crate) at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Asked,
    Granted,
    Releasing,
    Released,
    GaveUp,
}

/// One acquisition, as far as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) who: usize,
    pub(crate) asked: u64,
    pub(crate) granted: Option<u64>,
    pub(crate) releasing: Option<u64>,
    pub(crate) released: Option<u64>,
    /// An attempt that was given up is no longer waiting from here on.
    pub(crate) gave_up: Option<u64>,
}

impl Attempt {
    fn waiting_at(&self, at: u64) -> bool {
        let until = self.granted.or(self.gave_up).unwrap_or(u64::MAX);
        self.asked < at && until > at
    }
}

/// The figures of one contest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) granted: usize,
    pub(crate) gave_up: usize,
    /// From the first ask to the last stamp, in milliseconds.
    pub(crate) took_ms: f64,
    /// From `asked` to `released`, the median.
    pub(crate) cycle_ms: Option<f64>,
    /// From `releasing` to the next `granted`, while somebody waited.
    pub(crate) hand_over_ms: Option<f64>,
    pub(crate) hand_over_p95_ms: Option<f64>,
    /// The share of those that went to the releaser itself.
    pub(crate) taken_again: f64,
    /// Contenders that had asked earlier and still waited, for each grant.
    pub(crate) inversions: f64,
    /// Of those, the ones that had asked earlier by more than a round trip.
    pub(crate) clear_inversions: f64,
    pub(crate) median_wait_ms: Option<f64>,
    pub(crate) longest_wait_ms: Option<f64>,
    /// The most grants to later askers during one wait.
    pub(crate) overtaking: usize,
    /// Grants that came before an earlier holder began to release.
    pub(crate) violations: usize,
}

/// Puts the events of each contender together. They may come in any order.
pub(crate) fn attempts(events: &[Event]) -> Vec<Attempt> {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.at);
    let mut all: Vec<Attempt> = Vec::new();
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for event in events {
        if event.what == What::Asked {
            last.insert(event.who, all.len());
            all.push(Attempt {
                who: event.who,
                asked: event.at,
                granted: None,
                releasing: None,
                released: None,
                gave_up: None,
            });
        } else if let Some(&index) = last.get(&event.who) {
            let attempt = &mut all[index];
            match event.what {
                What::Granted => attempt.granted = Some(event.at),
                What::Releasing => attempt.releasing = Some(event.at),
                What::Released => attempt.released = Some(event.at),
                What::GaveUp => attempt.gave_up = Some(event.at),
                What::Asked => {}
            }
        }
    }
    all
}

/// The figures of `events`. An ask counts as clearly earlier if it is earlier by more
/// than `round_trip` nanoseconds: no server could tell the others apart.
pub(crate) fn figures(events: &[Event], round_trip: u64) -> Figures {
    let all = attempts(events);
    let end = events.iter().map(|event| event.at).max().unwrap_or(0);
    let start = all.first().map_or(end, |attempt| attempt.asked);
    let mut holds: Vec<(u64, &Attempt)> = all
        .iter()
        .filter_map(|attempt| attempt.granted.map(|at| (at, attempt)))
        .collect();
    holds.sort_by_key(|(at, _)| *at);

    let overs = hand_overs(&holds, &all);
    let mut taken: Vec<f64> = overs.iter().map(|(took, _)| millis(*took)).collect();
    let again = overs.iter().filter(|(_, again)| *again).count();
    let mut waits: Vec<f64> = all
        .iter()
        .map(|attempt| millis(waited(attempt, end)))
        .collect();
    let mut cycles: Vec<f64> = all
        .iter()
        .filter_map(|attempt| Some(millis(attempt.released? - attempt.asked)))
        .collect();
    let per_grant = |count: usize| share(count, holds.len());
    Figures {
        granted: holds.len(),
        gave_up: all
            .iter()
            .filter(|attempt| attempt.gave_up.is_some())
            .count(),
        took_ms: millis(end - start),
        cycle_ms: quantile(&mut cycles, 0.5),
        hand_over_ms: quantile(&mut taken, 0.5),
        hand_over_p95_ms: quantile(&mut taken, 0.95),
        taken_again: share(again, overs.len()),
        inversions: per_grant(inversions(&holds, &all, 0)),
        clear_inversions: per_grant(inversions(&holds, &all, round_trip)),
        median_wait_ms: quantile(&mut waits, 0.5),
        longest_wait_ms: quantile(&mut waits, 1.0),
        overtaking: overtaking(&holds, &all),
        violations: violations(&holds),
    }
}

/// The value below which this share of the values lies (nearest rank).
pub(crate) fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

pub(crate) fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn waited(attempt: &Attempt, end: u64) -> u64 {
    attempt.granted.or(attempt.gave_up).unwrap_or(end) - attempt.asked
}

/// How long each hand-over took, and whether the releaser took the lock again. Only
/// those are counted that somebody waited for.
fn hand_overs(holds: &[(u64, &Attempt)], all: &[Attempt]) -> Vec<(u64, bool)> {
    holds
        .windows(2)
        .filter_map(|pair| {
            let (next, before) = (pair[1], pair[0].1);
            let released = before.releasing?;
            let wanted = all.iter().any(|attempt| attempt.waiting_at(released));
            wanted.then(|| (next.0.saturating_sub(released), next.1.who == before.who))
        })
        .collect()
}

fn inversions(holds: &[(u64, &Attempt)], all: &[Attempt], round_trip: u64) -> usize {
    holds
        .iter()
        .map(|&(at, hold)| {
            all.iter()
                .filter(|other| {
                    other.waiting_at(at) && other.asked.saturating_add(round_trip) < hold.asked
                })
                .count()
        })
        .sum()
}

fn overtaking(holds: &[(u64, &Attempt)], all: &[Attempt]) -> usize {
    all.iter()
        .map(|slow| {
            holds
                .iter()
                .filter(|(at, hold)| hold.asked > slow.asked && slow.waiting_at(*at))
                .count()
        })
        .max()
        .unwrap_or(0)
}

/// A hold without an end lasts to the end.
fn violations(holds: &[(u64, &Attempt)]) -> usize {
    let mut held_until = 0;
    holds
        .iter()
        .filter(|(at, hold)| {
            let overlaps = *at < held_until;
            held_until = held_until.max(hold.releasing.unwrap_or(u64::MAX));
            overlaps
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contender, and when it asked, was granted, and began to release.
    fn contest(holds: &[(usize, u64, u64, u64)]) -> Vec<Event> {
        holds
            .iter()
            .flat_map(|&(who, asked, granted, releasing)| {
                [
                    (What::Asked, asked),
                    (What::Granted, granted),
                    (What::Releasing, releasing),
                    (What::Released, releasing),
                ]
                .map(|(what, at)| Event {
                    who,
                    what,
                    at: at * 1_000_000,
                })
            })
            .collect()
    }

    #[test]
    fn a_queue_has_no_inversions() {
        let found = figures(
            &contest(&[(0, 0, 1, 10), (1, 2, 15, 20), (2, 3, 26, 30)]),
            0,
        );
        assert_eq!(
            (found.granted, found.violations, found.overtaking),
            (3, 0, 0)
        );
        assert_eq!((found.inversions, found.taken_again), (0.0, 0.0));
        assert_eq!(
            (found.hand_over_ms, found.hand_over_p95_ms),
            (Some(5.0), Some(6.0))
        );
        assert_eq!(
            (found.median_wait_ms, found.longest_wait_ms),
            (Some(13.0), Some(23.0))
        );
        assert_eq!(found.took_ms, 30.0);
    }

    #[test]
    fn each_earlier_asker_who_waits_is_an_inversion() {
        // Contender 0 takes the lock again twice, past 1, and past 1 and 2.
        let found = figures(
            &contest(&[
                (0, 0, 1, 10),
                (1, 2, 50, 55),
                (0, 11, 12, 20),
                (2, 15, 40, 45),
                (0, 21, 22, 30),
            ]),
            0,
        );
        // 1 past 0 at 12; 1 and 2 past 0 at 22; 1 past 2 at 40.
        assert_eq!(found.inversions, 4.0 / 5.0);
        assert_eq!(found.overtaking, 3);
        assert_eq!(found.taken_again, 2.0 / 4.0);
    }

    #[test]
    fn asks_within_a_round_trip_are_told_apart_by_nobody() {
        let events = contest(&[(0, 0, 50, 60), (1, 4, 10, 20), (2, 6, 30, 40)]);
        assert_eq!(figures(&events, 0).inversions, 2.0 / 3.0);
        assert_eq!(figures(&events, 5_000_000).clear_inversions, 1.0 / 3.0);
    }

    #[test]
    fn holds_that_overlap_are_violations() {
        let found = figures(
            &contest(&[(0, 0, 1, 20), (1, 0, 10, 12), (2, 0, 15, 30)]),
            0,
        );
        assert_eq!(found.violations, 2);
        let touching = figures(&contest(&[(0, 0, 1, 20), (1, 0, 20, 22)]), 0);
        assert_eq!(touching.violations, 0);
    }

    #[test]
    fn a_hold_that_never_ended_overlaps_all_that_follow() {
        let mut events = contest(&[(0, 0, 1, 2), (1, 0, 10, 12)]);
        events.retain(|event| event.who == 1 || matches!(event.what, What::Asked | What::Granted));
        assert_eq!(figures(&events, 0).violations, 1);
    }

    #[test]
    fn a_wait_without_end_counts_to_the_end() {
        let mut events = contest(&[(0, 0, 1, 100)]);
        events.push(Event {
            who: 1,
            what: What::Asked,
            at: 10_000_000,
        });
        let found = figures(&events, 0);
        assert_eq!(found.longest_wait_ms, Some(90.0));
        assert_eq!(found.granted, 1);
    }

    #[test]
    fn whoever_gave_up_waits_no_longer() {
        let mut events = contest(&[(0, 20, 21, 22)]);
        events.push(Event {
            who: 1,
            what: What::Asked,
            at: 0,
        });
        events.push(Event {
            who: 1,
            what: What::GaveUp,
            at: 10_000_000,
        });
        let found = figures(&events, 0);
        assert_eq!((found.gave_up, found.inversions), (1, 0.0));
    }

    #[test]
    fn nothing_comes_to_nothing() {
        let found = figures(&[], 0);
        assert_eq!(
            (found.granted, found.hand_over_ms, found.took_ms),
            (0, None, 0.0)
        );
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&mut values, 0.5), Some(2.0));
        assert_eq!(quantile(&mut values, 0.95), Some(4.0));
        assert_eq!(quantile(&mut values, 1.0), Some(4.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
