//! All that a command started, and how to stop it.
//!
//! A process group is not enough: `timeout`, a shell with job control, `setsid` and
//! daemons leave it. Where Linux shows its processes, those that leave even their parent
//! stay below the keeper, which adopts them. Elsewhere the group is all there is.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{self, Errno};
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, test_kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::processes::{self, Process};

/// Between two looks at processes that were sent KILL.
const PAUSE: Duration = Duration::from_millis(2);

/// So many looks in a row have to find none: one look can miss a process that forks and ends
/// while it is taken.
const LOOKS: usize = 5;

/// A process that was not stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Survivor {
    /// For people: which, and whose.
    pub(super) what: String,
    /// Whether the system did not permit the signal. Else KILL was sent, and the process
    /// has not ended yet.
    pub(super) refused: bool,
}

/// What runs below this process.
pub(super) struct Tree {
    root: Pid,
    /// Children that are not the command's: this process had them before.
    spared: Vec<Process>,
    /// A child that is left out. What is below it is not.
    keeper: Option<Pid>,
}

impl Tree {
    /// What comes to be below this process from now on.
    pub(super) fn from_now() -> Self {
        let root = getpid();
        // As a rule there are none, which is known at once.
        let has_any = processes::are_shown() && !processes::children_of(root).is_empty();
        let spared = match has_any {
            true => processes::below(root, &[]),
            false => Vec::new(),
        };
        Self {
            root,
            spared,
            keeper: None,
        }
    }

    pub(super) fn leave_out(&mut self, keeper: Pid) {
        self.keeper = Some(keeper);
    }

    /// Sends a signal to all. `group` is that of the command; its id is not given to
    /// another while its leader is a zombie, which the keeper sees to.
    pub(super) fn ask(&self, signal: Signal, group: Option<Pid>) -> Asked {
        let sent = self.send(signal, group);
        Asked {
            any: sent.any,
            refused: sent.into_refused(),
        }
    }

    /// Kills all. Returns when none is left that can be killed, or after `within`: those
    /// that are left.
    pub(super) fn kill(&self, group: Option<Pid>, within: Duration) -> Vec<Survivor> {
        let until = Instant::now() + within;
        let mut found_none = 0;
        loop {
            let sent = self.send(Signal::KILL, group);
            // They fork meanwhile: only looks that find no other are the last ones.
            let mut pending = self.alive();
            pending.retain(|left| !sent.refused.iter().any(|other| left.is(other)));
            found_none = match pending.is_empty() {
                true => found_none + 1,
                false => 0,
            };
            if found_none >= LOOKS || Instant::now() >= until {
                let pending = pending.iter().map(|left| Survivor::new(left, false));
                return sent.into_refused().into_iter().chain(pending).collect();
            }
            thread::sleep(PAUSE);
        }
    }

    /// Whether none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.alive().is_empty()
    }

    /// Those that have ended, and for which nothing has asked yet.
    pub(super) fn ended(&self) -> Vec<Pid> {
        let all = self.all().into_iter();
        let ended = all.filter(|process| process.ended);
        ended.map(|process| process.pid).collect()
    }

    fn send(&self, signal: Signal, group: Option<Pid>) -> Sent {
        let all = self.all();
        // All members at once: none can fork away.
        let by_group = group.map(|group| kill_process_group(group, signal));
        if signal == Signal::KILL {
            self.kill_children();
        }
        let mut sent = Sent::default();
        for process in all.iter().filter(|process| !process.ended) {
            let outcome = match group.is_some() && process.group == group {
                // A group counts as reached as soon as one member was.
                true => test_kill_process(process.pid),
                false => strike(process.pid, signal, |now| now.is(process)),
            };
            match outcome {
                Ok(()) => sent.any = true,
                Err(Errno::PERM) => sent.refused.push(*process),
                Err(_) => {}
            }
        }
        // It may be hidden (`hidepid`), or there is no `/proc`.
        let is_shown = all.iter().any(|process| Some(process.pid) == group);
        sent.group_refused = by_group == Some(Err(Errno::PERM)) && !is_shown;
        sent.any |= by_group == Some(Ok(()));
        sent
    }

    /// Kills those that were adopted, one by one as they are found: a process that forks
    /// and ends, again and again, is gone by the end of a longer look.
    fn kill_children(&self) {
        for parent in [Some(self.root), self.keeper].into_iter().flatten() {
            for child in processes::children(parent).unwrap_or_default() {
                let is_command = |now: &Process| {
                    now.parent == Some(parent) && !self.spared.iter().any(|other| now.is(other))
                };
                if Some(child) != self.keeper {
                    let _ = strike(child, Signal::KILL, is_command);
                }
            }
        }
    }

    fn alive(&self) -> Vec<Process> {
        let all = self.all().into_iter();
        all.filter(|process| !process.ended).collect()
    }

    fn all(&self) -> Vec<Process> {
        if !processes::are_shown() {
            return Vec::new();
        }
        let mut all = processes::below(self.root, &self.spared);
        all.retain(|process| Some(process.pid) != self.keeper);
        all
    }
}

/// What came of a signal to all.
pub(super) struct Asked {
    /// Whether any process was reached.
    pub(super) any: bool,
    pub(super) refused: Vec<Survivor>,
}

/// The same, before it is told to people.
#[derive(Default)]
struct Sent {
    any: bool,
    refused: Vec<Process>,
    /// Whether the command's group refused it, and its leader is not shown.
    group_refused: bool,
}

impl Sent {
    fn into_refused(self) -> Vec<Survivor> {
        let group = self.group_refused.then(|| Survivor {
            refused: true,
            ..Survivor::command()
        });
        let processes = self.refused.iter();
        let processes = processes.map(|process| Survivor::new(process, true));
        processes.chain(group).collect()
    }
}

impl Survivor {
    /// Where its processes are not shown.
    pub(super) fn command() -> Self {
        Self {
            what: "the command".into(),
            refused: false,
        }
    }

    fn new(process: &Process, refused: bool) -> Self {
        Self {
            what: process.describe(),
            refused,
        }
    }
}

/// Sends a signal to the process of this id, if it is the one that is meant.
fn strike(pid: Pid, signal: Signal, is_meant: impl Fn(&Process) -> bool) -> io::Result<()> {
    let is_here = || Process::of(pid).is_some_and(|now| is_meant(&now));
    // A descriptor goes on meaning the same process when its id is given to another.
    #[cfg(target_os = "linux")]
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) if is_here() => return pidfd_send_signal(descriptor, signal),
        Ok(_) | Err(Errno::SRCH) => return Err(Errno::SRCH),
        // The kernel is too old, or there are too many descriptors.
        Err(_) => {}
    }
    match is_here() {
        true => kill_process(pid, signal),
        false => Err(Errno::SRCH),
    }
}
