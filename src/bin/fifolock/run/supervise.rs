//! While the command runs: the loop between it, the lock, signals and the terminal.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use dynamodb_fifo_lock::{Error, LockGuard, LossReason};
use humantime::format_duration;
use rustix::process::{Signal, getpid, getsid, kill_current_process_group, kill_process};

use super::child::{Change, Child};
use super::danger::{Danger, Standing, Verdict};
use super::news::News;
use super::terminal::Terminal;
use crate::text::say;

/// Stops that mean the terminal.
const WANTS_TERMINAL: [Signal; 2] = [Signal::TTIN, Signal::TTOU];

/// How the command ended.
pub(super) enum Ending {
    /// By itself, with this exit code.
    ByItself(u8),
    /// The lock was lost, or was about to be.
    Lost,
}

pub(super) struct Supervision<'a> {
    child: &'a Child,
    guard: &'a LockGuard,
    signals: &'a Receiver<Signal>,
    news: &'a Receiver<News>,
    terminal: Option<Terminal>,
    danger: Danger,
    /// What the last renewal that failed met.
    trouble: Option<String>,
    stopped: bool,
    /// Whether the command is to be continued, as soon as the lock is safe.
    wake: bool,
}

impl<'a> Supervision<'a> {
    pub(super) fn new(
        child: &'a Child,
        guard: &'a LockGuard,
        signals: &'a Receiver<Signal>,
        news: &'a Receiver<News>,
        kill_after: Duration,
    ) -> Self {
        Self {
            child,
            guard,
            signals,
            news,
            terminal: Terminal::of_this_process(),
            danger: Danger::new(kill_after),
            trouble: None,
            stopped: false,
            wake: false,
        }
    }

    /// Returns when the command has ended.
    pub(super) fn run(mut self) -> Ending {
        if let Some(terminal) = &mut self.terminal
            && terminal.is_for_command()
        {
            terminal.lend(self.child.group);
        }
        let mut lost = self.guard.lost().clone();
        loop {
            let rest = self.look_at_lock();
            self.wake_up();
            select! {
                recv(self.child.changes) -> change => match change {
                    Ok(Change::Stopped(signal)) => self.stopped_by(signal),
                    Ok(Change::Continued) => self.stopped = false,
                    Ok(Change::Ended(code)) => return self.ended(code),
                    Err(_) => return self.ended(u8::MAX),
                },
                recv(self.signals) -> signal => if let Ok(signal) = signal {
                    self.pass_on(signal);
                },
                recv(self.news) -> news => if let Ok(News::RenewalFailed(what)) = news {
                    self.trouble = Some(what);
                },
                // Once it is closed it would be so for ever.
                recv(lost) -> _ => lost = never(),
                default(rest) => {}
            }
        }
    }

    /// Stops the command if it has to be; says when to look again.
    fn look_at_lock(&mut self) -> Duration {
        let standing = standing(self.guard);
        match self.danger.judge(standing, self.stopped, Instant::now()) {
            Verdict::Spare(rest) => rest,
            Verdict::Terminate => {
                self.explain(standing, "terminating the command");
                self.child.send(Signal::TERM);
                // Somebody who is stopped hears of nothing but this.
                self.child.send(Signal::CONT);
                Duration::ZERO
            }
            Verdict::Kill => {
                self.child.send(Signal::KILL);
                self.explain(standing, "killed the command");
                Duration::ZERO
            }
        }
    }

    fn explain(&self, standing: Standing, deed: &str) {
        let lock = self.guard.name();
        let why = match standing {
            Standing::Superseded => "the table says that it has moved on".into(),
            Standing::Expired => "its lease is over".into(),
            Standing::Held(remaining) => {
                let millis = remaining.subsec_millis();
                let left = Duration::new(remaining.as_secs(), millis * 1_000_000);
                format!("its lease ends in {}", format_duration(left))
            }
        };
        let trouble = match &self.trouble {
            Some(trouble) => format!(" ({trouble})"),
            None => String::new(),
        };
        say(&format!("{lock}: {why}{trouble}; {deed}"));
    }

    /// Continues a command that was to be continued, unless it would have to end soon:
    /// after a long stop the heartbeat renews the lease first, if it still can.
    fn wake_up(&mut self) {
        if !self.wake || !self.danger.leaves_time(standing(self.guard)) {
            return;
        }
        self.wake = false;
        self.child.send(Signal::CONT);
    }

    fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            // Of the shell's `fg`, perhaps; then the terminal is ours.
            if let Some(terminal) = &mut self.terminal
                && terminal.is_for_command()
            {
                terminal.lend(self.child.group);
            }
            self.wake = true;
            return;
        }
        self.child.send(signal);
    }

    /// The leader of the group was stopped. Decides who else is.
    fn stopped_by(&mut self, signal: i32) {
        self.stopped = true;
        let signal = Signal::from_named_raw(signal);
        let wants_terminal = signal.is_some_and(|signal| WANTS_TERMINAL.contains(&signal));
        let Some(terminal) = &mut self.terminal else {
            return;
        };
        if wants_terminal && terminal.lend(self.child.group) {
            self.wake = true;
            return;
        }
        let had_it = terminal.take_back(self.child.group);
        if !(had_it || wants_terminal || signal == Some(Signal::TSTP)) {
            return;
        }
        if getsid(None) == Ok(getpid()) {
            // There is no shell to wake us.
            self.wake = true;
            terminal.lend(self.child.group);
            return;
        }
        // Nobody of the group runs on while the heartbeat stands still. What comes after
        // that is for SIGCONT to say.
        self.child.send(Signal::STOP);
        let _ = match had_it || wants_terminal {
            // The job as a whole, as the terminal would have done it.
            true => kill_current_process_group(Signal::STOP),
            false => kill_process(getpid(), Signal::STOP),
        };
    }

    fn ended(self, code: u8) -> Ending {
        let standing = standing(self.guard);
        let struck = self.danger.has_struck();
        let lost = struck || !matches!(standing, Standing::Held(_));
        if lost {
            self.child.send(Signal::KILL);
        }
        if lost && !struck {
            self.explain(standing, "the command had just ended");
        }
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.child.group);
            if struck {
                terminal.reset();
            }
        }
        self.child.bury();
        match lost {
            true => Ending::Lost,
            false => Ending::ByItself(code),
        }
    }
}

fn standing(guard: &LockGuard) -> Standing {
    match guard.ensure_held() {
        Ok(()) => Standing::Held(guard.remaining()),
        Err(Error::Lost {
            reason: LossReason::LeaseExpired,
            ..
        }) => Standing::Expired,
        Err(_) => Standing::Superseded,
    }
}
