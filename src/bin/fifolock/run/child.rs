//! The command: a process group, and what becomes of its leader.

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
    Stopped(i32),
    /// It ended, with this exit code.
    Ended(u8),
}

pub(super) struct Child {
    /// The leader's process id, and the group's.
    pub(super) group: Pid,
    pub(super) changes: Receiver<Change>,
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
        let child = Self { group, changes };
        let watcher = thread::Builder::new()
            .name("fifolock-child".into())
            .spawn(move || watch(group, &tell));
        if let Err(error) = watcher {
            child.send(Signal::KILL);
            child.bury();
            return Err(error);
        }
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
        while let Err(Errno::INTR) = waitpid(Some(self.group), WaitOptions::empty()) {}
    }
}

/// Tells what becomes of the leader until it ends. It is left a zombie, so that its
/// id, which is the group's, stays its own.
fn watch(leader: Pid, tell: &Sender<Change>) {
    let id = || WaitId::Pid(leader);
    let peek = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    loop {
        let status = match waitid(id(), peek) {
            Ok(Some(status)) => status,
            Ok(None) | Err(Errno::INTR) => continue,
            Err(_) => {
                let _ = tell.send(Change::Ended(exit::FAILED));
                return;
            }
        };
        if let Some(signal) = status.stopping_signal() {
            // Else the same stop would be seen for ever.
            let _ = waitid(id(), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
            let _ = tell.send(Change::Stopped(signal));
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
