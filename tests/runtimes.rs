//! Inside an async runtime nothing panics and nothing hangs.

mod common;

use std::future::Future;
use std::time::Duration;

use dynamodb_fifo_lock::LockGuard;
use tokio::runtime::{Builder, Runtime};

use common::{Table, embedded_table, embedded_tables, quick, unique};

fn runtimes() -> Vec<Runtime> {
    vec![
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
        Builder::new_current_thread().enable_all().build().unwrap(),
    ]
}

/// Runs `work` on each kind of runtime: in its main task and in a spawned one.
fn everywhere<F>(work: impl Fn(Table) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for table in embedded_tables() {
        for runtime in runtimes() {
            runtime.block_on(work(table.clone()));
            let spawned = work(table.clone());
            runtime.block_on(async { tokio::spawn(spawned).await.unwrap() });
        }
    }
}

#[test]
fn acquire_hold_drop_and_close() {
    everywhere(|table| async move {
        let client = quick().build(table.store()).unwrap();
        let lock = unique("runtime");
        let guard = client.acquire(&lock).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(guard.is_held());
        drop(guard);
        let guard = client.acquire_timeout(&lock, common::DEADLINE).unwrap();
        guard.release().unwrap();
        client
            .with_lock(&lock, |_| Ok::<_, dynamodb_fifo_lock::Error>(()))
            .unwrap();
        client.close();
        drop(client);
    });
}

#[test]
fn everything_is_made_and_dropped_in_the_runtime() {
    everywhere(|table| async move {
        let client = quick().build(table.store()).unwrap();
        let guard = client.acquire(&unique("dropped")).unwrap();
        drop(client);
        // The guard outlives its client, and is dropped after a yield.
        tokio::task::yield_now().await;
        assert!(guard.is_held());
    });
}

#[test]
fn the_table_is_created_in_the_runtime() {
    everywhere(|table| async move {
        let store = table.beside(&unique("fresh")).store();
        store.create_table().unwrap();
    });
}

#[test]
fn a_guard_crosses_await_points_and_threads() {
    fn assert_send<T: Send + Sync + 'static>() {}
    assert_send::<LockGuard>();
    assert_send::<dynamodb_fifo_lock::LockClient>();

    let client = quick().build(embedded_table().store()).unwrap();
    let guard = client.acquire(&unique("moved")).unwrap();
    let token = guard.fencing_token();
    let moved = std::thread::spawn(move || {
        assert!(guard.is_held());
        guard
    });
    let guard = moved.join().unwrap();
    assert_eq!(guard.fencing_token(), token);
}
