//! Output that nobody reads: a full pipe, a terminal after Ctrl-S.

use std::io::{PipeReader, PipeWriter, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::Signal;

use crate::common::{embedded_table, quick, unique, wait_for};
use crate::job::{Job, Scratch, environment, fifolock, text};
use crate::loss::last_stamp;
use crate::signals::black_hole;
use crate::terminal::Screen;

/// A write end that blocks at once, and what it is the end of.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fill(&mut writer);
    (reader, writer)
}

fn fill(writer: &mut PipeWriter) {
    ioctl_fionbio(&*writer, true).unwrap();
    for piece in [&[b'x'; 4096][..], b"x"] {
        while writer.write(piece).is_ok() {}
    }
    ioctl_fionbio(&*writer, false).unwrap();
}

const BEATS: &str = r#"trap "" TERM; while :; do date +%s%N >> "$0"; sleep 0.01; done"#;

#[test]
fn a_log_that_is_not_read_does_not_keep_a_command_alive() {
    let table = embedded_table();
    let (lock, scratch) = (unique("unread"), Scratch::new());
    let beats = scratch.path("beats");
    let hangs = Arc::new(AtomicBool::new(false));
    let (proxy, _open) = black_hole(&table.endpoint, &hangs);
    let (_reader, writer) = full_pipe();
    let mut command = fifolock();
    command
        .args(["run", "--lease", "4s", &lock, "--", "bash", "-c", BEATS])
        .arg(&beats);
    let mut deaf = Job::start_with(command, &proxy.endpoint, &table, Some(writer.into()));
    wait_for("beats", || !text(&beats).is_empty());
    let stamp = ["--lease", "4s", &lock, "--", "date", "+%s%N"];
    let mut next = Job::run(&table, &stamp);
    next.says("joined the queue");
    hangs.store(true, Ordering::Relaxed);
    assert_eq!(next.code(), 0, "{}", next.err());
    let taken: u64 = next.out().trim().parse().unwrap();
    assert_eq!(deaf.code(), 79);
    assert!(last_stamp(&beats) < taken);
}

/// With a log that blocks, `fifolock` ends as soon as it does with any other.
#[test]
fn a_log_that_is_not_read_holds_up_no_end() {
    let table = embedded_table();
    let lock = unique("held");
    let client = quick().build(table.store()).unwrap();
    let _guard = client.acquire(&lock).unwrap();
    let free = unique("free");
    let cases: [(&[&str], i32); 4] = [
        (&["--try", &lock, "--", "true"], 75),
        (&["--timeout", "200ms", &lock, "--", "true"], 124),
        (&[&free, "--", "no-such-command"], 127),
        (&[&free, "--", "sh", "-c", "exit 5"], 5),
    ];
    for (arguments, code) in cases {
        let (_reader, writer) = full_pipe();
        let mut command = fifolock();
        command.arg("run").args(arguments);
        let began = Instant::now();
        let mut job = Job::start_with(command, &table.endpoint, &table, Some(writer.into()));
        assert_eq!(job.code(), code, "{arguments:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}");
    }
    let (_reader, writer) = full_pipe();
    let mut command = fifolock();
    command.args(["run", &lock, "--", "true"]);
    let issued = table.get(&lock)["issued"].clone();
    let mut job = Job::start_with(command, &table.endpoint, &table, Some(writer.into()));
    wait_for("the queue", || table.get(&lock)["issued"] != issued);
    job.send(Signal::TERM);
    assert_eq!(job.code(), 143);
}

/// The line on it is drawn by a thread of its own, so the lock that is granted meanwhile
/// is used.
#[test]
fn a_terminal_that_shows_nothing_does_not_keep_the_command_from_starting() {
    let table = embedded_table();
    let (lock, scratch) = (unique("silent"), Scratch::new());
    let ran = scratch.path("ran");
    let client = quick().build(table.store()).unwrap();
    let guard = client.acquire(&lock).unwrap();
    let issued = table.get(&lock)["issued"].clone();
    let (pty, pts) = pty_process::blocking::open().unwrap();
    let command = pty_process::blocking::Command::new(env!("CARGO_BIN_EXE_fifolock"));
    let mut child = command
        .args(["run", &lock, "--", "touch"])
        .arg(&ran)
        .envs(environment(&table.endpoint, &table))
        .env("TERM", "xterm")
        .spawn(pts)
        .unwrap();
    wait_for("the queue", || table.get(&lock)["issued"] != issued);
    (&pty).write_all(b"\x13").unwrap();
    // Until the line was drawn, and blocked, some times.
    let until = Instant::now() + Duration::from_secs(1);
    wait_for("a second", || Instant::now() > until);
    guard.release().unwrap();
    wait_for("the command", || ran.exists());
    let mut status = None;
    wait_for("the end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

/// While the command has the terminal, `fifolock` writes to it from the background.
#[test]
fn a_terminal_that_stops_writers_in_the_background_does_not_stop_fifolock() {
    let (table, lock) = (embedded_table(), unique("tostop"));
    let screen = Screen::shell(&table);
    screen.press("stty tostop\n");
    let script = r#"bash -c 'trap "" TERM; echo up; while :; do sleep 0.02; done'"#;
    screen.press(&format!("$fifolock run --lease 2s {lock} -- {script}\n"));
    screen.shows("up\r\n");
    table.delete(&lock);
    screen.press("echo code-$?\n");
    screen.shows("killed the command");
    screen.shows("code-79");
}

/// What the command writes is its own affair: blocked, it is killed like any other.
#[test]
fn a_command_that_is_blocked_by_its_output_is_killed() {
    let table = embedded_table();
    let lock = unique("stuck");
    let (_reader, writer) = full_pipe();
    let mut command: Command = fifolock();
    let script = r#"trap "" TERM; echo stuck >&2"#;
    command.args([
        "run", "--lease", "4s", "--quiet", &lock, "--", "sh", "-c", script,
    ]);
    let mut job = Job::start_with(command, &table.endpoint, &table, Some(writer.into()));
    let held = || table.get(&lock)["issued"] != table.get(&lock)["served"];
    wait_for("the command", held);
    job.send(Signal::ALARM);
    assert_eq!(job.code(), 142);
}
