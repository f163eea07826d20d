//! Two processes between `fifolock` and its command, both of the same program.
//!
//! The keeper is the command's parent and adopts what becomes an orphan below it. It
//! kills all of that when `fifolock` has died, of whatever, and when `fifolock` has not
//! told it in time that the lock is still held: because it was stopped, say. If the keeper
//! dies, `fifolock` kills the same processes, which it adopts in its turn.
//!
//! The launcher becomes the command. Before that it asks the system to kill it when the
//! keeper dies, for the case that both are killed at once.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getppid, waitid};
use signal_hook::consts::SIGTSTP;

use super::danger::GLANCE;
use super::orphans;
use super::signals;
use super::tree::Tree;
use super::wire::{Change, Deadline, Deadlines};
use crate::text::say;
use crate::{exit, messages};

/// The first argument of the keeper, and of the launcher.
const KEEP: &str = "__keep";
const LAUNCH: &str = "__launch";

/// How long the keeper tries to kill what does not end. What was sent KILL ends when the
/// system lets it, with or without a keeper.
const WITHIN: Duration = Duration::from_secs(5);

/// Between two looks when there is nothing more to kill.
const IDLE: Duration = Duration::from_secs(60);

/// Does what this process was started for, if that is one of the two: the exit code.
pub(crate) fn helper() -> Option<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    if first == KEEP {
        return Some(keep(&rest));
    }
    (first == LAUNCH).then(|| launch(&rest))
}

/// This program, to run again as the keeper of `command`.
pub(super) fn keeper_of(command: &[OsString]) -> Command {
    let mut keeper = this_program();
    // Out of reach of what is sent to the group of `fifolock`.
    keeper.arg(KEEP).args(command).process_group(0);
    keeper
}

fn this_program() -> Command {
    // Also right after the file was replaced by a newer one.
    let running = Path::new("/proc/self/exe");
    let first = std::env::args_os().next().unwrap_or("fifolock".into());
    let path = match running.exists() {
        true => running.as_os_str().to_owned(),
        false => std::env::current_exe().map_or(first.clone(), Into::into),
    };
    let mut command = Command::new(path);
    command.arg0(first);
    command
}

fn keep(command: &[OsString]) -> u8 {
    let Ok((link, first, input)) = connect() else {
        say("this is for fifolock itself; use `fifolock run`");
        return exit::USAGE;
    };
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(c"fifolock-keeper");
    ignore_signals();
    orphans::adopt();
    let tree = Tree::from_now();
    if first.remaining().is_zero() {
        return exit::LOST;
    }
    let launcher = launcher_of(command).stdin(input).spawn();
    let group = match launcher {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            let _ = Change::NotStarted(cannot_run(command, &error)).send(&link);
            return exit::CANNOT_RUN;
        }
    };
    let started = Change::Started(group).send(&link);
    let watched = link.try_clone().and_then(|to| watch_on_a_thread(group, to));
    if started.is_err() || watched.is_err() {
        tree.kill(Some(group), WITHIN);
        return exit::FAILED;
    }
    guard(&tree, group, first, Deadlines::new(link));
    exit::OK
}

/// Kills what is below `tree` when `fifolock` has died, or the deadline has passed.
fn guard(tree: &Tree, group: Pid, mut deadline: Deadline, mut deadlines: Deadlines) {
    loop {
        let rest = deadline.remaining();
        let is_over = rest.is_zero() && tree.kill(Some(group), GLANCE).is_empty();
        let rest = match (is_over, rest.is_zero()) {
            // None is left that could start others.
            (true, _) => IDLE,
            (false, true) => GLANCE,
            (false, false) => rest.min(GLANCE),
        };
        match deadlines.next(rest) {
            Ok(Some(later)) => deadline = later,
            Ok(None) => {}
            Err(_) => break,
        }
    }
    tree.kill(Some(group), WITHIN);
}

/// The other end of the wire, and what `fifolock` says first.
fn connect() -> io::Result<(UnixStream, Deadline, std::os::fd::OwnedFd)> {
    let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (first, input) = Deadline::receive_first(&link)?;
    Ok((link, first, input))
}

/// Whoever signals all that is called `fifolock` means the one that the user started. (With
/// a handler: what is ignored would be so for the command, too.)
fn ignore_signals() {
    let unused = Arc::new(AtomicBool::new(false));
    for signal in signals::caught(signals::ignored()).chain([SIGTSTP]) {
        let _ = signal_hook::flag::register(signal, Arc::clone(&unused));
    }
}

fn watch_on_a_thread(leader: Pid, to: UnixStream) -> io::Result<()> {
    thread::Builder::new()
        .name("fifolock-child".into())
        .spawn(move || watch(leader, &to))?;
    thread::Builder::new()
        .name("fifolock-reaper".into())
        .spawn(move || orphans::reap_until_end_of(leader))
        .map(drop)
}

/// Tells what becomes of the leader until it ends. It is left a zombie, so that its
/// id, which is the group's, stays its own.
fn watch(leader: Pid, tell: &UnixStream) {
    let id = || WaitId::Pid(leader);
    let halts = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED;
    let peek = halts | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        let status = match waitid(id(), peek) {
            Ok(Some(status)) => status,
            Ok(None) | Err(Errno::INTR) => continue,
            Err(_) => {
                let _ = Change::Ended(exit::FAILED).send(tell);
                return;
            }
        };
        let halt = match status.stopping_signal() {
            Some(signal) => Some(Change::Stopped(signal)),
            None => status.continued().then_some(Change::Continued),
        };
        if let Some(halt) = halt {
            // Else the same would be seen for ever.
            let _ = waitid(id(), halts | WaitIdOptions::NOHANG);
            let _ = halt.send(tell);
            continue;
        }
        let by_signal = status.terminating_signal().map(signals::code_of);
        let code = by_signal.or(status
            .exit_status()
            .and_then(|code| u8::try_from(code).ok()));
        let _ = Change::Ended(code.unwrap_or(u8::MAX)).send(tell);
        return;
    }
}

/// What is said about a command that did not start.
pub(super) fn cannot_run(command: &[OsString], error: &io::Error) -> String {
    let program = command.first().map(|program| program.to_string_lossy());
    format!("cannot run {:?}: {error}", program.unwrap_or_default())
}

fn launcher_of(command: &[OsString]) -> Command {
    let mut launcher = this_program();
    let keeper = std::process::id().to_string();
    launcher.args([LAUNCH, &keeper]).args(command);
    // Of its own, for the terminal and for signals to all of it.
    launcher.process_group(0);
    launcher
}

fn launch(arguments: &[OsString]) -> u8 {
    let [keeper, program, arguments @ ..] = arguments else {
        return exit::USAGE;
    };
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // It may have died before.
    let parent = getppid().map(|pid| pid.to_string()).unwrap_or_default();
    if keeper != OsStr::new(&parent) {
        return exit::FAILED;
    }
    let error = Command::new(program).args(arguments).exec();
    // The lock is held meanwhile: no longer than it takes, even if nobody reads this.
    let _ = messages::start();
    say(&cannot_run(std::slice::from_ref(program), &error));
    messages::finish();
    match error.kind() {
        ErrorKind::NotFound => exit::NOT_FOUND,
        _ => exit::CANNOT_RUN,
    }
}
