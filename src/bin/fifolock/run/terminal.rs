//! Who may read the terminal, and is meant by Ctrl-C: the foreground group.

use std::fs::File;
use std::io::{self, IsTerminal};

use nix::sys::signal::{SigSet, Signal::SIGTTOU};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The terminal that controls this process.
pub(super) struct Terminal {
    tty: File,
    own: Pid,
    /// How it was set before it was lent.
    modes: Option<Termios>,
}

impl Terminal {
    /// `None` if there is none, as under cron.
    pub(super) fn of_this_process() -> Option<Self> {
        Some(Self {
            tty: File::open("/dev/tty").ok()?,
            own: getpgrp(),
            modes: None,
        })
    }

    /// Whether a command would expect to have it from the beginning. If the output
    /// goes elsewhere it goes to a pager, perhaps, which is of our group and would be
    /// cut off from the terminal; the command then gets it when it asks for it.
    pub(super) fn is_for_command(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Lends it to `group`, if it is ours or `group`'s already; says whether `group`
    /// now has it.
    pub(super) fn lend(&mut self, group: Pid) -> bool {
        match tcgetpgrp(&self.tty) {
            Ok(owner) if owner == group => true,
            Ok(owner) if owner == self.own => {
                self.modes = tcgetattr(&self.tty).ok();
                self.give_to(group)
            }
            _ => false,
        }
    }

    /// Takes it back from `group`; says whether `group` had it.
    pub(super) fn take_back(&self, group: Pid) -> bool {
        tcgetpgrp(&self.tty) == Ok(group) && self.give_to(self.own)
    }

    /// Sets it as it was before it was lent: for a command that was killed before it
    /// could do so.
    pub(super) fn reset(&self) {
        if let Some(modes) = &self.modes
            && tcgetpgrp(&self.tty) == Ok(self.own)
        {
            // At once: output that Ctrl-S holds back would never drain.
            let _ = tcsetattr(&self.tty, OptionalActions::Now, modes);
        }
    }

    /// Who does this from the background is sent SIGTTOU, unless it is blocked.
    fn give_to(&self, group: Pid) -> bool {
        let stop = SigSet::from(SIGTTOU);
        if stop.thread_block().is_err() {
            return false;
        }
        let given = tcsetpgrp(&self.tty, group).is_ok();
        // The command inherits what is blocked.
        let _ = stop.thread_unblock();
        given
    }
}
