//! The thread that keeps a client's locks alive, and tells when one is lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select, unbounded};

use crate::carriers::{Carriers, Errand};
use crate::core::Core;
use crate::error::Error;
use crate::event::Event;
use crate::lease::Lease;
use crate::protocol::{LossReason, Moment, Standing};

/// So many renewals may be under way at once.
const CARRIERS: usize = 64;

/// When to try again if all carriers are busy.
const CROWDED: Duration = Duration::from_millis(5);

/// The handle of a client's heartbeat thread. The thread ends when the last
/// handle is gone, and clients and guards have one each.
pub(crate) struct Heartbeat {
    joining: Sender<Arc<Lease>>,
}

impl Heartbeat {
    pub(crate) fn start(core: Arc<Core>) -> Result<Self, Error> {
        let (joining, joins) = unbounded();
        let (report, reports) = unbounded();
        let beating = Beating {
            core,
            carriers: Carriers::new(CARRIERS),
            patients: HashMap::new(),
            due: BinaryHeap::new(),
            next_key: 0,
            report,
        };
        thread::Builder::new()
            .name("fifolock-heart".into())
            .spawn(move || beating.run(&joins, &reports))
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { joining })
    }

    /// Keeps `lease` alive until it ends.
    pub(crate) fn keep(&self, lease: &Arc<Lease>) {
        // The thread outlives its handles. Were it gone all the same, the lease
        // would end by its own clock, which needs no thread.
        let _ = self.joining.send(Arc::clone(lease));
    }
}

/// A lease under the heartbeat's care.
struct Patient {
    /// Weak: a guard that is gone must not leave a beating heart behind.
    lease: Weak<Lease>,
    renewing: bool,
}

struct Beating {
    core: Arc<Core>,
    carriers: Carriers,
    patients: HashMap<u64, Patient>,
    due: BinaryHeap<Reverse<(Moment, u64)>>,
    next_key: u64,
    report: Sender<u64>,
}

impl Beating {
    /// Sends nothing itself, so that nothing can hold it up.
    fn run(mut self, joins: &Receiver<Arc<Lease>>, reports: &Receiver<u64>) {
        loop {
            let pause = self.pause();
            select! {
                recv(joins) -> lease => match lease {
                    Ok(lease) => self.join(&lease),
                    Err(_) => return,
                },
                recv(reports) -> key => if let Ok(key) = key {
                    if let Some(patient) = self.patients.get_mut(&key) {
                        patient.renewing = false;
                    }
                    self.tend(key);
                },
                default(pause) => {}
            }
            let now = self.core.clock.now();
            while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                if let Some(Reverse((_, key))) = self.due.pop() {
                    self.tend(key);
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        match self.due.peek() {
            Some(Reverse((at, _))) => at.since(self.core.clock.now()),
            None => Duration::from_secs(3_600),
        }
    }

    fn join(&mut self, lease: &Arc<Lease>) {
        let key = self.next_key;
        self.next_key += 1;
        let patient = Patient {
            lease: Arc::downgrade(lease),
            renewing: false,
        };
        self.patients.insert(key, patient);
        self.tend(key);
    }

    /// Does what is due for one lease, and notes when to look again.
    fn tend(&mut self, key: u64) {
        let Some(patient) = self.patients.get_mut(&key) else {
            return;
        };
        let Some(lease) = patient.lease.upgrade() else {
            self.patients.remove(&key);
            return;
        };
        let ((standing, ends, next_beat, now), news) = lease
            .settle(|tenure, now| (tenure.standing(now), tenure.ends(), tenure.next_beat(), now));
        if standing != Standing::Held {
            self.patients.remove(&key);
            if let Some(reason) = news {
                self.announce_loss(lease, reason);
            }
            return;
        }
        let wake = if patient.renewing {
            ends
        } else if now < next_beat {
            next_beat.min(ends)
        } else {
            let core = Arc::clone(&self.core);
            let report = Report {
                key,
                to: self.report.clone(),
            };
            let errand: Errand = Box::new(move || {
                let _report = report;
                renew(&core, &lease);
            });
            match self.carriers.carry(errand) {
                Ok(()) => {
                    patient.renewing = true;
                    ends
                }
                Err(_) => now.plus(CROWDED).min(ends),
            }
        };
        self.due.push(Reverse((wake, key)));
    }

    /// Tells the observer, on a carrier: user code must not hold up the beat.
    fn announce_loss(&self, lease: Arc<Lease>, reason: LossReason) {
        let core = Arc::clone(&self.core);
        // With every carrier stuck there is nobody to tell it. The guard's own
        // channel, which does not depend on them, is closed already.
        let _ = self.carriers.carry(Box::new(move || {
            tell_loss(&core, &lease, reason);
        }));
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

/// Renews one lease, once. Runs on a carrier.
fn renew(core: &Core, lease: &Lease) {
    let sent = core.now();
    let ((standing, write, remaining), _) = lease.settle(|tenure, now| {
        (
            tenure.standing(now),
            tenure.renewal(sent),
            tenure.remaining(now),
        )
    });
    if standing != Standing::Held {
        return;
    }
    let within = core.settings.request_timeout.min(remaining);
    let answer = core.store.write(&lease.name, &write, within);
    let ((), news) = lease.settle(|tenure, now| match &answer {
        Ok(Some(_)) => tenure.renewed(sent.moment, now),
        Ok(None) => tenure.refused(),
        Err(_) => tenure.failed(core.now()),
    });
    if let Err(error) = &answer {
        core.tell(&Event::RenewalFailed {
            lock: &lease.name,
            token: lease.token(),
            error,
        });
    }
    if let Some(reason) = news {
        tell_loss(core, lease, reason);
    }
}

fn tell_loss(core: &Core, lease: &Lease, reason: LossReason) {
    core.tell(&Event::Lost {
        lock: &lease.name,
        token: lease.token(),
        reason,
    });
}
