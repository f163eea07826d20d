//! Programs that fork: no process ever holds what another one holds, and nothing hangs.
#![cfg(unix)]

#[path = "forking/child.rs"]
mod child;
mod common;

use std::collections::HashSet;
use std::io::{Read, Write, pipe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{TryRecvError, bounded};
use dynamodb_fifo_lock::{
    AccessKeys, AcquireOptions, Credentials, DynamoDbStore, Error, Event, HolderId, LockClient,
    LockGuard, MemoryStore,
};

use child::{Child, alone, in_a_child};
use common::proxy::{Fault, Proxy};
use common::{embedded_table, embedded_tables, quick, unique, wait_for};

/// What every error says that comes of a fork.
const ADVICE: &str = "build a client after the fork";

#[test]
fn processes_that_came_out_of_one_exclude_each_other() {
    const TURNS: usize = 8;
    let _alone = alone();
    for table in embedded_tables() {
        let (store, lock) = (table.store(), unique("forked"));
        // All try these at once, since nobody holds them yet.
        let free: Vec<String> = (0..TURNS).map(|_| unique("free")).collect();
        let ours = quick().build(Arc::clone(&store)).unwrap();
        // The parent has drawn ids, holds, and has a thread that waits.
        let guard = ours.acquire(&lock).unwrap();
        let (mut ledger, writer) = pipe().unwrap();
        let note = |line: String| (&writer).write_all(line.as_bytes()).unwrap();
        let turn = |client: &LockClient, lock: &str| {
            let guard = client.acquire(lock).unwrap();
            let token = guard.fencing_token();
            // So few bytes are written at once, and in order.
            note(format!("{lock} begins {token}\n"));
            thread::sleep(Duration::from_millis(5));
            assert!(guard.is_held());
            note(format!("{lock} ends {token}\n"));
            guard.release().unwrap();
        };
        thread::scope(|scope| {
            let waiting = scope.spawn(|| turn(&ours, &lock));
            wait_for("the waiter", || {
                let status = ours.inspect(&lock).unwrap();
                status.is_some_and(|status| status.waiting > 0)
            });
            let (go, gone) = pipe().unwrap();
            let children: Vec<_> = (0..3)
                .map(|_| {
                    Child::fork(|| {
                        let client = quick().build(Arc::clone(&store)).unwrap();
                        let _ = (&go).read(&mut [0]);
                        free.iter().for_each(|free| turn(&client, free));
                        (0..TURNS).for_each(|_| turn(&client, &lock));
                        "done".into()
                    })
                })
                .collect();
            (&gone).write_all(&[0; 3]).unwrap();
            guard.release().unwrap();
            for child in children {
                assert_eq!(child.said(), "done", "{}", table.name);
            }
            waiting.join().unwrap();
        });
        drop(writer);
        let mut text = String::new();
        ledger.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 2 * (6 * TURNS + 1), "{}", table.name);
        for name in free.iter().chain([&lock]) {
            let mine = text
                .lines()
                .filter_map(|line| line.strip_prefix(name.as_str()));
            let mut last = 0;
            for pair in mine.collect::<Vec<_>>().chunks(2) {
                let began = pair[0].strip_prefix(" begins ").expect(&text);
                assert_eq!(Some(began), pair[1].strip_prefix(" ends "), "{text}");
                let token = began.parse::<u64>().unwrap();
                assert!(token > last, "{text}");
                last = token;
            }
        }
    }
}

#[test]
fn no_process_draws_an_id_of_another() {
    let _alone = alone();
    let id = || HolderId::random().unwrap().to_string();
    let _ = (id(), rand::random::<u64>());
    let children: Vec<_> = (0..5)
        .map(|_| Child::fork(|| format!("{} {}", id(), id())))
        .collect();
    let mut ids = HashSet::from([id(), id()]);
    for child in children {
        ids.extend(child.said().split(' ').map(str::to_owned));
    }
    assert_eq!(ids.len(), 12, "{ids:?}");
}

/// What a guard says of itself.
fn describe(guard: &LockGuard) -> String {
    format!(
        "held: {}, remaining: {:?}, checked: {:?}, lost: {}, check: {}",
        guard.is_held(),
        guard.remaining(),
        guard.ensure_held().map_err(|error| error.to_string()),
        guard.lost().try_recv() == Err(TryRecvError::Disconnected),
        guard.condition_check().is_some(),
    )
}

#[test]
fn a_guard_is_not_held_in_a_forked_process() {
    let _alone = alone();
    for table in embedded_tables() {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let client = quick().build(table.store_through(&proxy.endpoint)).unwrap();
        let lock = unique("kept");
        // Renewals are not what is counted here.
        let slow = LockClient::builder()
            .build(table.store_through(&proxy.endpoint))
            .unwrap();
        let mut guard = Some(slow.acquire(&lock).unwrap());
        let mut others = vec![Some(slow.acquire(&unique("kept")).unwrap())];
        proxy.take();
        let said = in_a_child(|| {
            let text = describe(guard.as_ref().unwrap());
            drop(guard.take());
            let released = others[0].take().unwrap().release().unwrap_err();
            format!("{text}, released: {released}")
        });
        assert!(
            said.starts_with("held: false, remaining: 0ns, checked: Err("),
            "{said}"
        );
        assert!(said.contains("lost: true, check: false"), "{said}");
        assert_eq!(said.matches("forked from").count(), 2, "{said}");
        assert!(
            proxy.take_operations().is_empty(),
            "the child sent something"
        );
        let guard = guard.unwrap();
        let here = describe(&guard);
        assert!(
            here.starts_with("held: true") && here.contains("lost: false"),
            "{here}"
        );
        assert!(here.contains("check: true"), "{here}");
        assert!(client.try_acquire(&lock).unwrap().is_none());
        guard.release().unwrap();
        others.remove(0).unwrap().release().unwrap();
    }
}

#[test]
fn a_client_does_not_lock_in_a_forked_process() {
    let _alone = alone();
    for table in embedded_tables() {
        let client = quick().build(table.store()).unwrap();
        let lock = unique("held");
        let guard = client.acquire(&lock).unwrap();
        let token = guard.fencing_token();
        let said = in_a_child(|| {
            let options = AcquireOptions::new;
            let refused = [
                client.acquire("a").map(drop),
                client
                    .acquire_timeout("a", Duration::from_secs(1))
                    .map(drop),
                client.acquire_with("a", options().shared()).map(drop),
                client.try_acquire("a").map(drop),
                client.try_acquire_with("a", options().permits(2)).map(drop),
                client.acquire_all(["a", "b"], options()).map(drop),
                client.try_acquire_all(["a", "b"], options()).map(drop),
                client.with_lock("a", |_| Ok(())),
                client.break_lock(&lock, token).map(drop),
            ];
            for refused in refused {
                let error = refused.unwrap_err();
                assert!(matches!(error, Error::Forked { .. }), "{error:?}");
                assert!(error.to_string().contains(ADVICE), "{error}");
            }
            assert!(client.close().is_clean());
            // It can look.
            assert!(client.inspect(&lock).unwrap().unwrap().holder.is_some());
            assert!(
                client
                    .list()
                    .any(|status| status.unwrap().name.as_str() == lock)
            );
            drop(client.clone());
            "done".into()
        });
        assert_eq!(said, "done", "{}", table.name);
        // It was not closed here.
        assert!(guard.is_held());
        drop(client.acquire(&unique("next")).unwrap());
        assert_eq!(client.close().held.len(), 1);
    }
}

/// At the moment of each fork other threads are somewhere in the client, the store and
/// the credentials.
#[test]
fn nothing_hangs_in_a_process_forked_at_any_moment() {
    const FORKS: usize = 60;
    let _alone = alone();
    for table in embedded_tables() {
        let store = table.store();
        let client = quick().build(Arc::clone(&store)).unwrap();
        let mut kept = Some(client.acquire(&unique("kept")).unwrap());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for busy in 0..4 {
                let (client, stop) = (client.clone(), &stop);
                let lock = unique(&format!("busy-{}", busy / 2));
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        drop(client.acquire(&lock).unwrap());
                    }
                });
            }
            let free = unique("free");
            for number in 0..FORKS {
                let said = in_a_child(|| {
                    let guard = kept.take().unwrap();
                    assert!(!guard.is_held() && guard.ensure_held().is_err());
                    drop(guard);
                    assert!(client.acquire("x").is_err());
                    client.close();
                    let own = quick().build(Arc::clone(&store)).unwrap();
                    own.acquire(&free).unwrap().release().unwrap();
                    assert!(client.inspect(&free).unwrap().is_some());
                    assert!(own.close().is_clean());
                    "done".into()
                });
                assert_eq!(said, "done", "{}, fork {number}", table.name);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(kept.is_some_and(|guard| guard.is_held()));
    }
}

#[test]
fn a_grandchild_is_another_process_again() {
    let _alone = alone();
    let table = embedded_table();
    let (store, lock) = (table.store(), unique("family"));
    let said = in_a_child(|| {
        let client = quick().build(Arc::clone(&store)).unwrap();
        let guard = client.acquire(&lock).unwrap();
        let said = in_a_child(|| {
            assert!(!guard.is_held());
            assert!(client.try_acquire("x").is_err());
            let own = quick().build(Arc::clone(&store)).unwrap();
            assert!(own.try_acquire(&lock).unwrap().is_none());
            "excluded".into()
        });
        assert!(guard.is_held());
        guard.release().unwrap();
        said
    });
    assert_eq!(said, "excluded");
}

#[test]
fn a_memory_store_is_of_no_use_in_a_forked_process() {
    let _alone = alone();
    let store = MemoryStore::new();
    let client = quick().build(store.clone()).unwrap();
    let guard = client.acquire("x").unwrap();
    let said = in_a_child(|| {
        let other = quick().build(store.clone()).unwrap();
        assert!(client.inspect("x").is_err());
        other.acquire("y").unwrap_err().to_string()
    });
    assert!(said.contains("after the fork"), "{said}");
    guard.release().unwrap();
}

#[test]
fn credentials_that_are_being_fetched_are_fetched_again_by_a_forked_process() {
    let _alone = alone();
    let table = embedded_table();
    let (unhang, hangs) = bounded::<()>(0);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let parent = std::process::id();
    let credentials = Credentials::from_fn(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        if std::process::id() == parent {
            let _ = hangs.recv();
        }
        Ok(AccessKeys::new("test", "test"))
    });
    let store = DynamoDbStore::builder(&table.table)
        .region("us-east-1")
        .endpoint(&table.endpoint)
        .credentials(credentials)
        .build()
        .unwrap();
    let client = quick().build(store.clone()).unwrap();
    let lock = unique("keys");
    thread::scope(|scope| {
        scope.spawn(|| drop(client.acquire(&lock)));
        wait_for("the fetch", || calls.load(Ordering::SeqCst) == 1);
        let said = in_a_child(|| {
            let own = quick().build(store.clone()).unwrap();
            own.acquire("other").unwrap().release().unwrap();
            calls.load(Ordering::SeqCst).to_string()
        });
        assert_eq!(said, "2");
        drop(unhang);
    });
}

/// An observer forks in the middle of an acquire, and the very call goes on in both.
#[test]
fn a_fork_in_the_middle_of_an_acquire_grants_once() {
    let _alone = alone();
    let table = embedded_table();
    let store = table.store();
    let lock = unique("twice");
    let first = quick().build(Arc::clone(&store)).unwrap();
    let holding = first.acquire(&lock).unwrap();
    let (said, says) = pipe().unwrap();
    let parent = std::process::id();
    let observer = move |event: &Event<'_>| {
        if let Event::Enqueued { .. } = event {
            fork::fork().unwrap();
        }
    };
    let forking = quick()
        .observer(observer)
        .build(Arc::clone(&store))
        .unwrap();
    let guard = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let outcome = forking.acquire(&lock);
            if std::process::id() != parent {
                let text = match outcome {
                    Ok(guard) => format!("granted, held: {}", guard.is_held()),
                    Err(error) => error.to_string(),
                };
                let _ = (&says).write_all(text.as_bytes());
                child::leave();
            }
            outcome.unwrap()
        });
        wait_for("the waiter", || {
            first
                .inspect(&lock)
                .unwrap()
                .is_some_and(|status| status.waiting > 0)
        });
        holding.release().unwrap();
        waiting.join().unwrap()
    });
    assert!(guard.is_held());
    drop(says);
    let mut text = String::new();
    { said }.read_to_string(&mut text).unwrap();
    assert!(
        text.contains(ADVICE) || text == "granted, held: false",
        "{text}"
    );
    guard.release().unwrap();
}
