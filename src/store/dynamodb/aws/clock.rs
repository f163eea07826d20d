//! By which clock a request was signed.
//!
//! That no lock is taken from a holder that lives rests, for those who do not wait, on
//! wall clocks that are no further apart than the service lets them be. So each has to
//! sign with its own: newer versions of the SDK sign with the service's time once they
//! have seen that theirs is wrong, and a program can give them any clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A request is sent as soon as it is signed, and the signature counts in seconds.
const SLACK: Duration = Duration::from_secs(60);

/// The time of a signature is not that of this machine.
#[derive(Debug, thiserror::Error)]
#[error("it was signed for {signed}, which is {apart:?} away from this machine's clock")]
pub(super) struct WrongClock {
    signed: String,
    apart: Duration,
}

/// Checks the time of a signature, as the header `X-Amz-Date` has it.
pub(super) fn check(signed: &str, now: SystemTime) -> Result<(), WrongClock> {
    // What cannot be read is refused by the service.
    let Some(since_epoch) = parse(signed) else {
        return Ok(());
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let apart = now.abs_diff(since_epoch);
    match apart <= SLACK {
        true => Ok(()),
        false => Err(WrongClock {
            signed: signed.into(),
            apart: Duration::from_secs(apart.as_secs()),
        }),
    }
}

/// Reads `20261125T180432Z`.
fn parse(text: &str) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let digits = |part: &str, range: std::ops::Range<usize>| part.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (
        digits(date, 0..4)?,
        digits(date, 4..6)?,
        digits(date, 6..8)?,
    );
    let (hour, minute, second) = (
        digits(time, 0..2)?,
        digits(time, 2..4)?,
        digits(time, 4..6)?,
    );
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    // Years that begin in March end with the day that is there every four years.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let days = days.checked_sub(TO_1970)?;
    Some(Duration::from_secs(
        ((days * 24 + hour) * 60 + minute) * 60 + second,
    ))
}

/// From the first of March of the year 0 to 1970, and one, since days count from one.
const TO_1970: u64 = 719_469;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("19700101T000000Z", 0),
            ("20000229T235959Z", 951_868_799),
            ("20000301T000000Z", 951_868_800),
            ("20261125T180432Z", 1_795_629_872),
            ("21000301T000000Z", 4_107_542_400),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "Z",
            "20261125",
            "2026-11-25T18:04:32Z",
            "T",
            "aaaabbccTddeeffZ",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_signature_by_another_clock_is_told() {
        let now = at(1_795_629_872);
        assert!(check("20261125T180432Z", now).is_ok());
        assert!(check("20261125T180335Z", now).is_ok());
        for signed in ["20261125T200432Z", "20261125T160432Z", "20261125T180601Z"] {
            let error = check(signed, now).unwrap_err().to_string();
            assert!(error.contains("clock"), "{error}");
        }
    }
}
