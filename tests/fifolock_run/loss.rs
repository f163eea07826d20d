//! The lock is lost under a command that runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::{Table, embedded_table, tables, unique, wait_for};
use crate::job::{Job, Scratch, text};
use crate::signals::black_hole;

/// Writes down when it runs, and so does a child of it. Says when it is asked to end,
/// and does not.
const STUBBORN: &str = r#"
    beats() { while :; do date +%s%N >> "$1/$2"; sleep 0.01; done; }
    trap "echo asked" TERM
    (trap "" TERM; beats "$0" child) &
    beats "$0" parent
"#;

/// The last stamp in a file.
pub(crate) fn last_stamp(path: &Path) -> u64 {
    // The last line may be cut short: its writer was killed.
    let stamps = text(path);
    let whole = stamps.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().next_back().unwrap().parse().unwrap()
}

#[test]
fn a_command_that_cannot_be_renewed_is_dead_before_the_next_one_holds() {
    for table in tables() {
        let (lock, scratch) = (unique("cut-off"), Scratch::new());
        let hangs = Arc::new(AtomicBool::new(false));
        let (proxy, _open) = black_hole(&table.endpoint, &hangs);
        let folder = scratch.path("");
        let folder = folder.to_str().unwrap();
        let command = ["--lease", "4s", &lock, "--", "bash", "-c", STUBBORN, folder];
        let mut cut_off = Job::run_at(&proxy.endpoint, &table, &command);
        for name in ["parent", "child"] {
            wait_for("beats", || !text(&scratch.path(name)).is_empty());
        }
        let stamp = ["--lease", "4s", &lock, "--", "date", "+%s%N"];
        let mut next = Job::run(&table, &stamp);
        next.says("joined the queue");
        hangs.store(true, Ordering::Relaxed);

        assert_eq!(cut_off.code(), 79, "{}", cut_off.err());
        assert_eq!(cut_off.out(), "asked\n");
        let log = cut_off.err();
        assert!(log.contains("terminating the command"), "{log}");
        assert!(log.contains("killed the command"), "{log}");
        assert_eq!(next.code(), 0, "{}", next.err());
        let taken: u64 = next.out().trim().parse().unwrap();
        for name in ["parent", "child"] {
            let beat = last_stamp(&scratch.path(name));
            assert!(
                beat < taken,
                "{name} ran on: {beat}, the next one holds: {taken}"
            );
            eprintln!(
                "{name}: dead {} ms before the next one",
                (taken - beat) / 1_000_000
            );
        }
    }
}

#[test]
fn a_command_that_ends_when_asked_is_not_killed() {
    let table = embedded_table();
    let hangs = Arc::new(AtomicBool::new(false));
    let (proxy, _open) = black_hole(&table.endpoint, &hangs);
    let script = r#"trap "echo tidied up; exit 0" TERM; echo up; while :; do sleep 0.02; done"#;
    let lock = unique("tidy");
    let arguments = ["--lease", "4s", &lock, "--", "bash", "-c", script];
    let mut job = Job::run_at(&proxy.endpoint, &table, &arguments);
    job.prints("up");
    hangs.store(true, Ordering::Relaxed);
    assert_eq!(job.code(), 79, "{}", job.err());
    assert_eq!(job.out(), "up\ntidied up\n");
    assert!(!job.err().contains("killed"), "{}", job.err());
}

/// What somebody does who takes the lock away.
pub(crate) fn take_away(table: &Table, lock: &str) {
    let mut record = table.get(lock);
    let number = |value: &serde_json::Value| value["N"].as_str().unwrap().parse::<u64>().unwrap();
    let (served, revision) = (number(&record["served"]), number(&record["revision"]));
    record["served"] = json!({ "N": (served + 1).to_string() });
    record["revision"] = json!({ "N": (revision + 1).to_string() });
    record.as_object_mut().unwrap().remove("holder");
    table.put(lock, record);
}

#[test]
fn a_command_whose_lock_is_taken_away_is_asked_to_end_and_then_killed() {
    for table in tables() {
        let (lock, scratch) = (unique("taken"), Scratch::new());
        let folder = scratch.path("");
        let folder = folder.to_str().unwrap();
        let command = ["--lease", "4s", "--kill-after", "200ms", &lock];
        let command = [&command[..], &["--", "bash", "-c", STUBBORN, folder]].concat();
        let mut job = Job::run(&table, &command);
        wait_for("beats", || !text(&scratch.path("child")).is_empty());
        take_away(&table, &lock);
        assert_eq!(job.code(), 79, "{}", job.err());
        assert_eq!(job.out(), "asked\n");
        assert!(job.err().contains("moved on"), "{}", job.err());
    }
}

#[test]
fn a_loss_that_only_the_release_notices_is_told() {
    let table = embedded_table();
    let lock = unique("late-news");
    let mut job = Job::run(&table, &[&lock, "--", "sh", "-c", "echo up; read line"]);
    job.prints("up");
    take_away(&table, &lock);
    job.feed(b"go\n");
    assert_eq!(job.code(), 79, "{}", job.err());
    assert!(job.err().contains("was lost"), "{}", job.err());
}

#[test]
fn a_release_that_fails_does_not_hide_the_commands_code() {
    let table = embedded_table();
    let hangs = Arc::new(AtomicBool::new(false));
    let (proxy, _open) = black_hole(&table.endpoint, &hangs);
    let lock = unique("release");
    let command = [
        "--lease",
        "4s",
        &lock,
        "--",
        "sh",
        "-c",
        "echo up; read line; exit 5",
    ];
    let mut job = Job::run_at(&proxy.endpoint, &table, &command);
    job.prints("up");
    hangs.store(true, Ordering::Relaxed);
    job.feed(b"go\n");
    assert_eq!(job.code(), 5, "{}", job.err());
    assert!(job.err().contains("could not release"), "{}", job.err());
}

#[test]
fn what_a_command_leaves_behind_lives_on() {
    let table = embedded_table();
    let scratch = Scratch::new();
    let (go, late) = (scratch.path("go"), scratch.path("late"));
    let script = r#"(while [ ! -e "$0" ]; do sleep 0.02; done; echo here > "$1") & exit 3"#;
    let arguments = [go.to_str().unwrap(), late.to_str().unwrap()];
    let lock = unique("left");
    let command = [&[lock.as_str(), "--", "bash", "-c", script], &arguments[..]].concat();
    assert_eq!(Job::run(&table, &command).code(), 3);
    std::fs::write(&go, "").unwrap();
    wait_for("the straggler", || text(&late) == "here\n");
}
