//! Real threads, one at a time, in virtual time: which of them runs next is drawn
//! from a seed, so that one seed is one run.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clock::Moment;
use crate::machine::{Channel, Machine, Task};

/// The wall clock at the beginning.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// The network and the fault injector. It neither stops nor dies.
pub(super) const OUTSIDE: usize = 0;

/// No run needs more.
const MOST_SWITCHES: u64 = 300_000;

type Probe = Box<dyn Fn() -> bool + Send>;

thread_local! {
    static ME: RefCell<Option<(usize, Arc<Baton>)>> = const { RefCell::new(None) };
}

pub(super) struct Scheduler {
    state: Mutex<State>,
    finished: Sender<()>,
}

struct State {
    now: Duration,
    dice: StdRng,
    threads: Vec<Thread>,
    processes: Vec<Process>,
    handles: Vec<JoinHandle<()>>,
    history: Vec<String>,
    failure: Option<String>,
    switches: u64,
    /// From here on everybody runs freely, to its end.
    over: bool,
}

struct Thread {
    process: usize,
    baton: Arc<Baton>,
    status: Status,
    /// Until when it does not run, although its process does.
    stuck_until: Duration,
}

/// Whoever has it runs.
#[derive(Default)]
struct Baton {
    given: AtomicBool,
    thread: OnceLock<thread::Thread>,
}

impl Baton {
    fn give(&self) {
        self.given.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn take(&self) {
        let _ = self.thread.set(thread::current());
        while !self.given.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}

enum Status {
    Running,
    Ready,
    Waiting { wake: Duration, probes: Vec<Probe> },
    Ended,
}

struct Process {
    dead: bool,
    stopped_until: Duration,
    /// How fast its monotonic clock runs.
    rate: f64,
    wall_offset_ms: i64,
}

impl Scheduler {
    /// A scheduler, and a channel that says when the run is over.
    pub(super) fn new(seed: u64) -> (Arc<Self>, Receiver<()>) {
        let (finished, is_finished) = bounded(1);
        let scheduler = Self {
            state: Mutex::new(State {
                now: Duration::from_secs(1_000),
                dice: StdRng::seed_from_u64(seed),
                threads: Vec::new(),
                processes: vec![Process::new(1.0, 0)],
                handles: Vec::new(),
                history: Vec::new(),
                failure: None,
                switches: 0,
                over: false,
            }),
            finished,
        };
        (Arc::new(scheduler), is_finished)
    }

    pub(super) fn add_process(&self, rate: f64, wall_offset_ms: i64) -> usize {
        let mut state = self.state.lock();
        state.processes.push(Process::new(rate, wall_offset_ms));
        state.processes.len() - 1
    }

    /// None of its threads runs ever again.
    pub(super) fn kill(&self, process: usize) {
        self.state.lock().processes[process].dead = true;
    }

    pub(super) fn is_dead(&self, process: usize) -> bool {
        self.state.lock().processes[process].dead
    }

    /// None of its threads runs for this long.
    pub(super) fn stop(&self, process: usize, span: Duration) {
        let mut state = self.state.lock();
        state.processes[process].stopped_until = state.now + span;
    }

    /// This thread alone does not run for this long.
    pub(super) fn stick(&self, thread: usize, span: Duration) {
        let mut state = self.state.lock();
        state.threads[thread].stuck_until = state.now.saturating_add(span);
    }

    /// The thread that asks.
    pub(super) fn this_thread(&self) -> Option<usize> {
        ME.with_borrow(|me| me.as_ref().map(|(id, _)| *id))
    }

    /// The threads of a process that have not ended.
    pub(super) fn threads_of(&self, process: usize) -> Vec<usize> {
        let state = self.state.lock();
        let threads = state.threads.iter().enumerate();
        threads
            .filter(|(_, it)| it.process == process && !matches!(it.status, Status::Ended))
            .map(|(id, _)| id)
            .collect()
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.state.lock().dice)
    }

    pub(super) fn now(&self) -> Duration {
        self.state.lock().now
    }

    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        if !state.over {
            let line = format!("{:>10.3} {}", state.now.as_secs_f64() - 1_000.0, line());
            state.history.push(line);
        }
    }

    /// Something that must never happen has happened.
    pub(super) fn fail(&self, what: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        if !state.over {
            state.failure.get_or_insert_with(what);
            self.end_run(&mut state);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.lock().over
    }

    pub(super) fn finish(&self) {
        self.end_run(&mut self.state.lock());
    }

    fn end_run(&self, state: &mut State) {
        if !std::mem::replace(&mut state.over, true) {
            for thread in &state.threads {
                thread.baton.give();
            }
            let _ = self.finished.try_send(());
        }
    }

    /// Waits for every thread to end; then says what went wrong, what happened, and
    /// how often the threads were switched.
    pub(super) fn join(&self) -> (Option<String>, Vec<String>, u64) {
        loop {
            let handles = std::mem::take(&mut self.state.lock().handles);
            if handles.is_empty() {
                break;
            }
            for handle in handles {
                let _ = handle.join();
            }
        }
        let mut state = self.state.lock();
        (
            state.failure.take(),
            std::mem::take(&mut state.history),
            state.switches,
        )
    }

    /// Lets the first thread run.
    pub(super) fn start(&self) {
        let next = self.pick(&mut self.state.lock());
        pass_on(next);
    }

    pub(super) fn spawn(self: &Arc<Self>, process: usize, task: Task) -> io::Result<()> {
        let baton = Arc::new(Baton::default());
        let mut state = self.state.lock();
        let id = state.threads.len();
        if state.over {
            baton.give();
        }
        state.threads.push(Thread {
            process,
            baton: Arc::clone(&baton),
            status: Status::Ready,
            stuck_until: Duration::ZERO,
        });
        let scheduler = Arc::clone(self);
        let handle = thread::Builder::new().spawn(move || {
            baton.take();
            ME.set(Some((id, baton)));
            if let Err(panic) = catch_unwind(AssertUnwindSafe(task)) {
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
                scheduler.fail(|| format!("a panic: {}", text.unwrap_or_default()));
            }
            scheduler.leave(id);
        })?;
        state.handles.push(handle);
        Ok(())
    }

    fn leave(&self, id: usize) {
        let next = {
            let mut state = self.state.lock();
            state.threads[id].status = Status::Ended;
            match state.over {
                true => None,
                false => self.pick(&mut state),
            }
        };
        pass_on(next);
    }

    /// Gives way until a channel is ready or `wake` has come.
    fn wait(&self, probes: Vec<Probe>, wake: Duration) {
        let Some((id, baton)) = ME.with_borrow(Clone::clone) else {
            return;
        };
        let next = {
            let mut state = self.state.lock();
            if state.over {
                drop(state);
                thread::sleep(Duration::from_micros(50));
                return;
            }
            state.threads[id].status = Status::Waiting { wake, probes };
            self.pick(&mut state)
        };
        pass_on(next);
        baton.take();
    }

    pub(super) fn sleep(&self, span: Duration) {
        let wake = self.now() + span;
        while !self.is_over() && self.now() < wake {
            self.wait(Vec::new(), wake);
        }
    }

    /// Draws who runs next, after some time if nobody can run now.
    fn pick(&self, state: &mut State) -> Option<Arc<Baton>> {
        loop {
            let ready: Vec<usize> = (0..state.threads.len())
                .filter(|id| state.can_run(*id))
                .collect();
            if !ready.is_empty() {
                let next = ready[state.dice.random_range(0..ready.len())];
                state.threads[next].status = Status::Running;
                state.switches += 1;
                if state.switches > MOST_SWITCHES {
                    let failure = "somebody runs and runs, and time stands still";
                    state.failure.get_or_insert_with(|| failure.into());
                    self.end_run(state);
                    return None;
                }
                return Some(Arc::clone(&state.threads[next].baton));
            }
            match state.next_moment() {
                Some(then) => state.now = then,
                None => {
                    let failure = "everybody waits, and nothing will ever happen";
                    state.failure.get_or_insert_with(|| failure.into());
                    self.end_run(state);
                    return None;
                }
            }
        }
    }
}

/// Not done with the state locked: whoever is next would run into it.
fn pass_on(next: Option<Arc<Baton>>) {
    if let Some(next) = next {
        next.give();
    }
}

impl State {
    fn can_run(&self, id: usize) -> bool {
        let thread = &self.threads[id];
        let process = &self.processes[thread.process];
        if process.dead || process.stopped_until.max(thread.stuck_until) > self.now {
            return false;
        }
        match &thread.status {
            Status::Ready => true,
            Status::Waiting { wake, probes } => {
                *wake <= self.now || probes.iter().any(|probe| probe())
            }
            Status::Running | Status::Ended => false,
        }
    }

    /// When the next thread wakes up by itself.
    fn next_moment(&self) -> Option<Duration> {
        self.threads
            .iter()
            .filter_map(|thread| {
                let process = &self.processes[thread.process];
                if process.dead {
                    return None;
                }
                let stands_until = process.stopped_until.max(thread.stuck_until);
                let stands = stands_until > self.now;
                match &thread.status {
                    // For ever.
                    _ if stands_until == Duration::MAX => None,
                    Status::Ready | Status::Waiting { .. } if stands => Some(stands_until),
                    Status::Waiting { wake, .. } => Some(*wake),
                    _ => None,
                }
            })
            .min()
    }
}

impl Process {
    fn new(rate: f64, wall_offset_ms: i64) -> Self {
        Self {
            dead: false,
            stopped_until: Duration::ZERO,
            rate,
            wall_offset_ms,
        }
    }
}

/// The machine of one process.
pub(super) struct VirtualMachine {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) process: usize,
}

impl Machine for VirtualMachine {
    fn now(&self) -> Moment {
        let mut state = self.scheduler.state.lock();
        if state.over {
            // Whatever is waited for has come, each time somebody asks.
            state.now += Duration::from_secs(1 << 20);
            return Moment::after_origin(state.now);
        }
        let rate = state.processes[self.process].rate;
        Moment::after_origin(state.now.mul_f64(rate))
    }

    fn wall_ms(&self) -> u64 {
        let state = self.scheduler.state.lock();
        let since = u64::try_from(state.now.as_millis()).unwrap_or(0);
        (EPOCH_MS + since).saturating_add_signed(state.processes[self.process].wall_offset_ms)
    }

    fn dice(&self) -> f64 {
        self.scheduler.draw(|dice| dice.random())
    }

    fn spawn(&self, _: &str, task: Task) -> io::Result<()> {
        self.scheduler.spawn(self.process, task)
    }

    fn wait(&self, channels: &[&dyn Channel], wake: Moment) {
        let probes = channels.iter().map(|channel| channel.probe()).collect();
        let rate = self.scheduler.state.lock().processes[self.process].rate;
        let origin = Moment::after_origin(Duration::ZERO);
        // Rounded up: whoever wakes at its moment must find that it has come.
        let global = wake.since(origin).as_secs_f64() / rate;
        let wake = Duration::from_secs_f64(global.min(1e9)) + Duration::from_nanos(200);
        self.scheduler.wait(probes, wake);
    }
}
