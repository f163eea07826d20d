//! `fifolock doctor`: why it does not work, and what to change.

mod checks;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::Connection;
use crate::exit;
use crate::text::{json_line, print, printable};

/// Check everything that locking needs, and say what to change
///
/// Nothing is changed: every action is tried on a key that no lock can have, with a condition
/// that does not hold. A policy that allows only some keys of the table shows as denied.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The lease to judge the round trips by
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    lease: Duration,

    /// How long one request may take; defaults to 3 s or a quarter of the lease
    #[arg(long, value_parser = humantime::parse_duration)]
    request_timeout: Option<Duration>,

    /// Print JSON, one document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// What came out of one check.
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    advice: Option<String>,
}

impl Finding {
    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(what: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            advice: Some(advice.into()),
            ..Self::ok(what, found)
        }
    }

    fn fail(what: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(what, found, advice)
        }
    }
}

/// What was found so far. People see it as it comes, since some checks take time.
struct Report {
    json: bool,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, finding: Finding) -> Result<()> {
        if !self.json {
            let mut lines = vec![format!(
                "{:<4}  {:<18}  {}",
                finding.verdict.word(),
                finding.what,
                printable(&finding.found)
            )];
            let advice = finding.advice.iter();
            lines.extend(advice.map(|advice| format!("{:26}-> {}", "", printable(advice))));
            print(&lines)?;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Ok)
    }

    fn document(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "check": finding.what,
                "verdict": finding.verdict.word().to_lowercase(),
                "found": finding.found,
                "advice": finding.advice,
            })
        });
        json!({
            "verdict": self.verdict().word().to_lowercase(),
            "checks": findings.collect::<Vec<_>>(),
        })
    }

    fn summary(&self) -> String {
        let count = |verdict| {
            let all = self.findings.iter();
            all.filter(|finding| finding.verdict == verdict).count()
        };
        match (count(Verdict::Fail), count(Verdict::Warn)) {
            (0, 0) => "all is well".into(),
            (0, warnings) => format!("locking works; {warnings} to look at"),
            (failures, warnings) => format!("{failures} failed, {warnings} more to look at"),
        }
    }
}

pub(crate) fn run(connection: &Connection, args: &Args) -> Result<u8> {
    let mut report = Report {
        json: args.json,
        findings: Vec::new(),
    };
    checks::all(connection, args, &mut report)?;
    match args.json {
        true => print(&[json_line(&report.document())])?,
        false => print(&[String::new(), report.summary()])?,
    }
    Ok(match report.verdict() {
        Verdict::Fail => exit::FAILED,
        _ => exit::OK,
    })
}
