//! What a crowd is like, and what it asks for.

use std::time::Duration;

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
        }
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
