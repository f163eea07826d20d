//! `fifolock run` at a terminal, alone and as a job of a shell.

use std::io::{Read, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use parking_lot::Mutex;
use pty_process::blocking::{Command, Pty};
use signal_hook::consts::SIGINT;

use crate::common::{Table, embedded_table, quick, unique, wait_for};
use crate::job::{Job, Scratch, environment, text};
use crate::loss::last_stamp;

const FIFOLOCK: &str = env!("CARGO_BIN_EXE_fifolock");

/// A process at a terminal of its own.
pub(crate) struct Screen {
    pty: Arc<Pty>,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    fn of(command: Command, table: &Table) -> Self {
        // Whoever runs the tests may ignore Ctrl-C, as what a script runs in the
        // background does, and whom we start would inherit that. A handler they do not.
        let default = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_default(SIGINT, default).unwrap();
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(24, 200)).unwrap();
        let command = command.envs(environment(&table.endpoint, table));
        let child = command.env("TERM", "xterm").spawn(pts).unwrap();
        let (pty, shown) = (Arc::new(pty), Arc::new(Mutex::new(String::new())));
        let (screen, text) = (Arc::clone(&pty), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It ends with an error when nobody has the other end any more.
            while let Ok(length @ 1..) = (&*screen).read(&mut buffer) {
                let new = String::from_utf8_lossy(&buffer[..length]);
                text.lock().push_str(&new);
            }
        });
        Self { pty, child, shown }
    }

    /// `fifolock run` alone.
    fn run(table: &Table, arguments: &[&str]) -> Self {
        Self::of(Command::new(FIFOLOCK).arg("run").args(arguments), table)
    }

    /// A shell with job control, in which `$fifolock` is ours.
    pub(crate) fn shell(table: &Table) -> Self {
        let shell = Command::new("bash")
            .args(["--norc", "--noprofile", "--noediting", "-i"])
            .env("fifolock", FIFOLOCK)
            .env("PS1", "$ ");
        Self::of(shell, table)
    }

    pub(crate) fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn shows(&self, words: &str) {
        wait_for(words, || self.shown.lock().contains(words));
    }

    fn shown(&self) -> String {
        self.shown.lock().clone()
    }

    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn whoever_waits_sees_place_and_holder_and_a_clean_line_afterwards() {
    let (table, lock) = (embedded_table(), unique("status"));
    let client = quick().owner("ci-7\x1b[31m").build(table.store()).unwrap();
    let guard = client.acquire(&lock).unwrap();
    let mut screen = Screen::run(&table, &[&lock, "--", "echo", "done"]);
    screen.shows("1 ahead, held by ci-7\\u{1b}[31m for ");
    guard.release().unwrap();
    assert_eq!(screen.code(), Some(0));
    screen.shows("done");
    let shown = screen.shown();
    let (_, last) = shown.rsplit_once("waiting for").unwrap();
    assert!(last.contains("\x1b[2K"), "the line was cleared: {last:?}");
    assert!(last.trim_end().ends_with("done"), "{last:?}");
    assert!(!shown.contains("\x1b[31m"), "{shown:?}");
}

#[test]
fn the_terminal_is_the_commands_to_read_and_to_interrupt() {
    let (table, lock) = (embedded_table(), unique("keys"));
    // It waits in a builtin: while bash waits for a child that ends by itself in the same
    // moment, it takes SIGINT for the child's.
    let script = r#"trap "echo in-trap; exit 4" INT; read line; echo got $line; while :; do read -t 0.05 more; done"#;
    let mut screen = Screen::run(&table, &[&lock, "--", "bash", "-c", script]);
    screen.press("hello\n");
    screen.shows("got hello");
    screen.press("\x03");
    assert_eq!(screen.code(), Some(4));
    screen.shows("in-trap");
    assert_eq!(screen.shown().matches("in-trap").count(), 1);
}

#[test]
fn ctrl_z_without_a_shell_stops_nobody_for_long() {
    let (table, lock) = (embedded_table(), unique("no-shell"));
    let mut screen = Screen::run(
        &table,
        &[&lock, "--", "sh", "-c", "echo up; read line; exit 6"],
    );
    screen.shows("up");
    screen.press("\x1a");
    screen.shows("^Z");
    screen.press("hello\n");
    assert_eq!(screen.code(), Some(6));
}

/// Runs until a file is there. It is bash's, like all that is stopped or sent signals here:
/// dash forks with vfork, and cannot be stopped while a child of it is stopped half-way.
const PATIENT: &str =
    r#"bash -c 'echo up; while [ ! -e "$0" ]; do sleep 0.02; done; echo through'"#;

#[test]
fn a_job_is_stopped_and_continued() {
    let (table, lock, scratch) = (embedded_table(), unique("job"), Scratch::new());
    let go = scratch.path("go");
    let screen = Screen::shell(&table);
    screen.press(&format!(
        "$fifolock run {lock} -- {PATIENT} {}\n",
        go.display()
    ));
    screen.shows("up\r\n");
    screen.press("\x1a");
    screen.shows("Stopped");
    screen.press("echo the shell is $((1 + 1))\n");
    screen.shows("the shell is 2");
    std::fs::write(&go, "").unwrap();
    screen.press("fg\n");
    screen.shows("through\r\n");
    screen.press("echo code-$?\n");
    screen.shows("code-0");
}

#[test]
fn a_job_that_was_stopped_for_too_long_is_ended() {
    let (table, lock, scratch) = (embedded_table(), unique("stale-job"), Scratch::new());
    let go = scratch.path("go");
    let screen = Screen::shell(&table);
    screen.press(&format!(
        "$fifolock run --lease 2s {lock} -- {PATIENT} {}\n",
        go.display()
    ));
    screen.shows("up\r\n");
    screen.press("\x1a");
    screen.shows("Stopped");
    // Its heartbeat stands still with it: the lock passes on.
    assert_eq!(Job::run(&table, &[&lock, "--", "true"]).code(), 0);
    std::fs::write(&go, "").unwrap();
    screen.press("fg\n");
    screen.press("echo code-$?\n");
    screen.shows("code-79");
    assert!(
        !screen.shown().contains("through\r\n"),
        "{}",
        screen.shown()
    );
}

/// Has a child that does not mind Ctrl-Z, and one that has left the group. They write down
/// when they run.
const RESTLESS: &str = r#"
    (trap "" TSTP; while :; do date +%s%N >> "$1"; sleep 0.01; done) &
    timeout 600 bash -c 'while :; do date +%s%N >> "$0"; sleep 0.05; done' "$1.timed" &
    echo up
    wait
"#;

#[test]
fn nobody_of_a_stopped_job_runs_on_without_the_lock() {
    let (table, lock, scratch) = (embedded_table(), unique("restless"), Scratch::new());
    let (script, beats) = (scratch.path("script"), scratch.path("beats"));
    std::fs::write(&script, RESTLESS).unwrap();
    let screen = Screen::shell(&table);
    screen.press(&format!(
        "$fifolock run --lease 2s {lock} -- bash {} {}\n",
        script.display(),
        beats.display()
    ));
    screen.shows("up\r\n");
    let timed = scratch.path("beats.timed");
    wait_for("beats", || {
        !text(&beats).is_empty() && !text(&timed).is_empty()
    });
    screen.press("\x1a");
    screen.shows("Stopped");
    let mut next = Job::run(&table, &[&lock, "--", "sh", "-c", "date +%s%N; sleep 0.5"]);
    assert_eq!(next.code(), 0, "{}", next.err());
    screen.press("fg\n");
    screen.press("echo code-$?\n");
    screen.shows("code-79");
    let taken: u64 = next.out().trim().parse().unwrap();
    assert!(last_stamp(&beats) < taken);
    assert!(last_stamp(&timed) < taken);
}

#[test]
fn a_command_before_a_pager_gets_the_terminal_when_it_asks() {
    let (table, lock) = (embedded_table(), unique("pager"));
    let screen = Screen::shell(&table);
    let script = r#"sh -c 'echo up >&2; read line < /dev/tty; echo got $line'"#;
    screen.press(&format!("$fifolock run {lock} -- {script} | cat\n"));
    screen.shows("up\r\n");
    screen.press("hello\n");
    screen.shows("got hello");
    screen.press("echo code-${PIPESTATUS[0]}\n");
    screen.shows("code-0");
}

#[test]
fn a_command_that_is_killed_leaves_the_terminal_as_it_was() {
    let (table, lock) = (embedded_table(), unique("modes"));
    let screen = Screen::shell(&table);
    let script = r#"bash -c 'stty -echo; trap "" TERM; echo up; while :; do sleep 0.02; done'"#;
    screen.press(&format!("$fifolock run --lease 2s {lock} -- {script}\n"));
    screen.shows("up\r\n");
    table.delete(&lock);
    screen.press("stty -a | tr ' ' '\\n' | grep echo$; echo code-$?\n");
    screen.shows("code-0");
    assert!(!screen.shown().contains("-echo\r\n"), "{}", screen.shown());
}
