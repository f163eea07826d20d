//! The service says no, once or for good: what is sent again, for how long, and what it
//! costs.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dynamodb_fifo_lock::protocol::{Consistency, FailureKind, Write};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};
use dynamodb_fifo_lock::{
    AcquireOptions, Error, LockClient, LockName, LockStore, MemoryStore, StoreError, Ticket,
};

use common::proxy::{Fault, Proxy};
use common::{DEADLINE, Table, announcing, embedded_tables, quick, unique, wait_for};

macro_rules! answer {
    ($status:literal, $code:literal) => {
        (
            $status,
            $code,
            concat!(
                r#"{"__type":"com.amazonaws.dynamodb.v20120810#"#,
                $code,
                r#"","message":"on purpose"}"#
            ),
        )
    };
}

/// What the service may answer once and not the next time.
const ONCE: [(u16, &str, &str); 14] = [
    answer!(400, "AccessDeniedException"),
    answer!(400, "ExpiredTokenException"),
    answer!(400, "UnrecognizedClientException"),
    answer!(400, "InvalidSignatureException"),
    answer!(400, "ResourceNotFoundException"),
    answer!(400, "ReplicatedWriteConflictException"),
    answer!(400, "TransactionConflictException"),
    answer!(400, "RequestLimitExceeded"),
    answer!(400, "LimitExceededException"),
    answer!(400, "ThrottlingException"),
    answer!(400, "ACodeThatIsYounger"),
    answer!(400, "InternalServerError"),
    answer!(500, "InternalServerError"),
    answer!(503, "ServiceUnavailable"),
];

/// A proxy that gives one of these answers to the next request for this operation, each
/// time it is armed.
struct Refusing {
    proxy: Proxy,
    armed: Arc<AtomicU32>,
}

impl Refusing {
    fn before(table: &Table, operation: &'static str, status: u16, body: &'static str) -> Self {
        let armed = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&armed);
        let proxy = Proxy::before(&table.endpoint, move |asked| {
            let is_armed = asked == operation
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok();
            match is_armed {
                true => Fault::Instead(status, body),
                false => Fault::None,
            }
        });
        Self { proxy, armed }
    }

    fn arm(&self) {
        self.armed.store(1, Ordering::SeqCst);
    }

    fn wait_until_refused(&self) {
        wait_for("the refusal", || self.armed.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn no_request_of_a_store_is_given_up_for_one_answer() {
    for table in embedded_tables() {
        for (status, code, body) in ONCE {
            let proxy = Proxy::before(&table.endpoint, move |_| Fault::Instead(status, body));
            let store = table.store_through(&proxy.endpoint);
            let lock = LockName::new("x").unwrap();
            let write = Write::Enqueue {
                start: Ticket::new(10),
                grace: Duration::from_secs(1),
                wall_ms: 1,
            };
            let errors = [
                store.read(&lock, Consistency::Strong, DEADLINE).map(drop),
                store.write(&lock, &write, DEADLINE).map(drop),
                store
                    .look(&lock, Ticket::new(1), Ticket::MAX, 5, DEADLINE)
                    .map(drop),
                store
                    .dequeue(
                        &lock,
                        Ticket::new(11),
                        &dynamodb_fifo_lock::HolderId::new("a"),
                        DEADLINE,
                    )
                    .map(drop),
            ];
            for error in errors.map(Result::unwrap_err) {
                let failure = error.failure();
                assert_ne!(failure.kind, FailureKind::Final, "{code}: {error}");
                let unclear = code == "InternalServerError" || status == 503;
                assert_eq!(failure.maybe_applied, unclear, "{code}: {error}");
            }
        }
    }
}

#[test]
fn an_acquire_a_renewal_and_a_release_that_are_refused_once_are_sent_again() {
    for table in embedded_tables() {
        for (status, code, body) in ONCE {
            let refusing = Refusing::before(&table, "UpdateItem", status, body);
            let client = quick()
                .lease(Duration::from_secs(600))
                .heartbeat_interval(Duration::from_millis(150))
                .build(table.store_through(&refusing.proxy.endpoint))
                .unwrap();
            let lock = unique("refused");
            refusing.arm();
            let guard = client.acquire_timeout(&lock, DEADLINE).expect(code);
            refusing.wait_until_refused();
            // The next write is a renewal.
            let before = guard.remaining();
            refusing.arm();
            refusing.wait_until_refused();
            wait_for("a renewal", || guard.remaining() > before);
            refusing.arm();
            guard.release().expect(code);
            assert!(client.try_acquire(&lock).unwrap().is_some(), "{code}");
        }
    }
}

#[test]
fn a_waiter_that_is_refused_once_keeps_its_place() {
    for table in embedded_tables() {
        for (status, code, body) in [ONCE[0], ONCE[4], ONCE[5]] {
            for (operation, delay) in [
                ("GetItem", Duration::ZERO),
                // A lock delay makes it claim its turn.
                ("UpdateItem", Duration::from_millis(1)),
            ] {
                let holder = quick().build(table.store()).unwrap();
                let lock = unique("place");
                let guard = holder.acquire(&lock).unwrap();
                let refusing = Refusing::before(&table, operation, status, body);
                let store = table.store_through(&refusing.proxy.endpoint);
                let (client, joins) = announcing(quick().lock_delay(delay), store);
                std::thread::scope(|scope| {
                    let waiting = scope.spawn(|| client.acquire_timeout(&lock, DEADLINE));
                    let ticket = joins.recv_timeout(DEADLINE).unwrap();
                    refusing.arm();
                    if operation == "GetItem" {
                        refusing.wait_until_refused();
                    }
                    drop(guard);
                    let granted = waiting.join().unwrap().expect(code);
                    assert_eq!(granted.fencing_token().get(), ticket, "{code}");
                    if !delay.is_zero() {
                        refusing.wait_until_refused();
                    }
                });
            }
        }
    }
}

/// A store that denies what this says.
fn denying(
    inner: &MemoryStore,
    is_denied: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static,
) -> (FaultyStore, Arc<AtomicU32>) {
    let denied = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&denied);
    let store = FaultyStore::new(inner.clone(), move |_, request| match is_denied(request) {
        true => {
            count.fetch_add(1, Ordering::SeqCst);
            Fate::Denied
        }
        false => Fate::Fine,
    });
    (store, denied)
}

fn is_denied(error: &Error) -> bool {
    matches!(
        error,
        Error::Store {
            source: StoreError::Denied { .. },
            ..
        }
    )
}

#[test]
fn a_wrong_policy_shows_within_seconds_and_to_a_try_at_once() {
    let (store, denied) = denying(&MemoryStore::new(), |_| true);
    let client = LockClient::builder().build(store).unwrap();
    let error = client.try_acquire("x").unwrap_err();
    assert!(is_denied(&error), "{error}");
    assert_eq!(denied.swap(0, Ordering::SeqCst), 1);
    let began = Instant::now();
    let error = client.acquire("x").unwrap_err();
    assert!(is_denied(&error), "{error}");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_500), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(denied.load(Ordering::SeqCst) > 3);
}

/// Each way to give something back, denied once.
#[test]
fn whatever_is_given_back_is_given_back_after_one_denial() {
    type Wanted = fn(&Write) -> bool;
    let ways: [(AcquireOptions, Wanted); 3] = [
        (AcquireOptions::new(), |write| {
            matches!(write, Write::Release { .. })
        }),
        (AcquireOptions::new().shared(), |write| {
            matches!(write, Write::Unshare { .. })
        }),
        (AcquireOptions::new().permits(1), |write| {
            matches!(write, Write::Unshare { .. })
        }),
    ];
    for (options, wanted) in ways {
        let memory = MemoryStore::new();
        let times = AtomicU32::new(0);
        let (store, denied) = denying(&memory, move |request| match request {
            Request::Write(write) if wanted(write) => times.fetch_add(1, Ordering::SeqCst) == 0,
            _ => false,
        });
        let client = quick()
            .lease(Duration::from_secs(600))
            .build(store)
            .unwrap();
        client
            .acquire_with("x", options)
            .unwrap()
            .release()
            .unwrap();
        assert_eq!(denied.load(Ordering::SeqCst), 1);
        let other = quick().build(memory).unwrap();
        assert!(other.try_acquire("x").unwrap().is_some());
    }
}

#[test]
fn an_operators_break_is_sent_again_and_fails_soon_if_it_is_never_allowed() {
    for deny_reads in [false, true] {
        let memory = MemoryStore::new();
        let owner = quick().build(memory.clone()).unwrap();
        let guard = owner.acquire("x").unwrap();
        let times = AtomicU32::new(0);
        let (store, denied) = denying(&memory, move |request| {
            matches!(request, Request::Read) == deny_reads
                && times.fetch_add(1, Ordering::SeqCst) == 0
        });
        let operator = LockClient::builder().build(store).unwrap();
        assert!(operator.break_lock("x", guard.fencing_token()).unwrap());
        assert_eq!(denied.load(Ordering::SeqCst), 1);
    }
    let (store, _) = denying(&MemoryStore::new(), |_| true);
    let operator = LockClient::builder().build(store).unwrap();
    let began = Instant::now();
    let token = dynamodb_fifo_lock::FencingToken::new(7);
    assert!(is_denied(&operator.break_lock("x", token).unwrap_err()));
    assert!(began.elapsed() < Duration::from_secs(6));
}

/// Somebody who shares and is dead is evicted, although the first try is denied.
#[test]
fn an_eviction_that_is_denied_once_is_sent_again() {
    let memory = MemoryStore::new();
    let lock = LockName::new("x").unwrap();
    let dead = Write::TryShare {
        holder: dynamodb_fifo_lock::record::Holder {
            id: dynamodb_fifo_lock::HolderId::new("dead"),
            lease: Duration::from_millis(300),
            owner: "dead".into(),
            since_ms: 1,
            renewed_at_ms: 1,
            data: None,
        },
        limit: 100,
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
    };
    assert!(
        memory
            .write(&lock, &dead, DEADLINE)
            .unwrap()
            .applied()
            .is_some()
    );
    let times = AtomicU32::new(0);
    let (store, denied) = denying(&memory, move |request| {
        matches!(request, Request::Write(Write::Evict { .. }))
            && times.fetch_add(1, Ordering::SeqCst) == 0
    });
    let client = quick().build(store).unwrap();
    drop(client.acquire_timeout("x", DEADLINE).unwrap());
    assert_eq!(denied.load(Ordering::SeqCst), 1);
}

/// What is wrong in the table does not get right by asking again.
#[test]
fn what_cannot_get_better_fails_at_once() {
    for table in embedded_tables() {
        let lock = unique("malformed");
        table.put(&lock, serde_json::json!({ "schema": { "N": "2" } }));
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let client = LockClient::builder()
            .build(table.store_through(&proxy.endpoint))
            .unwrap();
        let error = client.acquire(&lock).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Store {
                    source: StoreError::Malformed { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert!(proxy.take_operations().len() <= 4);
    }
}
