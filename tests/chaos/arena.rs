//! Where workers contend: a lock in a table, a gate for each of them, the ledger.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::{Value, json};

use crate::book::{Book, Hold};
use crate::common::{Table, unique};
use crate::gate::{Gate, Mood, Tally};
use crate::ledger::Ledger;
use crate::worker::ORDERS;

/// The presence of all workers, the shortest there can be.
pub(crate) const PRESENCE: Duration = Duration::from_secs(6);

/// The claim grace of all locks here.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// What a shared machine may take on top of what the protocol promises.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

/// Nothing is waited for longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// One worker process and its gate.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) gate: Gate,
    child: Child,
    killed: bool,
}

pub(crate) struct Arena {
    pub(crate) table: Table,
    pub(crate) lock: String,
    pub(crate) lease: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    pub(crate) workers: Vec<Worker>,
    /// How long workers wait for the lock, each time one of these, in milliseconds; 0 is
    /// not at all. Without any, as long as it takes.
    pub(crate) patience_ms: Vec<u64>,
    pulse: Pulse,
    seed: u64,
    started: usize,
}

impl Arena {
    pub(crate) fn new(table: &Table, lease: Duration, tally: &Tally, seed: u64) -> Self {
        Self {
            table: table.clone(),
            lock: unique("chaos"),
            lease,
            request_timeout: lease / 6,
            ledger: Ledger::open(),
            tally: tally.clone(),
            workers: Vec::new(),
            patience_ms: Vec::new(),
            pulse: Pulse::begin(),
            seed,
            started: 0,
        }
    }

    /// How often a lock is renewed.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.lease / 4
    }

    /// Starts a worker; returns its name.
    pub(crate) fn start(&mut self, hold: Hold) -> String {
        let worker = self.launch(hold);
        let name = worker.name.clone();
        self.workers.push(worker);
        name
    }

    /// Starts a worker in the place of another one.
    pub(crate) fn replace(&mut self, index: usize, hold: Hold) {
        self.workers[index] = self.launch(hold);
    }

    fn launch(&mut self, hold: Hold) -> Worker {
        let name = format!("worker-{}", self.started);
        self.started += 1;
        self.tally.add("processes");
        let seed = self.seed.wrapping_add(self.started as u64);
        let gate = Gate::before(&self.table.endpoint, &self.tally, seed);
        let orders = json!({
            "name": name,
            "ledger": self.ledger.address.to_string(),
            "endpoint": gate.endpoint,
            "table": self.table.table,
            "wire": self.table.wire.name(),
            "lock": self.lock,
            "lease_ms": self.lease.as_millis() as u64,
            "request_ms": self.request_timeout.as_millis() as u64,
            "patience_ms": self.patience_ms,
        });
        self.ledger
            .tell(|book| book.open_account(&name, hold, Instant::now()));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_worker", "--nocapture"])
            .env(ORDERS, orders.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Worker {
            name,
            gate,
            child,
            killed: false,
        }
    }

    pub(crate) fn worker(&self, name: &str) -> &Worker {
        &self.workers[self.index(name)]
    }

    pub(crate) fn index(&self, name: &str) -> usize {
        let at = self.workers.iter().position(|worker| worker.name == name);
        at.unwrap_or_else(|| panic!("{name} is gone"))
    }

    /// From here on something is wrong with a worker or its connection.
    pub(crate) fn trouble(&self, name: &str, what: &str) {
        self.ledger.tell(|book| {
            book.trouble(name);
            book.note(&format!("-- {name}: {what}"));
        });
    }

    pub(crate) fn trouble_is_over(&self, name: &str) {
        self.ledger.tell(|book| {
            book.trouble_is_over(name, Instant::now());
            book.note(&format!("-- {name}: over"));
        });
    }

    /// Spoils the connection of a worker.
    pub(crate) fn spoil(&self, name: &str, mood: Mood) {
        self.trouble(name, &format!("{mood:?}"));
        self.worker(name).gate.set(mood);
    }

    /// Spoils it no more.
    pub(crate) fn clear(&self, name: &str) {
        self.worker(name).gate.set(Mood::Clear);
        self.trouble_is_over(name);
    }

    /// The end of a process as no destructor sees it.
    pub(crate) fn kill(&mut self, name: &str) {
        self.trouble(name, "killed");
        let index = self.index(name);
        let worker = &mut self.workers[index];
        worker.killed = true;
        signal(&worker.child, Signal::KILL);
        worker.child.wait().unwrap();
        self.ledger.tell(|book| {
            let account = book.account_mut(name);
            account.dead = true;
            account.holds = None;
        });
    }

    /// Stops a process between two instructions; returns once it stands still.
    pub(crate) fn stop(&mut self, name: &str) {
        self.trouble(name, "stopped");
        let child = &self.worker(name).child;
        signal(child, Signal::STOP);
        waitpid(Some(Pid::from_child(child)), WaitOptions::UNTRACED).unwrap();
    }

    pub(crate) fn resume(&self, name: &str) {
        self.trouble_is_over(name);
        signal(&self.worker(name).child, Signal::CONT);
    }

    /// Waits for something that has to come; says for how long.
    pub(crate) fn wait(&self, what: &str, condition: impl FnMut(&Book) -> bool) -> Duration {
        self.wait_within(what, DEADLINE, condition)
    }

    pub(crate) fn wait_within(
        &self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut(&Book) -> bool,
    ) -> Duration {
        // Whatever must not be is not waited out.
        let (_, took) = self.ledger.wait(within, |book| {
            condition(book) || !book.violations.is_empty()
        });
        let book = self.ledger.book();
        if !condition(&book) {
            let (violations, words) = (book.violations.clone(), book.last_words());
            drop(book);
            panic!(
                "waited in vain for {took:.1?}: {what}; violations: {violations:?}; \
                 the lock's row is {}{words}",
                self.row()
            );
        }
        took
    }

    pub(crate) fn wait_until_it_holds(&self, name: &str) -> Duration {
        self.wait(&format!("{name} holds"), |book| {
            book.account(name).holds.is_some()
        })
    }

    pub(crate) fn wait_until_it_waits(&self, name: &str) -> u64 {
        self.wait(&format!("{name} waits"), |book| {
            book.account(name).ticket.is_some() && book.account(name).holds.is_none()
        });
        self.ledger.book().account(name).ticket.unwrap()
    }

    /// The lock's row, when it says that this worker holds.
    pub(crate) fn wait_until_it_has_claimed(&self, name: &str) {
        crate::common::wait_for("the claim", || {
            self.row()["holder"]["M"]["owner"]["S"] == json!(name)
        });
    }

    pub(crate) fn row(&self) -> Value {
        self.table.get(&self.lock)
    }

    /// Whether nobody holds the lock and nobody waits, by its row.
    pub(crate) fn is_free(&self) -> bool {
        let row = self.row();
        !row.is_null() && row["issued"] == row["served"]
    }

    /// Has nobody begin another turn, and waits until nobody has anything to do with
    /// the lock.
    pub(crate) fn everybody_rests(&self) {
        self.ledger.tell(|book| book.rest = true);
        self.wait("everybody rests", |book| {
            book.accounts.values().all(|account| account.resting)
        });
    }

    pub(crate) fn let_go(&self, name: &str) {
        self.ledger
            .tell(|book| book.account_mut(name).hold = Hold::For(Duration::ZERO));
    }

    /// Has every living worker take turns until each has had `turns` more, and then
    /// go. Returns how long the slowest took for the first of them.
    pub(crate) fn finish(&mut self, turns: usize) -> Duration {
        let living: Vec<_> = self
            .workers
            .iter()
            .filter(|worker| !worker.killed)
            .map(|worker| worker.name.clone())
            .collect();
        let mut before = Vec::new();
        self.ledger.tell(|book| {
            book.rest = false;
            for name in &living {
                before.push(book.account(name).turns);
                book.account_mut(name).hold = Hold::For(Duration::from_millis(20));
            }
        });
        let more = |turns: usize| {
            let (living, before) = (&living, &before);
            move |book: &Book| {
                living
                    .iter()
                    .zip(before)
                    .all(|(name, before)| book.account(name).turns >= before + turns)
            }
        };
        let slowest = self.wait("a turn for every living worker", more(1));
        self.wait("turns for every living worker", more(turns));
        self.ledger.tell(|book| {
            for name in &living {
                book.account_mut(name).finish = true;
            }
        });
        self.wait("every living worker finishes", |book| {
            living.iter().all(|name| book.account(name).finished)
        });
        for worker in self.workers.iter_mut().filter(|worker| !worker.killed) {
            let status = worker.child.wait().unwrap();
            assert!(status.success(), "{} failed: {status}", worker.name);
        }
        slowest
    }

    /// Fails if anything was said that must not be.
    pub(crate) fn judge(&self) {
        let stood_still = self.pulse.longest_pause();
        let book = self.ledger.book();
        let found = book.judge(stood_still < GRACE / 5);
        assert!(
            found.is_empty(),
            "violations: {found:#?}; the machine stood still for {stood_still:?}{}",
            book.last_words()
        );
    }

    /// The machine's longest pause so far.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.pulse.longest_pause()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // Also those that stand still.
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Notices when the machine is too busy to run a thread that wants to.
struct Pulse {
    over: Arc<AtomicBool>,
    longest_us: Arc<AtomicU64>,
}

impl Pulse {
    fn begin() -> Self {
        const BEAT: Duration = Duration::from_millis(10);
        let pulse = Self {
            over: Arc::new(AtomicBool::new(false)),
            longest_us: Arc::new(AtomicU64::new(0)),
        };
        let (over, longest) = (Arc::clone(&pulse.over), Arc::clone(&pulse.longest_us));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(BEAT);
                let late = began.elapsed().saturating_sub(BEAT);
                longest.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
        pulse
    }

    fn longest_pause(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
