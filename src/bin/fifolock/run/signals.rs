//! The signals that `fifolock` is sent.

use std::thread;

use anyhow::Context;
use crossbeam_channel::{Receiver, unbounded};
use rustix::process::Signal;
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Handle;

/// Those that end a wait. With a command, they are its affair.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// What is caught from the beginning.
const CAUGHT: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

pub(super) struct Signals {
    pub(super) received: Receiver<Signal>,
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
        let caught = CAUGHT.iter().filter(|signal| !has(ignored, **signal));
        // Who ignores SIGCHLD is never told how its children end.
        let caught = caught.chain([&SIGCHLD]);
        let mut signals =
            signal_hook::iterator::Signals::new(caught).context("could not catch signals")?;
        let handle = signals.handle();
        let (send, received) = unbounded();
        thread::Builder::new()
            .name("fifolock-signals".into())
            .spawn(move || {
                for signal in signals.forever().filter_map(Signal::from_named_raw) {
                    if signal != Signal::CHILD && send.send(signal).is_err() {
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

/// Whether a signal ends a wait.
pub(super) fn ends(signal: Signal) -> bool {
    ENDING.contains(&signal)
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
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
