//! What must always hold, looked for in each state.

use dynamodb_fifo_lock::Ticket;
use dynamodb_fifo_lock::protocol::{Grant, LossReason, Standing};
use dynamodb_fifo_lock::record::Mode;

use super::Harness;
use super::state::{Client, Doing, Law, State};

impl Harness {
    /// Looks for laws that a state breaks by itself.
    pub fn judge(&self, state: &mut State) {
        for client in 0..state.clients.len() {
            let standing = self.standing(state, client);
            let it = &state.clients[client];
            let was_lost = it.lost;
            if standing == Some(Standing::Held) && (was_lost || state.tick >= it.entitled) {
                state.breaks(Law::GuardEnds);
            }
            if matches!(standing, Some(Standing::Lost(_))) && !was_lost {
                state.client(client).lost = true;
            }
            let ticket = in_line(&state.clients[client]);
            if let (Some(ticket), Some(record)) = (ticket, &state.record)
                && ticket <= record.served
            {
                state.breaks(Law::Order);
            }
        }
        if self.is_crowded(state) {
            // The worst of all, whatever else is broken along with it.
            state.broken = Some(Law::OneHolder);
        }
        if state.tick == self.bounds.horizon && self.is_quiet(state) {
            self.judge_progress(state);
        }
    }

    /// Whether more hold than may do so together. The last of them to come found fewer
    /// than its own limit.
    fn is_crowded(&self, state: &State) -> bool {
        let modes = (0..state.clients.len())
            .filter(|client| self.keeps_others_out(state, *client))
            .map(|client| self.plan(state, client).mode);
        let alone = modes.clone().any(|mode| mode == Mode::Exclusive);
        let limits = modes.clone().map(|mode| match mode {
            Mode::Shared { limit } if !alone => limit,
            _ => 1,
        });
        limits
            .max()
            .is_some_and(|limit| modes.count() > limit as usize)
    }

    /// Whether a guard holds, or was lost so lately that what its holder sent before
    /// may still be on its way, as far as the lock delay goes.
    fn keeps_others_out(&self, state: &State, client: usize) -> bool {
        let it = &state.clients[client];
        match self.standing(state, client) {
            Some(Standing::Held) => true,
            Some(Standing::Lost(LossReason::LeaseExpired)) => {
                matches!(it.doing, Doing::Holding)
                    && state.tick < it.entitled + self.bounds.lock_delay
            }
            _ => false,
        }
    }

    /// Looks whether this grant's token is as high as it has to be, and whether its
    /// turn came before that of somebody with whom nothing is wrong.
    pub fn judge_grant(&self, state: &mut State, client: usize, grant: &Grant) {
        let ticket = grant.ticket;
        let others = state.clients.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != client);
        let overtaken = others
            .clone()
            .any(|(_, there)| in_line(there).is_some_and(|theirs| theirs < ticket));
        // Those who share get their tokens in order, but hear of it when they may.
        let token_is_old = match grant.mode {
            Mode::Exclusive => ticket <= state.highest,
            Mode::Shared { .. } => {
                ticket <= state.highest_alone
                    || others.any(|(_, there)| {
                        let tenure = there.tenure.as_ref();
                        tenure.is_some_and(|tenure| tenure.ticket() == ticket)
                    })
            }
        };
        state.highest = state.highest.max(ticket);
        if grant.mode == Mode::Exclusive {
            state.highest_alone = state.highest;
        }
        if token_is_old {
            state.breaks(Law::TokensGrow);
        }
        if overtaken {
            state.breaks(Law::Order);
        }
    }
}

/// The ticket of a client that waits and that no fault has touched.
fn in_line(client: &Client) -> Option<Ticket> {
    match &client.doing {
        Doing::Waiting(waiter) if !client.disturbed && !waiter.is_leaving() => {
            client.waiting_with()
        }
        _ => None,
    }
}
