//! `--dev`: one file, many processes.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::{LockName, LockStore, Ticket};

use crate::command::{bare, run};
use crate::common::unique;

/// What the command itself opens the file with.
#[path = "../../src/bin/fifolock/dev.rs"]
mod opened;

const PROCESSES: usize = 10;
const DRAWS: usize = 80;
const FILE: &str = "FIFOLOCK_TEST_FILE";

/// One of the processes, if it is started as one: draws tickets as fast as it can, and
/// prints them.
#[test]
fn one_of_many() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let store = opened::store(Some(Path::new(&file)), "locks").unwrap();
    let lock = LockName::new("hammered").unwrap();
    let draw = Write::Enqueue {
        start: Ticket::new(100),
        grace: Duration::from_secs(1),
        wall_ms: 1,
    };
    let mut slowest = Duration::ZERO;
    for _ in 0..DRAWS {
        let began = Instant::now();
        // No store repeats a write by itself: each error would show here.
        let written = store.write(&lock, &draw, Duration::from_secs(30)).unwrap();
        println!("ticket {}", written.applied().unwrap().issued);
        slowest = slowest.max(began.elapsed());
    }
    println!("slowest {slowest:?}");
}

/// Drawing a ticket is a conditional write that counts. If two processes could come in
/// between each other's reading and writing, two would draw the same ticket.
#[test]
fn no_write_of_many_processes_is_lost_and_none_fails() {
    let file = std::env::temp_dir().join(unique("dev"));
    let start = |_| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dev::one_of_many", "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // All of them find no file, and create it and the table.
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    let mut drawn = HashSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in text.lines() {
            if let Some((_, slowest)) = line.split_once("slowest ") {
                println!("the slowest write of a process took {slowest}");
            } else if let Some((_, ticket)) = line.split_once("ticket ") {
                assert!(
                    drawn.insert(ticket.parse::<usize>().unwrap()),
                    "{ticket} was drawn twice"
                );
            }
        }
    }
    let all: HashSet<usize> = (101..=100 + PROCESSES * DRAWS).collect();
    assert_eq!(drawn, all);

    // The command sees what they left.
    let option = format!("--dev={}", file.display());
    let listed = run(bare(&["ls", "--json", &option]));
    assert_eq!(listed.code, 0, "{}", listed.err);
    let lock: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(
        (&lock["name"], &lock["turn"]),
        (&"hammered".into(), &101.into())
    );
    assert_eq!(lock["waiting"], PROCESSES * DRAWS);
    for end in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
}

#[test]
fn a_lock_can_be_tried_out_without_aws() {
    let file = std::env::temp_dir().join(unique("dev"));
    let option = format!("--dev={}", file.display());
    let mut checked = bare(&["doctor", &option]);
    checked.env_remove("AWS_ACCESS_KEY_ID");
    let checked = run(checked);
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    assert!(
        checked.out.contains("(--dev, in this process)"),
        "{}",
        checked.out
    );
    let both = run(bare(&[
        "ls",
        &option,
        "--endpoint-url",
        "http://127.0.0.1:9",
    ]));
    assert_eq!(both.code, 64, "{}", both.err);
    for end in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
}
