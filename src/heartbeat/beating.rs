//! The heartbeat thread: who is due, and what for.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

use super::carriers::Carriers;
use super::renewal::renew;
use crate::core::Core;
use crate::departure::Departure;
use crate::lease::Lease;
use crate::machine::Task;
use crate::presence::Presence;
use crate::protocol::{LossReason, Moment, Standing};

/// So many carriers of renewals are always there. One: a lock must not be lost because a
/// thread is refused.
const ALWAYS: usize = 1;

/// So many renewals may be under way at once.
const CARRIERS: usize = 64;

/// So many rows of waiters may be under way at once: they must not keep renewals
/// waiting.
const ANNOUNCERS: usize = 16;

/// So many attempts may be on their way out at once, beside those whose callers wait
/// for that.
const LEAVERS: usize = 16;

/// What is to be done for somebody waits for a carrier for no longer than this part of the
/// time that is left for it.
const PATIENCE: u32 = 30;

/// For so long the news of a loss wait for a carrier.
const NEWS: Duration = Duration::from_millis(20);

/// Each holder is looked at this often at least, so that those who are gone are
/// forgotten.
const ROUND: Duration = Duration::from_secs(60);

/// While this many requests about waiters' rows wait for somebody who carries them, rows
/// that could be deleted are left to their time to live.
const BACKLOG: usize = 1_000;

/// Nothing is done less often than this: looking whether anything is due. The wait
/// itself may stand still while the machine is suspended.
pub(super) const GLANCE: Duration = Duration::from_secs(1);

/// What the thread is asked to look after.
pub(super) enum Charge {
    /// Keep it alive until it ends.
    Lease(Arc<Lease>),
    /// Write its row, and renew it, while anybody else holds on to it and the waiter is
    /// not stuck.
    Presence(Arc<Presence>),
    /// Delete its row.
    Departed(Arc<Presence>),
    /// Give back what an attempt may have.
    Departure(Box<Departure>),
}

/// A lease or a waiter under the heartbeat's care.
struct Patient {
    /// Weak: a guard or waiter that is gone must not leave a beating heart behind.
    who: Who,
    treated: bool,
    /// When to look at it again.
    due: Option<Moment>,
}

enum Who {
    Holder(Weak<Lease>),
    Waiter(Weak<Presence>),
}

/// What a patient needs.
enum Need {
    /// Nothing any more.
    Nothing,
    /// To be looked at again at this moment, or when its treatment is over.
    Rest(Option<Moment>),
    Treatment {
        treatment: Treatment,
        /// For how long it can wait to begin.
        patience: Duration,
        /// When to look again, should it not be over by then.
        until: Option<Moment>,
    },
}

/// Something to be done by another thread. What it returns tells the observer.
type Treatment = Box<dyn FnOnce() -> Task + Send>;

pub(super) struct Beating {
    core: Arc<Core>,
    carriers: Carriers,
    announcers: Carriers,
    leavers: Carriers,
    patients: HashMap<u64, Patient>,
    /// Each patient that is to be looked at again, once.
    due: BTreeSet<(Moment, u64)>,
    next_key: u64,
    /// Those who are to be looked after by the next glance.
    rested: Receiver<Weak<Lease>>,
    /// The keys of those whose treatment is over.
    report: Sender<u64>,
    reports: Receiver<u64>,
}

impl Beating {
    pub(super) fn new(core: Arc<Core>, rested: Receiver<Weak<Lease>>) -> Self {
        let (report, reports) = unbounded();
        let machine = &core.machine;
        Self {
            carriers: Carriers::new(Arc::clone(machine), ALWAYS, CARRIERS),
            announcers: Carriers::new(Arc::clone(machine), 0, ANNOUNCERS),
            leavers: Carriers::new(Arc::clone(machine), 0, LEAVERS),
            core,
            patients: HashMap::new(),
            due: BTreeSet::new(),
            next_key: 0,
            rested,
            report,
            reports,
        }
    }

    /// Starts the threads that are always there.
    pub(super) fn prepare(&self) -> io::Result<()> {
        self.carriers.start()
    }

    /// Looks after all who are there until the last handle is gone. Sends nothing
    /// itself, so that nothing can hold it up.
    pub(super) fn run(mut self, joins: &Receiver<Charge>) {
        loop {
            // Taken before anybody is admitted: who comes too late for that needs
            // nothing until then.
            let glance = self.core.machine.now().plus(GLANCE);
            loop {
                match joins.try_recv() {
                    Ok(charge) => self.join(charge),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        // There may be rows left to delete, and queues to leave.
                        self.announcers.attend();
                        self.leavers.attend();
                        return;
                    }
                }
            }
            while let Ok(lease) = self.rested.try_recv() {
                self.admit(Who::Holder(lease));
            }
            while let Ok(key) = self.reports.try_recv() {
                self.treated(key);
            }
            self.tend_those_due();
            let due = self.due.first().map(|(at, _)| *at);
            let crowds = [&self.carriers, &self.announcers, &self.leavers].map(Carriers::attend);
            let wake = crowds
                .into_iter()
                .flatten()
                .chain(due)
                .fold(glance, Moment::min);
            self.core.machine.wait(&[joins, &self.reports], wake);
        }
    }

    fn tend_those_due(&mut self) {
        let now = self.core.machine.now();
        while let Some((at, key)) = self.due.first().copied()
            && at <= now
        {
            self.tend(key);
        }
    }

    /// A treatment is over.
    fn treated(&mut self, key: u64) {
        if let Some(patient) = self.patients.get_mut(&key) {
            patient.treated = false;
        }
        self.tend(key);
    }

    fn join(&mut self, charge: Charge) {
        let who = match charge {
            Charge::Lease(lease) => Who::Holder(Arc::downgrade(&lease)),
            Charge::Presence(presence) => Who::Waiter(Arc::downgrade(&presence)),
            Charge::Departed(presence) => {
                if self.announcers.waiting() < BACKLOG {
                    let core = Arc::clone(&self.core);
                    let patience = core.settings.presence / PATIENCE;
                    self.announcers
                        .carry(patience, Box::new(move || presence.dequeue(&core)));
                }
                return;
            }
            Charge::Departure(departure) => {
                let patience = self.core.settings.claim_grace / PATIENCE;
                self.leavers.carry(patience, Box::new(|| departure.run()));
                return;
            }
        };
        self.admit(who);
    }

    fn admit(&mut self, who: Who) {
        let key = self.next_key;
        self.next_key += 1;
        let patient = Patient {
            who,
            treated: false,
            due: None,
        };
        self.patients.insert(key, patient);
        self.tend(key);
    }

    /// Does what is due for one patient, and notes when to look again.
    fn tend(&mut self, key: u64) {
        let Some(patient) = self.patients.get_mut(&key) else {
            return;
        };
        if let Some(due) = patient.due.take() {
            self.due.remove(&(due, key));
        }
        let Some(patient) = self.patients.get(&key) else {
            return;
        };
        let (need, carriers) = match &patient.who {
            Who::Holder(lease) => (self.need_of_holder(lease, patient.treated), &self.carriers),
            Who::Waiter(presence) => (
                self.need_of_waiter(presence, patient.treated),
                &self.announcers,
            ),
        };
        let due = match need {
            Need::Nothing => {
                self.patients.remove(&key);
                return;
            }
            Need::Rest(until) => until,
            Need::Treatment {
                treatment,
                patience,
                until,
            } => {
                self.treat(key, treatment, patience, carriers);
                if let Some(patient) = self.patients.get_mut(&key) {
                    patient.treated = true;
                }
                until
            }
        };
        if let Some(patient) = self.patients.get_mut(&key) {
            patient.due = due;
        }
        if let Some(due) = due {
            self.due.insert((due, key));
        }
    }

    /// Has a carrier do it.
    fn treat(&self, key: u64, treatment: Treatment, patience: Duration, carriers: &Carriers) {
        let to = self.report.clone();
        let task = move || {
            // Made here: an errand that nobody runs is not reported as done.
            let report = Report { key, to };
            let news = treatment();
            // An observer that takes its time must not hold up the next one.
            drop(report);
            news();
        };
        carriers.carry(patience, Box::new(task));
    }

    fn need_of_holder(&self, lease: &Weak<Lease>, treated: bool) -> Need {
        let Some(lease) = lease.upgrade() else {
            return Need::Nothing;
        };
        let ((standing, ends, next_beat, now), news) = lease
            .settle(|tenure, now| (tenure.standing(now), tenure.ends(), tenure.next_beat(), now));
        if standing != Standing::Held {
            if let Some(reason) = news {
                self.announce_loss(lease, reason);
            }
            return Need::Nothing;
        }
        if treated {
            return Need::Rest(Some(ends));
        }
        if now < next_beat {
            return Need::Rest(Some(next_beat.min(ends).min(now.plus(ROUND))));
        }
        let core = Arc::clone(&self.core);
        Need::Treatment {
            treatment: Box::new(move || renew(core, lease)),
            patience: ends.since(now) / PATIENCE,
            until: Some(ends),
        }
    }

    fn need_of_waiter(&self, waiting: &Weak<Presence>, treated: bool) -> Need {
        let Some(presence) = waiting.upgrade() else {
            return Need::Nothing;
        };
        if treated {
            return Need::Rest(None);
        }
        let (now, next) = (self.core.machine.now(), presence.next());
        if now < next {
            return Need::Rest(Some(next));
        }
        if presence.is_overdue(now) {
            // Should it go on after all, its row is to be there soon.
            return Need::Rest(Some(now.plus(GLANCE)));
        }
        let core = Arc::clone(&self.core);
        let patience = core.settings.claim_grace / PATIENCE;
        let waiting = Weak::clone(waiting);
        let announce = move || -> Task {
            // It may have left by now.
            let Some(presence) = waiting.upgrade() else {
                return Box::new(|| ());
            };
            let error = presence.announce(&core);
            Box::new(move || {
                if let Some(error) = error {
                    presence.disturbed(&core, &error);
                }
            })
        };
        Need::Treatment {
            treatment: Box::new(announce),
            patience,
            until: None,
        }
    }

    /// Tells the observer, on a carrier: user code must not hold up the beat.
    fn announce_loss(&self, lease: Arc<Lease>, reason: LossReason) {
        let core = Arc::clone(&self.core);
        // With every carrier stuck the observer has to wait. The guard's own channel,
        // which does not depend on them, is closed already.
        let news = move || lease.tell_loss(&core, reason);
        self.carriers.carry(NEWS, Box::new(news));
    }
}

/// Reports the end of a renewal, also if it ended in a panic.
struct Report {
    key: u64,
    to: Sender<u64>,
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = self.to.send(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use crossbeam_channel::never;

    use super::super::Heartbeat;
    use super::*;
    use crate::event::Silence;
    use crate::machine::{RealMachine, SharedMachine, TestMachine};
    use crate::options::Wishes;
    use crate::protocol::{self, Consistency, Grant, Tenure, Title, Write};
    use crate::record::{Holder, Mode};
    use crate::store::{LockStore, MemoryStore};
    use crate::types::{HolderId, LockName, Ticket};

    const DEADLINE: Duration = Duration::from_secs(30);

    /// A heart that beats only when the test says so.
    fn heart(store: MemoryStore) -> Beating {
        let settings = Wishes {
            lease: Some(Duration::from_secs(60)),
            ..Wishes::default()
        }
        .settle()
        .unwrap();
        let core = Core::new(
            Arc::new(store),
            Arc::new(RealMachine),
            settings,
            Arc::new(Silence),
        );
        Beating::new(Arc::new(core), never())
    }

    /// Holds a lock that is due for a renewal at once, and always.
    fn hold(beating: &Beating, store: &MemoryStore, name: &str) -> Arc<Lease> {
        hold_for(beating, store, name, Duration::from_millis(1))
    }

    fn hold_for(
        beating: &Beating,
        store: &MemoryStore,
        name: &str,
        heartbeat: Duration,
    ) -> Arc<Lease> {
        let lock = LockName::new(name).unwrap();
        let holder = Holder {
            id: HolderId::random().unwrap(),
            lease: Duration::from_secs(60),
            owner: "test".into(),
            since_ms: 0,
            renewed_at_ms: 0,
            data: None,
        };
        let sent = beating.core.machine.now();
        let take = Write::Try {
            holder: holder.clone(),
            start: Ticket::new(1),
            grace: Duration::from_secs(1),
        };
        let record = store
            .write(&lock, &take, DEADLINE)
            .unwrap()
            .applied()
            .unwrap();
        let grant = Grant {
            ticket: record.turn(),
            mode: Mode::Exclusive,
            lease: holder.lease,
            holder,
            title: Title::Claimed { sent },
        };
        let tenure = Tenure::new(grant, heartbeat);
        Arc::new(Lease::new(lock, tenure, &beating.core))
    }

    #[test]
    fn a_lock_held_for_a_moment_does_not_wake_the_heart() {
        let store = MemoryStore::new();
        let beating = heart(store.clone());
        let machine = Arc::new(TestMachine::default());
        let core = Core::new(
            Arc::new(store.clone()),
            Arc::clone(&machine) as SharedMachine,
            beating.core.settings.clone(),
            Arc::new(Silence),
        );
        let began = std::time::Instant::now();
        let heartbeat = Heartbeat::start(Arc::new(core)).unwrap();
        for number in 0..100 {
            let name = format!("lock-{number}");
            heartbeat.keep(&hold_for(&beating, &store, &name, Duration::from_secs(20)));
            // Long enough for it to wake up, if it does.
            thread::sleep(Duration::from_millis(2));
        }
        let glances = began.elapsed().as_secs() + 1;
        let woken = machine.waits.load(Ordering::Relaxed) as u64;
        assert!(woken <= glances, "woken {woken} times in {glances} s");
    }

    #[test]
    fn what_a_client_leaves_behind_is_done_after_its_end() {
        let store = MemoryStore::new();
        let beating = heart(store.clone());
        let (lock, ticket) = (LockName::new("left").unwrap(), Ticket::new(7));
        let core = Arc::clone(&beating.core);
        let state = protocol::Presence::new(
            ticket,
            HolderId::random().unwrap(),
            "test".into(),
            Duration::from_secs(20),
            core.machine.now(),
            core.machine.wall_ms(),
        );
        let presence = Arc::new(Presence::new(lock.clone(), state));
        assert!(presence.announce(&core).is_none());
        let rows = || {
            store
                .look(&lock, ticket, ticket, 1, DEADLINE)
                .unwrap()
                .len()
        };
        assert_eq!(rows(), 1);
        let heartbeat = Heartbeat::start(core).unwrap();
        heartbeat.dequeue(presence);
        drop(heartbeat);
        let until = std::time::Instant::now() + DEADLINE;
        while rows() > 0 {
            assert!(std::time::Instant::now() < until, "the row is still there");
            thread::yield_now();
        }
    }

    #[test]
    fn a_patient_is_due_once_however_often_it_was_tended() {
        let store = MemoryStore::new();
        let mut beating = heart(store.clone());
        let lease = hold(&beating, &store, "due");
        beating.join(Charge::Lease(Arc::clone(&lease)));
        for _ in 0..100 {
            let until = std::time::Instant::now() + DEADLINE;
            while beating.reports.is_empty() {
                assert!(std::time::Instant::now() < until);
                beating.tend_those_due();
                beating.carriers.attend();
                thread::yield_now();
            }
            let key = beating.reports.recv().unwrap();
            beating.treated(key);
            assert_eq!(beating.due.len(), 1);
        }
        let record = store.read(&lease.name, Consistency::Strong, DEADLINE);
        assert!(record.unwrap().unwrap().revision > 50, "it was renewed");
        drop(lease);
        let until = std::time::Instant::now() + DEADLINE;
        while !beating.patients.is_empty() {
            assert!(std::time::Instant::now() < until);
            beating.tend_those_due();
            while let Ok(key) = beating.reports.try_recv() {
                beating.treated(key);
            }
            thread::yield_now();
        }
        assert!(beating.due.is_empty());
    }
}
