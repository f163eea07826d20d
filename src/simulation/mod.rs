//! The shipped client in virtual time: its loop, its guards, its heartbeat and the
//! threads that carry its requests, over a network that misbehaves, on machines
//! that crash and stop. One seed is one run.
//!
//! ```text
//! cargo test --lib simulation -- --nocapture
//! FIFOLOCK_SEEDS=1000000 cargo test --release --lib simulation -- --nocapture
//! FIFOLOCK_SEED=4711 cargo test --lib simulation -- --nocapture       # and its history
//! ```

mod network;
mod scheduler;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::network::{Faults, Met, Network, Sabotage, Server};
use self::scheduler::{OUTSIDE, Scheduler, VirtualMachine};
use self::world::{Habit, Kind, Verb, Worker, World};
use crate::client::LockClient;
use crate::error::{Error, StoreError};
use crate::event::Event;
use crate::guard::LockGuard;

const LOCK: &str = "contended";
const GRACE: Duration = Duration::from_secs(1);

/// By when everybody who lives has to be done, once the faults have ceased.
const PATIENCE: Duration = Duration::from_secs(1_500);

/// How far wall clocks may be apart, and requests be late.
const ALLOWANCE: Duration = Duration::from_secs(120);

/// What one run was like.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    failure: Option<String>,
    history: Vec<String>,
    grants: u64,
    shares: u64,
    evicted: u64,
    requests: u64,
    met: Met,
    switches: u64,
    crashes: u64,
    closed: u64,
    stops: u64,
    stuck: u64,
    lost: u64,
    passed_over: u64,
}

/// Runs one seed.
fn run(seed: u64, sabotage: Sabotage) -> Run {
    let mut dice = StdRng::seed_from_u64(seed ^ 0x5eed);
    let (scheduler, finished) = Scheduler::new(seed);
    // Every fourth run has crashes only: there, nobody who lives is passed over.
    let faultless = seed.is_multiple_of(4);
    let faults = match faultless {
        true => Faults::default(),
        false => Faults {
            lost: dice.random_range(0..50),
            answer_lost: dice.random_range(0..50),
            late: dice.random_range(0..50),
            throttled: dice.random_range(0..50),
            denied: dice.random_range(0..20),
            slow: dice.random_range(0..30),
        },
    };
    let server = Arc::new(Server {
        state: Mutex::default(),
        sabotage,
    });
    server.state.lock().faults = faults;
    let kind = Kind::draw(&mut dice);
    let world = Arc::new(World {
        scheduler: Arc::clone(&scheduler),
        server: Arc::clone(&server),
        leases: Mutex::default(),
        tokens: Mutex::default(),
        kind,
        working: Mutex::default(),
        faultless,
        grants: AtomicU64::new(0),
        shares: AtomicU64::new(0),
        evicted: AtomicU64::new(0),
        crashes: AtomicU64::new(0),
        closed: AtomicU64::new(0),
        stops: AtomicU64::new(0),
        stuck: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        passed_over: AtomicU64::new(0),
    });
    let mut clients = Vec::new();
    for _ in 0..dice.random_range(2..=3) {
        let rate = dice.random_range(0.9995..1.0005);
        let process = scheduler.add_process(rate, dice.random_range(-500..500));
        // Some leases are shorter than the grace.
        let lease = Duration::from_millis(dice.random_range(400..6_000));
        let delay = match dice.random_range(0..4) {
            0 => Duration::from_millis(dice.random_range(1..3_000)),
            _ => Duration::ZERO,
        };
        // Now and then its threads wait for each other's requests.
        let most = dice.random_range(1..=3);
        let client = start(&world, process, lease, delay, most);
        for _ in 0..dice.random_range(1..=2) {
            world.working.lock().push(Worker {
                process,
                ..Worker::default()
            });
            let (world, client) = (Arc::clone(&world), client.clone());
            let seed = dice.random();
            let work = move || work(&world, &client, process, (lease, delay, most), seed);
            scheduler.spawn(process, Box::new(work)).unwrap();
        }
        clients.push(client);
    }
    let (troubled, seed) = (Arc::clone(&world), dice.random());
    let victims = clients.clone();
    let trouble = move || trouble(&troubled, &victims, seed);
    scheduler.spawn(OUTSIDE, Box::new(trouble)).unwrap();
    scheduler.start();
    let _ = finished.recv();
    // From here on everybody runs to its end.
    for client in &clients {
        let _ = client.close();
    }
    drop(clients);
    let (failure, history, switches) = scheduler.join();
    let state = server.state.lock();
    Run {
        failure,
        history,
        grants: world.grants.load(Ordering::SeqCst),
        shares: world.shares.load(Ordering::SeqCst),
        evicted: world.evicted.load(Ordering::SeqCst),
        requests: state.requests,
        met: state.met,
        switches,
        crashes: world.crashes.load(Ordering::SeqCst),
        closed: world.closed.load(Ordering::SeqCst),
        stops: world.stops.load(Ordering::SeqCst),
        stuck: world.stuck.load(Ordering::SeqCst),
        lost: world.lost.load(Ordering::SeqCst),
        passed_over: world.passed_over.load(Ordering::SeqCst),
    }
}

fn start(
    world: &Arc<World>,
    process: usize,
    lease: Duration,
    delay: Duration,
    most_requests: usize,
) -> LockClient {
    let watcher = Arc::clone(world);
    let observer = move |event: &Event<'_>| match event {
        Event::PassedOver { ticket, .. } => {
            watcher.count(&watcher.passed_over);
            if watcher.faultless {
                let ticket = *ticket;
                watcher
                    .scheduler
                    .fail(|| format!("{ticket} lives, and was passed over"));
            }
        }
        Event::Evicted { .. } => watcher.count(&watcher.evicted),
        Event::Lost { token, reason, .. } => {
            watcher.count(&watcher.lost);
            watcher
                .scheduler
                .note(|| format!("   lost {token}: {reason:?}"));
            if watcher.faultless {
                watcher
                    .scheduler
                    .fail(|| format!("{token} was lost for no reason"));
            }
        }
        _ => {}
    };
    LockClient::builder()
        .lease(lease)
        .lock_delay(delay)
        .request_timeout(lease / 5)
        .claim_grace(GRACE)
        .presence(Duration::from_secs(6))
        .clock_allowance(ALLOWANCE)
        .observer(observer)
        .most_requests(most_requests)
        .machine(Arc::new(VirtualMachine {
            scheduler: Arc::clone(&world.scheduler),
            process,
        }))
        .build(Network {
            scheduler: Arc::clone(&world.scheduler),
            server: Arc::clone(&world.server),
            process,
        })
        .unwrap()
}

/// One thread of one process: acquires, holds, releases, a few times.
fn work(
    world: &Arc<World>,
    shared: &LockClient,
    process: usize,
    (lease, delay, most): (Duration, Duration, usize),
    seed: u64,
) {
    let mut dice = StdRng::seed_from_u64(seed);
    let scheduler = &world.scheduler;
    let habit = Habit::draw(&mut dice);
    world.runs(process);
    let mut left = dice.random_range(1..=3);
    while left > 0 && !scheduler.is_over() {
        let client = match habit {
            // What the last attempt saw is forgotten, as by a job that is started again.
            Habit::Anew => start(world, process, lease, delay, most),
            _ => shared.clone(),
        };
        // Now and then the lock is idle for long enough to look abandoned.
        let idle = match dice.random_range(0..10) {
            0 => ALLOWANCE.mul_f64(dice.random_range(0.9..1.5)),
            _ => Duration::from_millis(dice.random_range(0..3_000)),
        };
        scheduler.sleep(idle);
        let options = world.kind.options(&mut dice);
        let in_time = InTime::begin(world);
        let verb = habit.verb(&mut dice);
        let only_tries = matches!(verb, Verb::Try);
        let result = match verb {
            Verb::Try => {
                let result = client.try_acquire_with(LOCK, options);
                in_time.check(world, lease / 5 * 2);
                result
            }
            Verb::GiveUp(patience) => {
                let options = options.timeout(patience);
                let result = client.acquire_with(LOCK, options).map(Some);
                in_time.check(world, patience);
                result
            }
            Verb::Cancel => {
                let (cancel, cancelled) = crossbeam_channel::bounded(1);
                let after = Duration::from_millis(dice.random_range(0..4_000));
                let far = Arc::clone(scheduler);
                let canceller = move || {
                    far.sleep(after);
                    let _ = cancel.send(());
                };
                scheduler.spawn(OUTSIDE, Box::new(canceller)).unwrap();
                let options = options.cancel(cancelled);
                client.acquire_with(LOCK, options).map(Some)
            }
            Verb::Wait => client.acquire_with(LOCK, options).map(Some),
        };
        if let Err(error) = &result
            && !only_tries
        {
            in_time.check_patience(world, error, Duration::from_millis(1_990));
        }
        match result {
            Ok(Some(guard)) => {
                world.holds(true);
                world.granted(&guard);
                hold(world, &guard, lease, &mut dice);
                world.holds(false);
                let given = Arc::clone(guard.lease());
                match dice.random_range(0..3) {
                    0 => drop(guard),
                    _ => {
                        let in_time = InTime::begin(world);
                        match guard.release() {
                            Ok(()) => world.check_release(&given),
                            // It was sent again at least once.
                            Err(error) => {
                                let least = Duration::from_millis(39);
                                in_time.check_patience(world, &error, least);
                            }
                        }
                    }
                }
                scheduler.note(|| format!("   gave {} back", given.token()));
                left -= 1;
            }
            Ok(None) | Err(Error::AcquireTimeout { .. } | Error::Cancelled { .. }) => {}
            Err(Error::Closed { .. }) => break,
            Err(Error::Store { .. }) if !world.faultless => {}
            Err(error) => scheduler.fail(|| format!("{process}: {error}")),
        }
    }
    world.done();
}

/// What a call may take at most holds whatever the network does, but for a process that
/// is stopped or has a thread that is stuck.
struct InTime {
    began: Duration,
    held_up: u64,
}

impl InTime {
    fn begin(world: &World) -> Self {
        Self {
            began: world.scheduler.now(),
            held_up: held_up(world),
        }
    }

    /// A refusal is not the end before its time is up.
    fn check_patience(&self, world: &World, error: &Error, least: Duration) {
        let Error::Store {
            source: StoreError::Denied { .. },
            ..
        } = error
        else {
            return;
        };
        let took = world.scheduler.now().saturating_sub(self.began);
        if took < least {
            let scheduler = &world.scheduler;
            scheduler.fail(|| format!("a denial was the end after {took:?}"));
        }
    }

    fn check(&self, world: &World, limit: Duration) {
        let took = world.scheduler.now().saturating_sub(self.began);
        let stopped = held_up(world) != self.held_up;
        // A second is promised; clocks run at different rates.
        if !stopped && took > limit + Duration::from_millis(1_010) {
            let scheduler = &world.scheduler;
            scheduler.fail(|| format!("a call with a limit of {limit:?} took {took:?}"));
        }
    }
}

/// How often anything of a process stopped running for a while.
fn held_up(world: &World) -> u64 {
    world.stops.load(Ordering::SeqCst) + world.stuck.load(Ordering::SeqCst)
}

fn hold(world: &World, guard: &LockGuard, lease: Duration, dice: &mut StdRng) {
    let span = match dice.random_range(0..3) {
        0 => Duration::ZERO,
        1 => Duration::from_millis(dice.random_range(1..400)),
        _ => lease.mul_f64(dice.random_range(0.1..2.0)),
    };
    let until = world.scheduler.now() + span;
    while world.scheduler.now() < until && guard.is_held() && !world.scheduler.is_over() {
        world.check_end(guard, lease);
        world.scheduler.sleep(span / 5 + Duration::from_millis(1));
    }
}

/// Kills and stops processes, sticks single threads, closes clients, and ceases. Processes are
/// numbered from one.
fn trouble(world: &Arc<World>, clients: &[LockClient], seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let scheduler = &world.scheduler;
    let began = scheduler.now();
    let mut survivors = clients.len();
    let calm = began + Duration::from_secs(dice.random_range(30..400));
    while scheduler.now() < calm && !scheduler.is_over() {
        scheduler.sleep(Duration::from_millis(dice.random_range(200..10_000)));
        let process = dice.random_range(1..=clients.len());
        match dice.random_range(0..10) {
            0 | 4 if survivors > 1 && !scheduler.is_dead(process) => {
                survivors -= 1;
                world.count(&world.crashes);
                scheduler.note(|| format!("{process} dies"));
                scheduler.kill(process);
                world.died(process);
            }
            1 if survivors > 1 && !scheduler.is_dead(process) => {
                survivors -= 1;
                world.count(&world.closed);
                scheduler.note(|| format!("{process} is closed"));
                // On a thread of its own: it waits for the others of its process.
                let client = clients[process - 1].clone();
                let close = move || drop(client.close());
                scheduler.spawn(process, Box::new(close)).unwrap();
            }
            2 | 3 if !world.faultless => {
                world.count(&world.stops);
                let span = Duration::from_millis(dice.random_range(10..12_000));
                scheduler.note(|| format!("{process} stops for {span:?}"));
                scheduler.stop(process, span);
            }
            8 | 9 if !world.faultless && !scheduler.is_dead(process) => {
                world.stick(process, &mut dice);
            }
            _ => {}
        }
    }
    world.server.calm();
    scheduler.note(|| "the faults cease".into());
    let end = scheduler.now() + PATIENCE;
    while scheduler.now() < end && !scheduler.is_over() {
        scheduler.sleep(Duration::from_secs(1));
    }
    scheduler.fail(|| format!("after {PATIENCE:?} somebody still has not got the lock"));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn show(seed: u64, run: &Run) {
    for line in &run.history {
        println!("{line}");
    }
    println!("seed {seed}: {:?}", run.failure);
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("FIFOLOCK_SEED") {
        let run = run(seed, Sabotage::None);
        show(seed, &run);
        assert_eq!(run.failure, None);
        return;
    }
    let seeds = number("FIFOLOCK_SEEDS").unwrap_or(10_000);
    let next = AtomicU64::new(0);
    let total = Mutex::new(Run::default());
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds || total.lock().failure.is_some() {
                        return;
                    }
                    let run = run(seed, Sabotage::None);
                    let mut total = total.lock();
                    if run.failure.is_some() && total.failure.is_none() {
                        show(seed, &run);
                        total.failure = run.failure;
                    }
                    total.grants += run.grants;
                    total.shares += run.shares;
                    total.evicted += run.evicted;
                    total.requests += run.requests;
                    total.met.add(run.met);
                    total.switches += run.switches;
                    total.crashes += run.crashes;
                    total.closed += run.closed;
                    total.stops += run.stops;
                    total.stuck += run.stuck;
                    total.lost += run.lost;
                    total.passed_over += run.passed_over;
                }
            });
        }
    });
    let total = total.into_inner();
    println!("{seeds} seeds in {:?}: {total:#?}", began.elapsed());
    assert_eq!(total.failure, None);
    assert!(total.lost > 0 && total.crashes > 0 && total.stops > 0 && total.met.late > 0);
    assert!(total.shares > 0 && total.evicted > 0 && total.stuck > 0 && total.met.denied > 0);
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..50 {
        assert_eq!(run(seed, Sabotage::None), run(seed, Sabotage::None));
    }
}

#[test]
fn a_store_that_breaks_its_word_is_found_out() {
    for sabotage in [
        Sabotage::SilentRenewals,
        Sabotage::StaleReads,
        Sabotage::BlindRelease,
        Sabotage::ForgetfulTickets,
        Sabotage::SilentSharers,
        Sabotage::UnseenSharers,
        Sabotage::CountlessSharers,
    ] {
        let caught = (0..400).find_map(|seed| Some((seed, run(seed, sabotage).failure?)));
        println!("{sabotage:?}: {caught:?}");
        assert!(caught.is_some(), "{sabotage:?}");
    }
}
