//! This crate's own benches: runs them, and reads what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Map, Value};

use crate::results::Row;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Those that print a line of JSON for each case.
const PRINTING: [&str; 2] = ["cost", "scale"];

/// The key of what is compared within the bench `latency`.
pub(crate) const RATIO: &str = "ratio";

/// What criterion measures in the bench `latency`.
const GROUPS: [&str; 8] = [
    "uncontended",
    "hand-over, 0 ms added",
    "hand-over, 1 ms added",
    "hand-over, 5 ms added",
    "overhead",
    "throughput, 1 thread",
    "throughput, 8 threads",
    "throughput, 64 threads",
];

/// Runs those that there are. One that fails is noted.
pub(crate) fn run(endpoint: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for bench in PRINTING {
        eprintln!("bench {bench}");
        match print(bench, endpoint) {
            Ok(lines) => rows.extend(lines),
            Err(error) => rows.push(failed(bench, &error)),
        }
    }
    eprintln!("bench latency");
    match latency(endpoint) {
        Ok(times) => rows.extend(times),
        Err(error) => rows.push(failed("latency", &error)),
    }
    rows
}

fn print(bench: &str, endpoint: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let output = cargo_bench(bench, endpoint, &["--json"])?;
    let lines = parse(bench, &output);
    ensure!(!lines.is_empty(), "it printed no figures");
    Ok(lines)
}

/// Lines that are no JSON objects are for people.
fn parse(bench: &str, output: &str) -> Vec<Row> {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok())
        .map(|figures| Row::Own {
            bench: bench.to_owned(),
            figures,
        })
        .collect()
}

fn latency(endpoint: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let output = cargo_bench("latency", endpoint, &[])?;
    let home = Path::new(ROOT).join("target/criterion");
    let mut rows = Vec::new();
    if let Some(ratio) = ratio_by_turns(&output) {
        let figures = [("case", "uncontended".into()), (RATIO, ratio.into())];
        rows.push(Row::Own {
            bench: "latency".into(),
            figures: figures
                .map(|(key, value)| (key.into(), value))
                .into_iter()
                .collect(),
        });
    }
    for group in GROUPS {
        for (function, file) in estimates(&home.join(group)) {
            let text = fs::read_to_string(&file)?;
            rows.push(Row::Latency {
                group: group.to_owned(),
                function,
                nanos: median(&text)?,
            });
        }
    }
    ensure!(
        !rows.is_empty(),
        "criterion left nothing in {}",
        home.display()
    );
    Ok(rows)
}

/// The ratio that the bench itself prints, of times that were measured by turns.
fn ratio_by_turns(output: &str) -> Option<f64> {
    let said = output
        .lines()
        .find_map(|line| line.strip_prefix("uncontended: "))?;
    let (_, said) = said.split_once(" takes ")?;
    said.split(' ').next()?.parse().ok()
}

/// The functions of a group, with the files of their latest estimates.
fn estimates(group: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(group)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file = entry.path().join("new/estimates.json");
            file.is_file()
                .then(|| (entry.file_name().to_string_lossy().into_owned(), file))
        })
        .collect();
    found.sort();
    found
}

fn median(estimates: &str) -> anyhow::Result<f64> {
    let estimates: Value = serde_json::from_str(estimates)?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .context("there is no median")
}

fn cargo_bench(bench: &str, endpoint: Option<&str>, options: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("cargo");
    command
        .args(["bench", "--quiet", "--bench", bench, "--"])
        .args(options)
        .current_dir(ROOT)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if let Some(endpoint) = endpoint {
        command.env("DYNAMODB_ENDPOINT", endpoint);
    }
    let output = command.output().context("cargo does not start")?;
    ensure!(
        output.status.success(),
        "cargo bench --bench {bench}: {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn failed(bench: &str, error: &anyhow::Error) -> Row {
    eprintln!("bench {bench}: {error:#}");
    Row::Failed {
        peer: "this crate's own benches".into(),
        what: bench.into(),
        reason: format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_figures() {
        let rows = parse(
            "cost",
            "cost of things\n{\"case\":\"alone\",\"writes\":2}\n3\n",
        );
        let [Row::Own { bench, figures }] = &rows[..] else {
            panic!("{rows:?}")
        };
        assert_eq!(
            (bench.as_str(), figures["writes"].as_u64()),
            ("cost", Some(2))
        );
    }

    #[test]
    fn the_ratio_is_read() {
        let text = "x\nuncontended: acquire and release takes 1.034 times as long as two\n";
        assert_eq!(ratio_by_turns(text), Some(1.034));
        assert_eq!(ratio_by_turns("uncontended: nothing"), None);
    }

    #[test]
    fn a_median_is_read() {
        let text = r#"{"mean":{"point_estimate":2.0},"median":{"point_estimate":1.5}}"#;
        assert_eq!(median(text).unwrap(), 1.5);
        assert!(median("{}").is_err());
    }
}
