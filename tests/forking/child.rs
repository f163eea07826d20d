//! Processes that are forked from the test.

use std::io::{PipeReader, Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid_nohang};
use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::common::DEADLINE;

/// One test at a time: each would inherit the pipes of the others.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

pub(crate) struct Child {
    pid: i32,
    said: PipeReader,
}

impl Child {
    /// Forks, and has the child say what `work` returns.
    pub(crate) fn fork(work: impl FnOnce() -> String) -> Self {
        let (said, mut says) = pipe().unwrap();
        match fork().unwrap() {
            Fork::Parent(pid) => Self { pid, said },
            Fork::Child => {
                drop(said);
                let text = match catch_unwind(AssertUnwindSafe(work)) {
                    Ok(text) => text,
                    Err(panic) => format!("panicked: {:?}", panic.downcast_ref::<String>()),
                };
                let _ = says.write_all(text.as_bytes());
                leave()
            }
        }
    }

    /// What the child said, when it has ended.
    pub(crate) fn said(mut self) -> String {
        let until = Instant::now() + DEADLINE;
        while waitpid_nohang(self.pid).unwrap().is_none() {
            if Instant::now() >= until {
                let _ = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
                panic!("the child hangs");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        text
    }
}

/// What `work` returns in a child.
pub(crate) fn in_a_child(work: impl FnOnce() -> String) -> String {
    Child::fork(work).said()
}

/// Ends this process without a word to anybody, the test harness included.
pub(crate) fn leave() -> ! {
    loop {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
