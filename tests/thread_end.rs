//! Guards that are dropped while their thread ends: thread-local variables of this crate, and
//! of those it uses, are gone by then.

mod common;

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::{Event, LockGuard};
use parking_lot::Mutex;

use common::{backends, quick, unique};

/// Is dropped with the thread.
struct AtEnd(Box<dyn FnOnce()>);

impl AtEnd {
    /// Runs `work` when this thread ends, after all that is noted from here on.
    fn run(work: impl FnOnce() + 'static) {
        thread_local! { static KEPT: RefCell<Option<Work>> = const { RefCell::new(None) } }
        struct Work(Option<AtEnd>);
        impl Drop for Work {
            fn drop(&mut self) {
                if let Some(AtEnd(work)) = self.0.take() {
                    work();
                }
            }
        }
        KEPT.with(|kept| *kept.borrow_mut() = Some(Work(Some(Self(Box::new(work))))));
    }
}

/// Subscribers have thread-local variables as well.
fn subscribe() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(std::io::sink);
    let _ = subscriber.try_init();
}

thread_local! { static KEPT: RefCell<Option<LockGuard>> = const { RefCell::new(None) }; }

#[test]
fn a_guard_in_a_thread_local_is_released_with_its_thread() {
    for subscribed in [false, true] {
        if subscribed {
            subscribe();
        }
        for backend in backends() {
            let told = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&told);
            let observer = move |event: &Event<'_>| log.lock().push(format!("{event:?}"));
            let client = quick()
                .lease(Duration::from_secs(60))
                .observer(observer)
                .build(Arc::clone(&backend.store))
                .unwrap();
            let (lock, acquiring) = (unique("kept"), client.clone());
            let name = lock.clone();
            thread::spawn(move || {
                // Noted before anything that acquiring notes, and so dropped after it.
                KEPT.with(|kept| assert!(kept.borrow().is_none()));
                let _: u64 = rand::random();
                let guard = acquiring.acquire(&name).unwrap();
                KEPT.with(|kept| *kept.borrow_mut() = Some(guard));
            })
            .join()
            .unwrap();
            let free = client.try_acquire(&lock).unwrap();
            let told = told.lock().join("\n");
            assert!(free.is_some(), "{}: still held; {told}", backend.name);
            assert!(!told.contains("ReleaseFailed"), "{}: {told}", backend.name);
            assert!(told.contains("Released"), "{}: {told}", backend.name);
        }
    }
}

/// Whatever a client can do it can do there: wait, be handed a lock, hand it on, be the last.
#[test]
fn a_client_works_while_its_thread_ends() {
    for backend in backends() {
        let client = quick().build(Arc::clone(&backend.store)).unwrap();
        let store = Arc::clone(&backend.store);
        let lock = unique("late");
        let held = client.acquire(&lock).unwrap();
        let (done, is_done) = crossbeam_channel::bounded(1);
        let (late, name) = (client.clone(), lock.clone());
        let ending = thread::spawn(move || {
            AtEnd::run(move || {
                let guard = late.acquire(&name).unwrap();
                let token = guard.fencing_token();
                guard.ensure_held().unwrap();
                drop(guard);
                assert!(late.inspect(&name).unwrap().is_some());
                drop(late.try_acquire(&name).unwrap());
                let own = quick().build(store).unwrap();
                own.acquire(&name).unwrap().release().unwrap();
                assert!(own.close().is_clean());
                drop((own, late));
                done.send(token).unwrap();
            });
            let _: u64 = rand::random();
        });
        common::wait_for("the waiter", || {
            client
                .inspect(&lock)
                .unwrap()
                .is_some_and(|status| status.waiting > 0)
        });
        let before = held.fencing_token();
        held.release().unwrap();
        assert!(
            is_done.recv_timeout(common::DEADLINE).unwrap() > before,
            "{}",
            backend.name
        );
        ending.join().unwrap();
    }
}
