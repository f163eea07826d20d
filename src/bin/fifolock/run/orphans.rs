//! Processes whose parent has ended, and which this process is the parent of now: that of
//! their zombies, too.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

use super::processes::{self, Process};

/// As the first process of a container, `fifolock` looks for zombies this often.
const ROUND: Duration = Duration::from_secs(1);

/// If something has ended that is not to be found.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes this process the parent of all that become orphans below it.
pub(super) fn adopt() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
}

/// Frees the ids of those that end, until `leader`, the one child that this process has
/// started, does.
pub(super) fn reap_until_end_of(leader: Pid) {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::All, peek) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        if has_ended(leader, peek) {
            return;
        }
        let orphans = processes::children_of(getpid()).into_iter();
        let reaped = orphans.filter(|orphan| *orphan != leader && reap(*orphan));
        if reaped.count() == 0 {
            thread::sleep(PAUSE);
        }
    }
}

/// Frees the ids of what `fifolock` adopts from elsewhere: as the first process of a
/// container, or if it took the place of a process with children (`exec fifolock`). What it
/// has started itself is waited for, and so is no zombie for two rounds.
pub(super) fn reap_strangers() -> io::Result<()> {
    if getpid() != Pid::INIT && processes::children_of(getpid()).is_empty() {
        return Ok(());
    }
    let look = || {
        let mut before: Vec<Pid> = Vec::new();
        loop {
            let children = processes::children_of(getpid()).into_iter();
            let ended = children.filter(|pid| Process::of(*pid).is_some_and(|now| now.ended));
            let (old, new): (Vec<_>, _) = ended.partition(|pid| before.contains(pid));
            for zombie in old {
                reap(zombie);
            }
            before = new;
            thread::sleep(ROUND);
        }
    };
    let builder = thread::Builder::new().name("fifolock-reaper".into());
    builder.spawn(look).map(drop)
}

fn has_ended(child: Pid, peek: WaitIdOptions) -> bool {
    let now = peek | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::Pid(child), now), Ok(None))
}

/// Frees the id of a child that has ended; says whether it was one.
pub(super) fn reap(child: Pid) -> bool {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(child), ended), Ok(Some(_)))
}
