//! What goes over the wire: how many requests, and what becomes of spoilt answers.

mod common;

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use dynamodb_fifo_lock::protocol::{Consistency, Write, apply};
use dynamodb_fifo_lock::record::Holder;
use dynamodb_fifo_lock::{Error, HolderId, LockName, LockStore, StoreError, Ticket};

use common::proxy::{Fault, Proxy};
use common::{Wire, embedded_tables, quick, tables, unique};

const GENEROUS: Duration = Duration::from_secs(10);

fn enqueue() -> Write {
    Write::Enqueue {
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
        wall_ms: 1,
    }
}

#[test]
fn an_uncontended_acquire_and_release_are_two_writes_and_no_read() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let client = quick().build(table.store_through(&proxy.endpoint)).unwrap();
        // The lock's very first acquisition, and one of a lock that is known.
        let lock = unique("two");
        for _ in 0..2 {
            client.acquire(&lock).unwrap().release().unwrap();
            assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
        }
        drop(client.try_acquire(&lock).unwrap().unwrap());
        assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
        let value = client.with_lock(&lock, |_| Ok::<_, Error>(7)).unwrap();
        assert_eq!(value, 7);
        assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
    }
}

#[test]
fn a_try_of_a_free_lock_is_one_request_and_of_a_busy_one_two() {
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let client = quick().build(table.store_through(&proxy.endpoint)).unwrap();
        let lock = unique("try");
        let guard = client.try_acquire(&lock).unwrap().unwrap();
        assert_eq!(proxy.take_operations(), ["UpdateItem"]);
        assert!(client.try_acquire(&lock).unwrap().is_none());
        let asked = proxy.take_operations();
        // Some servers show the record with the refusal to those who ask for it.
        let shown = table.wire != Wire::Rusoto && asked == ["UpdateItem"];
        assert!(shown || asked == ["UpdateItem", "GetItem"], "{asked:?}");
        drop(guard);
    }
}

/// Every fault ends within the deadline, as an error that says "maybe applied",
/// after exactly one send.
#[test]
fn a_spoilt_answer_is_ambiguous_and_bounded_and_sent_once() {
    for table in embedded_tables() {
        let (unhang, hangs) = bounded::<()>(0);
        let faults: Vec<(&str, Fault)> = vec![
            ("hang", Fault::Hang(hangs.clone())),
            ("half a body", Fault::HalfBody(hangs)),
            ("dropped answer", Fault::DropAnswer),
            ("empty 200", Fault::Instead(200, "")),
            ("a page", Fault::Instead(200, "<html>hello</html>")),
            ("no record", Fault::Instead(200, "{}")),
            ("bad gateway", Fault::Instead(502, "<html>oops</html>")),
            (
                "service unavailable",
                Fault::Instead(503, r#"{"__type":"ServiceUnavailable"}"#),
            ),
            ("redirect", Fault::Instead(307, "")),
        ];
        for (name, fault) in faults {
            let proxy = Proxy::before(&table.endpoint, move |_| fault.clone());
            let store = table.store_through(&proxy.endpoint);
            let lock = LockName::new(&unique("spoilt")).unwrap();
            let within = Duration::from_millis(500);
            let began = Instant::now();
            let error = store.write(&lock, &enqueue(), within).unwrap_err();
            assert!(
                began.elapsed() < within + GENEROUS,
                "{name}: {:?}",
                began.elapsed()
            );
            assert!(
                matches!(error, StoreError::Unreachable { .. }) && error.maybe_applied(),
                "{name}: {error}"
            );
            assert_eq!(proxy.take_operations(), ["UpdateItem"], "{name}");
        }
        drop(unhang);
    }
}

#[test]
fn a_request_that_hangs_delays_no_other() {
    for table in embedded_tables() {
        let (unhang, hangs) = bounded::<()>(0);
        let (hanging, hung) = bounded(1);
        let mut first = true;
        let proxy = Proxy::before(&table.endpoint, move |_| {
            if std::mem::take(&mut first) {
                let _ = hanging.send(());
                return Fault::Hang(hangs.clone());
            }
            Fault::None
        });
        let store = table.store_through(&proxy.endpoint);
        let lock = LockName::new(&unique("hang")).unwrap();
        std::thread::scope(|scope| {
            let stuck = scope.spawn(|| store.read(&lock, Consistency::Strong, common::DEADLINE));
            hung.recv_timeout(GENEROUS).unwrap();
            let read = store.read(&lock, Consistency::Strong, GENEROUS);
            assert_eq!(read.unwrap(), None, "{}", table.name);
            assert!(!stuck.is_finished());
            drop(unhang);
            assert!(stuck.join().unwrap().is_err());
        });
    }
}

#[test]
fn an_empty_answer_to_a_read_is_no_free_lock() {
    for table in embedded_tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::Instead(200, ""));
        let store = table.store_through(&proxy.endpoint);
        let lock = LockName::new("x").unwrap();
        let read = store.read(&lock, Consistency::Strong, GENEROUS);
        assert!(
            matches!(read, Err(StoreError::Unreachable { .. })),
            "{read:?}"
        );
    }
}

/// An empty table or queue shows an empty list. What shows none, says nothing.
#[test]
fn an_empty_answer_to_a_question_for_rows_is_not_that_there_are_none() {
    for table in embedded_tables() {
        let lock = LockName::new("x").unwrap();
        for answer in ["", "{}"] {
            let proxy = Proxy::before(&table.endpoint, move |_| Fault::Instead(200, answer));
            let store = table.store_through(&proxy.endpoint);
            let look = store.look(&lock, Ticket::new(1), Ticket::MAX, 5, GENEROUS);
            assert!(
                matches!(look, Err(StoreError::Unreachable { .. })),
                "{look:?}"
            );
            let list = store.list(None, GENEROUS);
            assert!(
                matches!(list, Err(StoreError::Unreachable { .. })),
                "{list:?}"
            );
            assert_eq!(proxy.take_operations(), ["Query", "Scan"]);
        }
    }
}

/// A look may take several requests. Together they take no longer than one may.
#[test]
fn a_look_of_many_pages_ends_in_time() {
    for table in embedded_tables() {
        let page =
            r#"{"Items":[],"Count":0,"LastEvaluatedKey":{"lock":{"S":"x"},"ticket":{"N":"7"}}}"#;
        let proxy = Proxy::before(&table.endpoint, move |_| Fault::Instead(200, page));
        let store = table.store_through(&proxy.endpoint);
        let lock = LockName::new("x").unwrap();
        let within = Duration::from_millis(300);
        let began = Instant::now();
        let look = store.look(&lock, Ticket::new(1), Ticket::MAX, 5, within);
        assert!(
            matches!(look, Err(StoreError::Unreachable { .. })),
            "{look:?}"
        );
        assert!(began.elapsed() < within + GENEROUS);
        assert!(proxy.take_operations().len() > 1);
    }
}

/// rusoto's own HTTP client panics here.
#[test]
fn a_header_that_is_not_ascii_does_no_harm() {
    for table in embedded_tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::OddHeader);
        let client = quick().build(table.store_through(&proxy.endpoint)).unwrap();
        client.acquire(&unique("odd")).unwrap().release().unwrap();
    }
}

#[test]
fn nobody_listening_is_unreachable_and_not_lost_or_missing() {
    for table in embedded_tables() {
        let store = table.store_through("http://127.0.0.1:9");
        let client = quick()
            .outage_limit(Duration::from_millis(300))
            .build(store)
            .unwrap();
        let error = client.acquire("x").unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Store {
                    source: StoreError::Unreachable { .. },
                    ..
                }
            ),
            "{error}"
        );
        let error = client.try_acquire("x").unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Store {
                    source: StoreError::Unreachable { .. },
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn throttling_is_waited_out() {
    for table in embedded_tables() {
        let mut left = 3;
        let throttled = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow"}"#;
        let proxy = Proxy::before(&table.endpoint, move |_| {
            if left > 0 {
                left -= 1;
                return Fault::Instead(400, throttled);
            }
            Fault::None
        });
        let client = quick().build(table.store_through(&proxy.endpoint)).unwrap();
        let guard = client.acquire(&unique("throttled")).unwrap();
        assert_eq!(proxy.take_operations().len(), 4);
        drop(guard);
    }
}

/// The answer to each write is lost once. The lock is neither lost nor waited
/// for until a ghost's lease runs out.
#[test]
fn lost_answers_cost_a_request_and_not_a_lease() {
    for table in tables() {
        let mut seen = 0;
        let proxy = Proxy::before(&table.endpoint, move |operation| {
            if operation != "UpdateItem" {
                return Fault::None;
            }
            seen += 1;
            // The first and third write: the try, and the release.
            match seen {
                1 | 3 => Fault::DropAnswer,
                _ => Fault::None,
            }
        });
        let client = quick()
            .lease(Duration::from_secs(3_600))
            .build(table.store_through(&proxy.endpoint))
            .unwrap();
        let lock = unique("lost");
        let guard = client.acquire_timeout(&lock, GENEROUS).unwrap();
        // Try (lost), look, claim.
        let operations = proxy.take_operations();
        assert_eq!(operations, ["UpdateItem", "GetItem", "UpdateItem"]);
        guard.release().unwrap();
        // Release (lost), release (refused, for it was applied).
        assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
        assert!(client.try_acquire(&lock).unwrap().is_some());
    }
}

/// Whatever the write: if its answer is lost, it was applied once, and the error says
/// that it may have been.
#[test]
fn a_write_whose_answer_is_lost_is_applied_once() {
    let (ticket, me) = (Ticket::new(11), HolderId::new("me"));
    let holder = |id: &str| Holder {
        id: HolderId::new(id),
        lease: Duration::from_secs(20),
        owner: id.into(),
        since_ms: 1,
        renewed_at_ms: 1,
        data: None,
    };
    let take = || Write::Try {
        holder: holder("me"),
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
    };
    let release = Write::Release {
        ticket,
        id: me.clone(),
        wall_ms: 5,
    };
    let share = || Write::TryShare {
        holder: holder("me"),
        limit: 2,
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
    };
    let evict = Write::Evict {
        id: me.clone(),
        beats: 0,
    };
    let cases: Vec<(Vec<Write>, Write)> = vec![
        (vec![], take()),
        (vec![], enqueue()),
        (vec![take()], enqueue()),
        (
            vec![enqueue()],
            Write::Claim {
                ticket,
                holder: holder("me"),
            },
        ),
        (
            vec![take()],
            Write::Renew {
                ticket,
                id: me.clone(),
                wall_ms: 5,
            },
        ),
        (vec![take()], release),
        (
            vec![take(), enqueue()],
            Write::HandOver {
                ticket,
                id: me.clone(),
                next: holder("next"),
            },
        ),
        (vec![], share()),
        (
            vec![enqueue()],
            Write::Share {
                ticket,
                holder: holder("me"),
                limit: 2,
            },
        ),
        (
            vec![share()],
            Write::RenewShare {
                id: me.clone(),
                wall_ms: 5,
            },
        ),
        (vec![share()], Write::Unshare { id: me.clone() }),
        (vec![share()], evict),
        (vec![take()], Write::Withdraw { id: me, wall_ms: 5 }),
        (
            vec![take(), enqueue()],
            Write::Advance {
                served: Ticket::new(10),
                revision: 1,
                moved_at_ms: 1,
                to: Ticket::new(12),
                wall_ms: 5,
            },
        ),
    ];
    for table in tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::DropAnswer);
        let (spoilt, sound) = (table.store_through(&proxy.endpoint), table.store());
        for (before, write) in &cases {
            let lock = LockName::new(&unique("lost-answer")).unwrap();
            let mut model = None;
            for write in before {
                model = sound.write(&lock, write, GENEROUS).unwrap().applied();
            }
            let error = spoilt.write(&lock, write, GENEROUS).unwrap_err();
            assert!(error.maybe_applied(), "{write:?}: {error}");
            let read = sound.read(&lock, Consistency::Strong, GENEROUS).unwrap();
            let expected = apply(model.as_ref(), write);
            assert!(expected.is_some(), "{write:?}");
            assert_eq!(read, expected, "{}: {write:?}", table.name);
        }
    }
}

#[test]
fn a_lost_enqueue_is_passed_over_after_the_grace() {
    for table in tables() {
        let store = table.store();
        let lock = unique("orphan");
        let others = quick().build(store).unwrap();
        let holder = others.acquire(&lock).unwrap();
        let mut enqueues = 0;
        let proxy = Proxy::before(&table.endpoint, move |operation| {
            if operation == "UpdateItem" {
                enqueues += 1;
            }
            // The second write is the enqueue: the first is the try.
            match enqueues {
                2 if operation == "UpdateItem" => Fault::DropAnswer,
                _ => Fault::None,
            }
        });
        let client = quick().build(table.store_through(&proxy.endpoint)).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| client.acquire_timeout(&lock, common::DEADLINE));
            common::wait_for("the second enqueue", || {
                table.get(&lock)["issued"]["N"]
                    .as_str()
                    .and_then(|n| n.parse::<u64>().ok())
                    .is_some_and(|issued| issued >= holder.fencing_token().get() + 2)
            });
            drop(holder);
            let guard = waiting.join().unwrap().unwrap();
            assert!(guard.is_held());
        });
    }
}
