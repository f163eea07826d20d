//! How many requests of one kind a client has under way at once.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::lease::Never;
use crate::machine::{Machine, has_news};
use crate::protocol::Moment;

/// Permits, granted in the order of asking.
pub(crate) struct Semaphore {
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// Those who wait, and what a permit is sent by.
    waiting: VecDeque<Sender<()>>,
}

/// What came of asking for a permit.
pub(crate) enum Entry {
    /// There was one.
    AtOnce(Permit),
    /// There was one after a wait.
    Later(Permit),
    /// There was none in time.
    Late,
    /// There was a message, which is taken, or the channel is closed.
    Cancelled,
    Closed,
}

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: permits,
                waiting: VecDeque::new(),
            }),
        })
    }

    /// Waits for a permit until `until`, or until `cancel` has a message or is closed, or
    /// `closed` is closed.
    pub(crate) fn enter(
        self: &Arc<Self>,
        machine: &dyn Machine,
        until: Moment,
        cancel: &Receiver<()>,
        closed: &Receiver<Never>,
    ) -> Entry {
        let (grant, granted) = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Entry::AtOnce(Permit(Arc::clone(self)));
            }
            let (grant, granted) = bounded(1);
            state.waiting.push_back(grant.clone());
            (grant, granted)
        };
        let ended = loop {
            if has_news(&granted) {
                return Entry::Later(Permit(Arc::clone(self)));
            }
            if has_news(closed) {
                break Entry::Closed;
            }
            if has_news(cancel) {
                break Entry::Cancelled;
            }
            if machine.now() >= until {
                break Entry::Late;
            }
            machine.wait(&[&granted, cancel, closed], until);
        };
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.retain(|other| !other.same_channel(&grant));
        let was_granted = state.waiting.len() == before;
        drop(state);
        if was_granted {
            // It came at the last moment: it goes on to the next one.
            drop(Permit(Arc::clone(self)));
        }
        ended
    }

    fn leave(&self) {
        let mut state = self.state.lock();
        match state.waiting.pop_front() {
            // There is room for it, and the receiver is there or gives it back.
            Some(next) => drop(next.send(())),
            None => state.free += 1,
        }
    }
}

/// The right to have one request under way, until it is dropped.
pub(crate) struct Permit(Arc<Semaphore>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use crossbeam_channel::never;

    use super::*;
    use crate::machine::RealMachine;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn far() -> Moment {
        RealMachine.now().plus(DEADLINE)
    }

    fn enter(semaphore: &Arc<Semaphore>, until: Moment) -> Option<Permit> {
        match semaphore.enter(&RealMachine, until, &never(), &never()) {
            Entry::AtOnce(permit) | Entry::Later(permit) => Some(permit),
            Entry::Late | Entry::Cancelled | Entry::Closed => None,
        }
    }

    fn waiting(semaphore: &Arc<Semaphore>) -> usize {
        semaphore.state.lock().waiting.len()
    }

    #[test]
    fn permits_are_counted_and_passed_on_in_the_order_of_asking() {
        let semaphore = Semaphore::new(2);
        let held = [enter(&semaphore, far()), enter(&semaphore, far())];
        assert!(enter(&semaphore, RealMachine.now()).is_none());
        let (said, order) = crossbeam_channel::unbounded();
        thread::scope(|scope| {
            for number in 0..5 {
                let (semaphore, said) = (&semaphore, said.clone());
                scope.spawn(move || {
                    let permit = enter(semaphore, far());
                    said.send(number).unwrap();
                    drop(permit);
                });
                while waiting(semaphore) <= number {
                    thread::yield_now();
                }
            }
            let [first, second] = held;
            drop(first);
            let all: Vec<usize> = order.iter().take(5).collect();
            assert_eq!(all, [0, 1, 2, 3, 4]);
            drop(second);
        });
        assert_eq!(semaphore.state.lock().free, 2);
    }

    #[test]
    fn whoever_is_cancelled_or_late_leaves_nothing_behind() {
        let semaphore = Semaphore::new(1);
        let held = enter(&semaphore, far());
        let (cancel, cancelled) = bounded(1);
        cancel.send(()).unwrap();
        let outcome = semaphore.enter(&RealMachine, far(), &cancelled, &never());
        assert!(matches!(outcome, Entry::Cancelled));
        let (close, closed) = bounded::<Never>(0);
        drop(close);
        let outcome = semaphore.enter(&RealMachine, far(), &never(), &closed);
        assert!(matches!(outcome, Entry::Closed));
        let soon = RealMachine.now().plus(Duration::from_millis(5));
        assert!(enter(&semaphore, soon).is_none());
        assert_eq!(waiting(&semaphore), 0);
        drop(held);
        assert!(enter(&semaphore, RealMachine.now()).is_some());
    }

    #[test]
    fn a_permit_that_comes_at_the_last_moment_is_not_lost() {
        let semaphore = Semaphore::new(1);
        for _ in 0..300 {
            let held = enter(&semaphore, far());
            let (cancel, cancelled) = bounded::<()>(0);
            thread::scope(|scope| {
                let asks = scope
                    .spawn(|| drop(semaphore.enter(&RealMachine, far(), &cancelled, &never())));
                while waiting(&semaphore) == 0 && !asks.is_finished() {
                    thread::yield_now();
                }
                scope.spawn(|| drop(cancel));
                drop(held);
            });
            assert_eq!(semaphore.state.lock().free, 1);
        }
    }
}
