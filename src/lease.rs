//! One held lock, as its guard and the heartbeat share it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::core::Core;
use crate::event::Event;
use crate::machine::SharedMachine;
use crate::process::Process;
use crate::protocol::{LossReason, Moment, Standing, Tenure};
use crate::record::Mode;
use crate::trace::{self, Span};
use crate::types::{FencingToken, HolderId, LockName, Ticket};

/// No value of this type exists: a channel of it never carries a message, it
/// only closes.
pub type Never = std::convert::Infallible;

/// The state of a held lock. All of it is local: asking costs no request.
pub(crate) struct Lease {
    pub(crate) name: LockName,
    pub(crate) ticket: Ticket,
    pub(crate) id: HolderId,
    pub(crate) mode: Mode,
    /// Who acquired it. The guard may have moved on since.
    pub(crate) acquired_by: ThreadId,
    pub(crate) granted_at: Moment,
    pub(crate) span: Span,
    machine: SharedMachine,
    /// The process that holds.
    process: Process,
    state: Mutex<State>,
    lost: Receiver<Never>,
    /// What stands in for it in a process that was forked from the one that holds.
    not_here: Receiver<Never>,
}

struct State {
    tenure: Tenure,
    /// Dropped when the lock is not held any more, which closes `lost`.
    held: Option<Sender<Never>>,
}

impl Lease {
    pub(crate) fn new(name: LockName, tenure: Tenure, core: &Core) -> Self {
        let (held, lost) = bounded(0);
        let machine = Arc::clone(&core.machine);
        let shared = tenure.mode() != Mode::Exclusive;
        Self {
            span: trace::hold(&name, tenure.ticket().into(), shared),
            granted_at: machine.now(),
            name,
            ticket: tenure.ticket(),
            id: tenure.id().clone(),
            mode: tenure.mode(),
            acquired_by: thread::current().id(),
            machine,
            process: core.process,
            state: Mutex::new(State {
                tenure,
                held: Some(held),
            }),
            lost,
            not_here: core.not_here.clone(),
        }
    }

    /// Whether this process was forked from the one that holds. Asked before anything that
    /// locks: another thread may have had it locked at the moment of the fork.
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    pub(crate) fn token(&self) -> FencingToken {
        self.ticket.into()
    }

    /// Closes when the lock is not held any more.
    pub(crate) fn lost(&self) -> &Receiver<Never> {
        match self.is_forked() {
            true => &self.not_here,
            false => &self.lost,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.is_forked() {
            return Standing::Lost(LossReason::Forked);
        }
        self.state.lock().tenure.standing(self.machine.now())
    }

    pub(crate) fn remaining(&self) -> Duration {
        if self.is_forked() {
            return Duration::ZERO;
        }
        self.state.lock().tenure.remaining(self.machine.now())
    }

    /// How long nothing needs to be done for it: neither a renewal, nor to tell that it
    /// has ended.
    pub(crate) fn rests_for(&self) -> Duration {
        let tenure = &self.state.lock().tenure;
        let next = tenure.next_beat().min(tenure.ends());
        next.since(self.machine.now())
    }

    /// Tells of something that happened to this lock, in its span.
    pub(crate) fn tell(&self, core: &Core, event: &Event<'_>) {
        let mut traced = false;
        let told = catch_unwind(AssertUnwindSafe(|| {
            self.span.in_scope(|| {
                trace::event(event);
                traced = true;
                core.observer.on_event(event);
            });
        }));
        match told {
            // A subscriber of `tracing` may panic while its thread ends.
            Err(_) if !traced => core.observer.on_event(event),
            Err(panic) => resume_unwind(panic),
            Ok(()) => {}
        }
    }

    /// Tells the observer of a loss that [`settle`](Self::settle) found.
    pub(crate) fn tell_loss(&self, core: &Core, reason: LossReason) {
        let event = Event::Lost {
            lock: &self.name,
            token: self.token(),
            reason,
        };
        self.tell(core, &event);
    }

    /// Looks at the tenure, or changes it, and closes the channel if that was
    /// its end. Returns the reason if the lock is found lost for the first time: that is
    /// to be told, by whoever found it.
    pub(crate) fn settle<T>(
        &self,
        change: impl FnOnce(&mut Tenure, Moment) -> T,
    ) -> (T, Option<LossReason>) {
        let mut state = self.state.lock();
        let now = self.machine.now();
        let result = change(&mut state.tenure, now);
        state.tenure.close(now);
        let (closed, news) = match state.tenure.standing(now) {
            Standing::Held => (None, None),
            Standing::Ended => (state.held.take(), None),
            Standing::Lost(reason) => {
                let held = state.held.take();
                let news = held.is_some().then_some(reason);
                (held, news)
            }
        };
        // Waking those who listen is not done with the state locked.
        drop(state);
        drop(closed);
        (result, news)
    }
}
