//! What must happen in the end: bounded, so that it can be checked.
//!
//! A checker's `eventually` overlooks cycles, and a bounded exploration has ends
//! that are no ends. So from every state in which the last fault has happened, and
//! from every state at the horizon, the world is driven on without faults: all
//! requests are served, in turn, and whoever holds gives the lock back, unless it
//! never does. Every waiter that runs must then come to hold it, or leave, within a
//! bounded time.

use std::sync::atomic::Ordering;

use super::Harness;
use super::actions::Action;
use super::bounds::{FOR_EVER, GRACE, PRESENCE};
use super::state::{Doing, Law, State, Strand};

/// A dead holder, or the dead among those who share, cost a lease and the lock delay.
/// The dead in the queue cost the life of their rows at most, or the grace if there are
/// none, however many there are. And each change of hands may cost a tick until it is
/// noticed.
const LIMIT_WITHOUT_LEASE: u8 = PRESENCE + GRACE + 4;

impl Harness {
    pub fn judge_progress(&self, state: &mut State) {
        let waits = |state: &State| {
            state.clients.iter().any(|client| {
                client.stopped.is_none()
                    && !client.stuck
                    && matches!(client.doing, Doing::Waiting(_) | Doing::Releasing { .. })
            })
        };
        let mut end = State {
            late: Vec::new(),
            ..state.clone()
        };
        let limit = self.bounds.lease + self.bounds.lock_delay + LIMIT_WITHOUT_LEASE;
        let mut ticks = 0;
        while waits(&end) && ticks < limit {
            self.go_on(&mut end);
            ticks += 1;
        }
        self.longest_wait
            .fetch_max(u64::from(ticks), Ordering::Relaxed);
        if waits(&end) {
            state.breaks(Law::Progress);
        }
    }

    /// Lets one tick go by in which nothing goes wrong.
    fn go_on(&self, state: &mut State) {
        // As many as anybody can need within one tick.
        for _ in 0..50 {
            let mut busy = false;
            for client in 0..state.clients.len() {
                let it = &state.clients[client];
                let action = if it.asked(Strand::Main).is_some_and(|it| it.2 <= state.tick) {
                    Action::Serve(client, Strand::Main)
                } else if it.asked(Strand::Beat).is_some_and(|it| it.2 <= state.tick) {
                    Action::Serve(client, Strand::Beat)
                } else if matches!(it.doing, Doing::Holding)
                    && it.stopped.is_none()
                    && it.give_back_at.is_none_or(|at| at < FOR_EVER)
                {
                    Action::GiveBack(client)
                } else {
                    continue;
                };
                busy = true;
                let _ = self.perform(state, action);
                self.settle(state);
            }
            if !busy {
                break;
            }
        }
        let _ = self.perform(state, Action::Tick);
        self.settle(state);
    }
}
