//! What must happen in the end: bounded, so that it can be checked.
//!
//! A checker's `eventually` overlooks cycles, and a bounded exploration has ends
//! that are no ends. So from every state in which the last fault has happened, and
//! from every state at the horizon, the world is driven on without faults: all
//! requests are served, in turn, and whoever holds gives the lock back, unless it
//! never does. Every waiter that runs must then come to hold it, or leave, within a
//! bounded time.

use std::sync::atomic::Ordering;

use dynamodb_fifo_lock::protocol::Watch;

use super::Harness;
use super::actions::Action;
use super::bounds::{FOR_EVER, GRACE, PRESENCE};
use super::state::{Doing, Lane, Law, State, Strand};

/// A dead holder, or the dead among those who share, cost a lease and the lock delay.
/// The dead in the queue cost the life of their rows at most, or the grace if there are
/// none, however many there are. And each change of hands may cost a tick until it is
/// noticed.
const LIMIT_WITHOUT_LEASE: u8 = PRESENCE + GRACE + 4;

/// As long may an asker need on top of a lease, in ticks: tickets without a row are known
/// to be dead after the announce delay and the grace, or a presence by the wall clock; and
/// each of two turns that nobody takes costs a grace.
const LIMIT_OF_ASKERS: u8 = 3 + PRESENCE + 3 * GRACE + 6;

/// An asker asks at most so many times.
pub const ASKED: usize = 60;

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
        let granted = |asker| self.is_granted_in_the_end(end.clone(), asker);
        if waits(&end) || !(0..self.bounds.askers.len()).all(granted) {
            state.breaks(Law::Progress);
        }
    }

    /// Whether the last client is granted the lock that asks for it again and again, when
    /// nobody else does. If it does not run there is nothing to be said.
    fn is_granted_in_the_end(&self, mut state: State, asker: usize) -> bool {
        let client = state.clients.len() - 1;
        state.client(client).asks = asker;
        // What wall clocks must say before they are believed costs each turn that nobody
        // takes an allowance.
        let clocks = match self.bounds.askers[asker].forgets {
            true => self.bounds.allowance.as_secs() as u8 + 1 + 2 * GRACE,
            false => 0,
        };
        let limit = self.bounds.lease + LIMIT_OF_ASKERS + clocks;
        let mut ticks = 0;
        while ticks < limit && state.clients[client].stopped.is_none() {
            let it = state.client(client);
            if matches!(it.doing, Doing::Holding) {
                break;
            }
            if matches!(it.doing, Doing::Idle) && it.beat == Lane::Quiet {
                // Its script is over, however much of it was left.
                it.begun = it
                    .begun
                    .max(self.bounds.scripts[client].acquisitions.len() as u8);
                if self.bounds.askers[asker].forgets {
                    it.watch = Watch::default();
                    it.contended = false;
                }
                self.begin(&mut state, client);
                self.settle(&mut state);
            }
            self.serve_all(&mut state, false);
            if !matches!(state.clients[client].doing, Doing::Holding) {
                let _ = self.perform(&mut state, Action::Tick);
                self.settle(&mut state);
                ticks += 1;
            }
        }
        self.longest_wait
            .fetch_max(u64::from(ticks), Ordering::Relaxed);
        ticks < limit
    }

    /// Lets one tick go by in which nothing goes wrong.
    fn go_on(&self, state: &mut State) {
        self.serve_all(state, true);
        let _ = self.perform(state, Action::Tick);
        self.settle(state);
    }

    /// Serves what is due in this tick, and all that comes of it. Holders give back, if
    /// they are to.
    fn serve_all(&self, state: &mut State, give_back: bool) {
        // As many as anybody can need within one tick.
        for _ in 0..50 {
            let mut busy = false;
            for client in 0..state.clients.len() {
                let it = &state.clients[client];
                let action = if it.asked(Strand::Main).is_some_and(|it| it.2 <= state.tick) {
                    Action::Serve(client, Strand::Main)
                } else if it.asked(Strand::Beat).is_some_and(|it| it.2 <= state.tick) {
                    Action::Serve(client, Strand::Beat)
                } else if give_back
                    && matches!(it.doing, Doing::Holding)
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
    }
}
