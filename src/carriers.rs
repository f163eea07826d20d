//! Threads that carry requests for the heartbeat, so that it never waits for one.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use parking_lot::Mutex;

use crate::machine::{SharedMachine, Task};

/// How long a carrier without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// A handful of threads that grows while requests are slow and shrinks when
/// there is nothing to do. A request that hangs occupies one of them, for as
/// long as its time-out, and delays no other.
pub(crate) struct Carriers {
    machine: SharedMachine,
    hand_over: Sender<Task>,
    pick_up: Receiver<Task>,
    staff: Arc<Mutex<Staff>>,
    most: usize,
}

/// How many carriers there are.
#[derive(Default)]
struct Staff {
    alive: usize,
    /// Those without work, and without work that is on its way to them.
    idle: usize,
}

impl Carriers {
    pub(crate) fn new(machine: SharedMachine, most: usize) -> Self {
        let (hand_over, pick_up) = unbounded();
        Self {
            machine,
            hand_over,
            pick_up,
            staff: Arc::default(),
            most,
        }
    }

    /// Has a carrier do `errand`, without waiting for it. Says whether there is
    /// one: if every carrier is busy and there can be no more, it is not done.
    pub(crate) fn carry(&self, errand: Task) -> bool {
        {
            let mut staff = self.staff.lock();
            if staff.idle > 0 {
                staff.idle -= 1;
                // Of those who wait, exactly one finds it.
                return self.hand_over.send(errand).is_ok();
            }
            if staff.alive >= self.most {
                return false;
            }
            staff.alive += 1;
        }
        let carrier = Carrier {
            machine: Arc::clone(&self.machine),
            pick_up: self.pick_up.clone(),
            presence: Presence(Arc::clone(&self.staff)),
        };
        // If the system refuses the thread, the presence is dropped with it.
        self.machine
            .spawn("fifolock-renew", Box::new(move || carrier.run(errand)))
            .is_ok()
    }
}

struct Carrier {
    machine: SharedMachine,
    pick_up: Receiver<Task>,
    presence: Presence,
}

impl Carrier {
    fn run(self, first: Task) {
        let mut errand = first;
        loop {
            errand();
            self.presence.0.lock().idle += 1;
            errand = match self.next() {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// The next errand; `None` if there was none for long, or will be none.
    fn next(&self) -> Option<Task> {
        let until = self.machine.now().plus(IDLE);
        loop {
            self.machine.wait(&[&self.pick_up], until);
            match self.pick_up.try_recv() {
                Ok(errand) => return Some(errand),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.machine.now() < until => {}
                Err(TryRecvError::Empty) => {
                    let mut staff = self.presence.0.lock();
                    // If nobody is idle, something is on its way to those who wait.
                    if let Some(fewer) = staff.idle.checked_sub(1) {
                        staff.idle = fewer;
                        return None;
                    }
                }
            }
        }
    }
}

/// Counts a carrier for as long as it lives, also if it ends in a panic.
struct Presence(Arc<Mutex<Staff>>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.lock().alive -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::machine::RealMachine;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn carry_soon(carriers: &Carriers, errand: impl Fn() + Send + Clone + 'static) {
        let until = std::time::Instant::now() + DEADLINE;
        while !carriers.carry(Box::new(errand.clone())) {
            assert!(std::time::Instant::now() < until);
            thread::yield_now();
        }
    }

    #[test]
    fn a_hanging_errand_delays_no_other_and_the_number_is_bounded() {
        let carriers = Carriers::new(Arc::new(RealMachine), 2);
        let (unhang, hangs) = bounded::<()>(0);
        let hang = move || {
            let _ = hangs.recv();
        };
        assert!(carriers.carry(Box::new(hang.clone())));
        let (done, finished) = bounded(100);
        for _ in 0..100 {
            let done = done.clone();
            carry_soon(&carriers, move || done.send(()).unwrap());
            finished.recv_timeout(DEADLINE).unwrap();
        }
        assert_eq!(carriers.staff.lock().alive, 2);
        // One hangs, one is idle: there is room for a second hanging one only.
        carry_soon(&carriers, hang);
        assert!(!carriers.carry(Box::new(|| ())));
        drop(unhang);
    }

    #[test]
    fn a_panic_takes_one_carrier_and_not_its_place() {
        let carriers = Carriers::new(Arc::new(RealMachine), 1);
        assert!(carriers.carry(Box::new(|| panic!("on purpose"))));
        let (done, finished) = bounded(1);
        carry_soon(&carriers, move || done.send(()).unwrap());
        finished.recv_timeout(DEADLINE).unwrap();
    }

    #[test]
    fn carriers_leave_when_nobody_can_call_them_any_more() {
        let carriers = Carriers::new(Arc::new(RealMachine), 3);
        let staff = Arc::clone(&carriers.staff);
        assert!(carriers.carry(Box::new(|| ())));
        drop(carriers);
        let until = std::time::Instant::now() + IDLE / 2;
        while staff.lock().alive > 0 {
            assert!(std::time::Instant::now() < until);
            thread::yield_now();
        }
    }
}
