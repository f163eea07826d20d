//! Carries out what the machines say, as the client does.

use std::time::Duration;

use dynamodb_fifo_lock::protocol::{
    Answer, Attempt, Grant, LossReason, Moment, Now, Pace, Presence, ReleaseEnd, ReleaseStep,
    Releasing, Standing, Step, Tenure, Title, Waiter, Watch,
};
use dynamodb_fifo_lock::record::{LockRecord, Mode};
use dynamodb_fifo_lock::{HolderId, Ticket};

use super::Harness;
use super::bounds::{ALLOWANCE, GRACE, HEARTBEAT, PRESENCE, Plan, SKEW, TIMEOUT};
use super::mutation::Mutation;
use super::state::{Client, Doing, Lane, Law, Request, State, Strand};

/// The wall clock of slow clients at the beginning.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

pub fn seconds(ticks: u8) -> Duration {
    Duration::from_secs(u64::from(ticks))
}

impl Harness {
    /// What the client's monotonic clock says at `tick`.
    pub fn moment(&self, state: &State, client: usize, tick: u8) -> Moment {
        let millis = match self.bounds.scripts[client].fast {
            true => 1_002,
            false => 1_000,
        };
        let ticks = tick.saturating_sub(state.clients[client].slept);
        Moment::after_origin(Duration::from_millis(millis * u64::from(ticks)))
    }

    pub fn now(&self, state: &State, client: usize) -> Now {
        let skew = match self.bounds.scripts[client].fast {
            true if self.has(Mutation::ClockHoursOff) => ALLOWANCE * 4,
            true => SKEW,
            false => Duration::ZERO,
        };
        Now {
            moment: self.moment(state, client, state.tick),
            wall_ms: EPOCH_MS + 1_000 * u64::from(state.tick) + skew.as_millis() as u64,
            dice: 0.0,
        }
    }

    /// What the client's guard says, if there is one.
    pub fn standing(&self, state: &State, client: usize) -> Option<Standing> {
        let moment = self.moment(state, client, state.tick);
        let tenure = state.clients[client].tenure.as_ref()?;
        Some(tenure.standing(moment))
    }

    /// What the client's present acquisition is to be, or its last one was.
    pub fn plan(&self, state: &State, client: usize) -> Plan {
        let it = &state.clients[client];
        let planned = self.bounds.scripts[client].acquisitions;
        let begun = usize::from(it.begun) - 1;
        match planned.get(begun) {
            Some(plan) => *plan,
            // It asks beyond its script.
            None => self.bounds.askers[it.asks].plan,
        }
    }

    /// Begins the client's next acquisition.
    pub fn begin(&self, state: &mut State, client: usize) {
        let now = self.now(state, client);
        state.client(client).begun += 1;
        let plan = self.plan(state, client);
        let it = state.client(client);
        let allowance = match self.has(Mutation::NoClockAllowance) {
            true => Duration::ZERO,
            false => self.bounds.allowance,
        };
        let waiter = Waiter::new(Attempt {
            id: self.ids[client][usize::from(it.begun) - 1].clone(),
            owner: String::new(),
            data: None,
            mode: plan.mode,
            lease: seconds(self.bounds.lease),
            lock_delay: seconds(self.bounds.lock_delay),
            grace: seconds(GRACE),
            pace: Pace {
                shortest: seconds(1),
                longest: seconds(1),
                farthest: seconds(1),
            },
            presence: seconds(PRESENCE),
            clock_allowance: allowance,
            give_up_at: plan.limit.map(|ticks| now.moment.plus(seconds(ticks))),
            outage_limit: seconds(2),
            patience: plan.patience,
            contended: it.contended,
            watch: match self.has(Mutation::EvidenceForgotten) {
                true => Watch::default(),
                false => std::mem::take(&mut it.watch),
            },
        });
        it.entitled = 0;
        it.disturbed = false;
        it.lost = false;
        it.shares = false;
        it.doing = Doing::Waiting(Box::new(waiter));
        self.advance(state, client, Answer::Ready, now);
    }

    /// Hands an answer, to a request sent at `sent`, to whoever waits for it.
    pub fn receive(
        &self,
        state: &mut State,
        client: usize,
        strand: Strand,
        answer: Answer,
        sent: u8,
    ) {
        *state.client(client).lane(strand) = Lane::Quiet;
        let answer = self.distort(state, client, answer);
        if strand == Strand::Beat {
            return self.beaten(state, client, &answer, sent);
        }
        let mut now = self.now(state, client);
        if self.has(Mutation::ObserverCountsFromAsking) && matches!(answer, Answer::Read(_)) {
            now.moment = self.moment(state, client, sent);
        }
        self.advance(state, client, answer, now);
    }

    /// Gives the client's machine an answer and does what it says.
    fn advance(&self, state: &mut State, client: usize, answer: Answer, now: Now) {
        let it = state.client(client);
        let step = match &mut it.doing {
            Doing::Waiting(waiter) => {
                if let Some(presence) = &it.presence {
                    waiter.set_announced(presence.is_announced(now.moment));
                }
                let step = waiter.step(answer, now);
                // The observer's affair.
                drop(waiter.take_notices());
                step
            }
            Doing::Releasing { releasing, .. } => match releasing.step(answer, now) {
                ReleaseStep::Write(write) => Step::Write(write),
                ReleaseStep::Pause(until) => Step::Pause(until),
                ReleaseStep::Done(end) => return self.released(state, client, end),
            },
            Doing::Idle | Doing::Holding => return,
        };
        self.keep_row(state, client);
        let request = match step {
            Step::Write(write) => Request::Write(write),
            Step::Read(consistency) => Request::Read(consistency),
            Step::Look { from, to, limit } => Request::Look { from, to, limit },
            Step::Announce(row) => Request::Announce(row),
            Step::Pause(until) => {
                let it = state.client(client);
                it.main = Lane::Rest(until);
                it.goes_on_by(until);
                return;
            }
            Step::Granted(grant) => return self.granted(state, client, grant),
            Step::GaveUp(_) => {
                let it = state.client(client);
                remember(it);
                it.doing = Doing::Idle;
                it.presence = None;
                it.nudge = None;
                return;
            }
        };
        let sent = state.tick;
        let it = state.client(client);
        it.goes_on_by(now.moment.plus(seconds(TIMEOUT)));
        it.main = Lane::Asked {
            request,
            sent,
            due: sent,
        };
    }

    /// Keeps what the client says about itself in step with the ticket it has. The
    /// row of a ticket that waits no more is deleted at once.
    fn keep_row(&self, state: &mut State, client: usize) {
        let wall_ms = self.now(state, client).wall_ms;
        let it = state.client(client);
        let Doing::Waiting(waiter) = &it.doing else {
            return;
        };
        let known = it.presence.as_ref().map(Presence::ticket);
        let ticket = waiter.ticket();
        if known == ticket.map(|(ticket, _)| ticket) {
            return;
        }
        let id = self.ids[client][usize::from(it.begun) - 1].clone();
        // What was said to the old ticket is not for the new one.
        it.nudge = None;
        it.presence = ticket.map(|(ticket, drawn)| {
            let life = seconds(PRESENCE);
            Presence::new(ticket, id.clone(), String::new(), life, drawn, wall_ms)
        });
        dequeue(state, known, &id);
    }

    fn granted(&self, state: &mut State, client: usize, mut grant: Grant) {
        let now = self.now(state, client);
        let ticket = grant.ticket;
        self.judge_grant(state, client, &grant);
        let mut entitled = 0;
        match &mut grant.title {
            Title::Claimed { sent } if self.has(Mutation::LeaseCountsFromAnswer) => {
                *sent = now.moment;
            }
            Title::Claimed { .. } => {}
            Title::Turn { until, .. } => {
                if state.record.as_ref().map(|record| record.turn()) == Some(ticket) {
                    entitled = state.turn_began + GRACE;
                }
                if self.has(Mutation::TurnCountsFromAnswer) {
                    *until = now.moment.plus(seconds(GRACE));
                }
            }
        }
        let tick = state.tick;
        let plan = self.plan(state, client);
        let it = state.client(client);
        let id = grant.holder.id.clone();
        it.give_back_at = plan.hold.map(|hold| tick + hold);
        it.contended = it.waiting_with().is_some();
        remember(it);
        it.entitled = it.entitled.max(entitled);
        it.doing = Doing::Holding;
        it.nudge = None;
        // A row that is still on its way is of no importance.
        it.beat = Lane::Quiet;
        it.tenure = Some(Tenure::new(grant, seconds(HEARTBEAT)));
        let known = it.presence.take().map(|presence| presence.ticket());
        dequeue(state, known, &id);
    }

    /// The owner gives the lock back.
    pub fn give_back(&self, state: &mut State, client: usize) {
        let now = self.now(state, client);
        let Some(mut tenure) = state.clients[client].tenure.clone() else {
            return;
        };
        let heir = match tenure.mode() {
            Mode::Exclusive => self.heir(state, client, tenure.ticket()),
            Mode::Shared { .. } => None,
        };
        let stood = tenure.standing(now.moment);
        if !self.has(Mutation::ReleaseBeforeLettingGo) {
            tenure.end(now.moment);
        }
        let next = match stood {
            Standing::Held | Standing::Ended => heir,
            // It is told to look for itself.
            Standing::Lost(_) => None,
        };
        if stood == Standing::Lost(LossReason::Superseded) {
            let it = state.client(client);
            it.tenure = None;
            it.doing = Doing::Idle;
            return;
        }
        let holder = next.and_then(|heir| match &state.clients[heir].doing {
            Doing::Waiting(waiter) => Some(waiter.holder(now)),
            _ => None,
        });
        if let Some(heir) = next {
            let until = state.tick + 3 * TIMEOUT;
            let by = self.moment(state, heir, until);
            let it = state.client(heir);
            // Who is stuck does not notice, and says nothing.
            if !it.stuck {
                it.goes_on_by(by);
            }
            it.main = Lane::Reserved { until };
        }
        let give_up_at = now.moment.plus(seconds(2 * TIMEOUT));
        let releasing = Releasing::new(
            tenure.ticket(),
            tenure.id().clone(),
            tenure.mode(),
            holder,
            give_up_at,
        );
        let it = state.client(client);
        it.tenure = Some(tenure);
        it.doing = Doing::Releasing { releasing, next };
        self.advance(state, client, Answer::Ready, now);
    }

    /// Who waits in the same process to hold alone, asleep, with the very next ticket, and
    /// is not known to be stuck.
    fn heir(&self, state: &State, client: usize, ticket: Ticket) -> Option<usize> {
        let process = self.bounds.scripts[client].process;
        let now = self.now(state, client).moment;
        (0..state.clients.len()).find(|other| {
            let there = &state.clients[*other];
            *other != client
                && self.bounds.scripts[*other].process == process
                && there.waiting_with() == Some(ticket.next())
                && self.plan(state, *other).mode == Mode::Exclusive
                && matches!(there.main, Lane::Rest(_))
                && !there
                    .presence
                    .as_ref()
                    .is_some_and(|presence| presence.is_overdue(now))
        })
    }

    fn released(&self, state: &mut State, client: usize, end: ReleaseEnd) {
        let it = state.client(client);
        let tenure = it.tenure.take();
        let shares = std::mem::take(&mut it.shares);
        let doing = std::mem::take(&mut it.doing);
        let Some(tenure) = tenure else {
            return;
        };
        let ticket = tenure.ticket();
        let has_turn = |record: &LockRecord| record.served < ticket;
        if matches!(end, ReleaseEnd::Released | ReleaseEnd::HandedOver(_))
            && (shares || state.record.as_ref().is_some_and(has_turn))
        {
            state.breaks(Law::Release);
        }
        if tenure.mode() != Mode::Exclusive {
            self.nudge_first(state, client);
        }
        let Doing::Releasing {
            next: Some(heir), ..
        } = doing
        else {
            return;
        };
        let verdict = match end {
            ReleaseEnd::HandedOver(sent) => Answer::HandedOver(sent),
            _ => Answer::Nudged,
        };
        let tick = state.tick;
        let it = state.client(heir);
        if it.waiting_with() != Some(ticket.next()) {
            return;
        }
        match &it.main {
            Lane::Reserved { .. } => {
                it.main = Lane::Answered {
                    answer: verdict,
                    sent: tick,
                    due: tick,
                };
            }
            // It did not wait for so long, and hears of it when it rests next.
            _ => it.nudge = Some(verdict),
        }
    }

    /// Who shared tells the first that waits in its process.
    fn nudge_first(&self, state: &mut State, client: usize) {
        let process = self.bounds.scripts[client].process;
        let first = (0..state.clients.len())
            .filter(|other| self.bounds.scripts[*other].process == process)
            .filter_map(|other| Some((state.clients[other].waiting_with()?, other)))
            .min();
        if let Some((_, first)) = first {
            state.client(first).nudge.get_or_insert(Answer::Nudged);
        }
    }

    /// An answer for the heartbeat.
    fn beaten(&self, state: &mut State, client: usize, answer: &Answer, sent: u8) {
        let mut now = self.now(state, client);
        let mut sent = self.moment(state, client, sent);
        match self.mutation {
            Some(Mutation::LeaseCountsFromAnswer) => sent = now.moment,
            Some(Mutation::RenewalRevivesTheLost) => now.moment = sent,
            _ => {}
        }
        let it = state.client(client);
        match (&mut it.tenure, &mut it.presence, answer) {
            (Some(tenure), _, Answer::Applied(_)) => tenure.renewed(sent, now.moment),
            (Some(tenure), _, Answer::Refused(_)) => tenure.refused(),
            (Some(tenure), _, Answer::Failed(_)) => tenure.failed(now),
            (None, Some(presence), Answer::Announced) => presence.announced(sent),
            (None, Some(presence), _) => presence.failed(now),
            _ => {}
        }
    }

    /// Lets every client that runs do what is due. None of that is seen by anybody
    /// else before it arrives at the store, so the order makes no difference.
    pub fn settle(&self, state: &mut State) {
        for client in 0..state.clients.len() {
            // Whoever is busy for so long within one tick would be so for ever.
            let mut limit = 50;
            while state.clients[client].stopped.is_none() && self.do_what_is_due(state, client) {
                limit -= 1;
                assert!(limit > 0, "client {client} is busy for ever: {state:#?}");
            }
        }
    }

    fn do_what_is_due(&self, state: &mut State, client: usize) -> bool {
        let tick = state.tick;
        let now = self.now(state, client);
        let stuck = state.clients[client].stuck;
        for strand in [Strand::Beat, Strand::Main] {
            if stuck && strand == Strand::Main {
                continue;
            }
            if let Lane::Answered { answer, sent, due } = state.client(client).lane(strand).clone()
                && due <= tick
            {
                self.receive(state, client, strand, answer, sent);
                return true;
            }
        }
        let it = state.client(client);
        let ready = match it.main {
            _ if stuck => None,
            Lane::Rest(_) if it.nudge.is_some() => it.nudge.take(),
            Lane::Rest(until) if until <= now.moment => Some(Answer::Ready),
            Lane::Reserved { until } if until <= tick => Some(Answer::Nudged),
            _ => None,
        };
        if let Some(answer) = ready {
            it.main = Lane::Quiet;
            self.advance(state, client, answer, now);
            return true;
        }
        if it.beat != Lane::Quiet {
            return false;
        }
        let request = match (&it.doing, &it.tenure, &it.presence) {
            (Doing::Holding, Some(tenure), _)
                if tenure.next_beat() <= now.moment && self.beats(tenure, now) =>
            {
                Request::Write(tenure.renewal(now))
            }
            (Doing::Waiting(waiter), _, Some(presence))
                if presence.next() <= now.moment
                    && !waiter.is_leaving()
                    && (self.has(Mutation::PresenceWithoutProgress)
                        || !presence.is_overdue(now.moment)) =>
            {
                Request::Announce(presence.row(now))
            }
            _ => return false,
        };
        it.beat = Lane::Asked {
            request,
            sent: tick,
            due: tick,
        };
        true
    }

    fn beats(&self, tenure: &Tenure, now: Now) -> bool {
        tenure.standing(now.moment) == Standing::Held
    }
}

/// Keeps what the attempt that ends has seen for the client's next one.
fn remember(client: &mut Client) {
    if let Doing::Waiting(waiter) = &client.doing {
        client.watch = waiter.watch().clone();
    }
}

fn dequeue(state: &mut State, ticket: Option<Ticket>, id: &HolderId) {
    if let Some(ticket) = ticket
        && state.rows.get(&ticket).is_some_and(|row| row.id == *id)
    {
        state.rows.remove(&ticket);
    }
}
