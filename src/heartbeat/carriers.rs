//! Threads that carry requests for the heartbeat, so that it never waits for one.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::machine::{SharedMachine, Task, has_news};
use crate::protocol::Moment;

/// How long a carrier without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// While errands without any patience wait, their number is looked at this often.
const SHORTEST: Duration = Duration::from_millis(1);

/// As few threads as can do the work: one, and more only when an errand has waited for
/// as long as it may. A request that hangs occupies one of them, for as long as its
/// time-out, and delays no other by more than that.
pub(crate) struct Carriers {
    machine: SharedMachine,
    staff: Arc<Mutex<Staff>>,
    least: usize,
    most: usize,
}

struct Staff {
    alive: usize,
    /// Those without work, and what wakes them. The last one to rest is the first to be
    /// woken, so that those who are not needed can leave.
    idle: Vec<(u64, Sender<()>)>,
    /// The errands that nobody has begun, by when and in which order they lose their
    /// patience.
    waiting: BTreeMap<(Moment, u64), Errand>,
    /// The next number, of an errand or of somebody who rests.
    next: u64,
    /// When there were more carriers last.
    grown_at: Moment,
    /// There will be no more errands.
    closed: bool,
}

struct Errand {
    patience: Duration,
    task: Task,
}

impl Staff {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Carriers {
    /// There will be `most` carriers at most. Once there are `least` of them, as many stay
    /// although there is nothing to do: the system may refuse new ones.
    pub(crate) fn new(machine: SharedMachine, least: usize, most: usize) -> Self {
        let staff = Staff {
            alive: 0,
            idle: Vec::new(),
            waiting: BTreeMap::new(),
            next: 0,
            grown_at: machine.now(),
            closed: false,
        };
        Self {
            machine,
            staff: Arc::new(Mutex::new(staff)),
            least,
            most,
        }
    }

    /// Starts those who always stay.
    pub(crate) fn start(&self) -> io::Result<()> {
        self.staff.lock().alive += self.least;
        (0..self.least).try_for_each(|_| self.hire())
    }

    /// Starts a carrier that is counted already.
    fn hire(&self) -> io::Result<()> {
        let carrier = Carrier {
            machine: Arc::clone(&self.machine),
            presence: Presence(Arc::clone(&self.staff)),
            least: self.least,
        };
        // If the system refuses the thread, the presence is dropped with it.
        self.machine
            .spawn("fifolock-renew", Box::new(move || carrier.run()))
    }

    /// Has a carrier do `task`, without waiting for it, and within `patience` if there
    /// can be carriers enough. [`attend`](Self::attend) is to be called afterwards.
    pub(crate) fn carry(&self, patience: Duration, task: Task) {
        let by = self.machine.now().plus(patience);
        let idle = {
            let mut staff = self.staff.lock();
            let number = staff.number();
            staff
                .waiting
                .insert((by, number), Errand { patience, task });
            staff.idle.pop()
        };
        if let Some((_, wake)) = idle {
            let _ = wake.send(());
        }
    }

    /// How many errands nobody has begun.
    pub(crate) fn waiting(&self) -> usize {
        self.staff.lock().waiting.len()
    }

    /// Sees to it that there are carriers enough: twice as many, each time that an errand
    /// has lost its patience. Says when to attend again.
    pub(crate) fn attend(&self) -> Option<Moment> {
        let now = self.machine.now();
        let (more, again) = {
            let mut staff = self.staff.lock();
            let ((by, _), first) = staff.waiting.first_key_value()?;
            let patience = first.patience;
            let impatient_at = staff.grown_at.plus(patience).max(*by);
            if staff.alive > 0 && now < impatient_at {
                return Some(impatient_at);
            }
            let more = staff.alive.max(1).min(staff.waiting.len());
            let more = more.min(self.most.saturating_sub(staff.alive));
            staff.grown_at = now;
            staff.alive += more;
            (more, now.plus(patience.max(SHORTEST)))
        };
        for _ in 0..more {
            // We try again if it is refused.
            let _ = self.hire();
        }
        Some(again)
    }
}

impl Drop for Carriers {
    /// What is waiting is still done, if there are carriers.
    fn drop(&mut self) {
        let idle = {
            let mut staff = self.staff.lock();
            staff.closed = true;
            std::mem::take(&mut staff.idle)
        };
        for (_, wake) in idle {
            let _ = wake.send(());
        }
    }
}

struct Carrier {
    machine: SharedMachine,
    presence: Presence,
    least: usize,
}

/// What there is for a carrier to do.
enum Next {
    Work(Task),
    /// Nothing, until it is woken, or for too long.
    Rest(u64, Receiver<()>),
    Leave,
}

impl Carrier {
    fn run(self) {
        loop {
            match self.next() {
                // A thread that is lost to a panic might not be replaced.
                Next::Work(task) => drop(catch_unwind(AssertUnwindSafe(task))),
                Next::Rest(number, woken) => {
                    if !self.is_woken(number, &woken) {
                        return;
                    }
                }
                Next::Leave => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut staff = self.presence.0.lock();
        if let Some((_, errand)) = staff.waiting.pop_first() {
            return Next::Work(errand.task);
        }
        if staff.closed {
            return Next::Leave;
        }
        let (number, (wake, woken)) = (staff.number(), bounded(1));
        staff.idle.push((number, wake));
        Next::Rest(number, woken)
    }

    /// Waits; `false` if nobody needed this carrier for long.
    fn is_woken(&self, number: u64, woken: &Receiver<()>) -> bool {
        let mut until = self.machine.now().plus(IDLE);
        loop {
            self.machine.wait(&[woken], until);
            if has_news(woken) {
                return true;
            }
            let now = self.machine.now();
            if now >= until {
                let mut staff = self.presence.0.lock();
                if staff.alive <= self.least {
                    until = now.plus(IDLE);
                    continue;
                }
                let before = staff.idle.len();
                staff.idle.retain(|(other, _)| *other != number);
                // Who is not there any more is being woken.
                return staff.idle.len() == before;
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
    use std::sync::atomic::Ordering;
    use std::thread;
    use std::time::Instant;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::machine::{Machine, RealMachine, TestMachine};
    use crate::testing::TestClock;

    const DEADLINE: Duration = Duration::from_secs(10);

    const SHORT: Duration = Duration::from_millis(1);

    fn carriers(most: usize) -> Carriers {
        Carriers::new(Arc::new(RealMachine), 0, most)
    }

    /// Attends until this is so.
    fn attend_until(carriers: &Carriers, done: impl Fn() -> bool) {
        let until = Instant::now() + DEADLINE;
        while !done() {
            assert!(Instant::now() < until);
            carriers.attend();
            thread::yield_now();
        }
    }

    /// Hands in an errand that takes until the other end of the channel is dropped.
    fn hang(carriers: &Carriers, hangs: &Receiver<()>) {
        let hangs = hangs.clone();
        let task = move || {
            let _ = hangs.recv();
        };
        carriers.carry(SHORT, Box::new(task));
    }

    #[test]
    fn one_carrier_does_what_comes_in_time_and_the_most_urgent_first() {
        let carriers = carriers(64);
        let (done, finished) = unbounded();
        for number in 0..100 {
            let done = done.clone();
            let patience = DEADLINE - Duration::from_millis(number);
            carriers.carry(patience, Box::new(move || done.send(number).unwrap()));
        }
        let again = carriers.attend().unwrap();
        assert!(again > RealMachine.now());
        attend_until(&carriers, || finished.len() == 100);
        assert_eq!(carriers.staff.lock().alive, 1);
        assert!(finished.try_iter().eq((0..100).rev()));
        assert_eq!(carriers.attend(), None);
    }

    #[test]
    fn a_hanging_errand_delays_no_other_and_the_number_is_bounded() {
        let carriers = carriers(2);
        let (unhang, hangs) = bounded::<()>(0);
        let (done, finished) = unbounded();
        let quick = || {
            let done = done.clone();
            carriers.carry(SHORT, Box::new(move || done.send(()).unwrap()));
        };
        hang(&carriers, &hangs);
        (0..100).for_each(|_| quick());
        attend_until(&carriers, || finished.len() == 100);
        assert_eq!(carriers.staff.lock().alive, 2);
        // With a second one that hangs nobody is left.
        hang(&carriers, &hangs);
        quick();
        attend_until(&carriers, || carriers.waiting() == 1);
        for _ in 0..10 {
            let again = carriers.attend().unwrap();
            assert!(again > RealMachine.now(), "it does not spin");
            RealMachine.wait(&[], again);
        }
        assert_eq!((carriers.waiting(), finished.len()), (1, 100));
        assert_eq!(carriers.staff.lock().alive, 2);
        drop(unhang);
        attend_until(&carriers, || finished.len() == 101);
    }

    #[test]
    fn those_who_lose_patience_double_the_carriers_up_to_those_who_wait() {
        let carriers = carriers(64);
        let (unhang, hangs) = bounded::<()>(0);
        (0..7).for_each(|_| hang(&carriers, &hangs));
        let until = Instant::now() + DEADLINE;
        for expected in [1, 2, 4, 7] {
            let again = carriers.attend().unwrap();
            assert_eq!(carriers.staff.lock().alive, expected);
            while carriers.waiting() > 7 - expected {
                assert!(Instant::now() < until);
                thread::yield_now();
            }
            RealMachine.wait(&[], again);
        }
        assert_eq!(carriers.attend(), None);
        drop(unhang);
    }

    #[test]
    fn an_errand_wakes_one_of_those_who_rest_and_always_the_same() {
        let machine = Arc::new(TestMachine::default());
        let carriers = Carriers::new(Arc::clone(&machine) as SharedMachine, 0, 8);
        let (unhang, hangs) = bounded::<()>(0);
        (0..8).for_each(|_| hang(&carriers, &hangs));
        attend_until(&carriers, || carriers.waiting() == 0);
        drop(unhang);
        let resting = || carriers.staff.lock().idle.len();
        attend_until(&carriers, || resting() == 8);
        let before = machine.waits.load(Ordering::Relaxed);
        let (done, finished) = unbounded();
        for number in 1..=20 {
            let done = done.clone();
            let task = move || done.send(thread::current().id()).unwrap();
            carriers.carry(DEADLINE, Box::new(task));
            attend_until(&carriers, || finished.len() == number && resting() == 8);
        }
        let mut threads: Vec<_> = finished.try_iter().collect();
        threads.dedup();
        assert_eq!(threads.len(), 1);
        assert_eq!(machine.waits.load(Ordering::Relaxed) - before, 20);
    }

    #[test]
    fn a_panic_does_not_cost_a_carrier() {
        let carriers = Carriers::new(Arc::new(RealMachine), 1, 1);
        carriers.start().unwrap();
        carriers.carry(SHORT, Box::new(|| panic!("on purpose")));
        let (done, finished) = bounded(1);
        carriers.carry(DEADLINE, Box::new(move || done.send(()).unwrap()));
        // Nobody attends: there would be no other.
        finished.recv_timeout(DEADLINE).unwrap();
    }

    #[test]
    fn those_who_always_stay_stay_although_there_is_nothing_to_do() {
        let clock = TestClock::frozen();
        let carriers = Carriers::new(Arc::new(clock.clone()), 1, 4);
        carriers.start().unwrap();
        let (unhang, hangs) = bounded::<()>(0);
        (0..3).for_each(|_| hang(&carriers, &hangs));
        while carriers.waiting() > 0 {
            carriers.attend();
            clock.advance(SHORT);
        }
        drop(unhang);
        let staff = |alive: usize, idle: usize| {
            let until = Instant::now() + DEADLINE;
            while {
                let staff = carriers.staff.lock();
                (staff.alive, staff.idle.len()) != (alive, idle)
            } {
                assert!(Instant::now() < until);
                clock.advance(SHORT);
                thread::yield_now();
            }
        };
        let hired = carriers.staff.lock().alive;
        assert!(hired > 1);
        staff(hired, hired);
        clock.advance(IDLE);
        staff(1, 1);
        clock.advance(IDLE * 3);
        let (done, finished) = bounded(1);
        carriers.carry(DEADLINE, Box::new(move || done.send(()).unwrap()));
        finished.recv_timeout(DEADLINE).unwrap();
    }

    #[test]
    fn carriers_leave_when_nobody_can_call_them_any_more() {
        let carriers = carriers(3);
        let staff = Arc::clone(&carriers.staff);
        carriers.carry(SHORT, Box::new(|| ()));
        attend_until(&carriers, || carriers.waiting() == 0);
        drop(carriers);
        let until = Instant::now() + IDLE / 2;
        while staff.lock().alive > 0 {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
    }
}
