//! `demo`.

use crate::command::{OnTerminal, bare, fifolock, run};
use crate::common::tables;

/// What happens, by and large, in this order.
const STORY: [&str; 12] = [
    "worker-1 is granted the lock",
    "worker-2 asks",
    "worker-5 asks",
    "worker-1 releases",
    "worker-2 is granted the lock",
    "worker-3 is granted the lock",
    "worker-3 is cut off",
    "worker-4 is granted the lock",
    "worker-3: a write that was long on its way",
    "worker-5 is granted the lock",
    "worker-1 is granted the lock",
    "ok: 6 grants",
];

fn assert_told(story: &str) {
    let mut rest = story;
    for part in STORY {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{part:?} comes not, or too early: {story}"));
        rest = &rest[at + part.len()..];
    }
    assert_eq!(story.matches("REFUSED").count(), 1, "{story}");
}

#[test]
fn over_a_pipe_the_story_is_told_line_by_line() {
    let told = run(bare(&["demo", "--lease", "1s"]));
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    assert!(
        told.out.contains("in memory") && !told.out.contains('\u{1b}'),
        "{}",
        told.out
    );
    assert_told(&told.out);
}

#[test]
fn on_a_table_it_is_the_same_story() {
    for table in tables() {
        let told = run(fifolock(&table, &["demo", "--lease", "1500ms"]));
        assert_eq!(told.code, 0, "{}{}", told.out, told.err);
        assert!(
            told.out.contains(&format!("in table {}", table.table)),
            "{}",
            told.out
        );
        assert_told(&told.out);
    }
}

#[test]
fn on_a_terminal_it_is_a_picture() {
    let demo = OnTerminal::start(&["demo", "--lease", "1s"]);
    let (code, shown) = demo.end();
    let plain = console::strip_ansi_codes(&shown);
    assert_eq!(code, 0, "{plain}");
    for part in [
        "holds",
        "number 4 in line",
        "CUT OFF",
        "lease █",
        "s left",
        "the resource takes tokens from",
    ] {
        assert!(plain.contains(part), "{part:?} was not to be seen: {plain}");
    }
    // The last frame is whole, and the verdict stands below it.
    let last = plain.rfind("5 workers take turns").unwrap();
    assert!(plain[last..].contains("ok: 6 grants"), "{plain}");
}

#[test]
fn it_can_be_interrupted() {
    let demo = OnTerminal::start(&["demo"]);
    demo.heard.wait_for("worker-3 asks");
    demo.type_in("\u{3}");
    assert_eq!(demo.end().0, 130);
}
