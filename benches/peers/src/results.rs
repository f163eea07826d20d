//! What was measured, a line of JSON each, so that the report can be made again
//! without measuring.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::figures::Figures;
use crate::machine::About;
use crate::proxy::Tally;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Row {
    About(About),
    Contest(ContestRow),
    Death(DeathRow),
    /// A peer that takes part but could not be measured.
    Failed {
        peer: String,
        what: String,
        reason: String,
    },
    /// A line of one of this crate's own benches.
    Own {
        bench: String,
        figures: Map<String, Value>,
    },
    /// A time that criterion measured: the median, in nanoseconds.
    Latency {
        group: String,
        function: String,
        nanos: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// One contender.
    Alone,
    /// The crowd, as each peer comes.
    Default,
    /// The crowd, each peer set to look as often as is sensible.
    Eager,
    /// Cost against the number of contenders.
    Crowds,
    /// Hand-over against the round trip.
    Distances,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContestRow {
    pub(crate) workload: Workload,
    pub(crate) peer: String,
    /// What was set.
    pub(crate) set: String,
    pub(crate) one_client: bool,
    pub(crate) contenders: usize,
    /// Acquisitions of each contender, if all are made in time.
    pub(crate) rounds: usize,
    pub(crate) hold_ms: u64,
    /// What the proxy adds to a round trip.
    pub(crate) added_ms: u64,
    /// A bare UpdateItem through the same proxy, the median.
    pub(crate) round_trip_ms: f64,
    /// Two of them one after another.
    pub(crate) pair_ms: f64,
    pub(crate) limit_ms: u64,
    pub(crate) finished: bool,
    pub(crate) tally: Tally,
    pub(crate) figures: Figures,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeathRow {
    pub(crate) peer: String,
    pub(crate) lease_ms: u64,
    pub(crate) limit_ms: u64,
    /// From the death of the holder to the next grant.
    pub(crate) after_ms: Option<u64>,
}

impl ContestRow {
    /// Named so that rows of a table can be told apart.
    pub(crate) fn label(&self) -> String {
        if self.one_client {
            format!("{}, {} threads of one client", self.peer, self.contenders)
        } else {
            self.peer.clone()
        }
    }

    /// A count for each grant, if there was one.
    pub(crate) fn each(&self, count: f64) -> Option<f64> {
        (self.figures.granted > 0).then(|| count / self.figures.granted as f64)
    }

    pub(crate) fn requests(&self) -> Option<f64> {
        self.each(self.tally.requests as f64)
    }

    pub(crate) fn write_units(&self) -> Option<f64> {
        self.each(self.tally.write_units as f64)
    }

    pub(crate) fn read_units(&self) -> Option<f64> {
        self.each(self.tally.read_units)
    }

    pub(crate) fn hand_over_in_round_trips(&self) -> Option<f64> {
        Some(self.figures.hand_over_ms? / self.round_trip_ms)
    }

    pub(crate) fn against_pair(&self) -> Option<f64> {
        Some(self.figures.cycle_ms? / self.pair_ms)
    }

    /// The longest wait against the median one.
    pub(crate) fn spread(&self) -> Option<f64> {
        let median = self.figures.median_wait_ms.filter(|median| *median > 0.0)?;
        Some(self.figures.longest_wait_ms? / median)
    }

    pub(crate) fn wanted(&self) -> usize {
        self.contenders * self.rounds
    }
}

pub(crate) fn save(file: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(row)?;
        text.push('\n');
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

pub(crate) fn load(file: &Path) -> anyhow::Result<Vec<Row>> {
    fs::read_to_string(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a result: {line}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::figures;

    #[test]
    fn rows_come_back_as_they_were_saved() {
        let rows = vec![
            Row::Contest(ContestRow {
                workload: Workload::Alone,
                peer: "somebody".into(),
                set: "nothing".into(),
                one_client: false,
                contenders: 1,
                rounds: 2,
                hold_ms: 0,
                added_ms: 5,
                round_trip_ms: 5.5,
                pair_ms: 11.25,
                limit_ms: 1_000,
                finished: true,
                tally: Tally::default(),
                figures: figures(&[], 0),
            }),
            Row::Death(DeathRow {
                peer: "somebody".into(),
                lease_ms: 1,
                limit_ms: 2,
                after_ms: None,
            }),
        ];
        let file = std::env::temp_dir().join(format!("results-{}", std::process::id()));
        save(&file, &rows).unwrap();
        let loaded = load(&file);
        fs::remove_file(&file).unwrap();
        assert_eq!(loaded.unwrap(), rows);
    }
}
