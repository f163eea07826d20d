//! The part of the report that is about this crate's own benches.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::markdown::{duration, figure, table};
use crate::own::RATIO;
use crate::results::Row;

/// An acquire and a release alone may take this many times as long as two bare writes.
const ALONE_TARGET: f64 = 1.05;

/// A hand-over may take this many round trips.
const HAND_OVER_TARGET: f64 = 1.2;

/// And this much more if it goes from one client to another.
const BETWEEN_MS: f64 = 10.0;

const LATENCY_NOTES: &str = "\
Medians. Alone, both ways are measured by turns and the ratio is that of the two medians. A hand-over \
is compared with one bare UpdateItem that is sent after a pause as long as the hold. Throughput: one \
request, or one acquire and release, which is two, on each of the threads.\n\n";

/// Nothing, if none of them was run.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for bench in ["cost", "scale"] {
        let lines: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Own { bench: of, figures } if of == bench => Some(figures),
                _ => None,
            })
            .collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "### `cargo bench --bench {bench} -- --json`\n");
            text += &if bench == "cost" {
                cost(&lines)
            } else {
                generic(&lines)
            };
            text.push('\n');
        }
    }
    let times: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Latency {
                group,
                function,
                nanos,
            } => Some((group.as_str(), function.as_str(), nanos / 1e6)),
            _ => None,
        })
        .collect();
    if !times.is_empty() {
        let by_turns = rows.iter().find_map(|row| match row {
            Row::Own { bench, figures } if bench == "latency" => figures.get(RATIO)?.as_f64(),
            _ => None,
        });
        text += "### `cargo bench --bench latency`\n\n";
        text += LATENCY_NOTES;
        text += &latency(&times, by_turns);
    }
    text
}

fn cost(lines: &[&Map<String, Value>]) -> String {
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            let acquisitions = line.get("acquisitions").and_then(Value::as_f64);
            let each = |key| {
                let total = line.get(key).and_then(Value::as_f64)?;
                Some(total / acquisitions.filter(|count| *count > 0.0)?)
            };
            vec![
                line.get("case").map(plain).unwrap_or_default(),
                figure(each("requests")),
                figure(each("writes")),
                figure(each("reads")),
                acquisitions.map_or("–".into(), |count| format!("{count}")),
            ]
        })
        .collect();
    let head = [
        "case",
        "requests each",
        "write units each",
        "read units each",
        "acquisitions",
    ];
    table(&head, &rows)
}

/// A table for each run of lines that have the same keys.
fn generic(lines: &[&Map<String, Value>]) -> String {
    let keys = |line: &Map<String, Value>| -> Vec<String> {
        let others = line.keys().filter(|key| *key != "case").cloned();
        std::iter::once("case".to_owned()).chain(others).collect()
    };
    lines
        .chunk_by(|a, b| keys(a) == keys(b))
        .map(|alike| {
            let keys = keys(alike[0]);
            let head: Vec<_> = keys.iter().map(|key| key.replace('_', " ")).collect();
            let head: Vec<_> = head.iter().map(String::as_str).collect();
            let rows: Vec<_> = alike
                .iter()
                .map(|line| {
                    keys.iter()
                        .map(|key| line.get(key).map(plain).unwrap_or_default())
                        .collect()
                })
                .collect();
            table(&head, &rows)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => figure(number.as_f64()),
        other => other.to_string(),
    }
}

fn latency(times: &[(&str, &str, f64)], by_turns: Option<f64>) -> String {
    let find = |group: &str, function: &str| {
        times
            .iter()
            .find(|(of, named, _)| *of == group && *named == function)
            .map(|(_, _, millis)| *millis)
    };
    let rows: Vec<_> = times
        .iter()
        .map(|&(group, function, millis)| {
            let bare = ["two raw UpdateItem", "one raw UpdateItem", "raw UpdateItem"]
                .into_iter()
                .filter(|bare| *bare != function)
                .find_map(|bare| find(group, bare));
            let (ratio, target) = match bare {
                Some(bare) => {
                    let of_turns = by_turns.filter(|_| group == "uncontended");
                    let ratio = of_turns.unwrap_or(millis / bare);
                    let target = judge(group, function, ratio, bare);
                    (format!("{ratio:.2}"), target)
                }
                None => ("–".into(), "–".into()),
            };
            vec![format!("{group}: {function}"), small(millis), ratio, target]
        })
        .collect();
    table(
        &["case", "median", "against the bare requests", "target"],
        &rows,
    )
}

/// The target of a case that takes so many times as long as the bare requests, and
/// whether it is met.
fn judge(group: &str, function: &str, ratio: f64, bare: f64) -> String {
    let (target, most) = match (group, function) {
        ("uncontended", _) => (format!("≤ {ALONE_TARGET}"), ALONE_TARGET),
        (_, "inside one client") => (format!("≤ {HAND_OVER_TARGET}"), HAND_OVER_TARGET),
        (_, "between two clients") => (
            format!("≤ {HAND_OVER_TARGET} and {BETWEEN_MS} ms"),
            HAND_OVER_TARGET + BETWEEN_MS / bare,
        ),
        _ => return "–".into(),
    };
    if ratio <= most {
        format!("{target}: met")
    } else {
        format!("{target}: missed by {}", small((ratio - most) * bare))
    }
}

fn small(millis: f64) -> String {
    if millis < 0.001 {
        format!("{} ns", figure(Some(millis * 1e6)))
    } else if millis < 1.0 {
        format!("{} µs", figure(Some(millis * 1e3)))
    } else {
        duration(Some(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_met_or_missed() {
        let uncontended = |ratio| judge("uncontended", "acquire and release", ratio, 2.0);
        assert_eq!(uncontended(1.05), "≤ 1.05: met");
        assert!(uncontended(1.1).contains("missed by 100 µs"));
        let between = |ratio| judge("hand-over, 5 ms added", "between two clients", ratio, 5.0);
        assert!(between(3.2).contains("met") && between(3.3).contains("missed"));
        assert_eq!(judge("overhead", "is_held", 1.0, 1.0), "–");
    }

    #[test]
    fn lines_with_the_same_keys_share_a_table() {
        let lines: Vec<Map<String, Value>> = [
            r#"{"case":"a","waiters":1}"#,
            r#"{"case":"b","waiters":2}"#,
            r#"{"case":"c","bytes":3.5}"#,
        ]
        .map(|line| serde_json::from_str(line).unwrap())
        .into();
        let text = generic(&lines.iter().collect::<Vec<_>>());
        assert_eq!(text.matches("| case |").count(), 2);
        assert!(text.contains("| c | 3.50 |"));
    }
}
