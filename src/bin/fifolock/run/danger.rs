//! When a command has to stop: the rules, without clock or signals.

use std::time::{Duration, Instant};

/// The clock is looked at no less often than this. The wait itself may stand still
/// while the machine is suspended.
pub(super) const GLANCE: Duration = Duration::from_millis(250);

/// How the lock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Held for so much longer if no renewal gets through.
    Held(Duration),
    /// The table says that it has moved on. Somebody took it away, and may hold it.
    Superseded,
    /// The lease is over.
    Expired,
}

/// What to do to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing now; look again after this time.
    Spare(Duration),
    Terminate,
    Kill,
}

/// Watches over one turn.
pub(super) struct Danger {
    kill_after: Duration,
    /// The longest that the lock was seen to be held for without a renewal. It is not
    /// the lease at first: a turn that is not claimed yet may be shorter.
    span: Duration,
    /// Whether it is to stop although nothing is wrong with the lock.
    ordered: bool,
    terminated: Option<Instant>,
    killed: bool,
}

impl Danger {
    pub(super) fn new(kill_after: Duration) -> Self {
        Self {
            kill_after,
            span: Duration::ZERO,
            ordered: false,
            terminated: None,
            killed: false,
        }
    }

    /// Whether the command was told to stop.
    pub(super) fn has_struck(&self) -> bool {
        self.terminated.is_some() || self.killed
    }

    /// From now on the command is to stop: asked first, and killed after `kill_after`.
    pub(super) fn order_stop(&mut self) {
        self.ordered = true;
    }

    /// Whether it is time for KILL, or was.
    pub(super) fn has_killed(&self) -> bool {
        self.killed
    }

    /// What is left of the command is to be killed at once.
    pub(super) fn kill_now(&mut self) {
        self.killed = true;
    }

    /// When the keeper has to kill the command, because this process has not. Later than
    /// this process does it, and before the lease ends.
    pub(super) fn last_resort(&self, standing: Standing, now: Instant) -> Duration {
        match standing {
            Standing::Held(remaining) => remaining.saturating_sub(self.span / 16),
            Standing::Superseded => {
                let since = self.terminated.map(|at| now.duration_since(at));
                (self.kill_after + 2 * GLANCE).saturating_sub(since.unwrap_or_default())
            }
            Standing::Expired => Duration::ZERO,
        }
    }

    /// Whether there is time to let a command run on that is stopped.
    pub(super) fn leaves_time(&self, standing: Standing) -> bool {
        matches!(standing, Standing::Held(remaining) if remaining > self.span / 4)
    }

    /// What to do now. Each blow is dealt once. A command that is `stopped` does no
    /// harm: it is not asked to end, only killed when it is time for that.
    pub(super) fn judge(&mut self, standing: Standing, stopped: bool, now: Instant) -> Verdict {
        if self.killed {
            return Verdict::Spare(GLANCE);
        }
        let until_kill = match standing {
            Standing::Held(remaining) => {
                self.span = self.span.max(remaining);
                remaining.saturating_sub(self.span / 8)
            }
            Standing::Superseded => self.kill_after,
            Standing::Expired => Duration::ZERO,
        };
        let until_kill = match self.ordered {
            true => until_kill.min(self.kill_after),
            false => until_kill,
        };
        let until_kill = match self.terminated {
            Some(at) => {
                let out = self.kill_after.saturating_sub(now.duration_since(at));
                out.min(until_kill)
            }
            None => until_kill,
        };
        if until_kill.is_zero() {
            self.killed = true;
            return Verdict::Kill;
        }
        if self.terminated.is_some() {
            return Verdict::Spare(until_kill.min(GLANCE));
        }
        let until_term = match standing {
            Standing::Held(remaining) if !self.ordered => remaining.saturating_sub(self.span / 4),
            _ => Duration::ZERO,
        };
        let is_harmless = stopped && !self.ordered && matches!(standing, Standing::Held(_));
        if until_term.is_zero() && !is_harmless {
            self.terminated = Some(now);
            return Verdict::Terminate;
        }
        let next = match until_term.is_zero() {
            true => until_kill,
            false => until_term,
        };
        Verdict::Spare(next.min(GLANCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held(millis: u64) -> Standing {
        Standing::Held(Duration::from_millis(millis))
    }

    #[test]
    fn a_lease_without_renewals_ends_in_two_blows() {
        let mut danger = Danger::new(SECOND);
        let start = Instant::now();
        assert_eq!(
            danger.judge(held(8000), false, start),
            Verdict::Spare(GLANCE)
        );
        assert_eq!(
            danger.judge(held(2100), false, start),
            Verdict::Spare(Duration::from_millis(100))
        );
        assert!(!danger.has_struck());
        assert_eq!(danger.judge(held(2000), false, start), Verdict::Terminate);
        assert!(danger.has_struck());
        assert_eq!(
            danger.judge(held(1900), false, start),
            Verdict::Spare(GLANCE)
        );
        assert_eq!(
            danger.judge(held(1100), false, start),
            Verdict::Spare(Duration::from_millis(100))
        );
        assert_eq!(danger.judge(held(1000), false, start), Verdict::Kill);
        assert_eq!(
            danger.judge(held(900), false, start),
            Verdict::Spare(GLANCE)
        );
    }

    #[test]
    fn a_turn_that_is_not_claimed_yet_is_no_danger() {
        let mut danger = Danger::new(SECOND);
        let start = Instant::now();
        assert!(matches!(
            danger.judge(held(800), false, start),
            Verdict::Spare(_)
        ));
        assert!(matches!(
            danger.judge(held(300), false, start),
            Verdict::Spare(_)
        ));
        assert!(matches!(
            danger.judge(held(8000), false, start),
            Verdict::Spare(_)
        ));
        assert_eq!(danger.judge(held(2000), false, start), Verdict::Terminate);
    }

    #[test]
    fn a_renewal_that_comes_too_late_does_not_save_who_was_told_to_stop() {
        let mut danger = Danger::new(SECOND);
        let start = Instant::now();
        danger.judge(held(8000), false, start);
        assert_eq!(danger.judge(held(1999), false, start), Verdict::Terminate);
        let later = start + SECOND / 2;
        assert!(matches!(
            danger.judge(held(8000), false, later),
            Verdict::Spare(_)
        ));
        assert_eq!(
            danger.judge(held(8000), false, start + SECOND),
            Verdict::Kill
        );
    }

    #[test]
    fn a_lock_that_was_taken_away_gives_the_command_kill_after() {
        let mut danger = Danger::new(SECOND);
        let start = Instant::now();
        danger.judge(held(8000), false, start);
        assert_eq!(
            danger.judge(Standing::Superseded, true, start),
            Verdict::Terminate
        );
        assert!(matches!(
            danger.judge(Standing::Superseded, true, start),
            Verdict::Spare(_)
        ));
        assert_eq!(
            danger.judge(Standing::Superseded, true, start + SECOND),
            Verdict::Kill
        );
    }

    #[test]
    fn without_time_to_kill_there_is_one_blow() {
        let start = Instant::now();
        let mut danger = Danger::new(SECOND);
        danger.judge(held(8000), false, start);
        assert_eq!(danger.judge(Standing::Expired, false, start), Verdict::Kill);
        let mut danger = Danger::new(Duration::ZERO);
        danger.judge(held(8000), false, start);
        assert_eq!(
            danger.judge(Standing::Superseded, false, start),
            Verdict::Kill
        );
    }

    #[test]
    fn a_command_that_is_ordered_to_stop_gets_kill_after_and_no_more_than_the_lease() {
        let start = Instant::now();
        let mut danger = Danger::new(SECOND);
        danger.judge(held(8000), true, start);
        danger.order_stop();
        assert_eq!(danger.judge(held(8000), true, start), Verdict::Terminate);
        assert_eq!(
            danger.judge(held(8000), true, start),
            Verdict::Spare(GLANCE)
        );
        assert_eq!(
            danger.judge(held(8000), true, start + SECOND),
            Verdict::Kill
        );
        let mut danger = Danger::new(SECOND);
        danger.judge(held(8000), false, start);
        danger.order_stop();
        danger.judge(held(1100), false, start);
        assert_eq!(danger.judge(held(1000), false, start), Verdict::Kill);
        assert!(danger.has_killed());
    }

    #[test]
    fn the_last_resort_comes_after_kill_and_before_the_leases_end() {
        let start = Instant::now();
        let mut danger = Danger::new(SECOND);
        danger.judge(held(8000), false, start);
        assert_eq!(danger.last_resort(held(1000), start), SECOND / 2);
        assert_eq!(danger.last_resort(held(400), start), Duration::ZERO);
        assert_eq!(danger.last_resort(Standing::Expired, start), Duration::ZERO);
        danger.judge(Standing::Superseded, false, start);
        let later = danger.last_resort(Standing::Superseded, start + SECOND);
        assert_eq!(later, 2 * GLANCE);
    }

    #[test]
    fn who_is_stopped_is_not_asked_to_end() {
        let mut danger = Danger::new(SECOND);
        let start = Instant::now();
        danger.judge(held(8000), true, start);
        assert!(!danger.leaves_time(held(2000)));
        assert_eq!(
            danger.judge(held(2000), true, start),
            Verdict::Spare(GLANCE)
        );
        assert!(danger.leaves_time(held(8000)));
        assert_eq!(danger.judge(held(1000), true, start), Verdict::Kill);
    }
}
