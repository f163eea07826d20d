//! What the check has found, and is mended.

use std::time::Duration;

use dynamodb_fifo_lock::HolderId;
use dynamodb_fifo_lock::protocol::{
    Answer, Attempt, Grant, Moment, Now, Pace, Patience, Standing, Step, Tenure, Waiter, Write,
    apply,
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

/// An attempt all of whose requests are answered at once.
fn attempt(
    id: &str,
    patience: Patience,
    contended: bool,
    record: &mut Option<LockRecord>,
    now: Now,
) -> Option<Grant> {
    let second = Duration::from_secs(1);
    let mut waiter = Waiter::new(Attempt {
        id: HolderId::new(id),
        owner: String::new(),
        data: None,
        mode: Mode::Exclusive,
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
        turn_time: None,
    });
    let mut answer = Answer::Ready;
    loop {
        answer = match waiter.step(answer, now) {
            Step::Write(write) => match apply(record.as_ref(), &write) {
                Some(after) => Answer::Applied(record.insert(after).clone()),
                None => Answer::Refused(None),
            },
            Step::Read(_) => Answer::Read(record.clone()),
            Step::Look { .. } => Answer::Rows(Vec::new()),
            Step::Announce(_) => Answer::Announced,
            Step::Granted(grant) => return Some(grant),
            Step::GaveUp(_) | Step::Pause(_) => return None,
        };
    }
}

/// The turn of whoever enqueues at a free lock begins with that, but the record says
/// of it when the lock came free. If that is long ago, a client that does not wait
/// takes the turn for abandoned, although it is a hold.
#[test]
fn a_turn_that_began_by_joining_a_lock_long_free_is_not_abandoned() {
    let mut record = None;
    let first = attempt("a", Patience::Queue, false, &mut record, now(0)).unwrap();
    let release = Write::Release {
        ticket: first.ticket,
        id: HolderId::new("a"),
        wall_ms: now(1).wall_ms,
    };
    record = apply(record.as_ref(), &release);
    // Two hours later somebody draws a ticket without trying first: its last one was
    // passed over while it was suspended, say.
    let later = now(7_200);
    let grant = attempt("b", Patience::Queue, true, &mut record, later).unwrap();
    let tenure = Tenure::new(grant, LEASE / 4);
    let tried = attempt("c", Patience::TryOnly, false, &mut record, later);
    let valid = tenure.standing(later.moment) == Standing::Held;
    assert!(
        !(valid && tried.is_some()),
        "{tenure:?} and {tried:?} are valid at once",
    );
}
