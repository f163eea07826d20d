//! The signals that `fifolock` is sent.

use std::thread;

use anyhow::Context;
use crossbeam_channel::{Receiver, unbounded};
use nix::sys::signal::Signal as Named;
use rustix::process::Signal;
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP,
    SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Handle;

/// Those that end a wait. With a command, they are its affair.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// What is passed on to a command, and caught from the beginning.
const PASSED_ON: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

/// What would end this process, and is not meant for its command: timers and limits of
/// its own. A command that was started under the lock must not outlive that.
const FATAL: [i32; 6] = [SIGABRT, SIGALRM, SIGPROF, SIGVTALRM, SIGXCPU, SIGXFSZ];

/// The same, where Linux has more of them.
///
/// Not those of a fault (SEGV, BUS, ILL, FPE, TRAP, SYS): after a real one there is
/// nothing to go on with. The keeper stops the command then.
#[cfg(target_os = "linux")]
const ALSO_FATAL: [i32; 3] = [
    Named::SIGIO as i32,
    Named::SIGPWR as i32,
    Named::SIGSTKFLT as i32,
];

/// Real-time signals. The first few are the C library's own, which refuses them.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 32..=64;

/// A signal that this process was sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Received {
    /// For the command.
    PassOn(Signal),
    /// For this process, which has to end.
    End(i32),
}

pub(super) struct Signals {
    pub(super) received: Receiver<Received>,
    handle: Handle,
    ignored: u64,
}

impl Signals {
    /// From here on they come through the channel instead of ending the process.
    ///
    /// A signal that the process was started to ignore stays ignored, by the command
    /// as well: that is what `nohup`, and `&` in a script, are for.
    pub(super) fn catch() -> anyhow::Result<Self> {
        let ignored = ignored();
        // Who ignores SIGCHLD is never told how its children end.
        let mut signals =
            signal_hook::iterator::Signals::new([SIGCHLD]).context("could not catch signals")?;
        let handle = signals.handle();
        for signal in caught(ignored) {
            add(&handle, signal).context("could not catch signals")?;
        }
        let (send, received) = unbounded();
        thread::Builder::new()
            .name("fifolock-signals".into())
            .spawn(move || {
                for signal in signals.forever().filter_map(classify) {
                    if send.send(signal).is_err() {
                        return;
                    }
                }
            })
            .context("could not start a thread for signals")?;
        Ok(Self {
            received,
            handle,
            ignored,
        })
    }

    /// Catches Ctrl-Z as well. While there is no command, stopping is all that is to be
    /// done about it.
    pub(super) fn catch_stops(&self) -> anyhow::Result<()> {
        if has(self.ignored, SIGTSTP) {
            return Ok(());
        }
        self.handle
            .add_signal(SIGTSTP)
            .context("could not catch signals")
    }
}

/// Those that end this process otherwise, or are for the command; without what it was
/// started to ignore.
pub(super) fn caught(ignored: u64) -> impl Iterator<Item = i32> {
    let all = PASSED_ON.into_iter().chain(FATAL);
    #[cfg(target_os = "linux")]
    let all = all.chain(ALSO_FATAL).chain(REAL_TIME);
    all.filter(move |signal| !has(ignored, *signal))
}

fn add(handle: &Handle, signal: i32) -> std::io::Result<()> {
    match handle.add_signal(signal) {
        #[cfg(target_os = "linux")]
        Err(_) if REAL_TIME.contains(&signal) => Ok(()),
        outcome => outcome,
    }
}

fn classify(signal: i32) -> Option<Received> {
    if signal == SIGCHLD {
        return None;
    }
    if signal != SIGTSTP && !PASSED_ON.contains(&signal) {
        return Some(Received::End(signal));
    }
    Signal::from_named_raw(signal).map(Received::PassOn)
}

/// Whether a signal ends a wait: its number.
pub(super) fn ends(signal: Received) -> Option<i32> {
    match signal {
        Received::PassOn(signal) => ENDING.contains(&signal).then(|| signal.as_raw()),
        Received::End(signal) => Some(signal),
    }
}

/// Whether it asks a command to end.
pub(super) fn asks_to_end(signal: Signal) -> bool {
    ENDING.contains(&signal)
}

/// Whether this exit code says that a signal ended a command, or, as shells pass it on,
/// what it waited for.
pub(super) fn is_in(code: u8) -> bool {
    (129..=192).contains(&code)
}

/// As people know it: `SIGALRM`.
pub(super) fn name_of(signal: i32) -> String {
    match Named::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

/// The exit code of who was ended by a signal, as shells have it.
pub(super) fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn has(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

/// The signals that are ignored, a bit each. There is no safe call that asks for
/// them; other systems than Linux do not say.
pub(super) fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
