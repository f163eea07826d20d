//! What a crowd costs, and how it gets past the dead, in virtual time.

mod sim;

use std::time::Duration;

use sim::{Count, Crowd, Settings};

const PRESENCE: Duration = Duration::from_secs(20);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `clients` clients with one waiter each contend for one lock. What `span` cost
/// once they had been at it for a while.
fn contend(clients: usize, settings: Settings, span: Duration) -> Count {
    let count = Crowd::contend(clients, settings, secs(100), span);
    println!(
        "{clients} clients: {:.1} ms a turn, {:.3} writes and {:.2} read units a grant, \
         {:.0} reads/s, {:.1} announcements/s",
        span.as_millis() as f64 / count.grants as f64,
        count.writes_per_grant(),
        count.read_units / count.grants as f64,
        count.reads as f64 / span.as_secs_f64(),
        count.announcements as f64 / span.as_secs_f64(),
    );
    assert_eq!(count.passed_over, 0);
    count
}

#[test]
fn eight_clients_pay_two_writes_and_less_than_four_read_units_a_grant() {
    for random in [false, true] {
        let settings = Settings {
            random,
            ..Settings::default()
        };
        let count = contend(8, settings, secs(200));
        assert!(count.writes_per_grant() < 2.1, "{count:?}");
        assert!(count.read_units < 4.0 * count.grants as f64, "{count:?}");
    }
}

#[test]
fn a_thousand_waiters_cost_each_grant_what_ten_do() {
    for (hold, random) in [(20, false), (200, false), (200, true), (2_000, false)] {
        let settings = Settings {
            hold: Duration::from_millis(hold),
            random,
            ..Settings::default()
        };
        println!(
            "hold {hold} ms, {}",
            if random { "random" } else { "fixed" }
        );
        let span = secs(300);
        let ten = contend(10, settings.clone(), span);
        let thousand = contend(1_000, settings, span);
        let ratio = thousand.writes_per_grant() / ten.writes_per_grant();
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
        // And the lock goes round as fast.
        let slower = ten.grants as f64 / thousand.grants as f64;
        assert!(slower < 1.15, "{slower}");
        // 1,000 waiters, asleep for 13.5 s on average, and a number of looks a
        // grant that grows with the logarithm of the distance.
        let reads = thousand.reads as f64 / span.as_secs_f64();
        let bound = if hold < 100 { 370.0 } else { 200.0 };
        assert!(reads < bound, "{reads} reads per second");
    }
}

/// Many clients acquire once, all at the same time, and so again an hour later. What they
/// remember of an hour without turns says nothing about how long a turn takes.
#[test]
fn a_crowd_that_comes_back_after_an_hour_is_as_fast_as_before() {
    let mut crowd = Crowd::new(Settings::default(), 7);
    let clients: Vec<_> = (0..40).map(|_| crowd.join(secs(0), false)).collect();
    let mut lasted = Vec::new();
    for _ in 0..3 {
        let began = crowd.now();
        let all = crowd.granted.len() + clients.len();
        assert!(crowd.run_until(began + secs(600), |crowd| crowd.granted.len() == all));
        lasted.push(crowd.now() - began);
        crowd.run(secs(3_600));
        for &client in &clients {
            crowd.begin_again(client, secs(0));
        }
    }
    println!("{lasted:?}, {} passed over", crowd.count.passed_over);
    assert!(
        lasted[1] < lasted[0] * 2 && lasted[2] < lasted[0] * 2,
        "{lasted:?}"
    );
}

/// How a crowd that waited behind long turns got through the short ones after them.
struct Drain {
    /// From the end of the last long turn to the end of the last short one.
    took: Duration,
    /// The longest time for which nobody held.
    gap: Duration,
    /// Read units that one waiter spent in a minute of the last long turn.
    units: f64,
}

/// `waiters` clients queue behind `turns` turns of this length, and then have one turn of
/// 20 ms each.
fn drain(waiters: usize, turns: usize, long: Duration) -> Drain {
    let settings = Settings::default();
    let short = settings.hold;
    let mut crowd = Crowd::new(settings, 3);
    for _ in 0..turns {
        let client = crowd.join(Duration::ZERO, false);
        crowd.hold_for(client, long);
        crowd.run(Duration::from_millis(30));
    }
    for n in 0..waiters {
        crowd.join(Duration::from_millis(n as u64 * 10), false);
    }
    let limit = crowd.now() + secs(36_000);
    assert!(crowd.run_until(limit, |crowd| crowd.granted.len() >= turns));
    let before = crowd.count;
    crowd.run(long);
    let units = crowd.count.since(before).read_units / waiters as f64;
    let all = turns + waiters;
    assert!(crowd.run_until(limit, |crowd| crowd.granted.len() == all));
    assert_eq!(crowd.count.passed_over, 0);
    let released = crowd.granted[turns - 1].at + long;
    let mut free_since = released;
    let mut gap = Duration::ZERO;
    for grant in &crowd.granted[turns..] {
        gap = gap.max(grant.at - free_since);
        free_since = grant.at + short;
    }
    let drain = Drain {
        took: free_since - released,
        gap,
        units: units * 60.0 / long.as_secs_f64(),
    };
    println!(
        "{waiters} behind {turns} turns of {long:?}: {:.1} ms a turn, nobody held for {:.0?} \
         at most, {:.1} read units a waiter and minute",
        drain.took.as_secs_f64() * 1e3 / waiters as f64,
        drain.gap,
        drain.units,
    );
    drain
}

/// Whoever sleeps too long because one turn was long makes all others wait.
#[test]
fn a_crowd_behind_a_long_turn_does_not_sleep_through_the_short_ones() {
    // As fast as a crowd that has seen short turns only, but for one pause of the next in
    // line.
    let (steady, pause) = (Duration::from_millis(45), Duration::from_millis(1_100));
    for long in [0.2, 2.0, 45.0, 600.0].map(Duration::from_secs_f64) {
        for waiters in [10, 100, 1_000] {
            let drain = drain(waiters, 1, long);
            let bound = steady * waiters as u32 + pause;
            assert!(drain.took <= bound, "{:?} of {bound:?}", drain.took);
            assert!(drain.gap <= pause, "nobody held for {:?}", drain.gap);
        }
    }
    // Nor if there were a few of them.
    for turns in [3, 10] {
        let drain = drain(100, turns, secs(2));
        assert!(drain.took <= Duration::from_millis(100) * 100);
        assert!(drain.gap <= pause, "nobody held for {:?}", drain.gap);
    }
}

/// What the shorter sleep must not cost.
#[test]
fn a_crowd_behind_one_turn_of_a_minute_looks_once_a_second_at_most() {
    for (waiters, bound) in [(10, 66.0), (100, 40.0), (1_000, 10.5)] {
        let units = drain(waiters, 1, secs(60)).units;
        assert!(units < bound, "{units} read units a waiter and minute");
    }
}

/// A crowd of one, who holds the lock for `hold`; and when to stop waiting for what
/// is expected.
fn held_for(hold: Duration, seed: u64) -> (Crowd, usize, Duration) {
    let settings = Settings {
        hold,
        presence: PRESENCE,
        ..Settings::default()
    };
    let mut crowd = Crowd::new(settings, seed);
    let holder = crowd.join(Duration::ZERO, false);
    let limit = crowd.now() + secs(3_600);
    assert!(crowd.run_until(limit, |crowd| crowd.holds(holder)));
    (crowd, holder, limit)
}

/// How long the lock is on its way from one who holds it to one who waits.
fn hand_over(crowd: &mut Crowd, from: usize, to: usize, limit: Duration) -> Duration {
    assert!(crowd.run_until(limit, |crowd| !crowd.holds(from)));
    let released = crowd.now();
    assert!(crowd.run_until(limit, |crowd| crowd.holds(to)));
    crowd.now() - released
}

/// One holds, `dead` wait behind it, and one more behind them. The `dead` are killed
/// and the holder releases. Returns how long the last one waits from then on.
fn get_past(dead: usize, waited: Duration) -> Duration {
    let (mut crowd, holder, limit) = held_for(waited, 11);
    let doomed: Vec<_> = (0..dead)
        .map(|_| crowd.join(Duration::from_millis(10), false))
        .collect();
    assert!(crowd.run_until(limit, |crowd| {
        doomed.iter().all(|client| crowd.waits(*client))
    }));
    let heir = crowd.join(Duration::from_millis(10), false);
    assert!(crowd.run_until(limit, |crowd| crowd.waits(heir)));
    assert!(crowd.run_until(limit, |crowd| !crowd.holds(holder)));
    for client in doomed {
        crowd.kill(client);
    }
    let died = crowd.now();
    assert!(crowd.run_until(limit, |crowd| crowd.holds(heir)));
    crowd.now() - died
}

#[test]
fn a_run_of_the_dead_costs_one_presence_however_long_it_is() {
    for waited in [secs(1), secs(10), secs(60), secs(300)] {
        for dead in [1, 50, 500] {
            let took = get_past(dead, waited);
            println!("{dead} dead after {waited:?}: {took:.1?}");
            assert!(took <= PRESENCE + secs(2), "{dead} dead took {took:?}");
        }
    }
}

#[test]
fn whoever_gives_up_delays_the_others_by_no_more_than_the_grace() {
    for left_before in [9_900, 5_000, 100] {
        let (mut crowd, holder, limit) = held_for(secs(10), 13);
        let hasty = crowd.join(Duration::from_millis(10), false);
        crowd.give_up_after(hasty, Duration::from_millis(left_before));
        let patient = crowd.join(Duration::from_millis(20), false);
        let took = hand_over(&mut crowd, holder, patient, limit);
        println!("left {left_before} ms before the release: {took:.2?}");
        // The grace, a poll, and some round trips.
        assert!(
            took <= Duration::from_millis(1_000 + 1_000 + 50),
            "{took:?}"
        );
    }
}

/// Whoever is further back sleeps for a part of the time that the turns before its
/// own would have taken. So it may notice late that many left at once; but not later
/// than if they had stayed.
#[test]
fn many_who_leave_at_once_do_not_delay_who_stays() {
    for departing in [10, 200] {
        let (mut crowd, holder, limit) = held_for(secs(10), 13);
        for _ in 0..departing {
            let client = crowd.join(Duration::from_millis(10), false);
            crowd.give_up_after(client, secs(8));
        }
        let patient = crowd.join(Duration::from_millis(20), false);
        let took = hand_over(&mut crowd, holder, patient, limit);
        println!("{departing} departures: {took:.2?}");
        let slept = secs(15).min(Duration::from_millis(600 * departing));
        assert!(took <= slept + Duration::from_millis(1_100), "{took:?}");
    }
}

#[test]
fn ten_thousand_departures_leave_the_record_as_it_was() {
    let (mut crowd, holder, limit) = held_for(secs(1_000), 17);
    crowd.run(secs(3));
    let before = crowd.record.clone().unwrap();
    for _ in 0..10_000 {
        let client = crowd.join(Duration::from_millis(10), false);
        crowd.give_up_after(client, Duration::from_millis(100));
    }
    let patient = crowd.join(Duration::from_millis(20), false);
    crowd.run(secs(10));
    let after = crowd.record.clone().unwrap();
    assert_eq!(after.issued.get(), before.issued.get() + 10_001);
    let neutral = |record: &dynamodb_fifo_lock::record::LockRecord| {
        let mut record = record.clone();
        record.issued = record.served;
        record.revision = 0;
        if let Some(holder) = &mut record.holder {
            holder.renewed_at_ms = 0;
        }
        record
    };
    assert_eq!(
        neutral(&after),
        neutral(&before),
        "nothing else has changed"
    );
    let took = hand_over(&mut crowd, holder, patient, limit);
    // The longest pause, the grace, and a hundred looks at a hundred rows each.
    assert!(took <= secs(15 + 1 + 1));
}
