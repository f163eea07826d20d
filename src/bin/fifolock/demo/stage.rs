//! What happens in the demo, and the rules by which it is judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dynamodb_fifo_lock::{FencingToken, HolderId, LockGuard, LockName, LockStore, Ticket};
use parking_lot::{Condvar, Mutex};

/// The workers there are.
pub(super) const WORKERS: usize = 5;

/// The one that vanishes while it holds.
pub(super) const UNLUCKY: usize = 2;

/// How the line about a write ends that the resource did not take.
pub(super) const REFUSED: &str = "REFUSED";

/// Where everybody meets.
pub(super) struct Stage {
    pub(super) store: Arc<dyn LockStore>,
    pub(super) lock: LockName,
    pub(super) lease: Duration,
    pub(super) began: Instant,
    pub(super) scene: Mutex<Scene>,
    changed: Condvar,
}

/// What has come to pass.
#[derive(Default)]
pub(super) struct Scene {
    pub(super) workers: [Worker; WORKERS],
    /// The resource that the lock protects: the highest token that it has seen.
    pub(super) newest: Option<FencingToken>,
    pub(super) log: Vec<Entry>,
    pub(super) grants: usize,
    pub(super) taken_over_after: Option<Duration>,
    pub(super) violations: Vec<String>,
    pub(super) failure: Option<anyhow::Error>,
    cut_at: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Worker {
    pub(super) doing: Doing,
    pub(super) has_asked: bool,
    pub(super) has_left: bool,
    /// What it believes to hold.
    pub(super) guard: Option<LockGuard>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    #[default]
    Nothing,
    Waiting(Ticket),
    Holding(FencingToken),
    CutOff(FencingToken),
}

pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) text: String,
}

pub(super) fn name(worker: usize) -> String {
    format!("worker-{}", worker + 1)
}

impl Stage {
    pub(super) fn new(store: Arc<dyn LockStore>, lease: Duration) -> Result<Self> {
        Ok(Self {
            store,
            lock: LockName::new(&format!(
                "fifolock-demo/{:.8}",
                HolderId::random()?.as_str()
            ))?,
            lease,
            began: Instant::now(),
            scene: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The unit of time in which things happen.
    pub(super) fn beat(&self) -> Duration {
        self.lease / 6
    }

    /// Changes the scene, and tells those who wait for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Scene) -> T) -> T {
        let mut scene = self.scene.lock();
        let outcome = change(&mut scene);
        self.changed.notify_all();
        outcome
    }

    /// Waits for a scene like this.
    pub(super) fn wait(&self, mut is_so: impl FnMut(&Scene) -> bool) -> Result<()> {
        let mut scene = self.scene.lock();
        while !is_so(&scene) {
            if scene.failure.is_some() {
                bail!("somebody else failed");
            }
            self.changed.wait(&mut scene);
        }
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        let scene = self.scene.lock();
        scene.failure.is_some() || scene.workers.iter().all(|worker| worker.has_left)
    }

    pub(super) fn log(&self, scene: &mut Scene, text: String) {
        scene.log.push(Entry {
            at: self.began.elapsed(),
            text,
        });
    }

    pub(super) fn asked(&self, worker: usize, ticket: Ticket, ahead: u64) {
        self.change(|scene| {
            scene.workers[worker].has_asked = true;
            scene.workers[worker].doing = Doing::Waiting(ticket);
            let line = format!("{} asks: ticket {ticket}, {ahead} ahead", name(worker));
            self.log(scene, line);
        });
    }

    /// A worker was granted the lock, and writes to the resource.
    pub(super) fn granted(&self, worker: usize, guard: LockGuard) {
        let token = guard.fencing_token();
        self.change(|scene| {
            scene.judge(worker, token);
            if let Some(cut_at) = scene.cut_at.take() {
                scene.taken_over_after = Some(cut_at.elapsed());
            }
            scene.grants += 1;
            scene.workers[worker].has_asked = true;
            scene.workers[worker].doing = Doing::Holding(token);
            scene.workers[worker].guard = Some(guard);
            let line = format!("{} is granted the lock, token {token}", name(worker));
            self.log(scene, line);
            self.write(scene, worker, token, true);
        });
    }

    /// A write to the resource, which refuses a token lower than the highest it has
    /// seen.
    pub(super) fn write(
        &self,
        scene: &mut Scene,
        worker: usize,
        token: FencingToken,
        is_due: bool,
    ) {
        let is_accepted = scene.newest.is_none_or(|newest| token >= newest);
        if is_accepted {
            scene.newest = Some(token);
        }
        let verdict = match is_accepted {
            true => "accepted",
            false => REFUSED,
        };
        let line = match is_due {
            true => format!("{} writes with token {token}: {verdict}", name(worker)),
            false => format!(
                "{}: a write that was long on its way, token {token}: {verdict}",
                name(worker)
            ),
        };
        self.log(scene, line);
        if is_accepted != is_due {
            let what = format!(
                "a write of {} with token {token} was {verdict}",
                name(worker)
            );
            scene.violations.push(what);
        }
    }

    pub(super) fn cut_off(&self, worker: usize, token: FencingToken) {
        self.change(|scene| {
            scene.workers[worker].doing = Doing::CutOff(token);
            scene.cut_at = Some(Instant::now());
            let line = format!(
                "{} is cut off while it holds: no renewal gets through",
                name(worker)
            );
            self.log(scene, line);
        });
    }

    pub(super) fn released(&self, worker: usize) {
        self.change(|scene| self.log(scene, format!("{} releases", name(worker))));
    }

    pub(super) fn left(&self, worker: usize) {
        self.change(|scene| scene.workers[worker].has_left = true);
    }
}

impl Scene {
    pub(super) fn asked(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.has_asked)
            .count()
    }

    /// One at a time, in the order of asking, with growing tokens.
    fn judge(&mut self, granted: usize, token: FencingToken) {
        for (other, worker) in self.workers.iter().enumerate() {
            if other == granted {
                continue;
            }
            if worker.guard.as_ref().is_some_and(LockGuard::is_held) {
                let what = format!("{} and {} hold at once", name(granted), name(other));
                self.violations.push(what);
            }
            if let Doing::Waiting(ticket) = worker.doing
                && FencingToken::from(ticket) < token
            {
                let what = format!("{} overtook {}", name(granted), name(other));
                self.violations.push(what);
            }
        }
        if self.newest.is_some_and(|newest| token <= newest) {
            let what = format!(
                "{} was granted token {token}, which is not new",
                name(granted)
            );
            self.violations.push(what);
        }
    }
}
