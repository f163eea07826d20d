//! Fencing in SQL: a holder that lost its lock and does not know it writes too late, and
//! the database refuses it by its token.
//!
//! ```text
//! cargo run --example fenced_sql
//! ```
//!
//! The database is SQLite; the two statements work in any other. The locks are in memory.
//! Ends with a failure if the late write gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore};
use dynamodb_fifo_lock::{FencingToken, LockClient, MemoryStore};
use rusqlite::{Connection, TransactionBehavior, params};

const LOCK: &str = "accounts/7";
const LEASE: Duration = Duration::from_millis(600);

/// Shuts out every token below this one. Whoever acquired the lock does this before it
/// reads: from here on nothing that an earlier holder sends can change what is read.
fn raise_fence(database: &Connection, token: FencingToken) -> anyhow::Result<()> {
    let token = i64::try_from(token.get())?;
    let raised = database.execute(
        "UPDATE accounts SET token = ?1 WHERE id = 7 AND token <= ?1",
        params![token],
    )?;
    ensure!(
        raised == 1,
        "token {token} is stale, or there is no account"
    );
    Ok(())
}

/// Writes if no later token was there.
fn set_balance(database: &Connection, balance: i64, token: FencingToken) -> anyhow::Result<()> {
    let written = database.execute(
        "UPDATE accounts SET balance = ?1, token = ?2 WHERE id = 7 AND token <= ?2",
        params![balance, i64::try_from(token.get())?],
    )?;
    // No row is no success: a statement that fits nothing is no error in SQL.
    ensure!(
        written == 1,
        "token {token} is stale, or there is no account"
    );
    Ok(())
}

fn balance(database: &Connection) -> anyhow::Result<i64> {
    let query = "SELECT balance FROM accounts WHERE id = 7";
    Ok(database.query_row(query, [], |row| row.get(0))?)
}

fn main() -> anyhow::Result<()> {
    let mut database = Connection::open_in_memory()?;
    database.execute_batch(
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL,
                                token INTEGER NOT NULL DEFAULT 0);
         INSERT INTO accounts (id, balance) VALUES (7, 100);",
    )?;

    let locks = MemoryStore::new();
    let cut_off = Arc::new(AtomicBool::new(false));
    let is_cut_off = Arc::clone(&cut_off);
    // The first client's way to the locks can be cut, and only that.
    let flaky = FaultyStore::new(locks.clone(), move |_, _| {
        match is_cut_off.load(Ordering::SeqCst) {
            true => Fate::Lost,
            false => Fate::Fine,
        }
    });
    let slow = LockClient::builder()
        .owner("slow")
        .lease(LEASE)
        .build(flaky)?;
    let quick = LockClient::builder()
        .owner("quick")
        .lease(LEASE)
        .build(locks)?;

    let stale = slow.acquire(LOCK)?;
    let stale_token = stale.fencing_token();
    raise_fence(&database, stale_token)?;
    let seen = balance(&database)?;
    println!("slow:  holds with token {stale_token}, reads {seen}, and is cut off from the locks");
    cut_off.store(true, Ordering::SeqCst);

    let guard = quick.acquire_timeout(LOCK, Duration::from_secs(12))?;
    let token = guard.fencing_token();
    println!("quick: is granted the lock when the lease is over, token {token}");
    raise_fence(&database, token)?;
    ensure!(token > stale_token, "token {token} after {stale_token}");

    // The lock has said so for long. Code that does not ask is what fencing is for.
    ensure!(!stale.is_held(), "two holders at once");
    match set_balance(&database, seen + 1, stale_token) {
        Ok(()) => bail!("the late write got through"),
        Err(error) => println!("slow:  writes {} all the same, refused: {error}", seen + 1),
    }
    // Several statements: in one transaction that writes from its beginning.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seen = balance(&transaction)?;
    set_balance(&transaction, seen - 30, token)?;
    transaction.commit()?;
    guard.release()?;

    let balance = balance(&database)?;
    ensure!(balance == 70, "the balance is {balance}");
    println!("quick: writes {balance}");
    println!("ok: 100 - 30 = {balance}, and nothing was lost or added by the late write");
    Ok(())
}
