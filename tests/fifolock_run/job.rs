//! A `fifolock` process under test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

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

    pub(crate) fn start(command: Command, endpoint: &str, table: &Table) -> Self {
        Self::start_with(command, endpoint, table, None)
    }

    /// The same, with `error` instead of a file for its standard error.
    pub(crate) fn start_with(
        mut command: Command,
        endpoint: &str,
        table: &Table,
        error: Option<Stdio>,
    ) -> Self {
        let scratch = Scratch::new();
        let file = || File::create(scratch.path("err")).unwrap().into();
        let child = command
            .envs(environment(endpoint, table))
            .stdin(Stdio::piped())
            .stdout(File::create(scratch.path("out")).unwrap())
            .stderr(error.unwrap_or_else(file))
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

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, by exit or by a signal.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the end of fifolock", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Waits for its end: the exit code.
    pub(crate) fn code(&mut self) -> i32 {
        let code = self.end().code();
        code.unwrap_or_else(|| panic!("ended by a signal: {}", self.err()))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes whose ids a command writes into a file, a line each. Killed with the test.
pub(crate) struct Pids(PathBuf);

impl Pids {
    pub(crate) fn in_file(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Waits until there are so many.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<i32> {
        wait_for("processes", || self.all().len() >= count);
        self.all()
    }

    fn all(&self) -> Vec<i32> {
        let text = text(&self.0);
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Those that run. (A zombie does not.)
    pub(crate) fn running(&self) -> Vec<i32> {
        let mut all = self.all();
        all.retain(|pid| is_running(*pid));
        all
    }

    /// Waits until none runs.
    pub(crate) fn gone(&self) {
        wait_for("the end of all processes", || self.running().is_empty());
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        for pid in self.running().into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn is_running(pid: i32) -> bool {
    let stat = text(Path::new(&format!("/proc/{pid}/stat")));
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}
