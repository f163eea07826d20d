//! A contender: a process that takes and gives back the lock, and says when.

mod dlock;
mod dynamodb_lease;
mod dynamodb_lock;
pub(crate) mod ours;
mod raw;

use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use rustix::time::{ClockId, clock_gettime};

use crate::peers::{self, Settings};

/// The name of the lock that nobody contends for.
const WARM_UP: &str = "warm-up";

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Whose lock is taken; `raw` for bare requests.
    #[arg(long)]
    pub(crate) peer: String,
    #[arg(long, value_enum)]
    pub(crate) settings: Settings,
    #[arg(long)]
    pub(crate) endpoint: String,
    #[arg(long)]
    pub(crate) table: String,
    /// The number by which the contender is known, or the first one of its threads.
    #[arg(long)]
    pub(crate) number: usize,
    /// Contenders in this process.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Acquisitions of each contender.
    #[arg(long)]
    pub(crate) rounds: usize,
    #[arg(long)]
    pub(crate) hold_ms: u64,
    /// Acquisitions of another lock before the contest.
    #[arg(long)]
    pub(crate) warm_up: usize,
}

impl Options {
    fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }

    /// A lock that no other contender takes.
    fn own_lock(&self) -> String {
        format!("{WARM_UP}-{}", self.number)
    }
}

/// The lock that all contend for.
const LOCK: &str = "contended";

/// Runs to the end of the contest.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match options.peer.as_str() {
        peers::OURS => ours::run(options),
        "dynamodb_lock" => block_on(dynamodb_lock::run(options)),
        "dynamodb-lease" => block_on(dynamodb_lease::run(options)),
        "dlock" => block_on(dlock::run(options)),
        "raw" => raw::run(options),
        other => bail!("there is no worker for {other}"),
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Says that the worker is ready, and waits until all are.
fn line_up() -> anyhow::Result<()> {
    say("ready")?;
    let mut go = String::new();
    io::stdin().read_line(&mut go)?;
    Ok(())
}

/// What one contender says.
#[derive(Clone, Copy)]
struct Voice(usize);

impl Voice {
    fn asked(self) -> anyhow::Result<()> {
        self.stamp("asked", now())
    }

    fn granted(self) -> anyhow::Result<()> {
        self.stamp("granted", now())
    }

    /// Both ends of a release, said after it so that saying it delays nobody.
    fn released(self, began: u64) -> anyhow::Result<()> {
        let ended = now();
        self.stamp("releasing", began)?;
        self.stamp("released", ended)
    }

    fn gave_up(self) -> anyhow::Result<()> {
        self.stamp("gave-up", now())
    }

    fn stamp(self, what: &str, at: u64) -> anyhow::Result<()> {
        say(&format!("{what} {} {at}", self.0))
    }
}

/// `println` would panic once the contest is over and nobody reads any more.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// Nanoseconds of the machine's monotonic clock, which all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Holds the lock on a thread of its own choice.
fn hold(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

async fn hold_async(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// The AWS SDK as the peers that are built on it say to set it up.
fn sdk(endpoint: &str) -> aws_sdk_dynamodb::Client {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "contest"))
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}
