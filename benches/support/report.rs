//! Figures, for people or for programs.

use serde_json::Value;

/// A column of a table: the key in each row, the heading, and how many decimals.
pub type Column = (&'static str, &'static str, usize);

/// Prints a line of JSON for each row; or a table of the columns, with what is to be
/// said about them beneath.
pub fn print(json: bool, rows: &[Value], columns: &[Column], notes: &str) {
    if json {
        for row in rows {
            println!("{row}");
        }
        return;
    }
    let mut lines = vec![
        columns
            .iter()
            .map(|(_, heading, _)| (*heading).into())
            .collect(),
    ];
    lines.extend(rows.iter().map(|row| {
        let cells = columns
            .iter()
            .map(|(key, _, decimals)| cell(&row[key], *decimals));
        cells.collect::<Vec<String>>()
    }));
    let width = |n: usize| lines.iter().map(|line| line[n].chars().count()).max();
    let widths: Vec<_> = (0..columns.len()).filter_map(width).collect();
    for line in &lines {
        let mut text = String::new();
        for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match n {
                0 => text += &format!("{cell:<width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        println!("{text}");
    }
    println!("\n{notes}\n");
}

fn cell(value: &Value, decimals: usize) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => format!("{:.decimals$}", number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        _ => "-".into(),
    }
}
