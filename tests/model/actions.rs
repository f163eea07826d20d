//! What may happen next, and what comes of it.

use dynamodb_fifo_lock::protocol::{Answer, Failure, FailureKind, Standing, Write};
use stateright::{Model, Property};

use super::Harness;
use super::bounds::{Fault, TIMEOUT};
use super::mutation::Mutation;
use super::state::{Doing, Lane, Late, Law, Request, State, Strand};

/// One thing that happens. Clients are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A tick goes by. Whatever is due has been done before.
    Tick,
    Begin(usize),
    GiveBack(usize),
    /// The request arrives, and its answer as well.
    Serve(usize, Strand),
    /// The same, but the answer is that of a moment ago.
    ServeStale(usize, Strand),
    SlowRequest(usize, Strand),
    SlowAnswer(usize, Strand),
    Silence(usize, Strand),
    /// A request that nobody waits for any more arrives.
    Arrive(usize),
    Stop(usize),
    Wake(usize),
    Stick(usize),
    Free(usize),
    Cancel(usize),
    Delete,
}

const LOST: Answer = Answer::Failed(Failure {
    maybe_applied: true,
    kind: FailureKind::Transient,
});

impl Model for Harness {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let last = state.tick >= self.bounds.horizon;
        let quiet = self.is_quiet(state);
        if !last && quiet && !self.users_are_due(state) {
            actions.push(Action::Tick);
        }
        let users_act = quiet || state.fresh;
        let faults = |kind| state.faults_left > 0 && self.bounds.kinds.contains(&kind);
        for (n, client) in state.clients.iter().enumerate() {
            for strand in [Strand::Main, Strand::Beat] {
                let Some((request, sent, due)) = client.asked(strand) else {
                    continue;
                };
                if due > state.tick {
                    continue;
                }
                actions.push(Action::Serve(n, strand));
                if self.may_be_stale(state, request) {
                    actions.push(Action::ServeStale(n, strand));
                }
                let punctual = due == sent;
                if punctual && faults(Fault::SlowRequest) {
                    actions.push(Action::SlowRequest(n, strand));
                }
                if punctual && faults(Fault::SlowAnswer) {
                    actions.push(Action::SlowAnswer(n, strand));
                }
                if faults(Fault::Silence) {
                    actions.push(Action::Silence(n, strand));
                }
            }
            if let Some(since) = client.stopped {
                if since < state.tick {
                    actions.push(Action::Wake(n));
                }
                continue;
            }
            if client.stuck {
                actions.push(Action::Free(n));
                continue;
            }
            match &client.doing {
                Doing::Idle if users_act && self.has_more(state, n) => {
                    actions.push(Action::Begin(n));
                }
                Doing::Idle => continue,
                Doing::Holding
                    if users_act && client.give_back_at.is_none_or(|at| at <= state.tick) =>
                {
                    actions.push(Action::GiveBack(n));
                }
                Doing::Waiting(waiter) => {
                    if faults(Fault::Cancel) && !waiter.is_leaving() {
                        actions.push(Action::Cancel(n));
                    }
                }
                Doing::Holding | Doing::Releasing { .. } => {}
            }
            // Who holds for ever is no fault.
            if faults(Fault::Stick) && !matches!(client.doing, Doing::Idle | Doing::Holding) {
                actions.push(Action::Stick(n));
            }
            if faults(Fault::Stop) && !matches!(client.doing, Doing::Idle) {
                actions.push(Action::Stop(n));
            }
        }
        for n in 0..state.late.len() {
            actions.push(Action::Arrive(n));
        }
        if faults(Fault::Delete) && self.may_delete(state) {
            actions.push(Action::Delete);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if self.perform(&mut state, action) {
            state.faults_left -= 1;
        }
        self.settle(&mut state);
        self.judge(&mut state);
        // As if this had been the last fault.
        if state.faults_left < last.faults_left {
            self.judge_progress(&mut state);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn keeps<const LAW: usize>(_: &Harness, state: &State) -> bool {
            state.broken != Some(Law::ALL[LAW])
        }
        vec![
            Property::always(Law::ALL[0].name(), keeps::<0>),
            Property::always(Law::ALL[1].name(), keeps::<1>),
            Property::always(Law::ALL[2].name(), keeps::<2>),
            Property::always(Law::ALL[3].name(), keeps::<3>),
            Property::always(Law::ALL[4].name(), keeps::<4>),
            Property::always(Law::ALL[5].name(), keeps::<5>),
        ]
    }
}

impl Harness {
    /// Whether time may go on: nothing that is due in this tick is under way.
    pub fn is_quiet(&self, state: &State) -> bool {
        [Strand::Main, Strand::Beat].iter().all(|strand| {
            let due = |asked: (&Request, u8, u8)| asked.2 <= state.tick;
            !state
                .clients
                .iter()
                .any(|client| client.asked(*strand).is_some_and(due))
        })
    }

    /// Whether the client has not begun all of its acquisitions.
    fn has_more(&self, state: &State, client: usize) -> bool {
        let it = &state.clients[client];
        let all = self.bounds.scripts[client].acquisitions.len();
        usize::from(it.begun) < all && it.beat == Lane::Quiet && it.stopped.is_none()
    }

    /// Whether a user has something to do that does not wait for the next tick.
    fn users_are_due(&self, state: &State) -> bool {
        (0..state.clients.len()).any(|client| {
            let it = &state.clients[client];
            match it.doing {
                Doing::Idle => self.bounds.eager && self.has_more(state, client),
                Doing::Holding => {
                    it.stopped.is_none() && it.give_back_at.is_some_and(|at| at <= state.tick)
                }
                Doing::Waiting(_) | Doing::Releasing { .. } => false,
            }
        })
    }

    /// Performs the action, and says whether it was a fault.
    pub fn perform(&self, state: &mut State, action: Action) -> bool {
        let tick = state.tick;
        match action {
            Action::Tick => {
                state.tick += 1;
                state.fresh = true;
                if self.has(Mutation::ClockStopsWhilePaused) {
                    for client in 0..state.clients.len() {
                        if state.clients[client].stopped.is_some() {
                            state.client(client).slept += 1;
                        }
                    }
                }
            }
            Action::Begin(client) => self.begin(state, client),
            Action::GiveBack(client) => self.give_back(state, client),
            Action::Serve(client, strand) | Action::ServeStale(client, strand) => {
                let stale = matches!(action, Action::ServeStale(..));
                self.deliver(state, client, strand, stale, tick);
            }
            Action::SlowAnswer(client, strand) => {
                self.deliver(state, client, strand, false, tick + TIMEOUT);
                state.client(client).disturbed = true;
            }
            Action::SlowRequest(client, strand) => {
                let it = state.client(client);
                it.disturbed = true;
                if let Lane::Asked { due, .. } = it.lane(strand) {
                    *due = tick + TIMEOUT;
                }
            }
            Action::Silence(client, strand) => self.silence(state, client, strand),
            Action::Arrive(number) => {
                let Late { request, sent } = state.late.remove(number);
                let _ = self.serve(state, &request, sent, false);
            }
            Action::Stop(client) => {
                let it = state.client(client);
                it.stopped = Some(tick);
                it.disturbed = true;
            }
            Action::Wake(client) => state.client(client).stopped = None,
            Action::Stick(client) => {
                let it = state.client(client);
                it.stuck = true;
                it.disturbed = true;
            }
            Action::Free(client) => state.client(client).stuck = false,
            Action::Cancel(client) => {
                let now = self.now(state, client);
                let it = state.client(client);
                it.disturbed = true;
                if let Doing::Waiting(waiter) = &mut it.doing {
                    waiter.cancel();
                }
                // Who sleeps is woken by it.
                if let Lane::Rest(until) = &mut it.main {
                    *until = now.moment;
                }
            }
            Action::Delete => {
                state.before = state.record.take();
                for client in 0..state.clients.len() {
                    state.client(client).disturbed = true;
                }
            }
        }
        matches!(
            action,
            Action::SlowAnswer(..)
                | Action::SlowRequest(..)
                | Action::Silence(..)
                | Action::Stop(_)
                | Action::Stick(_)
                | Action::Cancel(_)
                | Action::Delete
        )
    }

    /// The store serves the request, and the answer arrives at tick `due`.
    fn deliver(&self, state: &mut State, client: usize, strand: Strand, stale: bool, due: u8) {
        let lane = std::mem::take(state.client(client).lane(strand));
        state.fresh = false;
        if let Lane::Asked { request, sent, .. } = lane {
            let answer = self.serve(state, &request, sent, stale);
            *state.client(client).lane(strand) = Lane::Answered { answer, sent, due };
        }
    }

    fn silence(&self, state: &mut State, client: usize, strand: Strand) {
        let lane = std::mem::take(state.client(client).lane(strand));
        let Lane::Asked { request, sent, .. } = lane else {
            return;
        };
        let believed = match request {
            Request::Write(Write::Enqueue { .. } | Write::EnqueueBehind) => {
                self.has(Mutation::LostEnqueueBelieved)
            }
            Request::Write(Write::TryShare { .. }) => self.has(Mutation::LostTryShareBelieved),
            Request::Write(Write::Release { .. }) => self.has(Mutation::LostReleaseBelieved),
            _ => false,
        };
        let answer = match &state.record {
            Some(record) if believed => Answer::Applied(record.clone()),
            _ => LOST,
        };
        let it = state.client(client);
        it.disturbed = true;
        *it.lane(strand) = Lane::Answered {
            answer,
            sent,
            due: sent + TIMEOUT,
        };
        // A read that nobody waits for changes nothing.
        if matches!(request, Request::Write(_) | Request::Announce(_)) {
            state.late.push(Late { request, sent });
        }
    }

    /// Whether the record may be deleted without breaking what the documentation
    /// asks of whoever does that: that nobody has the lock, and that the numbers
    /// from which a new record may start are higher than those of this one.
    fn may_delete(&self, state: &State) -> bool {
        let Some(record) = &state.record else {
            return false;
        };
        let starts_later = |request: &Request| match request {
            Request::Write(
                Write::Try { start, .. }
                | Write::TryShare { start, .. }
                | Write::Enqueue { start, .. },
            ) => *start > record.issued,
            _ => true,
        };
        let clients = 0..state.clients.len();
        record.is_free()
            && record.sharers.is_empty()
            && clients.clone().all(|client| {
                self.now(state, client).wall_ms > record.issued.get()
                    && self.standing(state, client) != Some(Standing::Held)
                    && state.clients[client]
                        .asked(Strand::Main)
                        .is_none_or(|(request, ..)| starts_later(request))
            })
            && state.late.iter().all(|late| starts_later(&late.request))
    }
}
