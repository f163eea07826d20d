//! The command: a process group, and what becomes of its leader.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid,
};

use super::signals;
use crate::exit;

/// What happened to the leader of the group.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// By this signal.
    Stopped(i32),
    Continued,
    /// It ended, with this exit code.
    Ended(u8),
}

/// Killed, with all of its group, if it is dropped before it is buried: a panic must not
/// leave it without the lock.
pub(super) struct Child {
    /// The leader's process id, and the group's.
    pub(super) group: Pid,
    pub(super) changes: Receiver<Change>,
    buried: Cell<bool>,
}

impl Child {
    /// Runs `command` in a group of its own. When this returns, the group is there.
    pub(super) fn start(
        command: &[OsString],
        environment: [(&str, String); 3],
    ) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let child = Command::new(program)
            .args(arguments)
            .envs(environment)
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        let (tell, changes) = unbounded();
        let child = Self {
            group,
            changes,
            buried: Cell::new(false),
        };
        thread::Builder::new()
            .name("fifolock-child".into())
            .spawn(move || watch(group, &tell))?;
        Ok(child)
    }

    /// Sends a signal to all of the group.
    pub(super) fn send(&self, signal: Signal) {
        // Who is not there any more needs no signal; and the group's id is not given
        // to anybody else before the leader is buried.
        let _ = kill_process_group(self.group, signal);
    }

    /// Frees the id of the leader, which has ended or is about to.
    pub(super) fn bury(&self) {
        self.buried.set(true);
        while let Err(Errno::INTR) = waitpid(Some(self.group), WaitOptions::empty()) {}
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.buried.get() {
            self.send(Signal::KILL);
            self.bury();
        }
    }
}

/// Tells what becomes of the leader until it ends. It is left a zombie, so that its
/// id, which is the group's, stays its own.
fn watch(leader: Pid, tell: &Sender<Change>) {
    let id = || WaitId::Pid(leader);
    let halts = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED;
    let peek = halts | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        let status = match waitid(id(), peek) {
            Ok(Some(status)) => status,
            Ok(None) | Err(Errno::INTR) => continue,
            Err(_) => {
                let _ = tell.send(Change::Ended(exit::FAILED));
                return;
            }
        };
        let halt = match status.stopping_signal() {
            Some(signal) => Some(Change::Stopped(signal)),
            None => status.continued().then_some(Change::Continued),
        };
        if let Some(halt) = halt {
            // Else the same would be seen for ever.
            let _ = waitid(id(), halts | WaitIdOptions::NOHANG);
            let _ = tell.send(halt);
            continue;
        }
        let by_signal = status.terminating_signal().map(signals::code_of);
        let code = by_signal.or(status
            .exit_status()
            .and_then(|code| u8::try_from(code).ok()));
        let _ = tell.send(Change::Ended(code.unwrap_or(u8::MAX)));
        return;
    }
}
