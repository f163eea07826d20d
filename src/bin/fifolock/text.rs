//! Writing for people and for programs.
//!
//! Names, owners and data come out of the table: whoever may write there may have put
//! anything into them. Nothing of it reaches a terminal unescaped.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use console::measure_text_width;
use serde_json::Value;

/// A wall clock that is further in the future than this is off. Clocks that are kept
/// in step differ by less.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The text, with everything escaped that a terminal would not show as it is.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_treacherous(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Controls a terminal, or changes the order in which the characters around it are
/// shown, or is not to be seen.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A JSON document on one line, in which no character is a control of any kind.
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        if is_treacherous(c) {
            // All of it stands inside of strings.
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            line.push(c);
        }
    }
    line
}

/// Columns as wide as their widest cell. The last one is not padded.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| measure_text_width(cell))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width_of).collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let missing = width.saturating_sub(measure_text_width(cell));
                line.push_str(&" ".repeat(missing + 2));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Writes to standard output at once, so that whoever reads a pipe sees it.
pub(crate) fn print(lines: &[String]) -> io::Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Says something to people, on standard error. That nobody reads it is no reason to
/// fail.
pub(crate) fn say(words: &str) {
    let line = format!("fifolock: {}\n", printable(words));
    #[cfg(unix)]
    if crate::messages::send(line.clone().into_bytes()) {
        return;
    }
    let _ = io::stderr().write_all(line.as_bytes());
}

/// An error and its causes; what a message quotes already is not said again.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// How long ago that was, by this machine's clock.
pub(crate) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(age) => format!("{} ago", span(age)),
        Err(error) if error.duration() <= TOLERANCE => "just now".into(),
        Err(error) => format!(
            "{} in the future: the clock that wrote it or the one here is off",
            span(error.duration())
        ),
    }
}

/// How long ago that was in milliseconds; negative if the clocks do not agree.
pub(crate) fn age_ms(then: SystemTime, now: SystemTime) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match now.duration_since(then) {
        Ok(age) => millis(age),
        Err(error) => -millis(error.duration()),
    }
}

/// A span of time as a person would say it.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..=9 => format!("{:.1} s", span.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// RFC 3339, in UTC, with milliseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    // The formatter goes to the year 9999; a foreign clock may go beyond.
    let latest = UNIX_EPOCH + Duration::from_millis(253_402_300_799_999);
    humantime::format_rfc3339_millis(time.clamp(UNIX_EPOCH, latest)).to_string()
}

/// Milliseconds since 1970.
pub(crate) fn epoch_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| u64::try_from(elapsed.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_controls_a_terminal_gets_through() {
        let nasty = "a\u{1b}[2Jb\r\n\u{9b}31m\u{202e}c\u{7f} größe 🔒";
        let shown = printable(nasty);
        assert!(!shown.chars().any(is_treacherous), "{shown:?}");
        assert!(
            shown.starts_with("a\\u{1b}[2Jb") && shown.ends_with("größe 🔒"),
            "{shown}"
        );
        let value = json!({ "owner": nasty, "tag": "\u{e0041}" });
        let line = json_line(&value);
        assert!(!line.chars().any(is_treacherous), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn no_cause_is_said_twice() {
        let error = io::Error::other("nobody answers");
        let error = anyhow::Error::new(error).context("no answer: nobody answers");
        assert_eq!(
            explain(&error.context("cannot look")),
            "cannot look: no answer: nobody answers"
        );
    }

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let rows = [["漢字", "x"], ["a", "y"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(columns(&rows), ["漢字  x", "a     y"]);
    }

    #[test]
    fn a_clock_that_is_off_is_called_so() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(ago(now - Duration::from_secs(75), now), "75 s ago");
        assert_eq!(ago(now + Duration::from_millis(900), now), "just now");
        let later = now + Duration::from_secs(90);
        assert!(
            ago(later, now).contains("90 s in the future"),
            "{}",
            ago(later, now)
        );
        assert_eq!(age_ms(later, now), -90_000);
    }

    #[test]
    fn no_time_is_too_far_away_to_be_shown() {
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let far = UNIX_EPOCH + Duration::from_millis((1 << 53) - 1);
        assert_eq!(rfc3339(far), "9999-12-31T23:59:59.999Z");
    }
}
