//! One test for each way in which a connection, the server or a table can fail.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::arena::{Arena, DEADLINE, GRACE};
use crate::book::Hold;
use crate::common::{call, fresh_tables, wait_for};
use crate::gate::{Mood, Tally};
use crate::{ANNOUNCE_DELAY, LEASE, SHORT, arenas, holder_and_waiters, in_time};

#[test]
fn black_holed_holder_is_told() {
    for mut arena in arenas() {
        let (holder, [next]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&holder);
        arena.spoil(&holder, Mood::Silent);
        let told = arena.wait("the holder is told", |book| {
            book.grants_of(&holder)
                .any(|grant| grant.denied.is_some() && grant.ended.is_some())
        });
        // Its release takes as long as two requests that hang.
        in_time("told", told, arena.lease + arena.request_timeout * 2);
        arena.wait_until_it_holds(&next);
        {
            let book = arena.ledger.book();
            let grant = book.grants_of(&holder).next().unwrap();
            let heir = book.grants_of(&next).next().unwrap();
            assert!(grant.end < Some(heir.first), "{grant:?} {heir:?}");
            let end = grant.ended.as_ref().unwrap();
            assert!(end.contains("no renewal got through"), "{end}");
        }
        arena.clear(&holder);
        arena.finish(2);
        arena.judge();
    }
}

/// The lease counts from when a renewal is sent. Who counts from the answer, which is
/// late here, holds for longer than the others allow.
#[test]
fn late_answers_do_not_lengthen_the_lease() {
    for mut arena in arenas() {
        // They come when the next renewal is due, and well before their time is up.
        arena.request_timeout = arena.lease / 2;
        let (holder, [next]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&holder);
        arena.spoil(&holder, Mood::AnswerLate(arena.lease / 3));
        let renewed = |arena: &Arena| arena.row()["holder"]["M"]["renewed_at"]["N"].clone();
        for _ in 0..2 {
            let before = renewed(&arena);
            wait_for("a renewal", || renewed(&arena) != before);
        }
        arena.worker(&holder).gate.set(Mood::Silent);
        arena.wait("the holder is told", |book| {
            book.grants_of(&holder).any(|grant| grant.denied.is_some())
        });
        arena.wait_until_it_holds(&next);
        arena.clear(&holder);
        arena.finish(2);
        arena.judge();
    }
}

/// A guard that was handed out before the lock was claimed rests on its turn, and the
/// others go past a turn that is not claimed before any lease is over.
#[test]
fn black_holed_before_it_has_claimed() {
    for mut arena in arenas() {
        let (holder, [doomed, next]) = holder_and_waiters(&mut arena);
        arena
            .ledger
            .tell(|book| book.account_mut(&doomed).hold = Hold::UntilTold);
        // Just before it would say that it waits. So the next one goes past it as soon
        // as it may.
        thread::sleep(ANNOUNCE_DELAY.mul_f64(0.8));
        arena.let_go(&holder);
        arena.wait_until_it_holds(&doomed);
        arena.spoil(&doomed, Mood::Silent);
        let took = arena.wait_until_it_holds(&next);
        in_time("a turn that was not claimed", took, ANNOUNCE_DELAY + GRACE);
        arena.wait("the holder is told", |book| {
            book.grants_of(&doomed).any(|grant| grant.denied.is_some())
        });
        arena.clear(&doomed);
        arena.finish(2);
        arena.judge();
    }
}

/// A server that is away for less than a lease costs nobody anything.
#[test]
fn server_away_for_a_while() {
    for mut arena in arenas() {
        let (holder, waiters @ [_, _]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&holder);
        away(&arena, LEASE / 2);
        arena.let_go(&holder);
        for waiter in &waiters {
            arena.wait(&format!("the turn of {waiter}"), |book| {
                book.account(waiter).turns > 0
            });
        }
        {
            let book = arena.ledger.book();
            let ends: Vec<_> = book.grants_of(&holder).map(|grant| &grant.ended).collect();
            assert!(ends[0].as_ref().unwrap().starts_with("released"));
            for waiter in &waiters {
                let account = book.account(waiter);
                assert!(account.passed_over.is_empty() && account.failures.is_empty());
            }
        }
        arena.finish(2);
        arena.judge();
    }
}

#[test]
fn server_away_for_longer_than_a_lease() {
    for mut arena in arenas() {
        let (holder, [first, second]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&holder);
        away(&arena, LEASE * 2);
        // The holder was told, and they find together again, in the same order.
        in_time(
            "a turn after the outage",
            arena.wait_until_it_holds(&first),
            arena.lease + GRACE * 3,
        );
        arena.wait("the second's turn", |book| book.account(&second).turns > 0);
        {
            let book = arena.ledger.book();
            let grant = book.grants_of(&holder).next().unwrap();
            assert!(grant.denied.is_some(), "{grant:?}");
            for waiter in [&first, &second] {
                assert!(book.account(waiter).passed_over.is_empty());
                assert!(book.account(waiter).failures.is_empty());
            }
        }
        arena.finish(2);
        arena.judge();
    }
}

fn away(arena: &Arena, time: Duration) {
    for worker in &arena.workers {
        arena.trouble(&worker.name, "the server is away");
        worker.gate.go_away();
    }
    thread::sleep(time);
    for worker in &arena.workers {
        worker.gate.come_back();
        arena.trouble_is_over(&worker.name);
    }
}

/// Spoils the connections of three workers that take short turns, for longer than a
/// lease. Nobody may fail: what the server and the network do for so long is to be
/// sat out.
fn contend_through(mood: Mood, kind: &str) {
    for mut arena in arenas() {
        let names: Vec<_> = (0..3).map(|_| arena.start(SHORT)).collect();
        for name in &names {
            arena.wait("a first turn", |book| book.account(name).turns > 0);
            arena.spoil(name, mood);
        }
        thread::sleep(LEASE + LEASE / 2);
        for name in &names {
            arena.clear(name);
        }
        let slowest = arena.finish(2);
        println!("{kind}, and a turn for everybody after {slowest:.2?}");
        arena.judge();
        assert!(arena.tally.counts()[kind] > 0);
        let book = arena.ledger.book();
        for name in &names {
            let failures = &book.account(name).failures;
            assert!(failures.is_empty(), "{name}: {failures:?}");
        }
    }
}

#[test]
fn connections_drop_before_the_request_arrives() {
    contend_through(Mood::RequestLost, "request lost");
}

#[test]
fn connections_drop_before_the_answer_arrives() {
    contend_through(Mood::AnswerLost, "answer lost");
}

#[test]
fn answers_are_cut_half_way() {
    contend_through(Mood::AnswerCut, "answer cut");
}

/// Every request arrives, when its sender has given it up.
#[test]
fn requests_arrive_after_their_time_out() {
    contend_through(Mood::Late(LEASE / 3), "request late");
}

#[test]
fn throttled() {
    contend_through(Mood::Throttled, "throttled");
}

#[test]
fn answered_with_500_although_carried_out() {
    contend_through(Mood::Broken, "answered with 500");
}

#[test]
fn answered_with_503() {
    contend_through(Mood::Unavailable, "answered with 503");
}

#[test]
fn throttled_for_less_than_a_lease() {
    refused_for_less_than_a_lease(Mood::Throttled);
}

#[test]
fn denied_for_less_than_a_lease() {
    refused_for_less_than_a_lease(Mood::Denied);
}

/// That costs the holder neither its lock nor the next one its place.
fn refused_for_less_than_a_lease(mood: Mood) {
    for mut arena in arenas() {
        let (holder, [next]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&holder);
        arena.spoil(&holder, mood);
        arena.spoil(&next, mood);
        thread::sleep(LEASE / 2);
        arena.clear(&holder);
        arena.clear(&next);
        let before = arena.ledger.book().account(&next).turns;
        arena.let_go(&holder);
        arena.wait("the turn of the next one", |book| {
            book.account(&next).turns > before
        });
        let ended = |grant: &crate::book::Grant| grant.ended.clone().unwrap_or_default();
        let end = ended(arena.ledger.book().grants_of(&holder).next().unwrap());
        assert!(end.starts_with("released"), "{end}");
        arena.finish(2);
        arena.judge();
        assert!(arena.ledger.book().account(&next).failures.is_empty());
    }
}

#[test]
fn row_deleted() {
    for mut arena in arenas() {
        let names: Vec<_> = (0..3).map(|_| arena.start(SHORT)).collect();
        for round in 1..=3 {
            for name in &names {
                arena.wait("a turn", |book| book.account(name).turns > round);
            }
            arena.everybody_rests();
            wait_for("a free lock", || arena.is_free());
            arena.table.delete(&arena.lock);
            arena.ledger.tell(|book| book.rest = false);
        }
        arena.finish(2);
        // Tokens grew across all of it.
        arena.judge();
        let book = arena.ledger.book();
        for name in &names {
            let account = book.account(name);
            assert!(account.passed_over.is_empty() && account.failures.is_empty());
        }
    }
}

/// Whoever needs the table is told that it is not there; and once it is there again,
/// all goes on.
#[test]
fn table_deleted_and_made_again() {
    for table in fresh_tables() {
        let mut arena = Arena::new(&table, LEASE, &Tally::default(), 1);
        let (holder, waiters @ [_, _]) = holder_and_waiters(&mut arena);
        arena.wait_until_it_has_claimed(&holder);
        call(
            &table.endpoint,
            "DeleteTable",
            &json!({ "TableName": table.table }),
        );
        for worker in &arena.workers {
            arena.trouble(&worker.name, "the table is gone");
        }
        for waiter in &waiters {
            arena.wait("a waiter is told", |book| {
                !book.account(waiter).failures.is_empty()
            });
        }
        // Nobody can know that it is gone for good before the lease is over.
        arena.wait("the holder is told", |book| {
            book.grants_of(&holder).any(|grant| grant.ended.is_some())
        });
        table.store().create_table().unwrap();
        for worker in &arena.workers {
            arena.trouble_is_over(&worker.name);
        }
        arena.finish(2);
        arena.judge();
        let book = arena.ledger.book();
        let failures = book.accounts.values().flat_map(|account| &account.failures);
        for failure in failures {
            let named = failure.contains(&table.table) && failure.contains("does not exist here");
            assert!(named, "{failure}");
        }
    }
}

/// The checker itself: a lock that is none is found out.
#[test]
fn workers_with_a_lock_each_are_caught() {
    for mut arena in arenas() {
        let first = arena.start(Hold::UntilTold);
        arena.wait_until_it_holds(&first);
        arena.lock.push_str("-another");
        let second = arena.start(Hold::UntilTold);
        let (caught, _) = arena.ledger.wait(DEADLINE, |book| {
            let found = book.judge(false);
            let says = |word: &str| found.iter().any(|found| found.contains(word));
            says("after a later one was used") && says("two at once")
        });
        assert!(caught, "{second} and {first} at once");
    }
}
