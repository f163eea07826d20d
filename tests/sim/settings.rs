//! What a crowd is like, and what it asks for.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// What a crowd is like.
#[derive(Clone)]
pub struct Settings {
    /// How long a request takes, there and back.
    pub latency: Duration,
    /// For how long a lock is held.
    pub hold: Duration,
    /// Whether holds are of random length, that long on average.
    pub random: bool,
    /// How long a client does something else between two acquisitions.
    pub think: Duration,
    pub lease: Duration,
    pub presence: Duration,
    pub grace: Duration,
    pub farthest: Duration,
    /// How far clients take wall clocks to be apart.
    pub allowance: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            hold: Duration::from_millis(20),
            random: false,
            think: Duration::ZERO,
            lease: Duration::from_secs(20),
            presence: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            farthest: Duration::from_secs(15),
            allowance: Duration::from_secs(1_800),
        }
    }
}

/// How a client acquires.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// Whether it goes on acquiring.
    pub again: bool,
    /// How long it does something else between two acquisitions, if not as long as all.
    pub think: Option<Duration>,
    /// Between what times it gives up, if it does.
    pub give_up_after: Option<RangeInclusive<Duration>>,
    /// Whether it only tries.
    pub tries: bool,
    /// Whether each attempt is that of a new process, which knows nothing of the earlier
    /// ones.
    pub forgets: bool,
}

impl Habits {
    /// For how long the next attempt waits: from milliseconds to minutes all are as
    /// likely.
    pub fn patience(&self, dice: &mut StdRng) -> Option<Duration> {
        let range = self.give_up_after.as_ref()?;
        let (low, high) = (range.start().as_secs_f64(), range.end().as_secs_f64());
        let exponent: f64 = dice.random();
        Some(Duration::from_secs_f64(low * (high / low).powf(exponent)))
    }
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Writes to the record, the refused ones included.
    pub writes: u64,
    /// Reads of the record.
    pub reads: u64,
    /// Read units: one for a consistent read, a half for another.
    pub read_units: f64,
    /// Reads of rows.
    pub looks: u64,
    /// Writes to rows.
    pub announcements: u64,
    /// Rows deleted.
    pub deletions: u64,
    /// Locks granted.
    pub grants: u64,
    /// Turns that were passed over.
    pub passed_over: u64,
}

impl Count {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            writes: self.writes - earlier.writes,
            reads: self.reads - earlier.reads,
            read_units: self.read_units - earlier.read_units,
            looks: self.looks - earlier.looks,
            announcements: self.announcements - earlier.announcements,
            deletions: self.deletions - earlier.deletions,
            grants: self.grants - earlier.grants,
            passed_over: self.passed_over - earlier.passed_over,
        }
    }

    pub fn writes_per_grant(self) -> f64 {
        self.writes as f64 / self.grants as f64
    }
}
