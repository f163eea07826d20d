//! What all of a run share, and what is checked as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use super::GRACE;
use super::network::Server;
use super::scheduler::Scheduler;
use crate::guard::LockGuard;
use crate::lease::Lease;
use crate::options::AcquireOptions;
use crate::protocol::Standing;
use crate::record::{LockRecord, Mode};
use crate::types::FencingToken;

/// What all of a run share.
pub(super) struct World {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) server: Arc<Server>,
    /// Every guard that was ever granted, the dead's included.
    pub(super) leases: Mutex<Vec<Arc<Lease>>>,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) kind: Kind,
    /// The workers that have neither finished nor died, and will run.
    pub(super) working: Mutex<Vec<Worker>>,
    pub(super) faultless: bool,
    pub(super) grants: AtomicU64,
    pub(super) shares: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) crashes: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) stops: AtomicU64,
    pub(super) stuck: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) passed_over: AtomicU64,
}

/// One thread of one process that uses the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) process: usize,
    /// Once it runs.
    pub(super) thread: Option<usize>,
    /// Whether it has a guard.
    pub(super) holds: bool,
}

/// The highest tokens that were granted.
#[derive(Default)]
pub(super) struct Tokens {
    alone: Option<FencingToken>,
    of_all: Option<FencingToken>,
}

/// How a lock is used in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By one at a time.
    Mutex,
    /// By one at a time, or by up to so many who share it.
    Shared(u32),
}

impl Kind {
    pub(super) fn draw(dice: &mut StdRng) -> Self {
        match dice.random_range(0..4) {
            0 | 1 => Self::Mutex,
            2 => Self::Shared(100),
            _ => Self::Shared(dice.random_range(1..=2)),
        }
    }

    /// What one acquisition asks for.
    pub(super) fn options(self, dice: &mut StdRng) -> AcquireOptions {
        let options = AcquireOptions::new();
        match self {
            Self::Shared(limit) if dice.random_bool(0.7) => options.permits(limit),
            _ => options,
        }
    }
}

/// How a worker asks for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Now like this, now like that.
    Mixed,
    /// Each time for a moment, from milliseconds to minutes.
    Short,
    /// It never waits.
    Tries,
    /// Each time with a new client, for a moment or not at all.
    Anew,
}

/// What one attempt does.
pub(super) enum Verb {
    Try,
    GiveUp(Duration),
    Cancel,
    Wait,
}

impl Habit {
    pub(super) fn draw(dice: &mut StdRng) -> Self {
        match dice.random_range(0..8) {
            0 => Self::Short,
            1 => Self::Tries,
            2 => Self::Anew,
            _ => Self::Mixed,
        }
    }

    pub(super) fn verb(self, dice: &mut StdRng) -> Verb {
        // At least three round trips; and all orders of magnitude are as likely.
        let patience = 0.06 * 2_000.0_f64.powf(dice.random());
        let give_up = Verb::GiveUp(Duration::from_secs_f64(patience));
        match (self, dice.random_range(0..10)) {
            (Self::Tries, _) | (Self::Mixed, 0 | 4) | (Self::Anew, 0..5) => Verb::Try,
            (Self::Short | Self::Anew, _) | (Self::Mixed, 1 | 2) => give_up,
            (Self::Mixed, 3) => Verb::Cancel,
            (Self::Mixed, _) => Verb::Wait,
        }
    }
}

impl World {
    /// Nothing counts that happens while everybody runs to its end.
    pub(super) fn count(&self, what: &AtomicU64) {
        if !self.scheduler.is_over() {
            what.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A guard was returned: nobody else may hold, and its token is the highest.
    pub(super) fn granted(&self, guard: &LockGuard) {
        let token = guard.fencing_token();
        self.count(&self.grants);
        if guard.is_shared() {
            self.count(&self.shares);
        }
        self.scheduler.note(|| format!("   granted {token}"));
        let lease = guard.lease();
        let mut leases = self.leases.lock();
        if lease.standing() == Standing::Held {
            let held = leases
                .iter()
                .filter(|other| other.standing() == Standing::Held);
            let mut sharing = 0;
            for other in held {
                if guard.is_shared() && other.mode != Mode::Exclusive {
                    sharing += 1;
                    continue;
                }
                let other = other.token();
                self.scheduler
                    .fail(|| format!("{token} is granted while {other} is held"));
            }
            if let Kind::Shared(limit) = self.kind
                && sharing >= limit
            {
                self.scheduler
                    .fail(|| format!("{token} is granted while {sharing} others share"));
            }
        }
        leases.push(Arc::clone(lease));
        drop(leases);
        // Those who share are granted their tokens in order, but hear of it when they
        // may.
        let mut tokens = self.tokens.lock();
        let before = match guard.is_shared() {
            true => tokens.alone,
            false => tokens.of_all,
        };
        if before.is_some_and(|before| token <= before) {
            self.scheduler
                .fail(|| format!("token {token} after {before:?}"));
        }
        tokens.of_all = tokens.of_all.max(Some(token));
        if !guard.is_shared() {
            tokens.alone = Some(token);
        }
    }

    /// A guard says for how long it is held: the server knows better.
    pub(super) fn check_end(&self, guard: &LockGuard, lease: Duration) {
        let remaining = guard.remaining();
        let state = self.server.state.lock();
        let turn = (!guard.is_shared()).then_some(guard.lease().ticket);
        let turn = (guard.lease().id.clone(), turn);
        let limit = match state.extended.get(&turn) {
            // The clock of the guard may be a little slow or fast.
            Some(sent) => (*sent + lease.mul_f64(1.001)).saturating_sub(self.scheduler.now()),
            None => GRACE,
        };
        if remaining > limit + Duration::from_micros(10) {
            self.scheduler
                .fail(|| format!("a guard counts on {remaining:?}, of {limit:?}"));
        }
    }

    pub(super) fn check_release(&self, lease: &Lease) {
        let (ticket, state) = (lease.token(), self.server.state.lock());
        // A try of the same attempt that was long on its way may have come true since: that
        // is another share.
        let by_this = state.shared_with.get(&lease.id) == Some(&lease.ticket);
        let still_shares = |record: &LockRecord| by_this && record.sharers.contains_key(&lease.id);
        if state.record.as_ref().is_some_and(still_shares) {
            self.scheduler
                .fail(|| format!("{ticket} is said to be released and still shares"));
        }
        let served = state
            .record
            .as_ref()
            .map_or(u64::MAX, |record| record.served.get());
        if served < ticket.get() {
            self.scheduler
                .fail(|| format!("{ticket} is said to be released and is not"));
        }
    }

    /// Notes of a worker of this process that it runs, in this thread.
    pub(super) fn runs(&self, process: usize) {
        let thread = self.scheduler.this_thread();
        let mut working = self.working.lock();
        let mut workers = working.iter_mut();
        if let Some(worker) = workers.find(|it| it.process == process && it.thread.is_none()) {
            worker.thread = thread;
        }
    }

    /// Notes of the worker in this thread whether it has a guard.
    pub(super) fn holds(&self, holds: bool) {
        let thread = self.scheduler.this_thread();
        let mut working = self.working.lock();
        if let Some(worker) = working.iter_mut().find(|worker| worker.thread == thread) {
            worker.holds = holds;
        }
    }

    /// Sticks one thread of a process, which goes on without it: for a while, or for ever
    /// if that need not keep others from the lock for ever.
    pub(super) fn stick(&self, process: usize, dice: &mut StdRng) {
        let threads = self.scheduler.threads_of(process);
        if threads.is_empty() {
            return;
        }
        let thread = threads[dice.random_range(0..threads.len())];
        let worker = {
            let working = self.working.lock();
            let mut workers = working.iter();
            workers
                .find(|worker| worker.thread == Some(thread))
                .copied()
        };
        let holds = worker.is_some_and(|worker| worker.holds);
        let span = match dice.random_range(0..3) {
            0 if !holds => Duration::MAX,
            _ => Duration::from_millis(dice.random_range(10..60_000)),
        };
        self.count(&self.stuck);
        self.scheduler
            .note(|| format!("{process}: thread {thread} is stuck for {span:?}"));
        self.scheduler.stick(thread, span);
        if span == Duration::MAX {
            self.leave(|worker| worker.thread == Some(thread));
        }
    }

    /// The worker in this thread has finished.
    pub(super) fn done(&self) {
        let thread = self.scheduler.this_thread();
        self.leave(|worker| worker.thread == thread);
    }

    pub(super) fn died(&self, process: usize) {
        self.leave(|worker| worker.process == process);
    }

    fn leave(&self, who: impl Fn(&Worker) -> bool) {
        let mut working = self.working.lock();
        working.retain(|worker| !who(worker));
        if working.is_empty() {
            self.scheduler.finish();
        }
    }
}
