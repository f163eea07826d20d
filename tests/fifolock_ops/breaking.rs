//! `break`.

use std::time::Duration;

use dynamodb_fifo_lock::record::TicketState::Waiting;
use dynamodb_fifo_lock::{Error, LockGuard, LockName};

use crate::command::{OnTerminal, Ran, fifolock, queue, run};
use crate::common::{DEADLINE, Table, embedded_table, quick, tables, unique};

fn held(table: &Table, lock: &str) -> LockGuard {
    let client = quick()
        .owner("the old holder")
        .build(table.store())
        .unwrap();
    client.acquire(lock).unwrap()
}

fn break_it(table: &Table, lock: &str, more: &[&str]) -> Ran {
    run(fifolock(table, &[&["break", lock], more].concat()))
}

fn assert_still_held(table: &Table, guard: &LockGuard) {
    let client = quick().build(table.store()).unwrap();
    let status = client.inspect(guard.name().as_str()).unwrap().unwrap();
    assert_eq!(status.holder.unwrap().token, guard.fencing_token());
}

#[test]
fn a_lock_that_is_broken_goes_on_with_a_higher_token() {
    for table in tables() {
        let lock = unique("broken");
        let guard = held(&table, &lock);
        let token = guard.fencing_token();
        let broken = break_it(&table, &lock, &["--yes"]);
        assert_eq!(broken.code, 0, "{}", broken.err);
        for part in [
            "the old holder",
            &format!("The turn of token {token} is over."),
            // A quarter of a lease of 3 s.
            "until its next heartbeat (750 ms",
            "only a resource that checks the token is safe",
        ] {
            assert!(
                broken.out.contains(part),
                "{part:?} is not in {}",
                broken.out
            );
        }
        // The old holder finds out by itself.
        assert!(guard.lost().recv_timeout(DEADLINE).is_err());
        assert!(!guard.is_held());
        assert!(matches!(guard.release(), Err(Error::Lost { .. })));
        let next = held(&table, &lock);
        assert!(next.fencing_token() > token);
    }
}

#[test]
fn nobody_else_is_hit() {
    for table in tables() {
        let lock = unique("spared");
        let absent = break_it(&table, &lock, &["--yes"]);
        assert_eq!(absent.code, 1);
        assert!(absent.err.contains("has no lock"), "{}", absent.err);

        held(&table, &lock).release().unwrap();
        let free = break_it(&table, &lock, &["--yes"]);
        assert_eq!(free.code, 1);
        assert!(free.err.contains("nothing to break"), "{}", free.err);

        let guard = held(&table, &lock);
        let earlier = (guard.fencing_token().get() - 1).to_string();
        let wrong = break_it(&table, &lock, &["--yes", "--token", &earlier]);
        assert_eq!(wrong.code, 1);
        assert!(wrong.err.contains("nothing was done"), "{}", wrong.err);
        assert_still_held(&table, &guard);

        let token = guard.fencing_token().to_string();
        let right = break_it(&table, &lock, &["--yes", "--token", &token]);
        assert_eq!(right.code, 0, "{}", right.err);
    }
}

/// Somebody joined, and died before the turn came.
#[test]
fn a_turn_that_nobody_claims_can_be_ended_too() {
    let table = embedded_table();
    let lock = LockName::new(&unique("unclaimed")).unwrap();
    for owner in ["the dead", "the next"] {
        queue(&table.store(), &lock, owner, Waiting, 1_700_000_000_000);
    }
    let broken = break_it(&table, lock.as_str(), &["--yes"]);
    assert_eq!(broken.code, 0, "{}", broken.err);
    for part in [
        "the dead",
        "turn of token 41 is over. One waits, and gets it",
    ] {
        assert!(
            broken.out.contains(part),
            "{part:?} is not in {}",
            broken.out
        );
    }
    let shown = run(fifolock(&table, &["show", lock.as_str()])).out;
    assert!(
        shown.contains("the next") && !shown.contains("the dead"),
        "{shown}"
    );
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_done() {
    let table = embedded_table();
    let lock = unique("unasked");
    let guard = held(&table, &lock);
    let refused = break_it(&table, &lock, &[]);
    assert_eq!(refused.code, 64, "{}", refused.err);
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    assert_still_held(&table, &guard);
}

#[test]
fn on_a_terminal_it_asks_and_no_is_the_default() {
    let table = embedded_table();
    let lock = unique("asked");
    let guard = held(&table, &lock);
    let question = "[y/N]";
    for answer in ["\n", "n\n", "maybe\n"] {
        let asked = OnTerminal::on(&table, &["break", &lock]);
        asked.heard.wait_for(question);
        // Whoever is about to lose it is shown before the question.
        assert!(asked.heard.text().contains("the old holder"));
        asked.type_in(answer);
        let (code, shown) = asked.end();
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("nothing was done"), "{shown}");
        assert_still_held(&table, &guard);
    }
    let asked = OnTerminal::on(&table, &["break", &lock]);
    asked.heard.wait_for(question);
    asked.type_in("y\n");
    let (code, shown) = asked.end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("is over"), "{shown}");
    assert!(guard.lost().recv_timeout(Duration::from_secs(30)).is_err());
}

/// The lock went on while the question stood there.
#[test]
fn a_turn_that_ended_meanwhile_is_not_the_next_ones_loss() {
    let table = embedded_table();
    let lock = unique("meanwhile");
    let guard = held(&table, &lock);
    let asked = OnTerminal::on(&table, &["break", &lock]);
    asked.heard.wait_for("[y/N]");
    guard.release().unwrap();
    let next = held(&table, &lock);
    asked.type_in("y\n");
    let (code, shown) = asked.end();
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("was over already"), "{shown}");
    assert_still_held(&table, &next);
}
