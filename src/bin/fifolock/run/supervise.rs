//! While the command runs: the loop between it, the lock, signals and the terminal.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, never, select};
use dynamodb_fifo_lock::{Error, LockGuard, LossReason};
use humantime::format_duration;
use rustix::process::{Pid, Signal, getpid, getsid, kill_current_process_group, kill_process};

use super::child::Child;
use super::danger::{Danger, GLANCE, Standing, Verdict};
use super::news::News;
use super::processes;
use super::signals::{self, Received};
use super::terminal::Terminal;
use super::tree::Survivor;
use super::wire::{Change, Deadline};
use crate::exit;
use crate::text::say;

/// Stops that mean the terminal.
const WANTS_TERMINAL: [Signal; 2] = [Signal::TTIN, Signal::TTOU];

/// What was sent KILL has this long to end before it counts as left.
const DEATH: Duration = Duration::from_secs(2);

const NOT_PERMITTED: &str = "cannot be stopped: the system does not permit to signal it";

/// The command is started within this time, or signals are not kept for it.
const SOON: Duration = Duration::from_secs(1);

/// Between two looks at what a command left that was asked to end.
const STRAGGLERS: Duration = Duration::from_millis(20);

/// How the command ended.
pub(super) enum Ending {
    /// By itself, with this exit code; or it was stopped, and the lock is still held.
    WithCode(u8),
    /// The lock was lost, or was about to be.
    Lost,
    /// The lock was lost, and something that could not be stopped runs on.
    RunsOn,
}

/// Why the command has to stop.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Lock,
    /// This process was sent a signal that ends it.
    Signal(i32),
    /// The command has ended, with this exit code, because of a signal: what it left is to
    /// end, too.
    Ended(u8),
    KeeperDied,
}

pub(super) struct Supervision<'a> {
    child: &'a Child,
    guard: &'a LockGuard,
    signals: &'a Receiver<Received>,
    news: &'a Receiver<News>,
    terminal: Option<Terminal>,
    danger: Danger,
    cause: Cause,
    /// What the last renewal that failed met.
    trouble: Option<String>,
    stopped: bool,
    /// Whether the command is to be continued, as soon as the lock is safe.
    wake: bool,
    /// Whether TERM or QUIT was passed on.
    told_to_end: bool,
    /// The exit code of the command, once its first process has ended.
    code: Option<u8>,
    /// Whether it was told what cannot be stopped.
    told: bool,
}

impl<'a> Supervision<'a> {
    pub(super) fn new(
        child: &'a Child,
        guard: &'a LockGuard,
        signals: &'a Receiver<Received>,
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
            cause: Cause::Lock,
            trouble: None,
            stopped: false,
            wake: false,
            told_to_end: false,
            code: None,
            told: false,
        }
    }

    /// Returns when the command has ended.
    pub(super) fn run(mut self) -> Ending {
        let mut lost = self.guard.lost().clone();
        let (no_signals, mut changes) = (never(), self.child.changes.clone());
        let began = Instant::now();
        loop {
            let mut rest = self.look_at_lock();
            if self.code.is_some() {
                // What it left is to end, too.
                rest = rest.min(STRAGGLERS);
                if self.child.is_over() {
                    self.danger.kill_now();
                }
            }
            if self.danger.has_killed()
                && let Some(ending) = self.finish()
            {
                return ending;
            }
            self.wake_up();
            // Those that come before the command are for it, too, if it comes soon.
            let signals = match self.child.group().is_some() || began.elapsed() > SOON {
                true => self.signals,
                false => &no_signals,
            };
            select! {
                recv(changes) -> change => match change {
                    Ok(change) => if let Some(ending) = self.changed(change) {
                        return ending;
                    },
                    Err(_) => {
                        changes = never();
                        self.keeper_died();
                    }
                },
                recv(signals) -> signal => if let Ok(signal) = signal {
                    self.received(signal);
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

    fn changed(&mut self, change: Change) -> Option<Ending> {
        match change {
            Change::Started(group) => self.started(group),
            Change::NotStarted(why) => {
                say(&why);
                return self.ended(exit::CANNOT_RUN);
            }
            Change::Stopped(signal) => self.stopped_by(signal),
            Change::Continued => self.stopped = false,
            Change::Ended(code) => return self.ended(code),
        }
        None
    }

    fn started(&mut self, group: Pid) {
        self.child.started(group);
        self.lend_terminal();
    }

    /// Gives the terminal to a command that expects to have it.
    fn lend_terminal(&mut self) {
        if let (Some(terminal), Some(group)) = (&mut self.terminal, self.child.group())
            && terminal.is_for_command()
        {
            terminal.lend(group);
        }
    }

    /// Stops the command if it has to be; says when to look again.
    fn look_at_lock(&mut self) -> Duration {
        let (standing, now) = (standing(self.guard), Instant::now());
        let verdict = self.danger.judge(standing, self.stopped, now);
        let last_resort = self.danger.last_resort(standing, now);
        self.child.put_off(Deadline::after(last_resort));
        match verdict {
            Verdict::Spare(rest) => rest,
            Verdict::Terminate => {
                let asked = self.child.terminate();
                self.explain(
                    standing,
                    match (asked.any || asked.refused.is_empty(), self.code) {
                        (true, None) => "terminating the command",
                        (true, Some(_)) => "terminating what it left",
                        (false, _) => "the command cannot be asked to end",
                    },
                );
                for Survivor { what, .. } in asked.refused {
                    say(&format!("{}: {what} {NOT_PERMITTED}", self.guard.name()));
                }
                Duration::ZERO
            }
            // What that takes is done in `finish`.
            Verdict::Kill => GLANCE,
        }
    }

    /// From now on the command is to stop, because of `cause`.
    fn stop_because(&mut self, cause: Cause) {
        if matches!(self.cause, Cause::Lock) && !self.danger.has_struck() {
            self.cause = cause;
            self.danger.order_stop();
        }
    }

    fn keeper_died(&mut self) {
        self.child.end_keeper();
        self.stop_because(Cause::KeeperDied);
        self.danger.kill_now();
    }

    /// Kills what is left of the command. `None` if there is more to wait for: while the
    /// lock is held, it is kept for what cannot be stopped.
    fn finish(&mut self) -> Option<Ending> {
        let mut left = self.child.kill(DEATH);
        if left.is_empty() && !self.is_known_to_have_ended() {
            left.push(Survivor::command());
        }
        let standing = standing(self.guard);
        let is_held = matches!(standing, Standing::Held(_));
        if !left.is_empty() {
            if !is_held || left.iter().any(|left| left.refused) {
                self.tell_of(&left, standing);
            }
            if is_held {
                return None;
            }
            self.leave_terminal();
            self.child.let_go();
            return Some(Ending::RunsOn);
        }
        self.explain(
            standing,
            match (self.cause, self.code) {
                (Cause::Ended(_), _) => "so has what it left",
                (_, Some(_)) => "the command has ended",
                (_, None) => "killed the command",
            },
        );
        self.leave_terminal();
        self.child.let_go();
        Some(match self.cause {
            _ if !is_held => Ending::Lost,
            Cause::Lock => Ending::Lost,
            Cause::Signal(signal) => Ending::WithCode(signals::code_of(signal)),
            Cause::Ended(code) => Ending::WithCode(code),
            Cause::KeeperDied => Ending::WithCode(exit::FAILED),
        })
    }

    /// Where processes are not shown, only the keeper knows.
    fn is_known_to_have_ended(&self) -> bool {
        if processes::are_shown() || self.code.is_some() || self.child.group().is_none() {
            return true;
        }
        let until = Instant::now() + DEATH;
        loop {
            match self.child.changes.recv_deadline(until) {
                Ok(Change::Ended(_)) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Says once, and again when the lock is lost, what was not stopped.
    fn tell_of(&mut self, left: &[Survivor], standing: Standing) {
        let is_held = matches!(standing, Standing::Held(_));
        if left.is_empty() || (is_held && self.told) {
            return;
        }
        self.told = true;
        let lock = self.guard.name();
        for Survivor { what, refused } in left {
            let why = match refused {
                true => NOT_PERMITTED,
                false => "was sent KILL and has not ended",
            };
            let then = match is_held {
                true => "the lock is kept for as long as it can be",
                false => "IT RUNS ON WITHOUT THE LOCK",
            };
            say(&format!("{lock}: {what} {why}; {then}"));
        }
    }

    fn explain(&self, standing: Standing, deed: &str) {
        let lock = self.guard.name();
        let why = match (self.cause, standing) {
            (_, Standing::Superseded) => "the table says that it has moved on".into(),
            (_, Standing::Expired) => "its lease is over".into(),
            (Cause::Signal(signal), _) => {
                format!("fifolock was sent {}", signals::name_of(signal))
            }
            (Cause::Ended(code), _) => format!("the command has ended with code {code}"),
            (Cause::KeeperDied, _) => "the process that guards the command has died".into(),
            (Cause::Lock, Standing::Held(remaining)) => {
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

    fn received(&mut self, signal: Received) {
        match (signal, signals::ends(signal)) {
            (Received::PassOn(signal), _) if self.child.group().is_some() => self.pass_on(signal),
            (_, Some(signal)) => self.stop_because(Cause::Signal(signal)),
            _ => {}
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            // Of the shell's `fg`, perhaps; then the terminal is ours.
            self.lend_terminal();
            self.wake = true;
            return;
        }
        self.told_to_end |= matches!(signal, Signal::TERM | Signal::QUIT);
        if !signals::asks_to_end(signal) {
            if !self.child.send(signal) {
                self.tell_of_refusal(signal, "the command");
            }
            return;
        }
        for Survivor { what, .. } in self.child.send_to_all(signal).refused {
            self.tell_of_refusal(signal, &what);
        }
    }

    fn tell_of_refusal(&self, signal: Signal, what: &str) {
        let (lock, name) = (self.guard.name(), signals::name_of(signal.as_raw()));
        say(&format!(
            "{lock}: {name} was not passed on: the system does not permit to signal {what}"
        ));
    }

    /// The leader of the group was stopped. Decides who else is.
    fn stopped_by(&mut self, signal: i32) {
        self.stopped = true;
        let signal = Signal::from_named_raw(signal);
        let wants_terminal = signal.is_some_and(|signal| WANTS_TERMINAL.contains(&signal));
        let (Some(terminal), Some(group)) = (&mut self.terminal, self.child.group()) else {
            return;
        };
        if wants_terminal && terminal.lend(group) {
            self.wake = true;
            return;
        }
        let had_it = terminal.take_back(group);
        if !(had_it || wants_terminal || signal == Some(Signal::TSTP)) {
            return;
        }
        if getsid(None) == Ok(getpid()) {
            // There is no shell to wake us.
            self.wake = true;
            terminal.lend(group);
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

    /// The leader of the group has ended. What it left behind runs on, unless a signal
    /// ended the leader, or it was to end anyway.
    fn ended(&mut self, code: u8) -> Option<Ending> {
        self.code = Some(code);
        let is_held = matches!(standing(self.guard), Standing::Held(_));
        if !is_held || self.danger.has_struck() {
            self.danger.kill_now();
            return None;
        }
        let by_signal = self.told_to_end || signals::is_in(code);
        if by_signal && !self.child.is_over() {
            self.stop_because(Cause::Ended(code));
            return None;
        }
        self.leave_terminal();
        self.child.let_go();
        Some(Ending::WithCode(code))
    }

    fn leave_terminal(&self) {
        let (Some(terminal), Some(group)) = (&self.terminal, self.child.group()) else {
            return;
        };
        terminal.take_back(group);
        if self.danger.has_struck() {
            terminal.reset();
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
