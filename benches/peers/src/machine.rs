//! What a figure is worth nothing without: the machine, the day, the versions, and the
//! command.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::peers::{OURS, Peer, cargo_version};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) quick: bool,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// Processes that were ready to run over the minute before.
    pub(crate) load: String,
    pub(crate) server: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) versions: Vec<(String, String)>,
}

impl About {
    pub(crate) fn look(server: &str, quick: bool, peers: &[&'static Peer]) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.trim_end_matches(" kB").parse().unwrap_or(0_u64);
        let mut versions: Vec<_> = peers
            .iter()
            .map(|peer| (peer.name.to_owned(), peer.version()))
            .collect();
        if let Some(version) = cargo_version("aws-sdk-dynamodb") {
            versions.push(("aws-sdk-dynamodb (Rust)".into(), version));
        }
        Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            command: command_line(),
            quick,
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kilobytes.div_ceil(1024 * 1024),
            kernel: first(read("/proc/sys/kernel/osrelease")),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            server: server.to_owned(),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]),
            versions,
        }
    }

    pub(crate) fn our_version(&self) -> &str {
        self.versions
            .iter()
            .find_map(|(name, version)| (name == OURS).then_some(version.as_str()))
            .unwrap_or("unknown")
    }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

fn command_line() -> String {
    let options: Vec<_> = std::env::args().skip(1).map(quoted).collect();
    format!(
        "cargo run --release --manifest-path benches/peers/Cargo.toml -- {}",
        options.join(" ")
    )
}

fn quoted(word: String) -> String {
    if word.contains(' ') {
        format!("'{word}'")
    } else {
        word
    }
}

fn said(program: &str, options: &[&str]) -> String {
    Command::new(program)
        .args(options)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Fast: very\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), "Fast: very");
        assert_eq!(field(text, "flags"), "");
    }
}
