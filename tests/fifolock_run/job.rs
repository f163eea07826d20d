//! A `fifolock` process under test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Table, unique, wait_for};

/// What every process is told about the table.
pub(crate) fn environment(endpoint: &str, table: &Table) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL_DYNAMODB", endpoint.to_owned()),
        ("AWS_REGION", "us-east-1".into()),
        ("AWS_ACCESS_KEY_ID", "test".into()),
        ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ("LC_ALL", "C".into()),
        ("FIFOLOCK_TABLE", table.table.clone()),
    ]
}

/// `fifolock`, with no signal ignored: whoever runs the tests in the background has some
/// that are.
pub(crate) fn fifolock() -> Command {
    let binary = env!("CARGO_BIN_EXE_fifolock");
    if cfg!(target_os = "linux") {
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,QUIT,TERM", binary]);
        return command;
    }
    Command::new(binary)
}

/// A folder that goes away with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(unique("fifolock-run"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file's text; nothing if it is not there.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// One process, with its output in files. Killed if the test ends before it does.
pub(crate) struct Job {
    child: Child,
    scratch: Scratch,
}

impl Job {
    /// `fifolock run` with these arguments.
    pub(crate) fn run(table: &Table, arguments: &[&str]) -> Self {
        Self::run_at(&table.endpoint, table, arguments)
    }

    /// The same, through something before the server.
    pub(crate) fn run_at(endpoint: &str, table: &Table, arguments: &[&str]) -> Self {
        let mut command = fifolock();
        command.arg("run").args(arguments);
        Self::start(command, endpoint, table)
    }

    pub(crate) fn start(mut command: Command, endpoint: &str, table: &Table) -> Self {
        let scratch = Scratch::new();
        let child = command
            .envs(environment(endpoint, table))
            .stdin(Stdio::piped())
            .stdout(File::create(scratch.path("out")).unwrap())
            .stderr(File::create(scratch.path("err")).unwrap())
            .spawn()
            .unwrap();
        Self { child, scratch }
    }

    /// Writes all of its input.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        self.child.stdin.take().unwrap().write_all(input).unwrap();
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn out(&self) -> String {
        text(&self.scratch.path("out"))
    }

    pub(crate) fn err(&self) -> String {
        text(&self.scratch.path("err"))
    }

    /// Waits until its standard error says `words`.
    pub(crate) fn says(&self, words: &str) {
        wait_for(words, || self.err().contains(words));
    }

    /// Waits until its standard output says `words`.
    pub(crate) fn prints(&self, words: &str) {
        wait_for(words, || self.out().contains(words));
    }

    /// Waits for its end: the exit code.
    pub(crate) fn code(&mut self) -> i32 {
        let mut status = None;
        wait_for("the end of fifolock", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let code = status.unwrap().code();
        code.unwrap_or_else(|| panic!("ended by a signal: {}", self.err()))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
