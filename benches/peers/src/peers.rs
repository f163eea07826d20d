//! Who takes part, with which settings, and who cannot.

use anyhow::Context;
use clap::ValueEnum;

/// The lease that is set where a peer has no default of its own, in milliseconds.
pub(crate) const LEASE_MS: u64 = 20_000;

/// In which of its two ways a peer is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Settings {
    /// As it comes.
    Default,
    /// As often as it can sensibly be made to look.
    Eager,
}

impl Settings {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Eager => "eager",
        }
    }
}

/// What runs the workers of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// This very program.
    Itself,
    Python,
    Node,
}

/// The table that a peer wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Schema {
    /// The peer makes it.
    Own,
    Keys(&'static [&'static str], Option<&'static str>),
}

/// One lock client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Its package's name, by which it is chosen.
    pub(crate) name: &'static str,
    pub(crate) runner: Runner,
    pub(crate) schema: Schema,
    /// What its default settings are.
    pub(crate) default: &'static str,
    /// What is set to make it as fast as can be; nothing, if there is nothing to set.
    pub(crate) eager: Option<&'static str>,
    /// How long a dead holder is waited for, as set in the contest with one.
    pub(crate) lease_ms: u64,
    /// What a dead holder means by the peer's design.
    pub(crate) dead_holder: &'static str,
}

pub(crate) const OURS: &str = "dynamodb-fifo-lock";

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: OURS,
        runner: Runner::Itself,
        schema: Schema::Own,
        default: "all defaults (lease 20 s)",
        eager: None,
        lease_ms: 20_000,
        dead_holder: "its lease runs out, counted by the waiter since it last saw a sign of life",
    },
    Peer {
        name: "dynamodb_lock",
        runner: Runner::Itself,
        schema: Schema::Keys(&["key"], None),
        default: "all defaults (polls every 10 s, lease 20 s)",
        eager: Some("refresh_period 1 ms"),
        lease_ms: 20_000,
        dead_holder: "never: it writes the lease as a number and reads a string, so that no lease \
                      ends",
    },
    Peer {
        name: "dynamodb-lease",
        runner: Runner::Itself,
        schema: Schema::Keys(&["key"], Some("lease_expiry")),
        default: "all defaults (polls every 1 s, lease 60 s)",
        eager: Some("acquire_cooldown 1 ms"),
        lease_ms: 60_000,
        dead_holder: "its lease runs out by the waiter's wall clock, in whole seconds",
    },
    Peer {
        name: "dlock",
        runner: Runner::Itself,
        schema: Schema::Keys(&["lock_name"], None),
        default: "`with`, lease 20 s (it has no default), retry unset (no pause between tries)",
        eager: Some("`acquire`, `retry` after 1 ms and `release` by hand, without renewals"),
        lease_ms: LEASE_MS,
        dead_holder: "the lease in the row runs out, counted by the waiter from its first refusal",
    },
    Peer {
        name: "python-dynamodb-lock",
        runner: Runner::Python,
        schema: Schema::Keys(&["lock_key", "sort_key"], Some("expiry_time")),
        default: "all defaults (polls every 5 s, lease 30 s, gives up after 35 s and is asked \
                  again)",
        eager: Some("retry_period 1 ms"),
        lease_ms: 30_000,
        dead_holder: "its lease runs out, counted by the waiter since the row last changed",
    },
    Peer {
        name: "@deliveryhero/dynamodb-lock",
        runner: Runner::Node,
        schema: Schema::Keys(&["lockId", "lockGroup"], None),
        default: "all defaults (lease 20 s, waits for a lease between tries)",
        eager: Some("trustLocalTime, waitDurationInMs 1"),
        lease_ms: 20_000,
        dead_holder: "a lease after the waiter saw the row, if it has not changed",
    },
    Peer {
        name: "dynamodb-lock-client",
        runner: Runner::Node,
        schema: Schema::Keys(&["id"], None),
        default: "FailOpen, lease 10 s and heartbeat 3 s as in its README (it has no defaults), \
                  one retry, then it gives up and is asked again",
        eager: Some(
            "FailClosed, acquirePeriodMs 1, retries without end; nobody can take over \
                     from a dead holder",
        ),
        lease_ms: 10_000,
        dead_holder: "a lease after the waiter saw the row, if it has not changed",
    },
];

/// No lock at all: bare requests, which the others are compared with.
pub(crate) const RAW: Peer = Peer {
    name: "raw",
    runner: Runner::Itself,
    schema: Schema::Keys(&["key"], None),
    default: "bare UpdateItem requests",
    eager: None,
    lease_ms: 0,
    dead_holder: "",
};

/// Those that cannot take part, and why.
pub(crate) const ABSENT: &[(&str, &str)] = &[
    (
        "dynamodb-fifo-lock-client (TypeScript)",
        "the npm registry does not have it",
    ),
    (
        "amazon-dynamodb-lock-client (Java)",
        "it is published in Maven Central only, which could not be reached when the contest \
         was set up; no worker is written for it",
    ),
    (
        "dynamolock (Go)",
        "it is published as a Go module only, and no Go module proxy could be reached when the \
         contest was set up; no worker is written for it",
    ),
    (
        "dynalock 0.1 (Rust)",
        "it cannot be built: its dependency rusoto_core 0.32 needs a version of hmac that was \
         withdrawn",
    ),
];

pub(crate) fn peer(name: &str) -> anyhow::Result<&'static Peer> {
    PEERS
        .iter()
        .find(|peer| peer.name == name)
        .with_context(|| format!("there is no peer {name}"))
}

impl Peer {
    /// How it is set; the settings that it comes with, if there is nothing to set.
    pub(crate) fn describe(&self, settings: Settings) -> &'static str {
        match settings {
            Settings::Default => self.default,
            Settings::Eager => self.eager.unwrap_or(self.default),
        }
    }

    /// The version that is locked here.
    pub(crate) fn version(&self) -> String {
        match self.runner {
            Runner::Itself => cargo_version(self.name),
            Runner::Python => include_str!("../workers/requirements.txt")
                .lines()
                .find_map(|line| line.strip_prefix(self.name)?.strip_prefix("=="))
                .map(str::to_owned),
            Runner::Node => npm_version(self.name),
        }
        .unwrap_or_else(|| "unknown".into())
    }
}

/// The version of a crate in this package's lock file.
pub(crate) fn cargo_version(name: &str) -> Option<String> {
    let named = format!("name = \"{name}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| *line == named)?;
    Some(
        lines
            .next()?
            .strip_prefix("version = \"")?
            .strip_suffix('"')?
            .to_owned(),
    )
}

fn npm_version(name: &str) -> Option<String> {
    let package: serde_json::Value =
        serde_json::from_str(include_str!("../workers/package.json")).ok()?;
    Some(package["dependencies"][name].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_version() {
        for peer in PEERS {
            assert!(
                peer.version().starts_with(|c: char| c.is_ascii_digit()),
                "{}",
                peer.name
            );
        }
    }
}
