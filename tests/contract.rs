//! Every backend does with a write what the protocol's own model does.

mod common;
#[path = "contract/races.rs"]
mod races;

use std::collections::HashMap;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write, apply};
use dynamodb_fifo_lock::record::{Holder, LockRecord, TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, LockName, LockStore, StoreError, Ticket, Written};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use common::{backends, tables, unique};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_millis(1_000);

/// So many kinds of writes there are.
const KINDS: usize = 14;

fn holder(id: u32) -> Holder {
    Holder {
        id: HolderId::new(format!("attempt-{id}")),
        lease: Duration::from_millis(20_000),
        owner: format!("owner {id}"),
        since_ms: 1_000 + u64::from(id),
        renewed_at_ms: 2_000 + u64::from(id),
        // With and without: the condition counts the parts.
        data: (id > 0).then(|| format!("job {id}")),
    }
}

/// A write that is about right: as often applied as refused.
fn draw_write(dice: &mut StdRng, record: Option<&LockRecord>) -> Write {
    let id = dice.random_range(0..3);
    let start = Ticket::new(dice.random_range(100..200));
    let turn = record.map_or(start, LockRecord::turn);
    let ticket = match dice.random_range(0..4) {
        0 => turn.next(),
        _ => turn,
    };
    let id_of_holder = match record.and_then(|record| record.holder.as_ref()) {
        Some(holder) if dice.random_bool(0.7) => holder.id.clone(),
        _ => holder(id).id,
    };
    let nth = dice.random_range(0..3);
    let sharer = record.and_then(|record| record.sharers.values().nth(nth));
    let (id_of_sharer, beats) = match sharer {
        Some(sharer) if dice.random_bool(0.8) => (sharer.holder.id.clone(), sharer.beats),
        _ => (holder(id).id, 0),
    };
    let limit = dice.random_range(1..4);
    let wall_ms = dice.random_range(0..10_000);
    match dice.random_range(0..21) {
        0 => Write::Try {
            holder: holder(id),
            start,
            grace: GRACE,
        },
        1 | 17 => Write::Enqueue {
            start,
            grace: GRACE,
            wall_ms,
        },
        2 | 18 => Write::EnqueueBehind,
        3 => Write::Claim {
            ticket,
            holder: holder(id),
        },
        4 => Write::Renew {
            ticket,
            id: id_of_holder,
            wall_ms,
        },
        5 | 6 => Write::Release {
            ticket,
            id: id_of_holder,
            wall_ms,
        },
        7 => Write::Withdraw {
            id: id_of_holder,
            wall_ms,
        },
        8 => Write::HandOver {
            ticket,
            id: id_of_holder,
            next: holder(id),
        },
        9 | 10 | 20 => Write::TryShare {
            holder: holder(id),
            limit,
            start,
            grace: GRACE,
        },
        11 => Write::Share {
            ticket,
            holder: holder(id),
            limit,
        },
        12 => Write::RenewShare {
            id: id_of_sharer,
            wall_ms,
        },
        13 | 14 => Write::Unshare { id: id_of_sharer },
        15 | 19 => Write::Evict {
            id: id_of_sharer,
            beats: beats + u64::from(dice.random_bool(0.3)),
        },
        _ => {
            let (stale, older) = (dice.random_bool(0.2), dice.random_bool(0.2));
            Write::Advance {
                served: turn.previous(),
                revision: record.map_or(0, |record| record.revision) + u64::from(stale),
                moved_at_ms: record.map_or(0, |record| record.moved_at_ms) + u64::from(older),
                to: turn.next(),
                wall_ms,
            }
        }
    }
}

#[test]
fn random_walks_agree_with_the_model() {
    for backend in backends() {
        let mut applied_of = HashMap::new();
        for seed in 0..24 {
            let mut dice = StdRng::seed_from_u64(seed);
            let lock = LockName::new(&unique("walk")).unwrap();
            let mut model: Option<LockRecord> = None;
            let (mut applied, mut refused) = (0, 0);
            for step in 0..120 {
                let write = draw_write(&mut dice, model.as_ref());
                let expected = apply(model.as_ref(), &write);
                let found = backend.store.write(&lock, &write, WITHIN).unwrap();
                if let Written::Refused(Some(seen)) = &found {
                    assert_eq!(Some(seen), model.as_ref(), "{}: {write:?}", backend.name);
                }
                assert_eq!(
                    found.applied(),
                    expected,
                    "{} seed {seed} step {step}: {write:?} on {model:?}",
                    backend.name
                );
                match expected {
                    Some(record) => {
                        applied += 1;
                        *applied_of.entry(kind_of(&write)).or_insert(0) += 1;
                        model = Some(record);
                    }
                    None => refused += 1,
                }
                if step % 10 == 0 {
                    for consistency in [Consistency::Strong, Consistency::Eventual] {
                        let read = backend.store.read(&lock, consistency, WITHIN).unwrap();
                        assert_eq!(read, model, "{}", backend.name);
                    }
                }
            }
            assert!(applied > 20 && refused > 20, "{applied} {refused}");
        }
        let rarest = applied_of.values().min();
        assert_eq!(applied_of.len(), KINDS, "{}", backend.name);
        assert!(rarest > Some(&10), "{}: {applied_of:?}", backend.name);
    }
}

/// The name of a write.
fn kind_of(write: &Write) -> String {
    let all = format!("{write:?}");
    all.split(' ').next().unwrap_or_default().into()
}

#[test]
fn an_unknown_lock_has_no_record_and_only_joining_makes_one() {
    for backend in backends() {
        let lock = LockName::new(&unique("unknown")).unwrap();
        let read = || {
            let store: &dyn LockStore = &*backend.store;
            store.read(&lock, Consistency::Strong, WITHIN).unwrap()
        };
        let ticket = Ticket::new(5);
        let id = holder(0).id;
        for write in [
            Write::Claim {
                ticket,
                holder: holder(0),
            },
            Write::Renew {
                ticket,
                id: id.clone(),
                wall_ms: 1,
            },
            Write::Release {
                ticket,
                id: id.clone(),
                wall_ms: 1,
            },
            Write::HandOver {
                ticket,
                id: id.clone(),
                next: holder(1),
            },
            Write::Withdraw {
                id: id.clone(),
                wall_ms: 1,
            },
            Write::Share {
                ticket,
                holder: holder(0),
                limit: 3,
            },
            Write::RenewShare {
                id: id.clone(),
                wall_ms: 1,
            },
            Write::Unshare { id: id.clone() },
            Write::Evict { id, beats: 0 },
            Write::Advance {
                served: ticket,
                revision: 0,
                moved_at_ms: 1,
                to: ticket.next(),
                wall_ms: 1,
            },
        ] {
            let answer = backend.store.write(&lock, &write, WITHIN).unwrap();
            assert_eq!(
                answer,
                Written::Refused(None),
                "{}: {write:?}",
                backend.name
            );
            assert_eq!(read(), None, "{}: {write:?}", backend.name);
        }
        let write = Write::Enqueue {
            start: Ticket::new(7),
            grace: GRACE,
            wall_ms: 1,
        };
        let record = backend
            .store
            .write(&lock, &write, WITHIN)
            .unwrap()
            .applied();
        assert_eq!(record.as_ref().unwrap().issued, Ticket::new(8));
        assert_eq!(read(), record);
    }
}

#[test]
fn sharing_an_unknown_lock_makes_its_record() {
    for backend in backends() {
        let store = &*backend.store;
        let lock = LockName::new(&unique("unknown")).unwrap();
        let mut model = None;
        for id in 0..3 {
            let write = Write::TryShare {
                holder: holder(id),
                limit: 2,
                start: Ticket::new(7),
                grace: GRACE,
            };
            let expected = apply(model.as_ref(), &write);
            assert_eq!(expected.is_some(), id < 2);
            let answer = store.write(&lock, &write, WITHIN).unwrap();
            assert_eq!(answer.applied(), expected, "{}: {id}", backend.name);
            model = expected.or(model);
        }
        let read = store.read(&lock, Consistency::Strong, WITHIN).unwrap();
        assert_eq!(read, model, "{}", backend.name);
        let record = read.unwrap();
        assert_eq!(
            (record.issued, record.served),
            (Ticket::new(9), Ticket::new(9))
        );
        assert_eq!(record.sharers.len(), 2);
    }
}

/// The store "dynamodb_lock" 0.6 breaks here: it writes the lease as a number
/// and reads a text, so that a dead holder blocks for ever.
#[test]
fn what_is_written_reads_back_the_same() {
    for backend in backends() {
        let lock = LockName::new(&unique("größe 🔒/x")).unwrap();
        let mut odd = holder(1);
        odd.id = HolderId::new("sharer:#7.a[0] 🔒");
        odd.owner = "Büro \"7\" \\ 🔒".into();
        odd.lease = Duration::from_millis(86_400_000);
        odd.since_ms = 253_402_300_799_999;
        odd.data = Some("{\"Auftrag\": \"7 🔒\"}".into());
        let write = Write::Try {
            holder: odd.clone(),
            start: Ticket::new(1_800_000_000_000),
            grace: GRACE,
        };
        let record = backend
            .store
            .write(&lock, &write, WITHIN)
            .unwrap()
            .applied()
            .unwrap();
        assert_eq!(record.holder, Some(odd.clone()), "{}", backend.name);
        let read = || backend.store.read(&lock, Consistency::Strong, WITHIN);
        assert_eq!(read().unwrap(), Some(record), "{}", backend.name);
        // An id is part of an attribute's name.
        let share = Write::Share {
            ticket: Ticket::new(1_800_000_000_001),
            holder: odd.clone(),
            limit: 1,
        };
        let record = backend.store.write(&lock, &share, WITHIN).unwrap();
        let record = record.applied().unwrap();
        assert_eq!(record.sharers[&odd.id].holder, odd, "{}", backend.name);
        assert_eq!(read().unwrap(), Some(record), "{}", backend.name);
    }
}

fn row(ticket: u64, id: u32) -> TicketRow {
    TicketRow {
        ticket: Ticket::new(ticket),
        id: holder(id).id,
        owner: format!("Büro {id} 🔒"),
        state: TicketState::Waiting,
        since_ms: 1_800_000_000_000,
        expires_at_s: 4_000_000_000,
    }
}

fn left(row: &TicketRow) -> TicketRow {
    TicketRow {
        state: TicketState::Left,
        ..row.clone()
    }
}

/// All rows of a lock.
fn rows(store: &dyn LockStore, lock: &LockName) -> Vec<TicketRow> {
    let (from, to) = (Ticket::new(0), Ticket::MAX);
    store.look(lock, from, to, 10_000, WITHIN).unwrap()
}

#[test]
fn a_row_is_written_by_its_attempt_until_that_has_left() {
    for backend in backends() {
        let store = &*backend.store;
        let lock = LockName::new(&unique("row")).unwrap();
        let announce = |row: &TicketRow| store.announce(&lock, row, WITHIN).unwrap();
        let first = row(7, 1);
        assert!(announce(&first), "{}", backend.name);
        assert_eq!(rows(store, &lock), vec![first.clone()], "{}", backend.name);
        let later = TicketRow {
            expires_at_s: 4_000_000_030,
            ..first.clone()
        };
        assert!(announce(&later), "{}", backend.name);
        // Drawn by one attempt, a ticket is not another's.
        assert!(!announce(&row(7, 2)) && !announce(&left(&row(7, 2))));
        assert_eq!(rows(store, &lock), vec![later.clone()], "{}", backend.name);
        assert!(announce(&left(&later)), "{}", backend.name);
        // Late, and long on the way.
        assert!(!announce(&later) && !announce(&left(&later)));
        assert_eq!(rows(store, &lock), [left(&later)], "{}", backend.name);
        // Who left without ever announcing itself says so as well.
        assert!(announce(&left(&row(8, 2))), "{}", backend.name);
        assert!(!announce(&row(8, 2)), "{}", backend.name);
    }
}

#[test]
fn a_row_is_deleted_by_its_attempt_only() {
    for backend in backends() {
        let store = &*backend.store;
        let lock = LockName::new(&unique("dequeue")).unwrap();
        let dequeue = |ticket: u64, id: u32| {
            let (ticket, id) = (Ticket::new(ticket), holder(id).id);
            store.dequeue(&lock, ticket, &id, WITHIN).unwrap();
        };
        dequeue(7, 1);
        assert!(store.announce(&lock, &row(7, 1), WITHIN).unwrap());
        assert!(store.announce(&lock, &row(8, 1), WITHIN).unwrap());
        dequeue(7, 2);
        assert_eq!(rows(store, &lock), [row(7, 1), row(8, 1)]);
        dequeue(7, 1);
        dequeue(7, 1);
        assert_eq!(rows(store, &lock), [row(8, 1)], "{}", backend.name);
        assert!(store.announce(&lock, &row(7, 2), WITHIN).unwrap());
    }
}

#[test]
fn looks_are_bounded_and_in_the_order_of_numbers() {
    for backend in backends() {
        let store = &*backend.store;
        let lock = LockName::new(&unique("look")).unwrap();
        let other = LockName::new(&format!("{lock}-other")).unwrap();
        assert!(store.announce(&other, &row(9, 1), WITHIN).unwrap());
        // As texts, 10 would come before 9, and 100 before both.
        for ticket in (1..=130).rev() {
            assert!(store.announce(&lock, &row(ticket, 1), WITHIN).unwrap());
        }
        let look = |from: u64, to: u64, limit: usize| -> Vec<u64> {
            let (from, to) = (Ticket::new(from), Ticket::new(to));
            let rows = store.look(&lock, from, to, limit, WITHIN).unwrap();
            rows.iter().map(|row| row.ticket.get()).collect()
        };
        let up = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
        let name = backend.name;
        assert_eq!(look(0, 1_000, 1_000), up(1, 130), "{name}");
        assert_eq!(look(0, 130, 130), up(1, 130), "{name}");
        assert_eq!(look(9, 101, 1_000), up(9, 101), "{name}");
        assert_eq!(look(9, 101, 5), up(9, 13), "{name}");
        assert_eq!(look(9, 9, 5), [9], "{name}");
        for nothing in [
            look(131, 1_000, 5),
            look(9, 8, 5),
            look(1, 9, 0),
            look(0, 0, 5),
        ] {
            assert!(nothing.is_empty(), "{name}: {nothing:?}");
        }
    }
}

/// A page of a query ends after a megabyte, however few rows that are.
#[test]
fn a_look_goes_on_until_there_are_no_more_rows() {
    for table in tables() {
        let store = table.store();
        let lock = LockName::new(&unique("fat")).unwrap();
        for ticket in 1..=7 {
            table.put_row(
                lock.as_str(),
                ticket,
                json!({
                    "schema": { "N": "2" }, "id": { "S": "a" }, "owner": { "S": "b" },
                    "state": { "S": "waiting" }, "since": { "N": "1" },
                    "expires_at": { "N": "4000000000" },
                    "fat": { "S": "x".repeat(380_000) },
                }),
            );
        }
        let look = |limit: usize| -> Vec<u64> {
            let (from, to) = (Ticket::new(1), Ticket::MAX);
            let rows = store.look(&lock, from, to, limit, WITHIN).unwrap();
            rows.iter().map(|row| row.ticket.get()).collect()
        };
        assert_eq!(look(100), [1, 2, 3, 4, 5, 6, 7], "{}", table.name);
        assert_eq!(look(5), [1, 2, 3, 4, 5], "{}", table.name);
    }
}

#[test]
fn rows_and_records_never_meet() {
    for backend in backends() {
        let store = &*backend.store;
        let lock = LockName::new(&unique("beside")).unwrap();
        let read = || store.read(&lock, Consistency::Strong, WITHIN).unwrap();
        // A row of a lock that has no record makes none.
        assert!(store.announce(&lock, &row(7, 1), WITHIN).unwrap());
        assert_eq!(read(), None, "{}", backend.name);
        let write = Write::Try {
            holder: holder(1),
            start: Ticket::new(6),
            grace: GRACE,
        };
        let record = store.write(&lock, &write, WITHIN).unwrap().applied();
        assert!(record.is_some(), "{}", backend.name);
        // Ticket 0 is where the record stands.
        let refused = [
            store.announce(&lock, &row(0, 1), WITHIN).map(drop),
            store.dequeue(&lock, Ticket::new(0), &holder(1).id, WITHIN),
        ];
        for result in refused {
            assert!(
                matches!(result, Err(StoreError::Rejected { .. })),
                "{}: {result:?}",
                backend.name
            );
        }
        assert!(store.announce(&lock, &left(&row(7, 1)), WITHIN).unwrap());
        assert_eq!(rows(store, &lock), [left(&row(7, 1))], "{}", backend.name);
        let (ticket, id) = (Ticket::new(7), holder(1).id);
        store.dequeue(&lock, ticket, &id, WITHIN).unwrap();
        assert_eq!(rows(store, &lock), [], "{}", backend.name);
        assert_eq!(read(), record, "{}", backend.name);
    }
}
