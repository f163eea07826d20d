//! Real processes under fire: workers are killed, stopped, forked and cut off while they
//! contend for a lock, and a resource in this process checks what they do with it.
//!
//! One test for each fault, and rounds of faults at random. Over the embedded server,
//! and over the one that `DYNAMODB_ENDPOINT` names.

#![cfg(unix)]

mod common;

#[path = "chaos/arena.rs"]
mod arena;
#[path = "chaos/book.rs"]
mod book;
#[path = "chaos/cut_off.rs"]
mod cut_off;
#[path = "chaos/forks.rs"]
mod forks;
#[path = "chaos/gate.rs"]
mod gate;
#[path = "chaos/ledger.rs"]
mod ledger;
#[path = "chaos/rounds.rs"]
mod rounds;
#[path = "chaos/schedule.rs"]
mod schedule;
#[path = "chaos/storm.rs"]
mod storm;
#[path = "chaos/worker.rs"]
mod worker;

use std::time::{Duration, Instant};

use arena::{Arena, DEADLINE, GRACE, PRESENCE, SLACK};
use book::Hold;
use common::tables;
use gate::{Mood, Tally};

const LEASE: Duration = Duration::from_millis(1_500);

/// How long a waiter stays unannounced.
const ANNOUNCE_DELAY: Duration = dynamodb_fifo_lock::protocol::ANNOUNCE_DELAY;

const SHORT: Hold = Hold::For(Duration::from_millis(30));

/// Not a test of its own: what the worker processes run.
#[test]
fn a_worker() {
    if let Ok(orders) = std::env::var(worker::ORDERS) {
        worker::work(&orders);
    }
}

/// An arena in each table.
fn arenas() -> impl Iterator<Item = Arena> {
    tables()
        .into_iter()
        .map(|table| Arena::new(&table, LEASE, &Tally::default(), 1))
}

/// One that holds the lock until it is told, and others that wait in this order.
fn holder_and_waiters<const N: usize>(arena: &mut Arena) -> (String, [String; N]) {
    let holder = arena.start(Hold::UntilTold);
    arena.wait_until_it_holds(&holder);
    let waiters = std::array::from_fn(|_| {
        let waiter = arena.start(SHORT);
        arena.wait_until_it_waits(&waiter);
        waiter
    });
    (holder, waiters)
}

/// Asserts that a waiter is delayed by what is promised, and no more.
fn in_time(what: &str, took: Duration, promised: Duration) {
    println!("{what}: {took:.2?} of {promised:?}");
    assert!(took < promised + SLACK, "{what}: {took:?}");
}

#[test]
fn killed_while_waiting() {
    for mut arena in arenas() {
        let (holder, [doomed, next]) = holder_and_waiters(&mut arena);
        arena.kill(&doomed);
        arena.let_go(&holder);
        let took = arena.wait_until_it_holds(&next);
        in_time("no sign of life", took, ANNOUNCE_DELAY + GRACE * 2);
        arena.finish(2);
        arena.judge();
    }
}

#[test]
fn killed_while_waiting_after_it_has_said_that_it_waits() {
    for mut arena in arenas() {
        let (holder, [doomed, next]) = holder_and_waiters(&mut arena);
        let ticket = arena.ledger.book().account(&doomed).ticket.unwrap();
        common::wait_for("the row", || {
            !arena.table.get_row(&arena.lock, ticket).is_null()
        });
        arena.kill(&doomed);
        arena.let_go(&holder);
        let took = arena.wait_until_it_holds(&next);
        in_time("a dead waiter's row", took, PRESENCE + GRACE * 2);
        arena.finish(2);
        arena.judge();
    }
}

#[test]
fn killed_while_holding() {
    for mut arena in arenas() {
        let (doomed, [next]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&doomed);
        arena.kill(&doomed);
        let took = arena.wait_until_it_holds(&next);
        // Its last renewal may be one interval old.
        let lease_over = arena.lease - arena.heartbeat() - arena.request_timeout;
        assert!(took > lease_over, "gone past after {took:?}");
        in_time("a dead holder", took, arena.lease + GRACE);
        arena.finish(2);
        arena.judge();
    }
}

#[test]
fn killed_while_it_holds_a_turn_that_it_has_not_claimed_yet() {
    for mut arena in arenas() {
        let (holder, [doomed, next]) = holder_and_waiters(&mut arena);
        arena
            .ledger
            .tell(|book| book.account_mut(&doomed).hold = Hold::UntilTold);
        arena.let_go(&holder);
        arena.wait_until_it_holds(&doomed);
        arena.kill(&doomed);
        let took = arena.wait_until_it_holds(&next);
        in_time(
            "a dead turn",
            took,
            arena.lease.max(ANNOUNCE_DELAY) + GRACE * 2,
        );
        arena.finish(2);
        arena.judge();
    }
}

/// The release of a process that is dead arrives, or it does not.
#[test]
fn killed_in_the_middle_of_a_release() {
    for arrives in [true, false] {
        for mut arena in arenas() {
            let (doomed, [next]) = holder_and_waiters(&mut arena);
            arena.wait_until_it_has_claimed(&doomed);
            arena.spoil(&doomed, Mood::HoldsReleases);
            arena.let_go(&doomed);
            assert!(arena.worker(&doomed).gate.holds_a_release(DEADLINE));
            arena.kill(&doomed);
            let killed = Instant::now();
            arena.worker(&doomed).gate.set(match arrives {
                true => Mood::Clear,
                false => Mood::RequestLost,
            });
            arena.wait_until_it_holds(&next);
            let (what, promised) = match arrives {
                true => ("a late release", GRACE),
                false => ("a lost release", arena.lease + GRACE),
            };
            in_time(what, killed.elapsed(), promised);
            arena.finish(2);
            arena.judge();
        }
    }
}

#[test]
fn stopped_past_the_lease() {
    for mut arena in arenas() {
        let (sleeper, [next]) = holder_and_waiters(&mut arena);
        arena
            .ledger
            .tell(|book| book.account_mut(&next).hold = Hold::UntilTold);
        arena.wait_until_it_has_claimed(&sleeper);
        arena.stop(&sleeper);
        let took = arena.wait_until_it_holds(&next);
        in_time("a stopped holder", took, arena.lease + GRACE);
        arena.resume(&sleeper);
        arena.wait("the sleeper's end", |book| {
            book.grants_of(&sleeper).any(|grant| grant.ended.is_some())
        });
        {
            let book = arena.ledger.book();
            let grant = book.grants_of(&sleeper).next().unwrap();
            assert!(grant.refused > 0, "its late write is refused: {grant:?}");
            let end = grant.ended.as_ref().unwrap();
            assert!(end.contains("was lost"), "{end}");
            assert!(book.account(&next).holds.is_some(), "nobody disturbed it");
        }
        arena.let_go(&next);
        arena.finish(2);
        arena.judge();
    }
}

#[test]
fn stopped_while_waiting_it_is_told_and_joins_again() {
    for mut arena in arenas() {
        let (holder, [sleeper, next]) = holder_and_waiters(&mut arena);
        arena.stop(&sleeper);
        arena.let_go(&holder);
        let took = arena.wait_until_it_holds(&next);
        in_time("a stopped waiter", took, ANNOUNCE_DELAY + GRACE * 2);
        arena.resume(&sleeper);
        arena.wait("the news", |book| {
            book.account(&sleeper).passed_over.len() == 1
        });
        arena.wait_until_it_holds(&sleeper);
        arena.finish(2);
        arena.judge();
    }
}

#[test]
fn stopped_for_longer_than_its_row_counts_it_is_told_and_joins_again() {
    for mut arena in arenas() {
        let (holder, [sleeper, next]) = holder_and_waiters(&mut arena);
        let ticket = arena.ledger.book().account(&sleeper).ticket.unwrap();
        common::wait_for("the row", || {
            !arena.table.get_row(&arena.lock, ticket).is_null()
        });
        arena.stop(&sleeper);
        arena.let_go(&holder);
        let took = arena.wait_until_it_holds(&next);
        in_time("a stopped waiter's row", took, PRESENCE + GRACE * 2);
        std::thread::sleep(PRESENCE.saturating_sub(took));
        arena.resume(&sleeper);
        arena.wait("the news", |book| {
            book.account(&sleeper).passed_over.len() == 1
        });
        arena.wait_until_it_holds(&sleeper);
        arena.finish(2);
        arena.judge();
    }
}
