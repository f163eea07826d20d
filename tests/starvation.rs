//! A lock that no live client holds or waits for is granted within a bound, however
//! short the attempts are that ask for it. In virtual time.

mod sim;

use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Write, apply};
use dynamodb_fifo_lock::record::{TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, Ticket};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use sim::{Crowd, Habits, Settings};

const EPOCH_MS: u64 = 1_800_000_000_000;
const GRACE: Duration = Duration::from_secs(1);
const ANNOUNCE_DELAY: Duration = Duration::from_secs(3);
const ALLOWANCE: Duration = Duration::from_secs(1_800);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings() -> Settings {
    Settings {
        latency: ms(10),
        hold: ms(200),
        allowance: ALLOWANCE,
        ..Settings::default()
    }
}

/// Within what time a caller that keeps asking is granted the lock once no live client
/// holds it or waits for it.
fn bound(settings: &Settings) -> Duration {
    settings.lease.max(settings.presence) + ANNOUNCE_DELAY + GRACE * 2 + settings.farthest
}

/// Somebody who asks again and again.
fn asker(low: Duration, high: Duration) -> Habits {
    Habits {
        again: true,
        think: Some(ms(50)),
        give_up_after: Some(low..=high),
        ..Habits::default()
    }
}

/// Waits for the next grant to `client`, and says how long it took.
fn granted_within(crowd: &mut Crowd, client: usize, limit: Duration) -> Duration {
    let began = crowd.now();
    let done = |crowd: &Crowd| crowd.was_granted(client, began);
    assert!(
        crowd.run_until(began + limit, done),
        "not granted from {began:?} for {limit:?}, on a lock that no live client holds or waits \
         for: {:?}, {:#?}",
        crowd.record,
        crowd.rows,
    );
    crowd.now() - began
}

/// A lock with these tickets out, whose owners died before they wrote a row.
fn silent_tickets(crowd: &mut Crowd, number: u64) {
    for _ in 0..number {
        let write = Write::Enqueue {
            start: Ticket::new(EPOCH_MS),
            grace: GRACE,
            wall_ms: EPOCH_MS + u64::try_from(crowd.now().as_millis()).unwrap(),
        };
        crowd.record = apply(crowd.record.as_ref(), &write);
    }
}

#[test]
fn one_departure_does_not_starve_attempts_that_are_shorter_than_the_grace() {
    for forgets in [false, true] {
        let mut crowd = Crowd::new(settings(), 1);
        silent_tickets(&mut crowd, 1);
        let record = crowd.record.clone().unwrap();
        crowd
            .rows
            .insert(record.issued, left(record.issued, EPOCH_MS));
        let habits = Habits {
            forgets,
            ..asker(ms(900), ms(900))
        };
        let client = crowd.join(ms(1), true);
        crowd.acquires_with(client, habits);
        let took = granted_within(&mut crowd, client, GRACE * 2);
        println!("new processes: {forgets}: {took:?}");
    }
}

fn left(ticket: Ticket, since_ms: u64) -> TicketRow {
    TicketRow {
        ticket,
        id: HolderId::new(format!("left {ticket}")),
        owner: String::new(),
        state: TicketState::Left,
        since_ms,
        expires_at_s: EPOCH_MS / 1_000 + 7 * 24 * 3_600,
    }
}

#[test]
fn a_waiter_that_died_without_a_row_does_not_starve_short_attempts() {
    for (low, high) in [(60, 60), (200, 900), (3_900, 3_900)] {
        let mut crowd = Crowd::new(settings(), 2);
        silent_tickets(&mut crowd, 1);
        let client = crowd.join(ms(1), true);
        crowd.acquires_with(client, asker(ms(low), ms(high)));
        let took = granted_within(&mut crowd, client, ANNOUNCE_DELAY + GRACE * 6);
        println!("timeouts of {low} to {high} ms: {took:?}");
    }
}

#[test]
fn a_caller_that_only_tries_gets_past_a_dead_waiter_and_a_dead_holder() {
    for dead_holder in [false, true] {
        let mut crowd = Crowd::new(settings(), 3);
        if dead_holder {
            let holder = crowd.join(ms(0), false);
            assert!(crowd.run_until(secs(5), |crowd| crowd.holds(holder)));
            crowd.kill(holder);
        }
        silent_tickets(&mut crowd, 1);
        let client = crowd.join(ms(1), true);
        let habits = Habits {
            tries: true,
            give_up_after: None,
            ..asker(ms(1), ms(1))
        };
        crowd.acquires_with(client, habits);
        let bound = bound(&settings());
        let took = granted_within(&mut crowd, client, bound);
        println!("dead holder: {dead_holder}: {took:?}");
    }
}

#[test]
fn twenty_thousand_departures_are_got_past_by_attempts_of_three_seconds() {
    for tries in [false, true] {
        let mut crowd = Crowd::new(settings(), 4);
        silent_tickets(&mut crowd, 20_000);
        let turn = crowd.record.clone().unwrap().turn();
        for number in 0..20_000 {
            let ticket = Ticket::new(turn.get() + number);
            crowd.rows.insert(ticket, left(ticket, EPOCH_MS));
        }
        let client = crowd.join(ms(1), true);
        let habits = Habits {
            tries,
            forgets: true,
            ..asker(ms(3_000), ms(3_000))
        };
        crowd.acquires_with(client, habits);
        let took = granted_within(&mut crowd, client, secs(12));
        println!("only tries: {tries}: {took:?}, {} looks", crowd.count.looks);
        assert!(crowd.count.looks < 50, "{} looks", crowd.count.looks);
    }
}

/// What asks for the lock in the end, and for how long it may starve.
fn classes() -> Vec<(&'static str, Habits, Duration)> {
    let bound = bound(&settings());
    let forgetful = |low, high| Habits {
        forgets: true,
        ..asker(low, high)
    };
    let tries = Habits {
        tries: true,
        give_up_after: None,
        ..asker(ms(1), ms(1))
    };
    vec![
        (
            "one client, 30 ms to 2 minutes",
            asker(ms(30), secs(120)),
            bound,
        ),
        ("one client, 30 to 900 ms", asker(ms(30), ms(900)), bound),
        ("one client that only tries", tries.clone(), bound),
        (
            // Longer than the lease: the holder may be dead.
            "processes of 21 to 30 s",
            forgetful(secs(21), secs(30)),
            bound + secs(20),
        ),
        (
            "processes of 1.1 to 4 s",
            forgetful(ms(1_100), secs(4)),
            bound + ALLOWANCE,
        ),
        (
            "processes of 30 to 900 ms",
            forgetful(ms(30), ms(900)),
            bound + ALLOWANCE,
        ),
        // They leave no rows that would tell how old the tickets before them are.
        (
            "processes that only try",
            Habits {
                forgets: true,
                think: Some(secs(1)),
                ..tries
            },
            bound + ALLOWANCE * 2,
        ),
    ]
}

/// Clients of all kinds come and die for a while: silently, in the queue, while they
/// hold. Then only one goes on asking.
#[test]
fn whatever_happened_a_caller_that_keeps_asking_is_granted_the_lock_in_the_end() {
    let seeds = std::env::var("FIFOLOCK_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    for (name, habits, bound) in classes() {
        println!("{name}:");
        let mut longest = Duration::ZERO;
        for seed in 0..seeds {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut crowd = Crowd::new(settings(), seed);
            storm(&mut crowd, &mut dice);
            let client = crowd.join(ms(1), true);
            crowd.acquires_with(client, habits.clone());
            longest = longest.max(granted_within(&mut crowd, client, bound));
        }
        println!("{name}: {seeds} seeds, {longest:.1?} at the longest, of {bound:?}");
    }
}

/// Afterwards no client is alive.
fn storm(crowd: &mut Crowd, dice: &mut StdRng) {
    let mut alive = Vec::new();
    for _ in 0..dice.random_range(1..40) {
        let client = crowd.join(ms(1), true);
        let habits = Habits {
            again: true,
            think: Some(ms(dice.random_range(0..500))),
            give_up_after: dice.random_bool(0.7).then_some(ms(30)..=secs(30)),
            tries: dice.random_bool(0.2),
            forgets: dice.random_bool(0.5),
        };
        crowd.acquires_with(client, habits);
        alive.push(client);
        crowd.run(ms(dice.random_range(1..2_000)));
        if alive.len() > 1 && dice.random_bool(0.7) {
            let victim = alive.swap_remove(dice.random_range(0..alive.len()));
            crowd.kill(victim);
        }
    }
    for client in alive {
        crowd.kill(client);
    }
}

/// Clients that give up after a moment are killed all the time, and others take their
/// place. There are always some that ask.
#[test]
fn a_kill_storm_with_short_timeouts_never_stops_the_grants() {
    for (low, high) in [(300, 300), (900, 900), (2_500, 2_500), (100, 10_000)] {
        // Evidence that a holder is dead takes a lease of one client's life.
        let settings = Settings {
            lease: secs(4),
            presence: secs(6),
            ..settings()
        };
        let mut crowd = Crowd::new(settings, 5);
        let mut dice = StdRng::seed_from_u64(5);
        let mut alive: Vec<usize> = Vec::new();
        let end = crowd.now() + secs(600);
        while crowd.now() < end {
            while alive.len() < 6 {
                let client = crowd.join(ms(1), true);
                let habits = Habits {
                    // Half of them go on in the same process.
                    forgets: alive.len().is_multiple_of(2),
                    ..asker(ms(low), ms(high))
                };
                crowd.acquires_with(client, habits);
                alive.push(client);
            }
            crowd.run(ms(dice.random_range(500..8_000)));
            let victim = alive.swap_remove(dice.random_range(0..alive.len()));
            crowd.kill(victim);
        }
        let times = crowd.granted.iter().map(|grant| grant.at);
        let times: Vec<_> = times.chain([crowd.now()]).collect();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        let gap = gap.unwrap_or(secs(600));
        println!(
            "timeouts of {low} to {high} ms: {} grants, the longest gap {gap:?}, {} passed over",
            crowd.granted.len(),
            crowd.count.passed_over,
        );
        assert!(gap < secs(60), "{gap:?} without a grant");
    }
}
