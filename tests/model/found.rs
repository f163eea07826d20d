//! What the check has found, and is mended.

use std::time::Duration;

use dynamodb_fifo_lock::HolderId;
use dynamodb_fifo_lock::protocol::{
    Answer, Attempt, Failure, FailureKind, Grant, Moment, Now, Pace, Patience, Standing, Step,
    Tenure, Waiter, Watch, Write, apply,
};
use dynamodb_fifo_lock::record::{LockRecord, Mode};

use super::bounds::ALLOWANCE;

const LEASE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(1);

fn now(seconds: u64) -> Now {
    Now {
        moment: Moment::after_origin(Duration::from_secs(seconds)),
        wall_ms: 1_800_000_000_000 + seconds * 1_000,
        dice: 0.0,
    }
}

fn waiter(id: &str, mode: Mode, patience: Patience, contended: bool) -> Waiter {
    let second = Duration::from_secs(1);
    Waiter::new(Attempt {
        id: HolderId::new(id),
        owner: String::new(),
        data: None,
        mode,
        lease: LEASE,
        lock_delay: Duration::ZERO,
        grace: GRACE,
        pace: Pace {
            shortest: second,
            longest: second,
            farthest: second,
        },
        presence: second * 20,
        clock_allowance: ALLOWANCE,
        give_up_at: None,
        outage_limit: second * 30,
        patience,
        contended,
        watch: Watch::default(),
    })
}

/// An attempt all of whose requests are answered at once.
fn attempt(mut waiter: Waiter, record: &mut Option<LockRecord>, now: Now) -> Option<Grant> {
    let mut answer = Answer::Ready;
    loop {
        answer = match waiter.step(answer, now) {
            Step::Write(write) => served(record, &write),
            Step::Read(_) => Answer::Read(record.clone()),
            Step::Look { .. } => Answer::Rows(Vec::new()),
            Step::Announce(_) => Answer::Announced,
            Step::Granted(grant) => return Some(grant),
            Step::GaveUp(_) | Step::Pause(_) => return None,
        };
    }
}

fn served(record: &mut Option<LockRecord>, write: &Write) -> Answer {
    match apply(record.as_ref(), write) {
        Some(after) => Answer::Applied(record.insert(after).clone()),
        None => Answer::Refused(None),
    }
}

/// The turn of whoever enqueues at a free lock begins with that, but the record says
/// of it when the lock came free. If that is long ago, a client that does not wait
/// takes the turn for abandoned, although it is a hold.
#[test]
fn a_turn_that_began_by_joining_a_lock_long_free_is_not_abandoned() {
    let mut record = None;
    let alone = |id, patience, contended| waiter(id, Mode::Exclusive, patience, contended);
    let first = attempt(alone("a", Patience::Queue, false), &mut record, now(0)).unwrap();
    let release = Write::Release {
        ticket: first.ticket,
        id: HolderId::new("a"),
        wall_ms: now(1).wall_ms,
    };
    record = apply(record.as_ref(), &release);
    // Two hours later somebody draws a ticket without trying first: its last one was
    // passed over while it was suspended, say.
    let later = now(7_200);
    let grant = attempt(alone("b", Patience::Queue, true), &mut record, later).unwrap();
    let tenure = Tenure::new(grant, LEASE / 4);
    let tried = attempt(alone("c", Patience::TryOnly, false), &mut record, later);
    let valid = tenure.standing(later.moment) == Standing::Held;
    assert!(
        !(valid && tried.is_some()),
        "{tenure:?} and {tried:?} are valid at once",
    );
}

/// What becomes of a write.
enum Fate {
    Answered,
    /// The answer takes longer than a lease.
    AnsweredLate,
    /// It is applied, and nothing is heard of it.
    Unheard,
    /// It is still on its way when its sender gives up on it.
    OnItsWay,
}

/// Who waits to share, with a fate for each of its first writes. Returns when it is
/// granted the lock, and the write that is still on its way.
fn share(fates: &[Fate], record: &mut Option<LockRecord>) -> (Grant, Now, Option<Write>) {
    const UNANSWERED: Answer = Answer::Failed(Failure {
        maybe_applied: true,
        kind: FailureKind::Transient,
    });
    let shared = Mode::Shared { limit: 100 };
    let mut waiter = waiter("a", shared, Patience::Queue, false);
    let (mut fates, mut answer, mut at, mut late) = (fates.iter(), Answer::Ready, now(0), None);
    loop {
        answer = match waiter.step(answer, at) {
            Step::Write(write) => match fates.next().unwrap_or(&Fate::Answered) {
                Fate::Answered => served(record, &write),
                Fate::AnsweredLate => {
                    at.moment = at.moment.plus(LEASE);
                    served(record, &write)
                }
                Fate::Unheard => {
                    let _ = served(record, &write);
                    UNANSWERED
                }
                Fate::OnItsWay => {
                    late = Some(write);
                    UNANSWERED
                }
            },
            Step::Read(_) => Answer::Read(record.clone()),
            Step::Pause(until) => {
                at.moment = until;
                Answer::Ready
            }
            Step::Granted(grant) => return (grant, at, late),
            other => panic!("{other:?}"),
        };
    }
}

/// Who tries to share and gets no answer withdraws that try, and enters by the queue.
/// If the first withdrawal gets no answer either and is sent again, the first one may
/// arrive when the attempt has long entered at its turn. It must not end that share.
#[test]
fn a_withdrawal_that_is_long_on_its_way_does_not_end_a_later_share() {
    let mut record = None;
    let (grant, at, late) = share(&[Fate::Unheard, Fate::OnItsWay], &mut record);
    let tenure = Tenure::new(grant, LEASE / 4);
    let _ = served(&mut record, &late.unwrap());
    let writer = waiter("b", Mode::Exclusive, Patience::TryOnly, false);
    let alone = attempt(writer, &mut record, at);
    assert_eq!(tenure.standing(at.moment), Standing::Held);
    assert!(
        alone.is_none(),
        "{tenure:?} and {alone:?} are valid at once"
    );
}

/// A try to share is answered when its lease is over, and what the attempt does about
/// that gets no answer. It must not take the share for that of the ticket it draws
/// then, whose turn that share has not passed on.
#[test]
fn who_shares_has_passed_its_turn_on() {
    let mut record = None;
    let (grant, ..) = share(&[Fate::AnsweredLate, Fate::OnItsWay], &mut record);
    assert_eq!(record.unwrap().served, grant.ticket);
}
