//! Settings of random lengths.

use std::time::Duration;

use dynamodb_fifo_lock::{AcquireOptions, Error, LockClient, MemoryStore};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::Config;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The documented ranges. What is said to be up to a year is not tried between 365
/// and 366 days.
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Often at the edge of something.
fn span() -> impl Strategy<Value = Duration> {
    let edges = vec![
        Duration::ZERO,
        MS,
        MS * 50,
        S,
        S * 3,
        S * 6,
        S * 20,
        S * 60,
        S * 120,
        S * 3_600,
        DAY,
        DAY * 365,
        YEAR + S,
        Duration::MAX,
    ];
    let tick = Duration::from_nanos(1);
    prop_oneof![
        4 => prop::sample::select(edges.clone()),
        1 => prop::sample::select(edges.clone()).prop_map(move |edge| edge.saturating_sub(tick)),
        1 => prop::sample::select(edges).prop_map(move |edge| edge.saturating_add(tick)),
        8 => (0u64..40_000).prop_map(Duration::from_millis),
        2 => (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s >> (s % 64), n)),
    ]
}

#[derive(Clone, Debug)]
struct Wish {
    lease: Option<Duration>,
    lock_delay: Option<Duration>,
    heartbeat_interval: Option<Duration>,
    request_timeout: Option<Duration>,
    poll_interval: Option<Duration>,
    claim_grace: Option<Duration>,
    acquire_timeout: Option<Duration>,
    outage_limit: Option<Duration>,
    presence: Option<Duration>,
    clock_allowance: Option<Duration>,
    owner: Option<usize>,
}

fn wish() -> impl Strategy<Value = Wish> {
    // Few of them at a time, or nothing would ever be accepted.
    let rare = || option::weighted(0.15, span());
    let often = || option::weighted(0.7, span());
    let owner = option::weighted(0.2, prop::sample::select(vec![0, 1, 1_024, 1_025]));
    (
        (often(), often(), often()),
        (rare(), rare(), rare()),
        (rare(), rare(), rare(), rare()),
        owner,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(time, wait, rest, owner, exact)| Wish {
            lease: time.0,
            heartbeat_interval: time.1,
            // Now and then it fills the lease exactly.
            request_timeout: match (exact, time.0, time.1) {
                (true, Some(lease), Some(heartbeat)) => Some(lease.saturating_sub(heartbeat)),
                _ => time.2,
            },
            poll_interval: wait.0,
            claim_grace: wait.1,
            acquire_timeout: wait.2,
            outage_limit: rest.0,
            presence: rest.1,
            clock_allowance: rest.2,
            lock_delay: rest.3,
            owner,
        })
}

impl Wish {
    /// The settings that are at fault, by what the documentation says.
    fn faults(&self) -> Vec<&'static str> {
        let wished = self.lease.unwrap_or(S * 20);
        // Whole milliseconds count.
        let whole = |span: Duration| MS * u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let lease = whole(wished);
        let delay = self.lock_delay.unwrap_or_default();
        let heartbeat = self.heartbeat_interval.unwrap_or(lease / 4);
        let request = self.request_timeout.unwrap_or((S * 3).min(lease / 4));
        let never = Duration::from_nanos(1);
        let ranges = [
            ("lease", Some(wished), MS * 50, DAY),
            ("heartbeat_interval", Some(heartbeat), MS, lease),
            ("request_timeout", Some(request), MS, S * 60),
            ("poll_interval", self.poll_interval, MS, S * 60),
            ("claim_grace", self.claim_grace, MS * 50, S * 60),
            ("acquire_timeout", self.acquire_timeout, never, YEAR),
            ("outage_limit", self.outage_limit, never, YEAR),
            ("presence", self.presence, S * 6, S * 3_600),
            ("lock_delay", Some(delay), Duration::ZERO, S * 3_600),
            ("clock_allowance", self.clock_allowance, S * 120, YEAR),
        ];
        let mut faults: Vec<_> = ranges
            .into_iter()
            .filter(|(_, value, low, high)| {
                value.is_some_and(|value| value < *low || value > *high)
            })
            .map(|(name, ..)| name)
            .collect();
        if heartbeat.saturating_add(request) >= lease {
            faults.push("heartbeat_interval");
        }
        if lease + whole(delay) > DAY {
            faults.push("lock_delay");
        }
        if self
            .owner
            .is_some_and(|length| !(1..=1_024).contains(&length))
        {
            faults.push("owner");
        }
        faults
    }

    fn build(&self) -> Result<LockClient, Error> {
        let mut builder = LockClient::builder();
        if let Some(lease) = self.lease {
            builder = builder.lease(lease);
        }
        if let Some(delay) = self.lock_delay {
            builder = builder.lock_delay(delay);
        }
        if let Some(interval) = self.heartbeat_interval {
            builder = builder.heartbeat_interval(interval);
        }
        if let Some(timeout) = self.request_timeout {
            builder = builder.request_timeout(timeout);
        }
        if let Some(interval) = self.poll_interval {
            builder = builder.poll_interval(interval);
        }
        if let Some(grace) = self.claim_grace {
            builder = builder.claim_grace(grace);
        }
        if let Some(timeout) = self.acquire_timeout {
            builder = builder.acquire_timeout(timeout);
        }
        if let Some(limit) = self.outage_limit {
            builder = builder.outage_limit(limit);
        }
        if let Some(presence) = self.presence {
            builder = builder.presence(presence);
        }
        if let Some(allowance) = self.clock_allowance {
            builder = builder.clock_allowance(allowance);
        }
        if let Some(length) = self.owner {
            builder = builder.owner("o".repeat(length));
        }
        builder.build(MemoryStore::new())
    }
}

proptest! {
    #![proptest_config(Config {
        cases: 3_000,
        failure_persistence: None,
        ..Config::default()
    })]

    /// Accepted is what the documentation allows, and it works; refused is the rest,
    /// with the name of a setting that is at fault.
    #[test]
    fn settings_are_accepted_as_documented(wish in wish()) {
        let faults = wish.faults();
        match wish.build() {
            Ok(client) => {
                prop_assert!(faults.is_empty(), "{faults:?}");
                let guard = client.try_acquire("fuzz").unwrap().unwrap();
                let lease = wish.lease.unwrap_or(S * 20);
                prop_assert!(guard.remaining() <= lease);
                guard.release().unwrap();
            }
            Err(Error::InvalidSetting { setting, problem }) => {
                prop_assert!(faults.contains(&setting), "{setting} {problem} {faults:?}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn options_of_one_acquire_are_accepted_as_documented(
        timeout in option::of(span()),
        data in option::of(prop::sample::select(vec![0, 1, 1_024, 1_025])),
        permits in option::of(prop::sample::select(vec![0, 1, 100, 101, u32::MAX])),
    ) {
        let client = LockClient::builder().build(MemoryStore::new()).unwrap();
        let mut options = AcquireOptions::new();
        let mut faults = Vec::new();
        if let Some(timeout) = timeout {
            options = options.timeout(timeout);
            if timeout.is_zero() || timeout > YEAR {
                faults.push("acquire_timeout");
            }
        }
        if let Some(length) = data {
            options = options.data("d".repeat(length));
            if !(1..=1_024).contains(&length) {
                faults.push("data");
            }
        }
        if let Some(permits) = permits {
            options = options.permits(permits);
            if !(1..=100).contains(&permits) {
                faults.push("permits");
            }
        }
        match client.acquire_with("fuzz", options) {
            Ok(guard) => {
                prop_assert!(faults.is_empty(), "{faults:?}");
                guard.release().unwrap();
            }
            // A nanosecond may be over before the first request is sent.
            Err(Error::AcquireTimeout { .. }) => {
                prop_assert!(timeout.is_some_and(|timeout| timeout < S) && faults.is_empty());
            }
            Err(Error::InvalidSetting { setting, problem }) => {
                prop_assert!(faults.contains(&setting), "{setting} {problem} {faults:?}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
