//! Looking at locks from outside.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::record::{Holder, TicketRow, TicketState};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{
    Error, FencingToken, HolderId, LockName, LockStatus, LockStore, LossReason, MemoryStore,
    StoreError, Ticket,
};
use serde_json::json;

use common::{DEADLINE, backends, fresh_backends, fresh_tables, quick, unique};

const WITHIN: Duration = Duration::from_secs(10);

fn holder(id: &str, data: Option<&str>) -> Holder {
    Holder {
        id: HolderId::new(id),
        lease: Duration::from_secs(20),
        owner: format!("owner of {id}"),
        since_ms: 1_000,
        renewed_at_ms: 2_000,
        data: data.map(Into::into),
    }
}

fn take(id: &str) -> Write {
    Write::Try {
        holder: holder(id, Some("a job")),
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
    }
}

fn join() -> Write {
    Write::Enqueue {
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
        wall_ms: 1,
    }
}

fn row(ticket: u64, state: TicketState, expires_at_s: u64) -> TicketRow {
    TicketRow {
        ticket: Ticket::new(ticket),
        id: HolderId::new(format!("attempt {ticket}")),
        owner: format!("owner {ticket}"),
        state,
        since_ms: 3_000,
        expires_at_s,
    }
}

fn at(wall_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms)
}

fn tickets(status: &LockStatus) -> Vec<u64> {
    let waiters = status.waiters.iter();
    waiters.map(|waiter| waiter.ticket.get()).collect()
}

#[test]
fn a_lock_shows_who_holds_and_who_waits() {
    for backend in backends() {
        let (name, store) = (backend.name, &backend.store);
        let client = quick().build(store.clone()).unwrap();
        let lock = LockName::new(&unique("shown")).unwrap();
        let inspect = || client.inspect(lock.as_str()).unwrap();
        assert!(inspect().is_none(), "{name}");

        let write = |write: &Write| {
            store
                .write(&lock, write, WITHIN)
                .unwrap()
                .applied()
                .unwrap()
        };
        write(&take("a"));
        let status = inspect().unwrap();
        assert_eq!((status.name, status.waiting), (lock.clone(), 0), "{name}");
        assert_eq!(status.turn, Some(Ticket::new(11)), "{name}");
        assert!(status.waiters.is_empty(), "{name}");
        let shown = status.holder.unwrap();
        assert_eq!(shown.owner, "owner of a", "{name}");
        assert_eq!(shown.token.get(), 11, "{name}");
        assert_eq!(shown.lease, Duration::from_secs(20), "{name}");
        assert_eq!(shown.data.as_deref(), Some("a job"), "{name}");
        assert_eq!((shown.since, shown.renewed_at), (at(1_000), at(2_000)));

        // 12 to 15 wait, and three of them have said so. The holder's row is
        // still there, and somebody's who has not joined yet.
        for _ in 12..=15 {
            write(&join());
        }
        let later = 4_000_000_000;
        for row in [
            row(15, TicketState::Waiting, 1),
            row(11, TicketState::Waiting, later),
            row(16, TicketState::Waiting, later),
            row(12, TicketState::Waiting, later),
            row(14, TicketState::Left, later),
        ] {
            assert!(store.announce(&lock, &row, WITHIN).unwrap(), "{name}");
        }
        let status = inspect().unwrap();
        assert_eq!(status.waiting, 4, "{name}");
        let seen: Vec<_> = status
            .waiters
            .iter()
            .map(|waiter| (waiter.ticket.get(), waiter.left, waiter.expired))
            .collect();
        let expected = [(12, false, false), (14, true, false), (15, false, true)];
        assert_eq!(seen, expected, "{name}");
        assert_eq!(status.waiters[0].owner, "owner 12", "{name}");
        assert_eq!(status.waiters[0].since, at(3_000), "{name}");

        // The turn of 12, which has not claimed it.
        write(&Write::Release {
            ticket: Ticket::new(11),
            id: HolderId::new("a"),
            wall_ms: 1,
        });
        let status = inspect().unwrap();
        assert!(status.holder.is_none(), "{name}");
        assert_eq!(status.turn, Some(Ticket::new(12)), "{name}");
        assert_eq!((status.waiting, tickets(&status)), (4, vec![12, 14, 15]));
    }
}

#[test]
fn a_free_lock_shows_nobody() {
    for backend in backends() {
        let client = quick().build(backend.store.clone()).unwrap();
        let lock = unique("free");
        client.acquire(&lock).unwrap().release().unwrap();
        let status = client.inspect(&lock).unwrap().unwrap();
        assert!(status.holder.is_none() && status.turn.is_none());
        assert_eq!((status.waiting, tickets(&status)), (0, vec![]));
    }
}

#[test]
fn a_crowd_is_shown_up_to_a_thousand() {
    let store = MemoryStore::new();
    let client = quick().build(store.clone()).unwrap();
    let lock = LockName::new("crowd").unwrap();
    store
        .write(&lock, &take("a"), WITHIN)
        .unwrap()
        .applied()
        .unwrap();
    for ticket in 12..1_212 {
        store
            .write(&lock, &join(), WITHIN)
            .unwrap()
            .applied()
            .unwrap();
        let row = row(ticket, TicketState::Waiting, 4_000_000_000);
        assert!(store.announce(&lock, &row, WITHIN).unwrap());
    }
    let status = client.inspect("crowd").unwrap().unwrap();
    assert_eq!(status.waiting, 1_200);
    assert_eq!(tickets(&status), (12..1_012).collect::<Vec<_>>());
}

#[test]
fn a_list_shows_each_lock_once_and_no_waiters() {
    for backend in fresh_backends() {
        let client = quick().build(backend.store.clone()).unwrap();
        assert_eq!(client.list().count(), 0, "{}", backend.name);
        // More than a page of the memory store.
        let mut names = HashSet::new();
        for number in 0..230 {
            let lock = LockName::new(&format!("lock {number}")).unwrap();
            let write = |write: &Write| backend.store.write(&lock, write, WITHIN).unwrap();
            write(&take("a"));
            write(&join());
            let row = row(12, TicketState::Waiting, 4_000_000_000);
            backend.store.announce(&lock, &row, WITHIN).unwrap();
            names.insert(lock);
        }
        let mut listed = HashSet::new();
        for status in client.list() {
            let status = status.unwrap();
            assert_eq!(status.holder.unwrap().owner, "owner of a");
            assert_eq!((status.waiting, status.waiters.len()), (1, 0));
            assert!(listed.insert(status.name), "{}", backend.name);
        }
        assert_eq!(listed, names, "{}", backend.name);
    }
}

/// A page of a scan ends after a megabyte, of whatever rows.
#[test]
fn a_list_goes_on_past_rows_that_are_not_ours() {
    for table in fresh_tables() {
        let store = table.store();
        let client = quick()
            .request_timeout(Duration::from_millis(2_000))
            .build(store.clone())
            .unwrap();
        let fat = "x".repeat(380_000);
        let (mut names, mut strangers) = (HashSet::new(), HashSet::new());
        for number in 0..12 {
            let lock = LockName::new(&format!("lock {number}")).unwrap();
            store
                .write(&lock, &take("a"), WITHIN)
                .unwrap()
                .applied()
                .unwrap();
            table.put_row(lock.as_str(), 7, json!({ "fat": { "S": fat } }));
            names.insert(lock.to_string());
            let stranger = format!("stranger {number}\n");
            table.put(&stranger, json!({ "color": { "S": "red" } }));
            strangers.insert(stranger);
        }
        let malformed = "malformed";
        table.put(malformed, json!({ "schema": { "N": "2" } }));
        strangers.insert(malformed.into());
        for status in client.list() {
            match status {
                Ok(status) => assert!(names.remove(status.name.as_str())),
                Err(Error::List {
                    source:
                        StoreError::Malformed {
                            lock, attribute, ..
                        },
                }) => {
                    assert!(strangers.remove(&lock), "{lock:?}");
                    assert_eq!(attribute, if lock == malformed { "issued" } else { "lock" });
                }
                Err(error) => panic!("{}: {error}", table.name),
            }
        }
        assert!(
            names.is_empty() && strangers.is_empty(),
            "{names:?} {strangers:?}"
        );
        let mut pages = 1;
        let mut page = store.list(None, WITHIN).unwrap();
        while let Some(end) = page.next {
            page = store.list(Some(&end), WITHIN).unwrap();
            pages += 1;
        }
        assert!(pages > 2, "{}: {pages}", table.name);
    }
}

#[test]
fn a_page_that_cannot_be_read_is_the_last_item() {
    let store = FaultyStore::new(MemoryStore::new(), |_, request| match request {
        Request::List => Fate::Lost,
        _ => Fate::Fine,
    });
    let client = quick().build(store).unwrap();
    drop(client.acquire("unlisted").unwrap());
    let mut list = client.list();
    assert!(matches!(list.next(), Some(Err(Error::List { .. }))));
    assert!(list.next().is_none() && list.next().is_none());
}

#[test]
fn a_look_that_fails_is_the_inspections_failure() {
    let store = FaultyStore::new(MemoryStore::new(), |_, request| match request {
        Request::Look => Fate::Throttled,
        _ => Fate::Fine,
    });
    let client = quick().build(store.clone()).unwrap();
    let lock = LockName::new("unseen").unwrap();
    store
        .write(&lock, &take("a"), WITHIN)
        .unwrap()
        .applied()
        .unwrap();
    assert!(client.inspect("unseen").unwrap().is_some(), "nobody waits");
    store
        .write(&lock, &join(), WITHIN)
        .unwrap()
        .applied()
        .unwrap();
    let error = client.inspect("unseen").unwrap_err();
    assert!(matches!(
        error,
        Error::Store {
            doing: "inspect",
            source: StoreError::Throttled { .. },
            ..
        }
    ));
}

#[test]
fn a_broken_lock_goes_to_the_next_and_its_holder_finds_out() {
    for backend in backends() {
        let (name, store) = (backend.name, &backend.store);
        let lock = unique("broken");
        let holders = quick().build(store.clone()).unwrap();
        let operators = quick().build(store.clone()).unwrap();
        let guard = holders.acquire(&lock).unwrap();
        let token = guard.fencing_token();
        let status = operators.inspect(&lock).unwrap().unwrap();
        assert_eq!(status.holder.unwrap().token, token, "{name}");

        assert!(operators.break_lock(&lock, token).unwrap(), "{name}");
        let next = operators.acquire(&lock).unwrap();
        assert!(next.fencing_token() > token, "{name}");
        // With the next renewal, long before the lease ends.
        guard.lost().recv_timeout(DEADLINE).unwrap_err();
        assert!(
            matches!(guard.ensure_held(), Err(Error::Lost { reason, .. }) if reason == LossReason::Superseded),
            "{name}"
        );
        // A second break of the same turn is none, and hits nobody else.
        assert!(!operators.break_lock(&lock, token).unwrap(), "{name}");
        assert!(guard.release().is_err(), "{name}");
        next.release().unwrap();
        let unheard_of = unique("nobody has ever held");
        assert!(!operators.break_lock(&unheard_of, token).unwrap(), "{name}");
    }
}

#[test]
fn a_break_is_sent_again_until_it_is_known_to_have_come_true() {
    let store = MemoryStore::new();
    let holders = quick().build(store.clone()).unwrap();
    let lost = AtomicU32::new(0);
    let faulty = FaultyStore::new(store, move |_, request| match request {
        Request::Write(Write::Advance { .. }) if lost.fetch_add(1, Ordering::SeqCst) == 0 => {
            Fate::AnswerLost
        }
        _ => Fate::Fine,
    });
    let operators = quick().build(faulty).unwrap();
    let guard = holders.acquire("broken").unwrap();
    let token = guard.fencing_token();
    assert!(operators.break_lock("broken", token).unwrap());
    assert!(operators.try_acquire("broken").unwrap().is_some());
}

#[test]
fn a_break_that_gets_no_answer_says_so() {
    let nobody = FaultyStore::new(MemoryStore::new(), |_, _| Fate::Lost);
    let operators = quick()
        .request_timeout(Duration::from_millis(100))
        .build(nobody)
        .unwrap();
    let failed = operators.break_lock("broken", FencingToken::new(1));
    assert!(matches!(
        failed,
        Err(Error::Store {
            doing: "break",
            source: StoreError::Unreachable { .. },
            ..
        })
    ));
}
