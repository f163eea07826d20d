//! Time as the locks see it.
//!
//! Leases are counted on a clock that only runs forward and that keeps running
//! while the machine is suspended. The wall clock is read for people, to seed the
//! tokens of a lock that has no record yet, and to tell who has been silent for
//! very long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on this process's monotonic clock. Moments of different processes
/// cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the clock's origin.
    #[must_use]
    pub const fn after_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The moment `span` later; the end of time if there is none.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Now, on a clock that never goes back and counts suspension.
// `Instant` stands still during suspend on Linux and macOS: a holder that slept
// through its lease would wake up believing it still holds.
#[cfg(unix)]
pub(crate) fn now() -> Moment {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const COUNTS_SUSPEND: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const COUNTS_SUSPEND: ClockId = ClockId::Monotonic;
    let time = clock_gettime(COUNTS_SUSPEND);
    // Both parts of a monotonic reading are non-negative.
    Moment(Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    ))
}

/// Now, on a clock that never goes back and counts suspension.
#[cfg(not(unix))]
pub(crate) fn now() -> Moment {
    use std::sync::LazyLock;
    use std::time::Instant;
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Moment(ORIGIN.elapsed())
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| u64::try_from(elapsed.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_overflow() {
        let end = Moment::after_origin(Duration::MAX);
        assert_eq!(end.plus(Duration::from_secs(1)), end);
        assert_eq!(
            Moment::after_origin(Duration::ZERO).since(end),
            Duration::ZERO
        );
    }

    #[test]
    fn the_machines_clock_runs_forward() {
        let first = now();
        assert!(now() >= first);
        assert!(wall_ms() > 1_600_000_000_000);
    }
}
