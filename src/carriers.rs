//! Threads that carry requests for the heartbeat, so that it never waits for one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// A request to carry.
pub(crate) type Errand = Box<dyn FnOnce() + Send>;

/// How long a carrier without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// A handful of threads that grows while requests are slow and shrinks when
/// there is nothing to do. A request that hangs occupies one of them, for as
/// long as its time-out, and delays no other.
pub(crate) struct Carriers {
    hand_over: Sender<Errand>,
    pick_up: Receiver<Errand>,
    alive: Arc<AtomicUsize>,
    most: usize,
}

impl Carriers {
    pub(crate) fn new(most: usize) -> Self {
        // No buffer: an errand is taken by a carrier that waits, or not at all.
        let (hand_over, pick_up) = bounded(0);
        Self {
            hand_over,
            pick_up,
            alive: Arc::default(),
            most,
        }
    }

    /// Has a carrier run `errand`, without waiting for it.
    ///
    /// # Errors
    /// The errand itself, if every carrier is busy and there can be no more.
    pub(crate) fn carry(&self, errand: Errand) -> Result<(), Errand> {
        let errand = match self.hand_over.try_send(errand) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) => errand,
        };
        if self.alive.load(Ordering::Acquire) >= self.most {
            return Err(errand);
        }
        // The errand goes through a slot so that it is not lost if the system
        // refuses the thread.
        let (slot, first) = bounded(1);
        if self.spawn(first).is_err() {
            return Err(errand);
        }
        slot.send(errand).map_err(|unsent| unsent.into_inner())
    }

    fn spawn(&self, first: Receiver<Errand>) -> io::Result<()> {
        let presence = Presence::new(&self.alive);
        let pick_up = self.pick_up.clone();
        thread::Builder::new()
            .name("fifolock-renew".into())
            .spawn(move || {
                let _presence = presence;
                let mut next = first.recv().ok();
                while let Some(errand) = next {
                    errand();
                    next = pick_up.recv_timeout(IDLE).ok();
                }
            })
            .map(drop)
    }
}

/// Counts a carrier for as long as it lives, also if it ends in a panic.
struct Presence(Arc<AtomicUsize>);

impl Presence {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(alive))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn a_hanging_errand_delays_no_other_and_the_number_is_bounded() {
        let carriers = Carriers::new(2);
        let (unhang, hangs) = bounded::<()>(0);
        let (done, finished) = bounded(1);
        assert!(
            carriers
                .carry(Box::new(move || {
                    let _ = hangs.recv();
                }))
                .is_ok()
        );
        let report = done.clone();
        assert!(
            carriers
                .carry(Box::new(move || report.send(()).unwrap()))
                .is_ok()
        );
        finished.recv_timeout(DEADLINE).unwrap();
        // One hangs, one is idle: there is room for a second hanging one only.
        let (unhang_too, hangs_too) = bounded::<()>(0);
        let mut errand: Errand = Box::new(move || {
            let _ = hangs_too.recv();
        });
        let until = std::time::Instant::now() + DEADLINE;
        while let Err(back) = carriers.carry(errand) {
            assert!(std::time::Instant::now() < until);
            errand = back;
            thread::yield_now();
        }
        assert!(carriers.carry(Box::new(|| ())).is_err());
        drop((unhang, unhang_too));
    }

    #[test]
    fn a_panic_takes_one_carrier_and_not_its_place() {
        let carriers = Carriers::new(1);
        assert!(carriers.carry(Box::new(|| panic!("on purpose"))).is_ok());
        let (done, finished) = bounded(1);
        let mut errand: Errand = Box::new(move || done.send(()).unwrap());
        let until = std::time::Instant::now() + DEADLINE;
        while let Err(back) = carriers.carry(errand) {
            assert!(std::time::Instant::now() < until);
            errand = back;
            thread::yield_now();
        }
        finished.recv_timeout(DEADLINE).unwrap();
    }
}
