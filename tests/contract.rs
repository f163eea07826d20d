//! Every backend does with a write what the protocol's own model does.

mod common;

use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write, apply};
use dynamodb_fifo_lock::record::{Holder, LockRecord};
use dynamodb_fifo_lock::{HolderId, LockName, LockStore, Ticket};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use common::{backends, unique};

const WITHIN: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_millis(1_000);

fn holder(id: u32) -> Holder {
    Holder {
        id: HolderId::new(format!("attempt-{id}")),
        lease: Duration::from_millis(20_000),
        owner: format!("owner {id}"),
        since_ms: 1_000 + u64::from(id),
        renewed_at_ms: 2_000 + u64::from(id),
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
    match dice.random_range(0..8) {
        0 => Write::Try {
            holder: holder(id),
            start,
            grace: GRACE,
        },
        1 | 2 => Write::Enqueue {
            start,
            grace: GRACE,
        },
        3 => Write::Claim {
            ticket,
            holder: holder(id),
        },
        4 => Write::Renew {
            ticket,
            id: id_of_holder,
            wall_ms: dice.random_range(0..10_000),
        },
        5 => Write::Release {
            ticket,
            id: id_of_holder,
        },
        6 => Write::Withdraw { id: id_of_holder },
        _ => {
            let stale = dice.random_bool(0.3);
            Write::Advance {
                served: turn.previous(),
                revision: record.map_or(0, |record| record.revision) + u64::from(stale),
                to: turn.next(),
            }
        }
    }
}

#[test]
fn random_walks_agree_with_the_model() {
    for backend in backends() {
        for seed in 0..8 {
            let mut dice = StdRng::seed_from_u64(seed);
            let lock = LockName::new(&unique("walk")).unwrap();
            let mut model: Option<LockRecord> = None;
            let (mut applied, mut refused) = (0, 0);
            for step in 0..120 {
                let write = draw_write(&mut dice, model.as_ref());
                let expected = apply(model.as_ref(), &write);
                let found = backend.store.write(&lock, &write, WITHIN).unwrap();
                assert_eq!(
                    found, expected,
                    "{} seed {seed} step {step}: {write:?} on {model:?}",
                    backend.name
                );
                match expected {
                    Some(record) => {
                        applied += 1;
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
    }
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
            },
            Write::Withdraw { id },
            Write::Advance {
                served: ticket,
                revision: 0,
                to: ticket.next(),
            },
        ] {
            let answer = backend.store.write(&lock, &write, WITHIN).unwrap();
            assert_eq!(answer, None, "{}: {write:?}", backend.name);
            assert_eq!(read(), None, "{}: {write:?}", backend.name);
        }
        let write = Write::Enqueue {
            start: Ticket::new(7),
            grace: GRACE,
        };
        let record = backend.store.write(&lock, &write, WITHIN).unwrap();
        assert_eq!(record.as_ref().unwrap().issued, Ticket::new(8));
        assert_eq!(read(), record);
    }
}

/// The store "dynamodb_lock" 0.6 breaks here: it writes the lease as a number
/// and reads a text, so that a dead holder blocks for ever.
#[test]
fn what_is_written_reads_back_the_same() {
    for backend in backends() {
        let lock = LockName::new(&unique("größe 🔒/x")).unwrap();
        let mut odd = holder(1);
        odd.owner = "Büro \"7\" \\ 🔒".into();
        odd.lease = Duration::from_millis(86_400_000);
        odd.since_ms = 253_402_300_799_999;
        let write = Write::Try {
            holder: odd.clone(),
            start: Ticket::new(1_800_000_000_000),
            grace: GRACE,
        };
        let record = backend.store.write(&lock, &write, WITHIN).unwrap().unwrap();
        assert_eq!(record.holder, Some(odd), "{}", backend.name);
        let read = backend.store.read(&lock, Consistency::Strong, WITHIN);
        assert_eq!(read.unwrap(), Some(record), "{}", backend.name);
    }
}
