//! What `fifolock run` is asked for.

use std::ffi::OsString;
use std::time::Duration;

use dynamodb_fifo_lock::Error;
use humantime::{format_duration, parse_duration};

/// Less leaves no time to stop a command before its lease ends.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

const LONG_ABOUT: &str = "\
Run a command while holding a lock

Waits in the queue, first come, first served; runs CMD while a heartbeat keeps the lock; releases it when \
CMD ends. CMD finds the lock's name in FIFOLOCK_NAME, the fencing token of this turn in FIFOLOCK_TOKEN, \
and who holds in FIFOLOCK_OWNER. Standard input, output and error are passed on to it.";

const EXIT_CODES: &str = "\
Exit codes:
  that of CMD; 128+n if signal n ended it, or the wait, or fifolock
  64   the command line makes no sense; nothing was sent
  69   the store cannot be reached
  75   --try, and the lock is busy
  77   the store denies access
  78   the table is missing or unfit
  79   the lock was lost while CMD ran; if it still ran, it was stopped
  80   the lock was lost, and a process that CMD started could not be stopped: it runs on
  124  the lock was not granted within --timeout
  126  CMD cannot be run
  127  CMD was not found
  1    anything else that failed";

const HOW_IT_RUNS: &str = "\
How CMD runs:

It has a process group of its own, and the terminal. HUP, INT, QUIT and TERM sent to fifolock are passed on to \
all processes that CMD started; USR1, USR2, WINCH, TSTP and CONT to its group. Those that fifolock was started \
to ignore stay ignored.

If no renewal gets through, all processes that CMD started are sent TERM when a quarter of the lease is left. \
They are sent KILL when --kill-after has passed or an eighth of the lease is left, or CMD has ended: so they \
are dead before another client can hold the lock. If a renewal, one each quarter of the lease, finds that the \
lock was taken away, TERM is sent at once, and KILL after --kill-after.

On Linux, all processes that CMD started are those below it, also in other process groups or sessions, and \
daemons. That needs a /proc that shows the ids of fifolock's own namespace. Without one, and on other systems, \
they are the process group. What CMD has started by another service (systemd-run, docker, at, ssh) is not \
among them.

Any other signal that would end fifolock, such as ALRM or XCPU, stops CMD first: TERM, KILL after \
--kill-after, then the lock is released. A process of its own, `fifolock __keep`, is CMD's parent. It kills \
all that CMD started when fifolock is killed or crashes, and shortly before the lease ends when fifolock was \
stopped. If both are killed at once, Linux kills CMD, but not what CMD has started.

A process that fifolock is not permitted to signal, such as one that sudo made root's, is not stopped. fifolock \
says which one that is, keeps the lock for as long as it can, and exits with 80 once the lock is lost.

What CMD leaves running when it ends by itself runs on, without the lock, as a child of init or of what else \
adopts orphans. But when a signal has ended CMD (its exit code is 129 to 192), or it ends after fifolock has \
passed TERM or QUIT on, what it leaves is sent TERM, and KILL after --kill-after, before the lock is released. \
Only a resource that checks FIFOLOCK_TOKEN is safe from what runs on.

Ctrl-Z stops CMD and fifolock, heartbeat included. `fg` continues them; but when the lease is about to end, CMD \
is killed. A CMD that is stopped while it does not have the terminal keeps the lock.

Messages do not hold up anything: if standard error is not read, they are dropped, and fifolock ends a second \
later at most.";

#[derive(clap::Args, Debug)]
#[command(
    about = "Run a command while holding a lock",
    long_about = LONG_ABOUT,
    after_help = EXIT_CODES,
    after_long_help = format!("{EXIT_CODES}\n\n{HOW_IT_RUNS}"),
)]
pub(crate) struct Args {
    /// The lock
    pub(super) name: String,

    /// Give up if the lock is not granted within this time, such as 90s or "1h 30m"
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "once")]
    pub(super) timeout: Option<Duration>,

    /// How long the lock stays held after the last renewal that got through, 1s to 1day: whoever
    /// dies holding it delays the others by this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "20s")]
    pub(super) lease: Duration,

    /// Wait for the lock (the default)
    #[arg(long, conflicts_with = "once")]
    wait: bool,

    /// Do not wait if the lock is busy
    #[arg(long = "try")]
    pub(super) once: bool,

    /// How long CMD may take between TERM and KILL if it has to be stopped; at most, and by
    /// default, an eighth of the lease
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    kill_after: Option<Duration>,

    /// Who this is, for people who ask who holds the lock; defaults to host/process id
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,

    /// Say nothing unless something fails
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

impl Args {
    /// Refuses what the library cannot, or would refuse in its own words.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self
            .command
            .first()
            .is_none_or(|program| program.is_empty())
        {
            return Err(wrong("CMD", "give a command to run".into()));
        }
        if self.lease < SHORTEST_LEASE {
            let least = format_duration(SHORTEST_LEASE);
            return Err(wrong(
                "--lease",
                format!("a command cannot be stopped in time if it is under {least}"),
            ));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(wrong("--timeout", "zero never waits; use --try".into()));
        }
        match self.kill_after {
            Some(asked) if asked > self.longest_kill_after() => Err(wrong(
                "--kill-after",
                format!(
                    "{} is more than an eighth of the lease; use --lease {} or longer",
                    format_duration(asked),
                    format_duration(asked.saturating_mul(8)),
                ),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn kill_after(&self) -> Duration {
        self.kill_after.unwrap_or(self.longest_kill_after())
    }

    fn longest_kill_after(&self) -> Duration {
        self.lease / 8
    }

    pub(super) fn owner(&self) -> String {
        self.owner.clone().unwrap_or_else(|| {
            let system = rustix::system::uname();
            let host = system.nodename().to_string_lossy();
            format!("{host}/{}", std::process::id())
        })
    }
}

fn wrong(setting: &'static str, problem: String) -> Error {
    Error::InvalidSetting { setting, problem }
}
