//! Settings, their defaults, and what makes no sense.

use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::error::Error;
use crate::protocol::Pace;
use crate::record::Mode;

const DEFAULT_LEASE: Duration = Duration::from_secs(20);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_POLL: Duration = Duration::from_secs(1);
const DEFAULT_GRACE: Duration = Duration::from_secs(1);
const DEFAULT_OUTAGE_LIMIT: Duration = Duration::from_secs(30);
const DEFAULT_PRESENCE: Duration = Duration::from_secs(20);
const DEFAULT_CLOCK_ALLOWANCE: Duration = Duration::from_secs(30 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const SHORTEST_POLL: Duration = Duration::from_millis(20);

const LEASES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(86_400));
const GRACES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));
const BEATS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(86_400));
const WAITS: (Duration, Duration) = (Duration::from_nanos(1), Duration::from_secs(366 * 86_400));
const PRESENCES: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3_600));
const ALLOWANCES: (Duration, Duration) =
    (Duration::from_secs(120), Duration::from_secs(366 * 86_400));
const LOCK_DELAYS: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3_600));
const MAX_OWNER_BYTES: usize = 1024;
const MAX_DATA_BYTES: usize = 1024;

/// So many may share one lock: their entries make every write to its row dearer.
const MOST_SHARERS: u32 = 100;

/// What the user set; `None` where the default is to be taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) owner: Option<String>,
    pub(crate) lease: Option<Duration>,
    pub(crate) lock_delay: Option<Duration>,
    pub(crate) heartbeat_interval: Option<Duration>,
    pub(crate) acquire_timeout: Option<Duration>,
    pub(crate) poll_interval: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) claim_grace: Option<Duration>,
    pub(crate) outage_limit: Option<Duration>,
    pub(crate) presence: Option<Duration>,
    pub(crate) clock_allowance: Option<Duration>,
}

/// Settings that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) owner: String,
    pub(crate) lease: Duration,
    pub(crate) lock_delay: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) acquire_timeout: Option<Duration>,
    pub(crate) pace: Pace,
    pub(crate) request_timeout: Duration,
    pub(crate) claim_grace: Duration,
    pub(crate) outage_limit: Duration,
    pub(crate) presence: Duration,
    pub(crate) clock_allowance: Duration,
}

impl Wishes {
    pub(crate) fn settle(self) -> Result<Settings, Error> {
        let lease = self.lease.unwrap_or(DEFAULT_LEASE);
        within("lease", lease, LEASES)?;
        let lease = whole_millis(lease);
        let lock_delay = self.lock_delay.unwrap_or_default();
        within("lock_delay", lock_delay, LOCK_DELAYS)?;
        let lock_delay = whole_millis(lock_delay);
        if lease + lock_delay > LEASES.1 {
            return Err(Error::InvalidSetting {
                setting: "lock_delay",
                problem: format!(
                    "{lock_delay:?} and the lease of {lease:?} are together longer than {:?}",
                    LEASES.1
                ),
            });
        }
        let heartbeat_interval = self.heartbeat_interval.unwrap_or(lease / 4);
        let request_timeout = self
            .request_timeout
            .unwrap_or(DEFAULT_REQUEST_TIMEOUT.min(lease / 4));
        let poll_interval = self.poll_interval.unwrap_or(DEFAULT_POLL.min(lease / 10));
        let claim_grace = self.claim_grace.unwrap_or(DEFAULT_GRACE);
        let outage_limit = self.outage_limit.unwrap_or(DEFAULT_OUTAGE_LIMIT);
        let presence = self.presence.unwrap_or(DEFAULT_PRESENCE);
        let clock_allowance = self.clock_allowance.unwrap_or(DEFAULT_CLOCK_ALLOWANCE);
        within("presence", presence, PRESENCES)?;
        within("clock_allowance", clock_allowance, ALLOWANCES)?;
        within("heartbeat_interval", heartbeat_interval, BEATS)?;
        within("request_timeout", request_timeout, PAUSES)?;
        within("poll_interval", poll_interval, PAUSES)?;
        within("claim_grace", claim_grace, GRACES)?;
        let claim_grace = whole_millis(claim_grace);
        within("outage_limit", outage_limit, WAITS)?;
        if let Some(timeout) = self.acquire_timeout {
            check_timeout(timeout)?;
        }
        // One renewal that hangs to its time-out must leave time for the next.
        if heartbeat_interval.saturating_add(request_timeout) >= lease {
            return Err(Error::InvalidSetting {
                setting: "heartbeat_interval",
                problem: format!(
                    "{heartbeat_interval:?} and the request time-out of {request_timeout:?} \
                     together reach the lease of {lease:?}, so that one slow renewal would lose \
                     the lock; a quarter of the lease is a good interval"
                ),
            });
        }
        let owner = self.owner.unwrap_or_else(default_owner);
        if owner.is_empty() || owner.len() > MAX_OWNER_BYTES {
            return Err(Error::InvalidSetting {
                setting: "owner",
                problem: format!("give a text of 1 to {MAX_OWNER_BYTES} bytes"),
            });
        }
        Ok(Settings {
            owner,
            lease,
            lock_delay,
            heartbeat_interval,
            acquire_timeout: self.acquire_timeout,
            pace: Pace {
                shortest: SHORTEST_POLL.min(poll_interval),
                longest: poll_interval,
                // So that a run of the dead is noticed before their rows expire.
                farthest: LONGEST_PAUSE.min(presence * 3 / 4),
            },
            request_timeout,
            claim_grace,
            outage_limit,
            presence,
            clock_allowance,
        })
    }
}

/// How one call of [`acquire_with`](crate::LockClient::acquire_with) is to wait.
///
/// ```
/// use std::time::Duration;
/// use dynamodb_fifo_lock::AcquireOptions;
///
/// let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
/// let options = AcquireOptions::new()
///     .timeout(Duration::from_secs(30))
///     .cancel(stopped);
/// # drop((stop, options));
/// ```
#[derive(Clone, Debug, Default)]
pub struct AcquireOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel: Option<Receiver<()>>,
    pub(crate) data: Option<String>,
    pub(crate) mode: Option<Mode>,
}

impl AcquireOptions {
    /// Waits as the client's settings say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait for the lock. Defaults to the client's
    /// [`acquire_timeout`](crate::LockClientBuilder::acquire_timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A channel that ends the wait when it receives a message or is closed.
    /// A request that is under way is waited for; see
    /// [`acquire_with`](crate::LockClient::acquire_with). Defaults to none.
    #[must_use]
    pub fn cancel(mut self, cancel: Receiver<()>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// What people who [`inspect`](crate::LockClient::inspect) the lock are to know
    /// about its holder: a text of at most 1,024 bytes, kept in the lock's record
    /// while it is held. It makes the record larger, and a write costs one unit
    /// for each kilobyte. Defaults to nothing.
    #[must_use]
    pub fn data(mut self, data: impl Into<String>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// Holds the lock together with others that ask for it shared, up to 100 of them:
    /// readers, say. Who asks for the lock alone waits until all of them have left, and
    /// those who come later wait behind it: so neither kind starves the other. Defaults
    /// to holding alone.
    ///
    /// A thread that shares may share once more, while there is room. It queues behind those
    /// who asked for the lock alone in between, and they wait for its first share: give a
    /// time-out, or do not ask twice.
    ///
    /// All who share stand in the lock's one row, and each of their writes costs a write
    /// unit for each kilobyte of it, which is about eight of them. This is for tens, not
    /// for thousands.
    #[must_use]
    pub fn shared(self) -> Self {
        self.permits(MOST_SHARERS)
    }

    /// Holds one of `permits` permits, 1 to 100: as [`shared`](Self::shared), with a
    /// lower limit. A permit is granted, in the order of asking, while fewer than
    /// `permits` are out. Let all who use a lock give the same number: each goes by its
    /// own.
    #[must_use]
    pub fn permits(mut self, permits: u32) -> Self {
        self.mode = Some(Mode::Shared { limit: permits });
        self
    }

    /// How to hold.
    pub(crate) fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Exclusive)
    }

    /// Checks what can be wrong with the options.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(Mode::Shared { limit }) = self.mode
            && !(1..=MOST_SHARERS).contains(&limit)
        {
            return Err(Error::InvalidSetting {
                setting: "permits",
                problem: format!("{limit} is not from 1 to {MOST_SHARERS}"),
            });
        }
        if let Some(timeout) = self.timeout {
            check_timeout(timeout)?;
        }
        match &self.data {
            Some(data) if data.is_empty() || data.len() > MAX_DATA_BYTES => {
                Err(Error::InvalidSetting {
                    setting: "data",
                    problem: format!(
                        "give a text of 1 to {MAX_DATA_BYTES} bytes; this one has {}",
                        data.len()
                    ),
                })
            }
            _ => Ok(()),
        }
    }
}

fn check_timeout(timeout: Duration) -> Result<(), Error> {
    if timeout.is_zero() {
        return Err(Error::InvalidSetting {
            setting: "acquire_timeout",
            problem: "a time-out of zero never waits; use try_acquire for that".into(),
        });
    }
    within("acquire_timeout", timeout, WAITS)
}

/// The record has milliseconds. Whoever holds must not count on more than the others
/// can read there.
fn whole_millis(duration: Duration) -> Duration {
    Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000)
}

fn within(
    setting: &'static str,
    value: Duration,
    (low, high): (Duration, Duration),
) -> Result<(), Error> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        setting,
        problem: format!("{value:?} is out of range; it has to be {low:?} to {high:?}"),
    })
}

fn default_owner() -> String {
    format!("{}/{}", host(), std::process::id())
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown-host".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(wishes: Wishes) -> &'static str {
        match wishes.settle() {
            Err(Error::InvalidSetting { setting, .. }) => setting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_make_sense() {
        let settings = Wishes::default().settle().unwrap();
        assert_eq!(settings.lease, Duration::from_secs(20));
        assert_eq!(settings.heartbeat_interval, Duration::from_secs(5));
        assert_eq!(settings.request_timeout, Duration::from_secs(3));
        assert_eq!(settings.acquire_timeout, None);
        assert!(!settings.owner.is_empty());
    }

    #[test]
    fn a_short_lease_has_fitting_defaults() {
        let settings = Wishes {
            lease: Some(Duration::from_millis(400)),
            ..Wishes::default()
        }
        .settle()
        .unwrap();
        assert_eq!(settings.heartbeat_interval, Duration::from_millis(100));
        assert_eq!(settings.request_timeout, Duration::from_millis(100));
    }

    #[test]
    fn zero_and_overflowing_durations_are_refused() {
        for absurd in [Duration::ZERO, Duration::MAX] {
            let absurd = Some(absurd);
            let base = Wishes::default;
            assert_eq!(
                refused(Wishes {
                    lease: absurd,
                    ..base()
                }),
                "lease"
            );
            assert_eq!(
                refused(Wishes {
                    heartbeat_interval: absurd,
                    ..base()
                }),
                "heartbeat_interval"
            );
            assert_eq!(
                refused(Wishes {
                    acquire_timeout: absurd,
                    ..base()
                }),
                "acquire_timeout"
            );
            assert_eq!(
                refused(Wishes {
                    poll_interval: absurd,
                    ..base()
                }),
                "poll_interval"
            );
            assert_eq!(
                refused(Wishes {
                    request_timeout: absurd,
                    ..base()
                }),
                "request_timeout"
            );
            assert_eq!(
                refused(Wishes {
                    claim_grace: absurd,
                    ..base()
                }),
                "claim_grace"
            );
            assert_eq!(
                refused(Wishes {
                    outage_limit: absurd,
                    ..base()
                }),
                "outage_limit"
            );
            assert_eq!(
                refused(Wishes {
                    presence: absurd,
                    ..base()
                }),
                "presence"
            );
            assert_eq!(
                refused(Wishes {
                    clock_allowance: absurd,
                    ..base()
                }),
                "clock_allowance"
            );
        }
    }

    #[test]
    fn a_lease_is_what_the_record_can_say() {
        let settings = Wishes {
            lease: Some(Duration::from_micros(400_900)),
            ..Wishes::default()
        };
        let lease = settings.settle().unwrap().lease;
        assert_eq!(lease, Duration::from_millis(400));
    }

    #[test]
    fn data_is_bounded() {
        let check = |data: &str| AcquireOptions::new().data(data).check();
        assert!(check("deploy 17").is_ok());
        assert!(check(&"x".repeat(1024)).is_ok());
        for wrong in ["", &"x".repeat(1025)] {
            let refused = check(wrong);
            assert!(
                matches!(
                    &refused,
                    Err(Error::InvalidSetting {
                        setting: "data",
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_heartbeat_that_cannot_keep_the_lease_is_refused() {
        for millis in [17_000, 20_000, 25_000] {
            let wishes = Wishes {
                heartbeat_interval: Some(Duration::from_millis(millis)),
                ..Wishes::default()
            };
            assert_eq!(refused(wishes), "heartbeat_interval");
        }
    }
}
