//! One contest: workers that start together and contend for one lock, over a proxy of
//! their own.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::figures::{Event, What};
use crate::peers::{Peer, Schema, Settings};
use crate::proxy::{Proxy, Tally};
use crate::raw::Raw;
use crate::runners;
use crate::worker::ours;

/// How long workers may take to start.
const START: Duration = Duration::from_secs(120);

/// By now a waiter has seen that the lock is held.
const SEEN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Contest {
    pub(crate) peer: &'static Peer,
    pub(crate) settings: Settings,
    pub(crate) contenders: usize,
    /// Whether all contenders are threads of one client.
    pub(crate) one_client: bool,
    /// Acquisitions of each.
    pub(crate) rounds: usize,
    pub(crate) hold: Duration,
    /// What the proxy adds to each round trip.
    pub(crate) added: Duration,
    /// When the contest ends, done or not.
    pub(crate) limit: Duration,
    pub(crate) warm_up: usize,
}

pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    pub(crate) tally: Tally,
    /// Whether all acquisitions were made within the limit.
    pub(crate) finished: bool,
}

impl Contest {
    /// Holds it. The workers are gone when this returns.
    pub(crate) fn run(&self, endpoint: &str) -> anyhow::Result<Outcome> {
        let table = new_table(endpoint, self.peer)?;
        let proxy = Proxy::start(endpoint, self.added)?;
        let (processes, threads) = if self.one_client {
            (1, self.contenders)
        } else {
            (self.contenders, 1)
        };
        let mut team = Team::default();
        for process in 0..processes {
            let command = self.worker(&proxy, &table, process, threads)?;
            team.add(command)?;
        }
        team.wait_until_ready()?;
        proxy.take();
        team.go()?;
        let finished = team.follow(Instant::now() + self.limit, Team::all_done)?;
        let tally = proxy.take();
        Ok(Outcome {
            events: std::mem::take(&mut team.events),
            tally,
            finished,
        })
    }

    fn worker(
        &self,
        proxy: &Proxy,
        table: &str,
        number: usize,
        threads: usize,
    ) -> anyhow::Result<Command> {
        let mut command = runners::command(self.peer.runner)?;
        command
            .args(["--peer", self.peer.name])
            .args(["--settings", self.settings.name()])
            .args(["--endpoint", proxy.endpoint()])
            .args(["--table", table])
            .args(["--number", &number.to_string()])
            .args(["--threads", &threads.to_string()])
            .args(["--rounds", &self.rounds.to_string()])
            .args(["--hold-ms", &self.hold.as_millis().to_string()])
            .args(["--warm-up", &self.warm_up.to_string()]);
        Ok(command)
    }
}

/// How long after the death of a holder the next one is granted, if it is within the
/// limit.
pub(crate) fn death(
    endpoint: &str,
    peer: &'static Peer,
    limit: Duration,
) -> anyhow::Result<Option<Duration>> {
    let table = new_table(endpoint, peer)?;
    let proxy = Proxy::start(endpoint, Duration::ZERO)?;
    let contest = |hold| Contest {
        peer,
        settings: Settings::Default,
        contenders: 1,
        one_client: false,
        rounds: 1,
        hold,
        added: Duration::ZERO,
        limit,
        warm_up: 1,
    };
    let mut holder = Team::default();
    holder.add(contest(START * 10).worker(&proxy, &table, 0, 1)?)?;
    holder.wait_until_ready()?;
    holder.go()?;
    let granted = |team: &Team| team.events.iter().any(|event| event.what == What::Granted);
    ensure!(
        holder.follow(Instant::now() + START, granted)?,
        "the holder was not granted"
    );

    let mut waiter = Team::default();
    waiter.add(contest(Duration::ZERO).worker(&proxy, &table, 1, 1)?)?;
    waiter.wait_until_ready()?;
    waiter.go()?;
    let early = waiter.follow(Instant::now() + SEEN, granted)?;
    ensure!(!early, "two are granted at once");
    drop(holder);
    let died = Instant::now();
    Ok(waiter
        .follow(died + limit, granted)?
        .then(|| died.elapsed()))
}

fn new_table(endpoint: &str, peer: &Peer) -> anyhow::Result<String> {
    static TABLES: AtomicUsize = AtomicUsize::new(0);
    let number = TABLES.fetch_add(1, Ordering::Relaxed);
    let table = format!("contest-{}-{number}", std::process::id());
    match peer.schema {
        Schema::Own => ours::store(endpoint, &table)?.create_table()?,
        Schema::Keys(keys, expiry) => Raw::new(endpoint).create_table(&table, keys, expiry)?,
    }
    Ok(table)
}

/// Worker processes. They are killed when this is dropped.
#[derive(Default)]
struct Team {
    workers: Vec<(Child, ChildStdin)>,
    lines: Option<(Sender<Line>, Receiver<Line>)>,
    events: Vec<Event>,
    ready: usize,
    done: usize,
}

enum Line {
    Said(String),
    /// The output of the worker with this index is at its end.
    Ended(usize),
}

impl Team {
    fn add(&mut self, mut command: Command) -> anyhow::Result<()> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{:?} does not start", command.get_program()))?;
        let (stdin, stdout) = match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => (stdin, stdout),
            _ => bail!("a worker has no pipes"),
        };
        let index = self.workers.len();
        self.workers.push((child, stdin));
        let (sender, _) = self.lines.get_or_insert_with(mpsc::channel);
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(Line::Said(line)).is_err() {
                    return;
                }
            }
            let _ = sender.send(Line::Ended(index));
        });
        Ok(())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let all = |team: &Self| team.ready == team.workers.len();
        ensure!(
            self.follow(Instant::now() + START, all)?,
            "the workers do not start"
        );
        Ok(())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        for (_, stdin) in &mut self.workers {
            writeln!(stdin, "go")?;
        }
        Ok(())
    }

    fn all_done(&self) -> bool {
        self.done == self.workers.len()
    }

    /// Listens until something holds, or the time is over; says which.
    fn follow(&mut self, until: Instant, holds: impl Fn(&Self) -> bool) -> anyhow::Result<bool> {
        while !holds(self) {
            let Some((_, lines)) = &self.lines else {
                return Ok(false);
            };
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Line::Said(line)) => self.hear(&line)?,
                Ok(Line::Ended(index)) => self.end(index)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn hear(&mut self, line: &str) -> anyhow::Result<()> {
        if line == "ready" {
            self.ready += 1;
            return Ok(());
        }
        let event = parse(line).with_context(|| format!("a worker said {line:?}"))?;
        self.events.push(event);
        Ok(())
    }

    fn end(&mut self, index: usize) -> anyhow::Result<()> {
        self.done += 1;
        let status = self.workers[index].0.wait()?;
        ensure!(status.success(), "a worker failed: {status}");
        Ok(())
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        for (child, _) in &mut self.workers {
            let _ = child.kill();
        }
        for (child, _) in &mut self.workers {
            let _ = child.wait();
        }
    }
}

fn parse(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let what = match words.next()? {
        "asked" => What::Asked,
        "granted" => What::Granted,
        "releasing" => What::Releasing,
        "released" => What::Released,
        "gave-up" => What::GaveUp,
        _ => return None,
    };
    let who = words.next()?.parse().ok()?;
    let at = words.next()?.parse().ok()?;
    Some(Event { who, what, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_and_nonsense_is_not() {
        let event = Event {
            who: 3,
            what: What::GaveUp,
            at: 17,
        };
        assert_eq!(parse("gave-up 3 17"), Some(event));
        assert_eq!(parse("asked 3"), None);
        assert_eq!(parse("hello 3 17"), None);
    }
}
