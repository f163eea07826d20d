//! A clock that jumps on demand.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Select, Sender, bounded};
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::machine::{Channel, LONGEST_WAIT, Machine, RealMachine, Task};

/// A clock for tests, which can be put forward: leases end and waits are over at once,
/// without any sleep. Give it to
/// [`LockClientBuilder::test_clock`](crate::LockClientBuilder::test_clock). Clones are the
/// same clock, and so clients that share one live in the same time.
///
/// To put it forward by more than a lease is what a pause of the process looks like: no
/// renewal can come in between. To let time pass for a program that runs, put it forward
/// in steps shorter than the heartbeat interval, and wait for each renewal.
///
/// ```
/// use std::time::Duration;
///
/// use dynamodb_fifo_lock::testing::TestClock;
/// use dynamodb_fifo_lock::{LockClient, MemoryStore};
///
/// let clock = TestClock::frozen();
/// let client = LockClient::builder().test_clock(&clock).build(MemoryStore::new())?;
/// let guard = client.acquire("reports")?;
/// clock.advance(Duration::from_secs(19));
/// assert!(guard.is_held());
/// clock.advance(Duration::from_secs(3_600));
/// assert!(!guard.is_held());
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[derive(Clone)]
pub struct TestClock {
    state: Arc<Mutex<State>>,
}

struct State {
    /// How far the clock was put forward.
    ahead: Duration,
    /// What the real clocks said when the clock stopped, if it stands still.
    stopped_at: Option<(Moment, u64)>,
    /// Wakes those who wait.
    asleep: HashMap<u64, Sender<()>>,
    next_sleeper: u64,
}

impl TestClock {
    /// A clock that moves only when it is put forward.
    #[must_use]
    pub fn frozen() -> Self {
        Self::new(Some((RealMachine.now(), RealMachine.wall_ms())))
    }

    /// A clock that runs as the real one does, and can be put forward.
    #[must_use]
    pub fn running() -> Self {
        Self::new(None)
    }

    fn new(stopped_at: Option<(Moment, u64)>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                ahead: Duration::ZERO,
                stopped_at,
                asleep: HashMap::new(),
                next_sleeper: 0,
            })),
        }
    }

    /// Puts the clock forward, the monotonic and the wall clock alike, and wakes
    /// everybody who waits.
    pub fn advance(&self, by: Duration) {
        let asleep = {
            let mut state = self.state.lock();
            state.ahead = state.ahead.saturating_add(by);
            std::mem::take(&mut state.asleep)
        };
        for sleeper in asleep.values() {
            let _ = sleeper.try_send(());
        }
    }

    fn is_frozen(&self) -> bool {
        self.state.lock().stopped_at.is_some()
    }
}

impl Machine for TestClock {
    fn now(&self) -> Moment {
        let state = self.state.lock();
        let real = state
            .stopped_at
            .map_or_else(|| RealMachine.now(), |(moment, _)| moment);
        real.plus(state.ahead)
    }

    fn wall_ms(&self) -> u64 {
        let state = self.state.lock();
        let real = state
            .stopped_at
            .map_or_else(|| RealMachine.wall_ms(), |(_, wall_ms)| wall_ms);
        real.saturating_add(u64::try_from(state.ahead.as_millis()).unwrap_or(u64::MAX))
    }

    fn dice(&self) -> f64 {
        RealMachine.dice()
    }

    fn spawn(&self, name: &str, task: Task) -> io::Result<()> {
        RealMachine.spawn(name, task)
    }

    fn wait(&self, channels: &[&dyn Channel], wake: Moment) {
        let (waker, woken) = bounded(1);
        let sleeper = {
            let mut state = self.state.lock();
            state.next_sleeper += 1;
            let sleeper = state.next_sleeper;
            state.asleep.insert(sleeper, waker);
            sleeper
        };
        // Looked at only now: whoever puts the clock forward from here on wakes us.
        let left = wake.since(self.now());
        if !left.is_zero() {
            let mut select = Select::new();
            for channel in channels {
                channel.add(&mut select);
            }
            select.recv(&woken);
            let limit = match self.is_frozen() {
                true => LONGEST_WAIT,
                false => left.min(LONGEST_WAIT),
            };
            let _ = select.ready_timeout(limit);
        }
        self.state.lock().asleep.remove(&sleeper);
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("TestClock")
            .field("ahead", &state.ahead)
            .field("frozen", &state.stopped_at.is_some())
            .finish_non_exhaustive()
    }
}
