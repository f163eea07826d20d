//! `fifolock run`: a command under a lock.

mod args;
mod child;
mod danger;
mod frames;
mod keeper;
mod lookout;
mod news;
mod orphans;
mod processes;
mod progress;
mod signals;
mod supervise;
mod terminal;
mod tree;
mod wait;
mod wire;

use std::io::ErrorKind;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use dynamodb_fifo_lock::{Error, LockClient, LockGuard, LockName, LockStore};

use anyhow::Context;

use crate::args::Connection;
use crate::text::say;
use crate::{exit, messages};

pub(crate) use args::Args;
use child::Child;
pub(crate) use keeper::helper;
use lookout::Lookout;
use news::News;
use progress::Progress;
use signals::Signals;
use supervise::{Ending, Supervision};
use wait::{Outcome, Patience, Wait};
use wire::Deadline;

/// No request of a client takes longer, nor than a quarter of its lease.
const LONGEST_REQUEST: Duration = Duration::from_secs(3);

/// What was said before the command runs is on the screen before its own output, unless
/// that takes longer.
const PROMPTLY: Duration = Duration::from_millis(200);

pub(crate) fn run(connection: &Connection, args: &Args) -> anyhow::Result<u8> {
    args.check()?;
    messages::start().context("could not start a thread for messages")?;
    panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    orphans::reap_strangers().context("could not start a thread for orphans")?;
    let lock = LockName::new(&args.name).map_err(Error::from)?;
    let request_timeout = LONGEST_REQUEST.min(args.lease / 4);
    let (tell, news) = unbounded();
    let store: Arc<dyn LockStore> = Arc::new(connection.store()?);
    let client = LockClient::builder()
        .lease(args.lease)
        .request_timeout(request_timeout)
        .owner(args.owner())
        .observer(news::reporter(tell))
        .build(Arc::clone(&store))?;
    let signals = Signals::catch()?;

    let mut progress = Progress::new(&lock, args.quiet);
    let lookout = match progress.is_watched() {
        true => Lookout::start(store, lock.clone(), request_timeout),
        false => None,
    };
    let wait = Wait {
        client: &client,
        lock: &args.name,
        patience: match args.once {
            true => Patience::Try,
            false => Patience::Queue(args.timeout),
        },
        signals: &signals.received,
        news: &news,
        lookout,
        farewell: request_timeout,
    };
    let guard = match wait.run(&mut progress)? {
        Outcome::Granted(guard) => guard,
        Outcome::Busy => {
            progress.busy();
            return Ok(exit::BUSY);
        }
        Outcome::Signalled(signal) => return Ok(signals::code_of(signal)),
    };
    progress.granted(guard.fencing_token());
    drop(progress);
    messages::flush(PROMPTLY);
    Ok(match run_under(&guard, args, &signals, &news)? {
        Ending::WithCode(code) => release(guard, code),
        Ending::Lost => exit::LOST,
        Ending::RunsOn => {
            // No release, which would let the next one in at once.
            std::mem::forget(guard);
            exit::RUNS_ON
        }
    })
}

/// Runs the command.
fn run_under(
    guard: &LockGuard,
    args: &Args,
    signals: &Signals,
    news: &Receiver<News>,
) -> anyhow::Result<Ending> {
    signals.catch_stops()?;
    let environment = [
        ("FIFOLOCK_NAME", args.name.clone()),
        ("FIFOLOCK_TOKEN", guard.fencing_token().to_string()),
        ("FIFOLOCK_OWNER", args.owner()),
    ];
    guard.ensure_held()?;
    let deadline = Deadline::after(guard.remaining());
    let child = match Child::start(&args.command, environment, deadline) {
        Ok(child) => child,
        Err(error) => {
            say(&keeper::cannot_run(&args.command, &error));
            return Ok(Ending::WithCode(match error.kind() {
                ErrorKind::NotFound => exit::NOT_FOUND,
                _ => exit::CANNOT_RUN,
            }));
        }
    };
    let supervision = Supervision::new(&child, guard, &signals.received, news, args.kill_after());
    Ok(supervision.run())
}

/// Releases the lock; returns the exit code after all.
fn release(guard: LockGuard, code: u8) -> u8 {
    match guard.release() {
        Ok(()) => code,
        Err(error) => {
            say(&error.to_string());
            match error {
                // The command ran to its end, but not alone.
                Error::Lost { .. } => exit::LOST,
                _ => code,
            }
        }
    }
}
