//! Workers that wait for a short time only, or not at all, and are killed all the time:
//! what one of them learns about the dead is lost when its time is up.
//!
//! `FIFOLOCK_CHAOS_SECONDS` says for how long to go on. `FIFOLOCK_CHAOS_STRICT=1` makes a
//! failure of what is otherwise only printed: that the lock stays unused for long although
//! somebody always asks for it, and the store can be reached.

use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::LEASE;
use crate::arena::Arena;
use crate::book::Hold;
use crate::common::{Table, tables};
use crate::gate::Tally;
use crate::rounds::{SECONDS, say, setting};

/// Whether the strict check is on without being asked for.
const STRICT: bool = false;

/// For so long the lock may stay unused, in a storm of twice this and longer; and in one of
/// 40 s and less. The protocol needs up to a presence and a lease for each run of the dead.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(20);

const WORKERS: usize = 5;

/// How long the workers of a storm wait, in milliseconds. A third of the grace, nearly all
/// of it, and less than it takes to know that somebody has no row; and these with tries, and
/// with waits that are long enough for anything.
const SHORT: &[u64] = &[300, 900, 2_500];
const MIXED: &[u64] = &[0, 300, 900, 2_500, 10_000];

#[test]
fn the_lock_is_used_in_a_storm_of_kills_among_those_who_wait_for_a_moment() {
    let span = Duration::from_secs(setting("FIFOLOCK_CHAOS_SECONDS").unwrap_or(SECONDS));
    let seed = setting("FIFOLOCK_CHAOS_SEED").unwrap_or_else(|| rand::random_range(0..1 << 48));
    let strict = STRICT || std::env::var("FIFOLOCK_CHAOS_STRICT").is_ok_and(|it| it == "1");
    let tables = tables();
    thread::scope(|scope| {
        for table in &tables {
            for (what, patience) in [("short", SHORT), ("mixed", MIXED)] {
                scope.spawn(move || {
                    let unused = storm(table, what, patience, span, seed);
                    let bound = LONGEST.min(span / 2).max(SHORTEST);
                    assert!(
                        !strict || unused < bound,
                        "nobody used the lock for {unused:.1?}, FIFOLOCK_CHAOS_SEED={seed}"
                    );
                });
            }
        }
    });
}

/// Returns the longest time for which the lock was not used.
fn storm(table: &Table, what: &str, patience: &[u64], span: Duration, seed: u64) -> Duration {
    let mut dice = StdRng::seed_from_u64(seed);
    let tally = Tally::default();
    let mut arena = Arena::new(table, LEASE, &tally, seed);
    arena.patience_ms = patience.to_vec();
    let hold = Hold::For(Duration::from_millis(30));
    for _ in 0..WORKERS {
        arena.start(hold);
    }
    let began = Instant::now();
    let mut killed = 0;
    while began.elapsed() < span {
        thread::sleep(Duration::from_millis(dice.random_range(200..1_200)));
        let holder = arena.ledger.book().holder().map(str::to_owned);
        let victim = match holder.filter(|_| dice.random()) {
            Some(holder) => arena.index(&holder),
            None => dice.random_range(0..WORKERS),
        };
        let name = arena.workers[victim].name.clone();
        arena.kill(&name);
        arena.replace(victim, hold);
        killed += 1;
    }
    let book = arena.ledger.book();
    let unused = book.unused_for(Instant::now());
    let gave_up: usize = book.accounts.values().map(|account| account.gave_up).sum();
    say(&format!(
        "chaos: a storm of {span:?} on {}, {what} waits: {killed} killed, {} grants, {gave_up} \
         waits given up; nobody used the lock for {unused:.1?} at most",
        table.name,
        book.grants.len(),
    ));
    drop(book);
    arena.judge();
    unused
}
