//! How long to pause between two looks at the queue, or two attempts.

use std::time::Duration;

/// The bounds within which a waiter polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The shortest pause.
    pub shortest: Duration,
    /// The longest pause of those near the head of the queue.
    pub longest: Duration,
}

/// The longest pause of anybody.
const FAR: Duration = Duration::from_secs(5);

/// So many turns before its own, a waiter begins to look closely.
const NEAR: u64 = 3;

impl Pace {
    /// The pause of a waiter with `ahead` turns before its own, in a turn that
    /// has lasted `turn_lasts`, when turns lately took `turn_time`.
    ///
    /// Near the head the pause is a tenth of the turn's age: whoever has waited
    /// long can wait a little longer, and a hand-over is noticed within a tenth
    /// of what it took. Further back it also grows with the distance, as in the
    /// proportional backoff of the ticket lock of Mellor-Crummey and Scott,
    /// "Algorithms for Scalable Synchronization on Shared-Memory
    /// Multiprocessors" (1991). `ceiling` is never exceeded.
    #[must_use]
    pub fn pause(
        &self,
        ahead: u64,
        turn_lasts: Duration,
        turn_time: Option<Duration>,
        ceiling: Duration,
        dice: f64,
    ) -> Duration {
        let by_age = (turn_lasts / 10).min(self.longest);
        let turns = u32::try_from(ahead.saturating_sub(NEAR)).unwrap_or(u32::MAX);
        let by_distance = turn_time.unwrap_or_default().saturating_mul(turns) / 4;
        let pause = by_age.max(by_distance).min(FAR).max(self.shortest);
        // Up to a fifth shorter, so that waiters who started together drift apart.
        spread(pause.min(ceiling), dice)
    }
}

/// The pause after the `failures`th failure in a row: 50 ms, doubling up to 2 s,
/// with jitter.
#[must_use]
pub fn backoff(failures: u32, dice: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    let pause = Duration::from_millis(50) * (1 << doublings);
    spread(pause.min(Duration::from_secs(2)), dice)
}

fn spread(pause: Duration, dice: f64) -> Duration {
    pause.mul_f64(1.0 - 0.2 * dice.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        shortest: Duration::from_millis(20),
        longest: Duration::from_secs(1),
    };
    const NO_CEILING: Duration = Duration::MAX;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_next_in_line_looks_at_a_tenth_of_the_turns_age() {
        assert_eq!(PACE.pause(1, ms(0), None, NO_CEILING, 0.0), ms(20));
        assert_eq!(PACE.pause(1, ms(3_000), None, NO_CEILING, 0.0), ms(300));
        assert_eq!(PACE.pause(1, ms(60_000), None, NO_CEILING, 0.0), ms(1_000));
    }

    #[test]
    fn the_far_look_seldom_and_never_less_often_than_every_five_seconds() {
        let turn = Some(ms(40));
        assert_eq!(PACE.pause(103, ms(0), turn, NO_CEILING, 0.0), ms(1_000));
        assert_eq!(PACE.pause(u64::MAX, ms(0), turn, NO_CEILING, 0.0), FAR);
    }

    #[test]
    fn the_ceiling_holds_and_jitter_only_shortens() {
        let ceiling = ms(500);
        for dice in [0.0, 0.3, 0.999] {
            let pause = PACE.pause(1_000, ms(60_000), Some(ms(900)), ceiling, dice);
            assert!(pause <= ceiling && pause >= ms(400), "{pause:?}");
        }
    }

    #[test]
    fn backoff_doubles_and_levels_off() {
        assert_eq!(backoff(1, 0.0), ms(50));
        assert_eq!(backoff(3, 0.0), ms(200));
        assert_eq!(backoff(1_000, 0.0), ms(2_000));
    }
}
