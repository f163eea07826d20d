//! Where this crate does worse than a peer: computed, so that no row can be left out.

use crate::markdown::figure;
use crate::peers::OURS;
use crate::results::{ContestRow, DeathRow};

/// Differences below a twentieth are noise.
const NOISE: f64 = 1.05;

/// A figure of which less is better.
struct Measure {
    name: &'static str,
    of: fn(&ContestRow) -> Option<f64>,
    /// Why a peer may do better in it.
    why: &'static str,
}

const ALONE: &[Measure] = &[
    Measure {
        name: "requests an acquisition",
        of: ContestRow::requests,
        why: "it does less",
    },
    Measure {
        name: "time of acquire and release, ms",
        of: |row| row.figures.cycle_ms,
        why: "both send the same number of requests or this crate fewer; what differs is how they \
              are sent, signed and awaited",
    },
];

/// Why a hand-over may take longer here.
const LOOKS: &str = "\
    the next in line looks from time to time, at most every 20 ms; where all try without pause, or the \
    releaser takes the lock again, somebody has it sooner, at the price of write units and order";

const CROWD: &[Measure] = &[
    Measure {
        name: "requests an acquisition",
        of: ContestRow::requests,
        why: "who looks rarely asks little, and leaves the lock idle or with whoever had it last: \
              see its hand-over, its longest wait, and how often the releaser takes it again",
    },
    Measure {
        name: "write units an acquisition",
        of: ContestRow::write_units,
        why: "a place in the queue is drawn with a write, besides the release; the first try of \
              each client is one more",
    },
    Measure {
        name: "read units an acquisition",
        of: ContestRow::read_units,
        why: "waiters here look with reads; a peer that reads less tries with writes, which cost \
              five times as much, or looks less often",
    },
    Measure {
        name: "hand-over, ms",
        of: |row| row.figures.hand_over_ms,
        why: LOOKS,
    },
    Measure {
        name: "hand-over, p95, ms",
        of: |row| row.figures.hand_over_p95_ms,
        why: LOOKS,
    },
    Measure {
        name: "median wait, ms",
        of: |row| row.figures.median_wait_ms,
        why: "in a queue all wait for all before them; where the releaser takes the lock again \
              most waits are short, and some very long",
    },
    Measure {
        name: "longest wait, ms",
        of: |row| row.figures.longest_wait_ms,
        why: "the whole contest went faster",
    },
    Measure {
        name: "inversions an acquisition",
        of: |row| Some(row.figures.inversions),
        why: "requests that are under way together arrive in any order",
    },
    Measure {
        name: "time of one acquisition, ms",
        of: |row| row.each(row.figures.took_ms),
        why: "the sum of holds and hand-overs: see there",
    },
];

/// Rows: figure, this crate's, the best peer's, by how much, why.
pub(crate) fn alone(rows: &[&ContestRow]) -> Vec<Vec<String>> {
    compare(ALONE, rows)
}

pub(crate) fn crowd(rows: &[&ContestRow]) -> Vec<Vec<String>> {
    compare(CROWD, rows)
}

fn compare(measures: &[Measure], rows: &[&ContestRow]) -> Vec<Vec<String>> {
    let Some(ours) = rows.iter().find(|row| row.peer == OURS && !row.one_client) else {
        return Vec::new();
    };
    let others: Vec<_> = rows.iter().filter(|row| row.peer != OURS).collect();
    measures
        .iter()
        .filter_map(|measure| {
            let our = (measure.of)(ours)?;
            let (best, peer) = others
                .iter()
                .filter_map(|row| Some(((measure.of)(row)?, row.peer.as_str())))
                .min_by(|a, b| a.0.total_cmp(&b.0))?;
            Some(
                worse(measure.name, our, best, peer)?
                    .into_iter()
                    .chain([measure.why.into()]),
            )
        })
        .map(Iterator::collect)
        .collect()
}

pub(crate) fn death(rows: &[&DeathRow]) -> Vec<Vec<String>> {
    let Some(our) = rows
        .iter()
        .find(|row| row.peer == OURS)
        .and_then(|row| row.after_ms)
    else {
        return Vec::new();
    };
    let best = rows
        .iter()
        .filter(|row| row.peer != OURS)
        .filter_map(|row| Some((row.after_ms?, row.peer.as_str(), row.lease_ms)))
        .min();
    let Some((after, peer, lease)) = best else {
        return Vec::new();
    };
    let why = format!("its lease here is {} s", lease as f64 / 1_000.0);
    worse("until the next grant, ms", our as f64, after as f64, peer)
        .map(|row| row.into_iter().chain([why]).collect())
        .into_iter()
        .collect()
}

fn worse(name: &str, our: f64, best: f64, peer: &str) -> Option<Vec<String>> {
    if our <= best * NOISE {
        return None;
    }
    let by = if best > 0.0 {
        format!(
            "{} ({} times)",
            figure(Some(our - best)),
            figure(Some(our / best))
        )
    } else {
        figure(Some(our - best))
    };
    let best = format!("{} ({peer})", figure(Some(best)));
    Some(vec![name.into(), figure(Some(our)), best, by])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clearly_worse_is_a_row() {
        assert_eq!(worse("time", 1.04, 1.0, "other"), None);
        let row = worse("time", 3.0, 1.5, "other").unwrap();
        assert_eq!(row, ["time", "3.00", "1.50 (other)", "1.50 (2.00 times)"]);
        let row = worse("reads", 3.0, 0.0, "other").unwrap();
        assert_eq!(row, ["reads", "3.00", "0 (other)", "3.00"]);
    }

    #[test]
    fn a_shorter_wait_for_the_dead_is_named() {
        let row = |peer: &str, after_ms| DeathRow {
            peer: peer.into(),
            lease_ms: 10_000,
            limit_ms: 90_000,
            after_ms,
        };
        let rows = [
            row(OURS, Some(20_000)),
            row("quick", Some(10_000)),
            row("never", None),
        ];
        let found = death(&rows.iter().collect::<Vec<_>>());
        assert_eq!(found.len(), 1);
        assert!(found[0][2].contains("quick"));
    }
}
