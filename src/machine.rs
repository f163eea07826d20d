//! What a client takes from the machine it runs on: time, chance, threads, and a
//! way to wait. A simulation puts itself in this place.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, TryRecvError};

use crate::chance;
use crate::clock::{self, Moment};

/// What a new thread runs.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// The machine, or something that passes for one.
pub(crate) trait Machine: Send + Sync {
    /// Now, on a clock that never goes back and counts suspension.
    fn now(&self) -> Moment;

    /// Milliseconds since 1970 by the wall clock.
    fn wall_ms(&self) -> u64;

    /// A random number from 0 (included) to 1 (excluded).
    fn dice(&self) -> f64;

    /// 128 bits that nobody else draws, in whatever process or machine.
    ///
    /// # Errors
    /// If the system refuses.
    fn unique_bits(&self) -> io::Result<u128> {
        chance::unique_bits()
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// If the system refuses.
    fn spawn(&self, name: &str, task: Task) -> io::Result<()>;

    /// Blocks until one of `channels` has a message or is closed, until `wake`, or
    /// for no reason.
    fn wait(&self, channels: &[&dyn Channel], wake: Moment);
}

pub(crate) type SharedMachine = Arc<dyn Machine>;

/// A channel to wait on.
pub(crate) trait Channel {
    /// Makes `select` wait for it.
    fn add<'a>(&'a self, select: &mut Select<'a>);

    /// Something that tells, from another thread, whether it is ready.
    #[cfg(test)]
    fn probe(&self) -> Box<dyn Fn() -> bool + Send>;
}

impl<T: Send + 'static> Channel for Receiver<T> {
    fn add<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(self);
    }

    #[cfg(test)]
    fn probe(&self) -> Box<dyn Fn() -> bool + Send> {
        let receiver = self.clone();
        // Nobody else runs meanwhile: what is empty stays so, and nothing is taken.
        // (A `Select` would say the same, after a good deal of spinning.)
        Box::new(move || {
            let closed = || matches!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            !receiver.is_empty() || closed()
        })
    }
}

/// Whether a channel that is only there to be closed, or whose messages are all the
/// same, has something to say.
pub(crate) fn has_news<T>(channel: &Receiver<T>) -> bool {
    !matches!(channel.try_recv(), Err(TryRecvError::Empty))
}

/// The real one.
pub(crate) struct RealMachine;

/// Nothing waits for longer without looking around.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

impl Machine for RealMachine {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn wall_ms(&self) -> u64 {
        clock::wall_ms()
    }

    fn dice(&self) -> f64 {
        chance::dice()
    }

    fn spawn(&self, name: &str, task: Task) -> io::Result<()> {
        thread::Builder::new()
            .name(name.into())
            .spawn(task)
            .map(drop)
    }

    fn wait(&self, channels: &[&dyn Channel], wake: Moment) {
        let mut select = Select::new();
        for channel in channels {
            channel.add(&mut select);
        }
        let limit = wake.since(self.now()).min(LONGEST_WAIT);
        let _ = select.ready_timeout(limit);
    }
}

/// The real machine, with a wall clock set by the test, and a count of the waits. It may
/// have no chance to draw ids from.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct TestMachine {
    pub(crate) wall_offset_ms: i64,
    pub(crate) without_chance: bool,
    pub(crate) waits: std::sync::atomic::AtomicUsize,
}

#[cfg(test)]
impl Machine for TestMachine {
    fn now(&self) -> Moment {
        RealMachine.now()
    }

    fn wall_ms(&self) -> u64 {
        RealMachine
            .wall_ms()
            .saturating_add_signed(self.wall_offset_ms)
    }

    fn dice(&self) -> f64 {
        RealMachine.dice()
    }

    fn unique_bits(&self) -> io::Result<u128> {
        match self.without_chance {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => RealMachine.unique_bits(),
        }
    }

    fn spawn(&self, name: &str, task: Task) -> io::Result<()> {
        RealMachine.spawn(name, task)
    }

    fn wait(&self, channels: &[&dyn Channel], wake: Moment) {
        RealMachine.wait(channels, wake);
        self.waits
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}
