//! How long to pause between two looks at the queue, or two attempts.

use std::time::Duration;

/// The bounds within which a waiter polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// The shortest pause.
    pub shortest: Duration,
    /// The longest pause of the next in line.
    pub longest: Duration,
    /// The longest pause of anybody.
    pub farthest: Duration,
}

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// How many turns come before its own.
    pub ahead: u64,
    /// How long it has been the present turn.
    pub turn_lasts: Duration,
    /// How long a turn took lately, if that is known.
    pub turn_time: Option<Duration>,
}

/// The part of the expected wait after which a waiter looks again. Whoever sleeps
/// past its turn makes all others wait, and makes turns look longer than they are,
/// so that the next one sleeps for even longer: in simulation three quarters is
/// where a crowd begins to slow itself down.
const FORESIGHT: f64 = 0.6;

/// What is believed about how long a turn takes begins here, and rises from here at
/// least. Unknown is not long: a sleep that was too short costs a look, and one that was
/// too long keeps everybody waiting.
const SHORTEST_TURN: Duration = Duration::from_millis(20);

impl Pace {
    /// The pause of a waiter at `place`.
    ///
    /// The next in line looks after a tenth of the turn's age: whoever has waited
    /// long can wait a little longer, and a hand-over is noticed within a tenth
    /// of what it took. Further back the pause is a part of the expected wait, as
    /// in the proportional backoff of the ticket lock of Mellor-Crummey and Scott,
    /// "Algorithms for Scalable Synchronization on Shared-Memory
    /// Multiprocessors" (1991): so the number of looks grows with the logarithm
    /// of the distance only.
    #[must_use]
    pub fn pause(&self, place: Place, dice: f64) -> Duration {
        let by_age = (place.turn_lasts / 10).min(self.longest);
        let turn_time = place.turn_time.unwrap_or(self.shortest).min(self.longest);
        let turns = place.ahead.saturating_sub(1) as f64;
        let by_distance =
            (turn_time.as_secs_f64() * turns * FORESIGHT).min(self.farthest.as_secs_f64());
        let pause = by_age.max(Duration::from_secs_f64(by_distance));
        // Up to a fifth shorter, so that waiters who started together drift apart.
        spread(pause.max(self.shortest), dice)
    }
}

/// How long a turn took lately, if `turns` of them ended since the first answer that
/// showed the first of them, which is `since_turn` ago, and all but that one began after
/// the last answer, `since_look` ago.
///
/// The shorter reading of the two is taken: one long turn says nothing about those that
/// came after it.
pub(super) fn per_turn(turns: u32, since_turn: Duration, since_look: Duration) -> Duration {
    match turns.checked_sub(1) {
        Some(later @ 1..) => (since_look / later).min(since_turn / turns),
        _ => since_turn,
    }
}

/// What is believed about how long a turn takes once the `latest` is known: falls at once,
/// and rises slowly, from [`SHORTEST_TURN`] at least.
pub(super) fn learn(before: Option<Duration>, latest: Duration) -> Duration {
    let before = before.unwrap_or_default();
    latest.min((before + before / 4).max(SHORTEST_TURN))
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
        farthest: Duration::from_secs(8),
    };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn place(ahead: u64, turn_lasts: u64, turn_time: Option<u64>) -> Place {
        Place {
            ahead,
            turn_lasts: ms(turn_lasts),
            turn_time: turn_time.map(ms),
        }
    }

    #[test]
    fn the_next_in_line_looks_at_a_tenth_of_the_turns_age() {
        assert_eq!(PACE.pause(place(1, 0, None), 0.0), ms(20));
        assert_eq!(PACE.pause(place(1, 3_000, Some(900)), 0.0), ms(300));
        assert_eq!(PACE.pause(place(1, 60_000, None), 0.0), ms(1_000));
    }

    #[test]
    fn the_far_look_seldom_and_never_less_often_than_the_bound() {
        let near = PACE.pause(place(3, 0, Some(40)), 0.0);
        let far = PACE.pause(place(101, 0, Some(40)), 0.0);
        assert!(near >= ms(40) && near < ms(80), "{near:?}");
        assert!(far >= near * 20, "{far:?}");
        assert_eq!(PACE.pause(place(u64::MAX, 0, Some(40)), 0.0), ms(8_000));
    }

    #[test]
    fn jitter_only_shortens() {
        for dice in [0.0, 0.3, 0.999] {
            let pause = PACE.pause(place(1_000, 60_000, Some(900)), dice);
            assert!(pause <= ms(8_000) && pause >= ms(6_400), "{pause:?}");
        }
    }

    #[test]
    fn one_long_turn_is_no_proof_that_all_are_long() {
        assert_eq!(learn(None, ms(45_000)), ms(20));
        // Even if it is the only one that ended, as far as anybody looked.
        assert_eq!(per_turn(1, ms(45_000), ms(1_000)), ms(45_000));
        assert_eq!(per_turn(6, ms(45_000), ms(1_000)), ms(200));
    }

    #[test]
    fn what_is_believed_about_turns_falls_at_once_and_rises_slowly() {
        let mut believed = learn(Some(ms(2_000)), ms(30));
        assert_eq!(believed, ms(30));
        let mut turns = 0;
        while believed < ms(2_000) {
            believed = learn(Some(believed), ms(2_000));
            turns += 1;
        }
        assert_eq!(turns, 19);
        // A queue that jumped does not make it stay at nothing.
        assert_eq!(learn(Some(Duration::ZERO), ms(2_000)), ms(20));
    }

    #[test]
    fn backoff_doubles_and_levels_off() {
        assert_eq!(backoff(1, 0.0), ms(50));
        assert_eq!(backoff(3, 0.0), ms(200));
        assert_eq!(backoff(1_000, 0.0), ms(2_000));
    }
}
