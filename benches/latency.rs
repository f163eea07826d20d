//! How long locking takes: alone, handed over, over many threads, and without any
//! requests.
//!
//! ```text
//! cargo bench --bench latency                                 # embedded server
//! DYNAMODB_ENDPOINT=http://localhost:8000 cargo bench --bench latency
//! ```
//!
//! The raw requests are rusoto's `update_item`, over the HTTP layer that the store uses,
//! with the expressions and values of the library's own take and release, so that the
//! server has the same to do.

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use crossbeam_channel::Receiver;
use dynamodb_fifo_lock::{LockClient, LockStore, MemoryStore};

use raw::Raw;
use support::common::proxy::{Fault, Proxy};
use support::common::{DEADLINE, announcing, store_at, unique};

fn client(store: impl LockStore + 'static) -> LockClient {
    LockClient::builder().build(store).unwrap()
}

fn acquire_and_release(client: &LockClient, lock: &str) {
    client.acquire(lock).unwrap().release().unwrap();
}

/// Two ways to do something, done by turns: whatever slows the machine down meanwhile
/// slows down both.
struct Pair<A, B> {
    ways: (A, B),
    took: Vec<[Duration; 2]>,
}

impl<A: FnMut(), B: FnMut()> Pair<A, B> {
    /// Does both `times` times, and says how long the one with this number took.
    fn time(&mut self, times: u64, number: usize) -> Duration {
        let new = (0..times).map(|_| [timed(&mut self.ways.0), timed(&mut self.ways.1)]);
        let before = self.took.len();
        self.took.extend(new);
        self.took[before..].iter().map(|took| took[number]).sum()
    }

    /// How many times as long as the first one the second one took.
    fn ratio(&self) -> f64 {
        let [first, second] = [0, 1].map(|number| {
            let mut took: Vec<_> = self.took.iter().map(|took| took[number]).collect();
            took.sort_unstable();
            took[took.len() / 2].as_secs_f64()
        });
        second / first
    }
}

fn timed(work: &mut impl FnMut()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn uncontended(c: &mut Criterion) {
    let table = support::table();
    let mut raw = Raw::like_the_library(&table, &table.endpoint);
    let client = client(table.store());
    let lock = unique("alone");
    let mut pair = Pair {
        ways: (
            || (0..2).for_each(|_| raw.update()),
            || acquire_and_release(&client, &lock),
        ),
        took: Vec::new(),
    };
    let mut group = c.benchmark_group("uncontended");
    group
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_secs(2))
        .measurement_time(Duration::from_secs(10));
    for (number, name) in ["two raw UpdateItem", "acquire and release"]
        .iter()
        .enumerate()
    {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|times| pair.time(times, number));
        });
    }
    group.finish();
    // `cargo test --benches` runs each of them once.
    if pair.took.len() > 2 {
        println!(
            "uncontended: acquire and release takes {:.3} times as long as two raw UpdateItem \
             (medians of {} each, done by turns)\n",
            pair.ratio(),
            pair.took.len(),
        );
    }
}

/// A pause as long as a hold, which ends at any phase of the smallest poll interval,
/// 20 ms.
fn hold() {
    let phase = Duration::from_millis(20).mul_f64(rand::random());
    thread::sleep(Duration::from_millis(5) + phase);
}

/// A client, and the channel on which it says that it has joined a queue.
type Party = (LockClient, Receiver<u64>);

/// Hands a lock over `times` times, from one party to the next and so on: from the
/// call of `release` until the next `acquire` has returned. The next one waits before that.
fn hand_over(parties: &[&Party], times: u64) -> Duration {
    let lock = unique("handed-over");
    let mut taking = parties.iter().cycle();
    let mut next = || taking.next().unwrap();
    let mut guard = next().0.acquire(&lock).unwrap();
    let mut total = Duration::ZERO;
    for _ in 0..times {
        let (client, joins) = next();
        let lock = &lock;
        guard = thread::scope(|scope| {
            let waiting = scope.spawn(move || (client.acquire(lock).unwrap(), Instant::now()));
            joins.recv_timeout(DEADLINE).unwrap();
            hold();
            let released = Instant::now();
            guard.release().unwrap();
            let (guard, acquired) = waiting.join().unwrap();
            total += acquired - released;
            guard
        });
    }
    total
}

/// So many raw requests, each after a pause like the one before a release: what has slept
/// for some milliseconds, threads and processors, is slow to wake up.
fn after_holds(times: u64, raw: &mut Raw) -> Duration {
    let one = |_| {
        hold();
        timed(&mut || raw.update())
    };
    (0..times).map(one).sum()
}

fn handed_over(c: &mut Criterion) {
    let table = support::table();
    for added in [0, 1, 5] {
        let late = Fault::Late(Duration::from_millis(added));
        let proxy = Proxy::before(&table.endpoint, move |_| late.clone());
        let party = || {
            announcing(
                LockClient::builder(),
                store_at(&proxy.endpoint, &table.table),
            )
        };
        let mut group = c.benchmark_group(format!("hand-over, {added} ms added"));
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(30)
            .warm_up_time(Duration::from_secs(1));
        let mut raw = Raw::like_the_library(&table, &proxy.endpoint);
        group.measurement_time(Duration::from_secs(3));
        group.bench_function("one raw UpdateItem", |bencher| {
            bencher.iter_custom(|times| after_holds(times, &mut raw));
        });
        let one = party();
        group.measurement_time(Duration::from_secs(6));
        group.bench_function("inside one client", |bencher| {
            bencher.iter_custom(|times| hand_over(&[&one], times));
        });
        let two = [&party(), &party()];
        group.measurement_time(Duration::from_secs(10));
        group.bench_function("between two clients", |bencher| {
            bencher.iter_custom(|times| hand_over(&two, times));
        });
    }
}

fn overhead(c: &mut Criterion) {
    let client = client(MemoryStore::new());
    let mut group = c.benchmark_group("overhead");
    group
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    group.bench_function("acquire and release, memory", |bencher| {
        bencher.iter(|| acquire_and_release(&client, "alone"));
    });
    let guard = client.acquire("held").unwrap();
    group.bench_function("is_held", |bencher| {
        bencher.iter(|| black_box(&guard).is_held())
    });
}

/// Each of the workers works `times` times, all at the same time. How long that took.
fn together(times: u64, workers: &mut [impl FnMut() + Send]) -> Duration {
    let start = Barrier::new(workers.len() + 1);
    thread::scope(|scope| {
        for worker in workers {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..times).for_each(|_| worker());
            });
        }
        start.wait();
        Instant::now()
    })
    .elapsed()
}

fn throughput(c: &mut Criterion) {
    let table = support::table();
    for threads in [1, 8, 64] {
        let raw = Raw::like_the_library(&table, &table.endpoint);
        let client = &client(table.store());
        let locks = || (0..threads).map(|_| unique("busy"));
        let name = match threads {
            1 => "throughput, 1 thread".into(),
            _ => format!("throughput, {threads} threads"),
        };
        let mut group = c.benchmark_group(name);
        group
            .throughput(Throughput::Elements(threads))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(20)
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(5));
        let mut raws: Vec<_> = locks().map(|lock| raw.for_lock(&lock)).collect();
        let mut workers: Vec<_> = raws.iter_mut().map(|raw| || raw.update()).collect();
        group.bench_function("raw UpdateItem", |bencher| {
            bencher.iter_custom(|times| together(times, &mut workers));
        });
        let work = |lock: String| move || acquire_and_release(client, &lock);
        let mut workers: Vec<_> = locks().map(work).collect();
        group.bench_function("acquire and release", |bencher| {
            bencher.iter_custom(|times| together(times, &mut workers));
        });
    }
}

criterion_group!(benches, uncontended, handed_over, overhead, throughput);
criterion_main!(benches);
