//! The command, seen from `fifolock`: through the keeper, which is its parent.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{self, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::keeper;
use super::orphans;
use super::tree::{Asked, Survivor, Tree};
use super::wire::{Change, Deadline};

/// How long this process, when it has to end in the middle, tries to kill the command.
const IN_HASTE: Duration = Duration::from_millis(500);

/// Killed, with all below it, if it is dropped before it is let go: a panic must not leave
/// it without the lock.
pub(super) struct Child {
    /// The leader's process id, and the group's, once it was started.
    group: Cell<Option<Pid>>,
    /// Closed when the keeper has died.
    pub(super) changes: Receiver<Change>,
    keeper: RefCell<process::Child>,
    link: UnixStream,
    tree: Tree,
    let_go: Cell<bool>,
}

impl Child {
    /// Has `command` run in a group of its own, and killed by the keeper after `deadline`
    /// unless that is put off. [`Change::Started`] tells when it runs.
    pub(super) fn start(
        command: &[OsString],
        environment: [(&str, String); 3],
        deadline: Deadline,
    ) -> io::Result<Self> {
        if command.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        orphans::adopt();
        let mut tree = Tree::from_now();
        let (link, theirs) = UnixStream::pair()?;
        deadline.send_first(&link, io::stdin().as_fd())?;
        let receiving = link.try_clone()?;
        let (tell, changes) = unbounded();
        thread::Builder::new()
            .name("fifolock-child".into())
            .spawn(move || {
                for change in Change::stream(receiving) {
                    if tell.send(change).is_err() {
                        return;
                    }
                }
            })?;
        let keeper = keeper::keeper_of(command)
            .envs(environment)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()?;
        tree.leave_out(Pid::from_child(&keeper));
        Ok(Self {
            group: Cell::new(None),
            changes,
            keeper: RefCell::new(keeper),
            link,
            tree,
            let_go: Cell::new(false),
        })
    }

    pub(super) fn started(&self, group: Pid) {
        self.group.set(Some(group));
    }

    /// Tells the keeper when to kill the command if it hears nothing more.
    pub(super) fn put_off(&self, deadline: Deadline) {
        deadline.send(&self.link);
    }

    /// The command's group, once it was started.
    pub(super) fn group(&self) -> Option<Pid> {
        self.group.get()
    }

    /// Sends a signal to all of the group. `false` if that was not permitted for any of
    /// it.
    pub(super) fn send(&self, signal: Signal) -> bool {
        let group = self.group.get();
        let sent = group.map(|group| kill_process_group(group, signal));
        sent != Some(Err(Errno::PERM))
    }

    /// Sends a signal to all that the command started.
    pub(super) fn send_to_all(&self, signal: Signal) -> Asked {
        self.tree.ask(signal, self.group.get())
    }

    /// Asks all that the command started to end, also those that are stopped.
    pub(super) fn terminate(&self) -> Asked {
        let asked = self.send_to_all(Signal::TERM);
        // A stopped process is told of nothing but this.
        self.send_to_all(Signal::CONT);
        asked
    }

    /// Whether anything that the command started still runs.
    pub(super) fn is_over(&self) -> bool {
        self.tree.is_empty()
    }

    /// Kills all that the command started: what is left of it after `within`.
    pub(super) fn kill(&self, within: Duration) -> Vec<Survivor> {
        if self.group.get().is_none() {
            // Nothing is to be started any more.
            self.end_keeper();
        }
        self.tree.kill(self.group.get(), within)
    }

    /// Leaves what still runs alone.
    pub(super) fn let_go(&self) {
        self.let_go.set(true);
        self.end_keeper();
        // Who adopts what this process leaves might not ask for zombies.
        let zombies = self.tree.ended().into_iter().chain(self.group.get());
        for zombie in zombies {
            orphans::reap(zombie);
        }
    }

    /// Ends the keeper, or learns that it has ended.
    pub(super) fn end_keeper(&self) {
        let mut keeper = self.keeper.borrow_mut();
        // Orphans of its go to this process, and with it to the next one that adopts.
        let _ = keeper.kill();
        let _ = keeper.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.let_go.get() {
            self.kill(IN_HASTE);
            self.let_go();
        }
    }
}
