//! Rounds of faults at random.
//!
//! `FIFOLOCK_CHAOS_SECONDS` says for how long to go on, `FIFOLOCK_CHAOS_SEED` with
//! which schedule to begin; each round's is one higher than the one before.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use crate::arena::Arena;
use crate::book::Hold;
use crate::common::{Table, ask, tables};
use crate::gate::{Mood, Tally};
use crate::schedule::{Fault, Moment, Schedule};

pub(crate) const SECONDS: u64 = 40;

/// So many rounds are played at once.
const LANES: usize = 3;

/// What is waited for in the middle of a round comes soon or not at all.
const SOON: Duration = Duration::from_secs(2);

/// For so long the victim of a fault that is to hit a holder holds, if it can.
const LONG: Duration = Duration::from_secs(4);

/// What all rounds have in common.
#[derive(Default)]
struct Figures {
    tally: Tally,
    grants: usize,
    refused: usize,
    lost: usize,
    passed_over: usize,
    slowest: Duration,
    stood_still: Duration,
}

#[test]
fn random_rounds() {
    let seconds = setting("FIFOLOCK_CHAOS_SECONDS").unwrap_or(SECONDS);
    let first = setting("FIFOLOCK_CHAOS_SEED").unwrap_or_else(|| rand::random_range(0..1 << 48));
    say(&format!("chaos: FIFOLOCK_CHAOS_SEED={first}"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let tables = tables();
    let figures = Mutex::new(Figures::default());
    let rounds = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for lane in 0..LANES {
            let (tables, figures, rounds, failed) = (&tables, &figures, &rounds, &failed);
            scope.spawn(move || {
                let _alarm = Alarm(failed);
                let over = || failed.load(Ordering::SeqCst) || Instant::now() >= until;
                let mut begun = false;
                while !(over() && (begun || lane > 0)) {
                    begun = true;
                    let seed = first.wrapping_add(rounds.fetch_add(1, Ordering::SeqCst));
                    // The same seed meets each server.
                    for table in tables {
                        println!("round FIFOLOCK_CHAOS_SEED={seed} on {}", table.name);
                        let tally = figures.lock().tally.clone();
                        Round::new(table, seed, tally).play(figures);
                    }
                }
            });
        }
    });
    figures
        .lock()
        .print(rounds.load(Ordering::SeqCst), tables.len());
}

/// Ends the other rounds when one has failed.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl Figures {
    fn print(&self, rounds: u64, servers: usize) {
        let mut kinds = self.tally.counts();
        let processes = kinds.remove("processes").unwrap_or_default();
        let kinds: Vec<_> = kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        say(&format!(
            "chaos: {rounds} rounds on {servers} servers, {processes} processes, {} grants; \
             faults: {}; {} stale writes refused, {} locks lost, {} places lost; after the \
             faults everybody had a turn within {:.1?}; the machine stood still for {:.0?} \
             at most; violations: 0",
            self.grants,
            kinds.join(", "),
            self.refused,
            self.lost,
            self.passed_over,
            self.slowest,
            self.stood_still,
        ));
    }
}

pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Past the capture of the test harness.
pub(crate) fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

struct Round {
    schedule: Schedule,
    arena: Arena,
    tally: Tally,
    /// Whom the fault with this number has hit, while it lasts.
    hit: Vec<Vec<String>>,
}

impl Round {
    fn new(table: &Table, seed: u64, tally: Tally) -> Self {
        let schedule = Schedule::new(seed);
        println!("{schedule:?}");
        let arena = Arena::new(table, schedule.lease, &tally, seed);
        let hit = vec![Vec::new(); schedule.faults.len()];
        Self {
            schedule,
            arena,
            tally,
            hit,
        }
    }

    fn play(mut self, figures: &Mutex<Figures>) {
        for _ in 0..self.schedule.workers {
            self.arena.start(Hold::For(self.schedule.hold));
        }
        let names: Vec<_> = self.names().collect();
        self.arena.wait("everybody is there", |book| {
            names.iter().all(|name| book.account(name).has_asked())
        });
        let began = Instant::now();
        for (at, moment) in self.schedule.instants() {
            thread::sleep(at.saturating_sub(began.elapsed()));
            match moment {
                Moment::Begin(n) => self.begin(n),
                Moment::End(n) => self.end(n),
            }
        }
        let slowest = self.arena.finish(2);
        self.arena.judge();
        println!("everybody had a turn within {slowest:.1?}");
        let mut figures = figures.lock();
        figures.slowest = figures.slowest.max(slowest);
        figures.stood_still = figures.stood_still.max(self.arena.longest_pause());
        let book = self.arena.ledger.book();
        figures.grants += book.grants.len();
        figures.refused += book.refused();
        figures.lost += book
            .grants
            .iter()
            .filter(|grant| grant.denied.is_some())
            .count();
        for (name, account) in &book.accounts {
            figures.passed_over += account.passed_over.len();
            // No outage here is long enough to make an acquire fail.
            assert!(
                account.failures.is_empty(),
                "{name}: {:?}{}",
                account.failures,
                book.last_words()
            );
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.arena.workers.iter().map(|worker| worker.name.clone())
    }

    /// The holder, if there soon is one that is not to be left alone. It is made to
    /// hold for longer, so that it still does when the fault hits it.
    fn holder_or(&self, victim: &str) -> String {
        let spared = self.names().last().unwrap_or_default();
        let ledger = &self.arena.ledger;
        let all_hold = |hold: Duration, but: &str| {
            ledger.tell(|book| {
                let accounts = book.accounts.iter_mut();
                for (_, account) in accounts.filter(|(name, _)| *name != but) {
                    account.hold = Hold::For(hold);
                }
            });
        };
        all_hold(LONG, &spared);
        let mut caught = None;
        // Forked processes are let alone.
        let others: Vec<_> = self.names().filter(|name| *name != spared).collect();
        ledger.wait(SOON, |book| {
            caught = book
                .holder()
                .filter(|holder| others.iter().any(|name| name == holder))
                .map(str::to_owned);
            caught.is_some()
        });
        let caught = caught.unwrap_or_else(|| victim.to_owned());
        all_hold(self.schedule.hold, &caught);
        caught
    }

    /// Begins a fault; one that hits a worker which is already down does nothing.
    fn begin(&mut self, n: usize) {
        let planned = self.schedule.faults[n];
        let victim = self.arena.workers[planned.victim].name.clone();
        let victim = match planned.fault {
            Fault::KillHolder | Fault::StopHolder | Fault::CutHolderOff | Fault::SpoilHolder(_) => {
                self.holder_or(&victim)
            }
            _ => victim,
        };
        if self.is_hit(&victim) {
            return;
        }
        let upright: Vec<_> = self.names().filter(|name| !self.is_hit(name)).collect();
        let arena = &mut self.arena;
        let kind = match planned.fault {
            Fault::Kill | Fault::KillHolder => {
                arena.kill(&victim);
                "killed"
            }
            Fault::KillReleasing { arrives } => {
                arena.spoil(&victim, Mood::HoldsReleases);
                let caught = arena.worker(&victim).gate.holds_a_release(SOON);
                arena.kill(&victim);
                arena.worker(&victim).gate.set(match arrives {
                    true => Mood::Clear,
                    false => Mood::RequestLost,
                });
                match caught {
                    true => "killed in a release",
                    false => "killed",
                }
            }
            Fault::Stop | Fault::StopHolder | Fault::StopForLong => {
                arena.stop(&victim);
                "stopped"
            }
            Fault::Spoil(mood) | Fault::SpoilHolder(mood) => {
                arena.spoil(&victim, mood);
                "connection spoilt"
            }
            Fault::CutHolderOff => {
                arena.spoil(&victim, Mood::Silent);
                "cut off while holding"
            }
            Fault::SpoilAll(mood) => {
                for name in &upright {
                    arena.spoil(name, mood);
                }
                "all connections spoilt"
            }
            Fault::ServerAway => {
                for name in &upright {
                    arena.trouble(name, "the server is away");
                    arena.worker(name).gate.go_away();
                }
                "server away"
            }
            Fault::Fork => {
                arena
                    .ledger
                    .tell(|book| book.account_mut(&victim).forks = 2);
                "forked"
            }
            Fault::DeleteRow => {
                if !self.delete_row() {
                    return;
                }
                "row deleted"
            }
        };
        self.tally.add(kind);
        self.hit[n] = match planned.fault {
            Fault::SpoilAll(_) | Fault::ServerAway => upright,
            _ => vec![victim],
        };
    }

    /// Ends it. The dead are replaced.
    fn end(&mut self, n: usize) {
        for name in std::mem::take(&mut self.hit[n]) {
            // Whoever was killed meanwhile is past help.
            if !self.names().any(|there| there == name) {
                continue;
            }
            let hold = Hold::For(self.schedule.hold);
            self.arena
                .ledger
                .tell(|book| book.account_mut(&name).hold = hold);
            match self.schedule.faults[n].fault {
                Fault::Kill | Fault::KillHolder | Fault::KillReleasing { .. } => {
                    let index = self.arena.index(&name);
                    self.arena.replace(index, hold);
                }
                Fault::Stop | Fault::StopForLong => self.arena.resume(&name),
                Fault::StopHolder => {
                    // It sleeps until somebody else has its lock, if that is soon.
                    self.arena.ledger.wait(SOON, |book| {
                        book.grants.last().is_some_and(|last| last.worker != name)
                    });
                    self.arena.resume(&name);
                }
                Fault::Spoil(_)
                | Fault::SpoilHolder(_)
                | Fault::CutHolderOff
                | Fault::SpoilAll(_) => self.arena.clear(&name),
                Fault::ServerAway => {
                    self.arena.worker(&name).gate.come_back();
                    self.arena.trouble_is_over(&name);
                }
                Fault::DeleteRow | Fault::Fork => {}
            }
        }
    }

    /// Whether a fault of its own has hit this worker and is not over.
    fn is_hit(&self, name: &str) -> bool {
        self.hit.iter().zip(&self.schedule.faults).any(|(hit, of)| {
            let for_all = matches!(
                of.fault,
                Fault::ServerAway | Fault::SpoilAll(_) | Fault::DeleteRow | Fault::Fork
            );
            !for_all && hit.iter().any(|hit| hit == name)
        })
    }

    /// Deletes the lock's row if nobody holds the lock and nobody waits.
    fn delete_row(&self) -> bool {
        let arena = &self.arena;
        arena.ledger.tell(|book| book.rest = true);
        let until = Instant::now() + SOON;
        let mut deleted = false;
        while !deleted && Instant::now() < until {
            let (status, _) = ask(
                &arena.table.endpoint,
                "DeleteItem",
                &json!({
                    "TableName": arena.table.table,
                    "Key": { "lock": { "S": arena.lock }, "ticket": { "N": "0" } },
                    "ConditionExpression": "issued = served",
                }),
            );
            deleted = status == 200;
            thread::sleep(Duration::from_millis(5));
        }
        arena.ledger.tell(|book| {
            book.note(&format!("-- row deleted: {deleted}"));
            book.rest = false;
        });
        deleted
    }
}
