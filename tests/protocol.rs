//! Interleavings of the protocol, step by step. Most of them went wrong once.

use std::collections::BTreeMap;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{
    Answer, Attempt, Failure, FailureKind, GaveUp, Grant, Moment, Now, Pace, Patience, Step,
    Tenure, Title, Waiter, Watch, Write, apply,
};
use dynamodb_fifo_lock::record::{Holder, LockRecord, Mode, Sharer, TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, Ticket};

#[path = "protocol/evidence.rs"]
mod evidence;
#[path = "protocol/refusals.rs"]
mod refusals;

const EPOCH_MS: u64 = 1_800_000_000_000;
const MINUTE_MS: u64 = 60_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Moment {
    Moment::after_origin(ms(millis))
}

fn now(millis: u64) -> Now {
    Now {
        moment: at(millis),
        wall_ms: EPOCH_MS + millis,
        dice: 0.0,
    }
}

fn attempt(id: &str, patience: Patience) -> Attempt {
    Attempt {
        id: HolderId::new(id),
        owner: id.into(),
        data: None,
        mode: Mode::Exclusive,
        lease: ms(20_000),
        lock_delay: Duration::ZERO,
        grace: ms(1_000),
        pace: Pace {
            shortest: ms(20),
            longest: ms(1_000),
            farthest: ms(15_000),
        },
        presence: ms(20_000),
        clock_allowance: ms(30 * MINUTE_MS),
        give_up_at: None,
        outage_limit: ms(30_000),
        patience,
        contended: false,
        watch: Watch::default(),
    }
}

fn holder(id: &str, lease: Duration, renewed_at_ms: u64) -> Holder {
    Holder {
        id: HolderId::new(id),
        lease,
        owner: id.into(),
        since_ms: renewed_at_ms,
        renewed_at_ms,
        data: None,
    }
}

/// A lock that nobody has, and whose queue last moved at this time.
fn idle(moved_at_ms: u64) -> LockRecord {
    LockRecord {
        issued: Ticket::new(EPOCH_MS),
        served: Ticket::new(EPOCH_MS),
        holder: None,
        revision: 7,
        grace: ms(1_000),
        moved_at_ms,
        mark: Ticket::new(EPOCH_MS),
        sharers: BTreeMap::new(),
    }
}

/// One lock, and a clock.
struct World {
    millis: u64,
    record: Option<LockRecord>,
    rows: Vec<TicketRow>,
    /// How many of the next requests get lost.
    lose: usize,
    requests: usize,
}

impl World {
    fn new(millis: u64, record: LockRecord) -> Self {
        Self {
            millis,
            record: Some(record),
            rows: Vec::new(),
            lose: 0,
            requests: 0,
        }
    }

    /// Drives an attempt from an answer to its end.
    fn run(&mut self, waiter: &mut Waiter, mut answer: Answer) -> Step {
        loop {
            let step = waiter.step(answer, now(self.millis));
            if !matches!(step, Step::Pause(_) | Step::Granted(_) | Step::GaveUp(_)) {
                self.millis += 5;
                self.requests += 1;
                if self.lose > 0 {
                    self.lose -= 1;
                    answer = Answer::Failed(Failure {
                        maybe_applied: true,
                        kind: FailureKind::Transient,
                    });
                    continue;
                }
            }
            answer = match step {
                Step::Write(write) => match apply(self.record.as_ref(), &write) {
                    Some(record) => {
                        self.record = Some(record.clone());
                        Answer::Applied(record)
                    }
                    None => Answer::Refused(None),
                },
                Step::Read(_) => Answer::Read(self.record.clone()),
                Step::Look { from, to, .. } => {
                    let rows = self.rows.iter();
                    let range = rows.filter(|row| (from..=to).contains(&row.ticket));
                    Answer::Rows(range.cloned().collect())
                }
                Step::Announce(row) => {
                    self.rows.push(row);
                    Answer::Announced
                }
                Step::Pause(until) => {
                    let until = u64::try_from(until.since(at(0)).as_millis()).unwrap();
                    self.millis = self.millis.max(until + 1);
                    Answer::Ready
                }
                end @ (Step::Granted(_) | Step::GaveUp(_)) => return end,
            };
        }
    }
}

/// Joining does not move the queue, so that the turn of whoever joins a lock that was
/// idle for an hour looks abandoned from the beginning. It must not be held without a
/// claim.
#[test]
fn a_turn_that_looks_abandoned_is_claimed_before_it_is_held() {
    let millis = 10 * MINUTE_MS;
    let mut world = World::new(millis, idle(EPOCH_MS - 50 * MINUTE_MS));
    let mut first = Waiter::new(attempt("first", Patience::Queue));
    // The try gets lost; the lock is found free, and the attempt queues.
    world.lose = 1;
    let step = world.run(&mut first, Answer::Ready);
    assert!(matches!(step, Step::Granted(_)), "{step:?}");
    let mut second = Waiter::new(attempt("second", Patience::TryOnly));
    let step = world.run(&mut second, Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy));
}

/// The queue moved a second ago, by a release that was long on its way.
#[test]
fn a_late_release_makes_nobody_look_abandoned() {
    let millis = 10 * MINUTE_MS;
    let mut world = World::new(millis, idle(EPOCH_MS + millis - 4_000));
    let first = Attempt {
        clock_allowance: ms(1_000),
        contended: true,
        ..attempt("first", Patience::Queue)
    };
    let step = world.run(&mut Waiter::new(first), Answer::Ready);
    assert!(matches!(step, Step::Granted(_)), "{step:?}");
    let second = Attempt {
        clock_allowance: ms(1_000),
        ..attempt("second", Patience::TryOnly)
    };
    let step = world.run(&mut Waiter::new(second), Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy));
}

/// From the claim on the others count the lease. If that is shorter than the grace,
/// the turn must not be held for as long as the grace.
#[test]
fn a_lease_shorter_than_the_grace_is_not_outlived() {
    let millis = 10 * MINUTE_MS;
    let mut record = held(millis);
    let mut hasty = waiting_as(
        Attempt {
            lease: ms(400),
            ..attempt("hasty", Patience::Queue)
        },
        millis,
        &mut record,
    );
    let mut world = World::new(millis, released(&record, millis));
    let Step::Granted(grant) = world.run(&mut hasty, Answer::Ready) else {
        panic!("it is its turn");
    };
    let Title::Turn { claim_at, .. } = grant.title else {
        panic!("{grant:?}");
    };
    let mut tenure = Tenure::new(grant, ms(100));
    let write = tenure.renewal(now(millis + 140));
    let claimed = apply(world.record.as_ref(), &write).unwrap();
    // Whether or not the holder hears of it.
    let mut others = Watch::new(None);
    others.observe(&claimed, claim_at);
    assert!(tenure.ends() <= others.stalls_at().unwrap());
    tenure.renewed(claim_at, claim_at);
    assert!(tenure.ends() <= others.stalls_at().unwrap());
}

/// The lock was handed over, the answer got lost, and whoever it was meant for wants
/// to leave.
#[test]
fn who_may_have_been_handed_the_lock_gives_it_back() {
    let millis = 10 * MINUTE_MS;
    let mut record = idle(EPOCH_MS + millis);
    record.issued = record.issued.next();
    record.holder = Some(holder("holder", ms(20_000), EPOCH_MS + millis));
    let mut world = World::new(millis, record);
    let mut waiter = Waiter::new(Attempt {
        contended: true,
        ..attempt("waiter", Patience::Queue)
    });
    let Step::Write(enqueue) = waiter.step(Answer::Ready, now(millis)) else {
        panic!("it queues");
    };
    world.record = apply(world.record.as_ref(), &enqueue);
    let seen = world.record.clone().unwrap();
    let step = waiter.step(Answer::Applied(seen), now(millis + 5));
    assert!(matches!(step, Step::Pause(_)), "{step:?}");
    let hand_over = Write::HandOver {
        ticket: Ticket::new(EPOCH_MS + 1),
        id: HolderId::new("holder"),
        next: waiter.holder(now(millis + 50)),
    };
    world.record = apply(world.record.as_ref(), &hand_over);
    assert!(world.record.is_some());
    world.millis += 120;
    waiter.cancel();
    let step = world.run(&mut waiter, Answer::Nudged);
    assert_eq!(step, Step::GaveUp(GaveUp::Cancelled));
    assert!(world.record.unwrap().is_free());
}

/// Whoever left while somebody held for days is not waited for by those who come
/// afterwards.
#[test]
fn a_word_of_farewell_is_kept_for_days() {
    let millis = 10 * MINUTE_MS;
    let mut record = idle(EPOCH_MS + millis);
    record.issued = record.issued.next();
    record.holder = Some(holder("holder", ms(20_000), EPOCH_MS + millis));
    let mut world = World::new(millis, record);
    let mut hasty = Waiter::new(Attempt {
        give_up_at: Some(at(millis + 500)),
        ..attempt("hasty", Patience::Queue)
    });
    let step = world.run(&mut hasty, Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::TimedOut));
    let [row] = world.rows.as_slice() else {
        panic!("{:?}", world.rows);
    };
    assert_eq!(row.state, TicketState::Left);
    let three_days_ms = 3 * 24 * 60 * MINUTE_MS;
    assert!(row.expires_at_s * 1_000 > EPOCH_MS + millis + three_days_ms);
    let release = Write::Release {
        ticket: Ticket::new(EPOCH_MS + 1),
        id: HolderId::new("holder"),
        wall_ms: EPOCH_MS + millis + three_days_ms,
    };
    world.record = apply(world.record.as_ref(), &release);
    world.millis += three_days_ms;
    let mut trying = Waiter::new(attempt("trying", Patience::TryOnly));
    let step = world.run(&mut trying, Answer::Ready);
    assert!(matches!(step, Step::Granted(_)), "{step:?}");
}

/// A row that has expired is no word of farewell: whoever has its turn may hold the
/// lock although its heart stands still.
#[test]
fn who_does_not_wait_does_not_trust_an_expired_row() {
    let millis = 10 * MINUTE_MS;
    let mut record = idle(EPOCH_MS + millis);
    record.issued = record.issued.next();
    let mut world = World::new(millis, record);
    world.rows.push(TicketRow {
        ticket: Ticket::new(EPOCH_MS + 1),
        id: HolderId::new("slow"),
        owner: "slow".into(),
        state: TicketState::Waiting,
        since_ms: EPOCH_MS,
        expires_at_s: EPOCH_MS / 1_000,
    });
    let mut trying = Waiter::new(attempt("trying", Patience::TryOnly));
    let step = world.run(&mut trying, Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy));
}

/// After an outage the polls come back to their pace step by step.
#[test]
fn a_throttled_table_is_not_asked_at_full_speed_at_once() {
    let millis = 10 * MINUTE_MS;
    let record = held(millis);
    let mut polls = Vec::new();
    for lose in [0, 8] {
        let mut world = World::new(millis, record.clone());
        let mut waiter = Waiter::new(Attempt {
            contended: true,
            give_up_at: Some(at(millis + 12_000)),
            ..attempt("waiter", Patience::Queue)
        });
        let Step::Write(enqueue) = waiter.step(Answer::Ready, now(millis)) else {
            panic!("it queues");
        };
        let seen = apply(world.record.as_ref(), &enqueue).unwrap();
        world.record = Some(seen.clone());
        world.lose = lose;
        let step = world.run(&mut waiter, Answer::Applied(seen));
        assert_eq!(step, Step::GaveUp(GaveUp::TimedOut));
        polls.push(world.requests);
    }
    println!("{polls:?} requests in 12 s");
    assert!(polls[1] < polls[0], "{polls:?}");
}

/// A record at which a waiter pauses: somebody holds the lock.
fn held(millis: u64) -> LockRecord {
    let mut record = idle(EPOCH_MS + millis);
    record.issued = record.issued.next();
    record.holder = Some(holder("other", ms(60_000), EPOCH_MS + millis));
    record
}

/// The same, given back.
fn released(held: &LockRecord, millis: u64) -> LockRecord {
    let release = Write::Release {
        ticket: held.turn(),
        id: HolderId::new("other"),
        wall_ms: EPOCH_MS + millis,
    };
    apply(Some(held), &release).unwrap()
}

/// Another one: somebody shares it.
fn shared(millis: u64) -> LockRecord {
    let mut record = idle(EPOCH_MS + millis);
    let holder = holder("other", ms(60_000), EPOCH_MS + millis);
    let sharer = Sharer { holder, beats: 0 };
    record.sharers.insert(HolderId::new("other"), sharer);
    record
}

/// Takes a waiter to its first pause before a look at `record`, which it has joined.
fn waiting(millis: u64, record: &mut LockRecord) -> Waiter {
    waiting_as(attempt("waiter", Patience::Queue), millis, record)
}

fn waiting_as(attempt: Attempt, millis: u64, record: &mut LockRecord) -> Waiter {
    let mut waiter = Waiter::new(Attempt {
        contended: true,
        ..attempt
    });
    let mut answer = Answer::Ready;
    loop {
        match waiter.step(answer, now(millis)) {
            Step::Write(write) => {
                answer = match apply(Some(record), &write) {
                    Some(after) => {
                        record.clone_from(&after);
                        Answer::Applied(after)
                    }
                    None => Answer::Refused(None),
                };
            }
            Step::Pause(_) => return waiter,
            other => panic!("{other:?}"),
        }
    }
}

/// Sends the look that is due, and answers it. Until when the waiter then pauses.
fn look(waiter: &mut Waiter, millis: u64, record: &LockRecord, took: u64) -> Moment {
    let asks = waiter.step(Answer::Ready, now(millis));
    assert!(matches!(asks, Step::Read(_)), "{asks:?}");
    match waiter.step(Answer::Read(Some(record.clone())), now(millis + took)) {
        Step::Pause(until) => until,
        other => panic!("{other:?}"),
    }
}

/// One answer among failures does not end the patience of those who wait for their turn,
/// nor of who has it and waits for those who share.
#[test]
fn the_pause_after_a_look_is_longer_for_a_while_after_failures() {
    let millis = 10 * MINUTE_MS;
    for mut record in [held(millis), shared(millis)] {
        let mut waiter = waiting(millis, &mut record);
        let lost = Answer::Failed(Failure {
            maybe_applied: true,
            kind: FailureKind::Transient,
        });
        for _ in 0..8 {
            assert!(matches!(
                waiter.step(Answer::Ready, now(millis)),
                Step::Read(_)
            ));
            assert!(matches!(
                waiter.step(lost.clone(), now(millis)),
                Step::Pause(_)
            ));
        }
        let until = look(&mut waiter, millis, &record, 0);
        assert!(until >= at(millis + 400), "{until:?}");
    }
}

/// A store that takes its time does not make the looks rarer by as much; and one that is
/// slower than the pause is not asked without any.
#[test]
fn the_pause_is_counted_from_when_the_last_look_was_sent() {
    let millis = 10 * MINUTE_MS;
    for mut record in [held(millis), shared(millis)] {
        let mut waiter = waiting(millis, &mut record);
        for (took, pause) in [(0, 20), (5, 15), (10, 10), (19, 10), (1_000, 50)] {
            let until = look(&mut waiter, millis, &record, took);
            let left = until.since(at(millis + took));
            assert_eq!(left, ms(pause), "after an answer that took {took} ms");
        }
    }
}

/// An answer that took a whole lease is no hold to hand out.
#[test]
fn a_lease_that_is_over_before_it_is_known_begins_anew() {
    let millis = 10 * MINUTE_MS;
    let mut world = World::new(millis, idle(EPOCH_MS + millis));
    let mut waiter = Waiter::new(attempt("slow", Patience::Queue));
    let Step::Write(take) = waiter.step(Answer::Ready, now(millis)) else {
        panic!("it tries");
    };
    let record = apply(world.record.as_ref(), &take).unwrap();
    world.record = Some(record.clone());
    world.millis += 20_000;
    match world.run(&mut waiter, Answer::Applied(record)) {
        Step::Granted(Grant {
            title: Title::Claimed { sent },
            ..
        }) => assert_eq!(sent, at(millis + 20_000)),
        other => panic!("{other:?}"),
    }
}
