//! A crowd in virtual time: the protocol's own state machines, a store with a
//! latency, and nothing that sleeps.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary compiles this and none uses all of it"
)]

mod settings;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{
    Answer, Attempt, Consistency, Moment, Now, Pace, Patience, Presence, ReleaseEnd, ReleaseStep,
    Releasing, Standing, Step, Tenure, Waiter, Watch, Write, apply,
};
use dynamodb_fifo_lock::record::{LockRecord, Mode, TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, Ticket};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use settings::{Count, Habits, Settings};

/// The wall clock at the beginning.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// One grant.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub at: Duration,
    pub client: usize,
    pub ticket: Ticket,
}

enum Request {
    Write(Write),
    Read(Consistency),
    Look {
        from: Ticket,
        to: Ticket,
        limit: usize,
    },
    Announce(TicketRow),
}

enum What {
    /// The pause is over.
    Wake,
    /// The request reaches the store.
    Arrive(Request),
    Answer(Answer),
    /// The work under the lock is done.
    Done,
    /// The heart beats.
    Beat,
}

struct Event {
    at: Duration,
    number: u64,
    client: usize,
    /// Which of the client's acquisitions it belongs to.
    life: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

enum Doing {
    Idle,
    Waiting {
        waiter: Box<Waiter>,
        presence: Option<Presence>,
    },
    Holding(Tenure),
    Releasing(Releasing),
    Dead,
}

struct Client {
    doing: Doing,
    life: u64,
    habits: Habits,
    contended: bool,
    /// What its earlier attempts saw, and when the last of them ended.
    watch: Watch,
    kept_at: Duration,
    /// For how long it holds, if not as everybody does.
    hold: Option<Duration>,
}

/// The crowd, and the one lock it contends for.
pub struct Crowd {
    settings: Settings,
    now: Duration,
    dice: StdRng,
    events: BinaryHeap<Reverse<Event>>,
    next_number: u64,
    clients: Vec<Client>,
    pub record: Option<LockRecord>,
    pub rows: BTreeMap<Ticket, TicketRow>,
    pub count: Count,
    pub granted: Vec<Granted>,
    holders: Vec<usize>,
}

impl Crowd {
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            now: Duration::from_secs(1),
            dice: StdRng::seed_from_u64(seed),
            events: BinaryHeap::new(),
            next_number: 0,
            clients: Vec::new(),
            record: None,
            rows: BTreeMap::new(),
            count: Count::default(),
            granted: Vec::new(),
            holders: Vec::new(),
        }
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    /// Adds a client that begins to acquire after `delay`, again and again if
    /// `again`.
    pub fn join(&mut self, delay: Duration, again: bool) -> usize {
        let client = self.clients.len();
        self.clients.push(Client {
            doing: Doing::Idle,
            life: 0,
            habits: Habits {
                again,
                ..Habits::default()
            },
            contended: false,
            watch: Watch::default(),
            kept_at: Duration::ZERO,
            hold: None,
        });
        self.schedule(client, delay, What::Wake);
        client
    }

    /// `clients` clients with one waiter each contend for one lock. What `span` cost
    /// once they had been at it for `warm`.
    pub fn contend(clients: usize, settings: Settings, warm: Duration, span: Duration) -> Count {
        let mut crowd = Self::new(settings, 7);
        for n in 0..clients {
            crowd.join(Duration::from_millis(n as u64), true);
        }
        crowd.run(warm);
        let before = crowd.count;
        crowd.run(span);
        crowd.count.since(before)
    }

    /// From now on nothing is heard of this client.
    pub fn kill(&mut self, client: usize) {
        self.clients[client].life += 1;
        self.clients[client].doing = Doing::Dead;
        self.holders.retain(|holder| *holder != client);
    }

    /// From its next acquisition on the client acquires like this.
    pub fn acquires_with(&mut self, client: usize, habits: Habits) {
        self.clients[client].habits = habits;
    }

    /// The client, which has nothing to do, begins to acquire after `delay`.
    pub fn begin_again(&mut self, client: usize, delay: Duration) {
        self.schedule(client, delay, What::Wake);
    }

    /// The client gives up after this long, from its next acquisition on.
    pub fn give_up_after(&mut self, client: usize, patience: Duration) {
        self.clients[client].habits.give_up_after = Some(patience..=patience);
    }

    /// Whether the client holds the lock, or did at some time since `since`.
    pub fn was_granted(&self, client: usize, since: Duration) -> bool {
        let lately = self.granted.iter().rev();
        let mut lately = lately.take_while(|grant| grant.at >= since);
        lately.any(|grant| grant.client == client)
    }

    /// The client holds for this long, from its next grant on.
    pub fn hold_for(&mut self, client: usize, hold: Duration) {
        self.clients[client].hold = Some(hold);
    }

    pub fn holds(&self, client: usize) -> bool {
        matches!(self.clients[client].doing, Doing::Holding(_))
    }

    pub fn waits(&self, client: usize) -> bool {
        matches!(
            &self.clients[client].doing,
            Doing::Waiting { waiter, .. } if waiter.ticket().is_some()
        )
    }

    /// Lets this much time go by.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Runs until `done`, and says whether that was before `end`.
    pub fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> bool {
        while self
            .events
            .peek()
            .is_some_and(|Reverse(event)| event.at <= end)
        {
            let Some(Reverse(event)) = self.events.pop() else {
                break;
            };
            self.now = event.at;
            if self.clients[event.client].life == event.life {
                self.happen(event.client, event.what);
            }
            if done(self) {
                return true;
            }
        }
        false
    }

    fn schedule(&mut self, client: usize, after: Duration, what: What) {
        let event = Event {
            at: self.now + after,
            number: self.next_number,
            client,
            life: self.clients[client].life,
            what,
        };
        self.next_number += 1;
        self.events.push(Reverse(event));
    }

    fn moment(&mut self) -> Now {
        Now {
            moment: Moment::after_origin(self.now),
            wall_ms: EPOCH_MS + u64::try_from(self.now.as_millis()).unwrap(),
            dice: self.dice.random(),
        }
    }

    fn happen(&mut self, client: usize, what: What) {
        match what {
            What::Arrive(request) => {
                let answer = self.serve(request);
                let half = self.half();
                self.schedule(client, half, What::Answer(answer));
            }
            What::Wake if matches!(self.clients[client].doing, Doing::Idle) => self.begin(client),
            What::Wake => self.advance(client, Answer::Ready),
            What::Answer(answer) => self.advance(client, answer),
            What::Done => self.release(client),
            What::Beat => self.beat(client),
        }
    }

    fn half(&mut self) -> Duration {
        let jitter = self.dice.random_range(0.8..1.2);
        (self.settings.latency / 2).mul_f64(jitter)
    }

    fn begin(&mut self, client: usize) {
        let now = self.moment();
        let settings = &self.settings;
        let state = &mut self.clients[client];
        state.life += 1;
        if state.habits.forgets {
            state.contended = false;
            state.watch = Watch::default();
        }
        let patience = state.habits.patience(&mut self.dice);
        // A client does not remember for longer how long turns take.
        let lately = self.now - state.kept_at < Duration::from_secs(2);
        let turn_time = state.watch.turn_time().filter(|_| lately);
        let waiter = Waiter::new(Attempt {
            id: HolderId::new(format!("{client}/{}", state.life)),
            owner: format!("client {client}"),
            data: None,
            mode: Mode::Exclusive,
            lease: settings.lease,
            lock_delay: Duration::ZERO,
            grace: settings.grace,
            pace: Pace {
                shortest: Duration::from_millis(20),
                longest: Duration::from_secs(1).min(settings.lease / 10),
                farthest: settings.farthest,
            },
            presence: settings.presence,
            clock_allowance: settings.allowance,
            give_up_at: patience.map(|patience| now.moment.plus(patience)),
            outage_limit: Duration::from_secs(30),
            patience: match state.habits.tries {
                true => Patience::TryOnly,
                false => Patience::Queue,
            },
            contended: state.contended,
            watch: state.watch.clone().resume(turn_time),
        });
        state.doing = Doing::Waiting {
            waiter: Box::new(waiter),
            presence: None,
        };
        self.advance(client, Answer::Ready);
    }

    /// Gives the client an answer and does what it says.
    fn advance(&mut self, client: usize, answer: Answer) {
        let now = self.moment();
        let state = &mut self.clients[client];
        let request = match &mut state.doing {
            Doing::Waiting { waiter, presence } => {
                if let Some(presence) = presence {
                    waiter.set_announced(presence.is_announced(now.moment));
                }
                let step = waiter.step(answer, now);
                self.count.passed_over += waiter
                    .take_notices()
                    .iter()
                    .filter(|notice| {
                        matches!(
                            notice,
                            dynamodb_fifo_lock::protocol::Notice::PassedOver { .. }
                        )
                    })
                    .count() as u64;
                let known = presence.as_ref().map(Presence::ticket);
                if known != waiter.ticket().map(|(ticket, _)| ticket) {
                    *presence = waiter.ticket().map(|(ticket, drawn)| {
                        let holder = waiter.holder(now);
                        Presence::new(
                            ticket,
                            holder.id,
                            holder.owner,
                            self.settings.presence,
                            drawn,
                            now.wall_ms,
                        )
                    });
                    let next = presence
                        .as_ref()
                        .map(|presence| presence.next().since(now.moment));
                    if let Some(next) = next {
                        self.schedule(client, next, What::Beat);
                    }
                }
                step
            }
            Doing::Releasing(releasing) => match releasing.step(answer, now) {
                ReleaseStep::Write(write) => Step::Write(write),
                ReleaseStep::Pause(until) => Step::Pause(until),
                ReleaseStep::Done(end) => {
                    assert_eq!(end, ReleaseEnd::Released);
                    return self.rest(client);
                }
            },
            Doing::Idle | Doing::Holding(_) | Doing::Dead => return,
        };
        let request = match request {
            Step::Write(write) => Request::Write(write),
            Step::Read(consistency) => Request::Read(consistency),
            Step::Look { from, to, limit } => Request::Look { from, to, limit },
            Step::Announce(row) => Request::Announce(row),
            Step::Pause(until) => {
                let pause = until.since(now.moment);
                return self.schedule(client, pause, What::Wake);
            }
            Step::Granted(grant) => {
                let Doing::Waiting { waiter, presence } =
                    std::mem::replace(&mut self.clients[client].doing, Doing::Idle)
                else {
                    return;
                };
                if let Some(presence) = presence
                    && self.rows.remove(&presence.ticket()).is_some()
                {
                    self.count.deletions += 1;
                }
                let state = &mut self.clients[client];
                state.contended = waiter.ticket().is_some();
                state.kept_at = self.now;
                state.watch = waiter.watch().clone();
                state.life += 1;
                self.count.grants += 1;
                self.granted.push(Granted {
                    at: self.now,
                    client,
                    ticket: grant.ticket,
                });
                let tenure = Tenure::new(grant, self.settings.lease / 4);
                self.holders.push(client);
                let valid = self
                    .holders
                    .iter()
                    .filter(|holder| **holder != client)
                    .any(|holder| {
                        matches!(
                            &self.clients[*holder].doing,
                            Doing::Holding(tenure) if tenure.standing(now.moment) == Standing::Held
                        )
                    });
                assert!(!valid, "two hold the lock at {:?}", self.now);
                let next_beat = tenure.next_beat().since(now.moment);
                self.clients[client].doing = Doing::Holding(tenure);
                let own = self.clients[client].hold;
                let mut hold = own.unwrap_or(self.settings.hold);
                if self.settings.random {
                    // Exponentially distributed: many short ones, and a few long.
                    let dice: f64 = self.dice.random();
                    hold = hold.mul_f64(-(1.0 - dice).ln());
                }
                self.schedule(client, hold, What::Done);
                return self.schedule(client, next_beat, What::Beat);
            }
            Step::GaveUp(_) => {
                let state = &mut self.clients[client];
                if let Doing::Waiting { waiter, .. } = &state.doing {
                    state.watch = waiter.watch().clone();
                    state.kept_at = self.now;
                }
                return self.rest(client);
            }
        };
        let half = self.half();
        self.schedule(client, half, What::Arrive(request));
    }

    /// Until the next acquisition.
    fn rest(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let think = state.habits.think.unwrap_or(self.settings.think);
        state.life += 1;
        state.doing = Doing::Idle;
        if state.habits.again {
            self.schedule(client, think, What::Wake);
        }
    }

    fn release(&mut self, client: usize) {
        let now = self.moment();
        self.holders.retain(|holder| *holder != client);
        let state = &mut self.clients[client];
        if let Doing::Holding(tenure) = &state.doing {
            let give_up_at = now.moment.plus(Duration::from_secs(6));
            let releasing = Releasing::new(
                tenure.ticket(),
                tenure.id().clone(),
                tenure.mode(),
                None,
                give_up_at,
            );
            state.life += 1;
            state.doing = Doing::Releasing(releasing);
            self.advance(client, Answer::Ready);
        }
    }

    /// Renews a lease or a row. The answer is taken as soon as it is applied.
    fn beat(&mut self, client: usize) {
        let now = self.moment();
        let mut doing = std::mem::replace(&mut self.clients[client].doing, Doing::Idle);
        let next = match &mut doing {
            Doing::Holding(tenure) => {
                let write = tenure.renewal(now);
                match self.serve(Request::Write(write)) {
                    Answer::Applied(_) => tenure.renewed(now.moment, now.moment),
                    _ => tenure.refused(),
                }
                Some(tenure.next_beat())
            }
            Doing::Waiting {
                presence: Some(presence),
                ..
            } => {
                let row = presence.row(now);
                let _ = self.serve(Request::Announce(row));
                presence.announced(now.moment);
                Some(presence.next())
            }
            _ => None,
        };
        self.clients[client].doing = doing;
        if let Some(next) = next {
            self.schedule(client, next.since(now.moment), What::Beat);
        }
    }

    fn serve(&mut self, request: Request) -> Answer {
        match request {
            Request::Write(write) => {
                self.count.writes += 1;
                match apply(self.record.as_ref(), &write) {
                    Some(record) => {
                        self.record = Some(record.clone());
                        Answer::Applied(record)
                    }
                    None => Answer::Refused(None),
                }
            }
            Request::Read(consistency) => {
                self.count.reads += 1;
                self.count.read_units += match consistency {
                    Consistency::Strong => 1.0,
                    Consistency::Eventual => 0.5,
                };
                Answer::Read(self.record.clone())
            }
            Request::Look { from, to, limit } => {
                self.count.looks += 1;
                let rows = self.rows.range(from..=to);
                Answer::Rows(rows.take(limit).map(|(_, row)| row.clone()).collect())
            }
            Request::Announce(row) => {
                self.count.announcements += 1;
                let left = self
                    .rows
                    .get(&row.ticket)
                    .is_some_and(|there| there.state == TicketState::Left);
                if !left {
                    self.rows.insert(row.ticket, row);
                }
                Answer::Announced
            }
        }
    }
}
