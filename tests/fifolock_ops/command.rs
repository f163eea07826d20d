//! Running the command over pipes and on a terminal.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::Write as LockWrite;
use dynamodb_fifo_lock::record::{Holder, TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, LockName, LockStore, Ticket};
use parking_lot::Mutex;

use crate::common::{Table, wait_for};

pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// The command with these arguments, on this table, and with nothing of the tester's own
/// environment.
pub(crate) fn fifolock(table: &Table, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.args(["--table", &table.table, "--endpoint-url", &table.endpoint]);
    command.args(["--region", "us-east-1"]);
    command
}

/// The command without a table.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fifolock"));
    command.args(arguments).env_clear().envs(environment());
    command
}

fn environment() -> [(&'static str, &'static str); 5] {
    [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("HOME", "/nonexistent"),
        ("TERM", "xterm-256color"),
    ]
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, with nothing to read.
pub(crate) fn run(mut command: Command) -> Ran {
    ran(command.stdin(Stdio::null()).output().unwrap())
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a running command has said so far.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    said: Arc<Mutex<Vec<u8>>>,
    is_over: Arc<AtomicBool>,
}

impl Heard {
    /// Listens until there is nothing more to come.
    pub(crate) fn listen(mut source: impl Read + Send + 'static) -> Self {
        let heard = Self::default();
        let all = heard.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal whose last process is gone reads as an error.
            while let Ok(count @ 1..) = source.read(&mut piece) {
                all.said.lock().extend_from_slice(&piece[..count]);
            }
            all.is_over.store(true, Ordering::SeqCst);
        });
        heard
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock()).into_owned()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        wait_for(&format!("{text:?} in {:?}", self.text()), || {
            self.text().contains(text)
        });
    }

    /// Waits for the end, and says all that was said.
    pub(crate) fn to_the_end(&self) -> String {
        wait_for("silence", || self.is_over.load(Ordering::SeqCst));
        self.text()
    }

    /// Forgets what was said.
    pub(crate) fn clear(&self) {
        self.said.lock().clear();
    }
}

/// A command on a terminal.
pub(crate) struct OnTerminal {
    child: Child,
    pty: Arc<pty_process::blocking::Pty>,
    pub(crate) heard: Heard,
}

struct Half(Arc<pty_process::blocking::Pty>);

impl Read for Half {
    fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(piece)
    }
}

impl OnTerminal {
    /// Starts the command with these arguments on a terminal with 24 lines.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(24, 100)).unwrap();
        let child = pty_process::blocking::Command::new(env!("CARGO_BIN_EXE_fifolock"))
            .args(arguments)
            .env_clear()
            .envs(environment())
            .spawn(pts)
            .unwrap();
        let pty = Arc::new(pty);
        let heard = Heard::listen(Half(Arc::clone(&pty)));
        Self { child, pty, heard }
    }

    pub(crate) fn on(table: &Table, arguments: &[&str]) -> Self {
        let place = ["--table", &table.table, "--endpoint-url", &table.endpoint];
        let region = ["--region", "us-east-1"];
        Self::start(&[arguments, &place, &region].concat())
    }

    pub(crate) fn type_in(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end: the code, and all that was shown.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut code = None;
        wait_for("the command's end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        (code.unwrap().code().unwrap_or(-1), self.heard.to_the_end())
    }
}

/// Who holds, since when, renewed when (both in milliseconds).
pub(crate) fn hold(
    store: &dyn LockStore,
    lock: &LockName,
    owner: &str,
    since_ms: u64,
    data: Option<&str>,
) {
    let take = LockWrite::Try {
        holder: Holder {
            id: HolderId::new("holder"),
            lease: Duration::from_secs(20),
            owner: owner.into(),
            since_ms,
            renewed_at_ms: since_ms,
            data: data.map(Into::into),
        },
        start: Ticket::new(40),
        grace: Duration::from_secs(1),
    };
    assert!(
        store
            .write(lock, &take, WITHIN)
            .unwrap()
            .applied()
            .is_some()
    );
}

/// Somebody joins the queue, and says so.
pub(crate) fn queue(
    store: &dyn LockStore,
    lock: &LockName,
    owner: &str,
    state: TicketState,
    since_ms: u64,
) {
    let join = LockWrite::Enqueue {
        start: Ticket::new(40),
        grace: Duration::from_secs(1),
        wall_ms: 1,
    };
    let record = store.write(lock, &join, WITHIN).unwrap().applied().unwrap();
    let row = TicketRow {
        ticket: record.issued,
        id: HolderId::random().unwrap(),
        owner: owner.into(),
        state,
        since_ms,
        expires_at_s: 4_000_000_000,
    };
    assert!(store.announce(lock, &row, WITHIN).unwrap());
}
