//! Tables, and figures as people read them.

use std::fmt::Write as _;

/// A table. The first column is text, the others are figures.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!(
        "| {} |\n|---|{}\n",
        head.join(" | "),
        "---:|".repeat(head.len() - 1)
    );
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Three significant digits, or a dash.
pub(crate) fn figure(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "–".into();
    };
    let digits = match value.abs() {
        size if size < 1e-9 => return "0".into(),
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    grouped(&format!("{value:.digits$}"))
}

/// Milliseconds, as seconds if they are many.
pub(crate) fn duration(millis: Option<f64>) -> String {
    match millis {
        Some(millis) if millis >= 10_000.0 => format!("{} s", figure(Some(millis / 1_000.0))),
        Some(millis) => format!("{} ms", figure(Some(millis))),
        None => "–".into(),
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Thousands apart.
fn grouped(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (index, digit) in number.char_indices() {
        let left = whole.saturating_sub(index);
        let follows_digit = text.ends_with(|c: char| c.is_ascii_digit());
        if index < whole && left % 3 == 0 && follows_digit {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let texts = [
            0.0,
            0.1234,
            2.0,
            12.345,
            123.4,
            12_345.6,
            1_234_567.0,
            -1_234.0,
        ]
        .map(|value| figure(Some(value)));
        let wanted = [
            "0",
            "0.12",
            "2.00",
            "12.3",
            "123",
            "12,346",
            "1,234,567",
            "-1,234",
        ];
        assert_eq!(texts, wanted);
        assert_eq!(figure(None), "–");
    }

    #[test]
    fn long_times_are_in_seconds() {
        assert_eq!(duration(Some(9_999.0)), "9,999 ms");
        assert_eq!(duration(Some(61_500.0)), "61.5 s");
    }
}
