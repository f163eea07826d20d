//! `fifolock run`, as a shell sees it: real processes, signals and terminals, against
//! the embedded server and the one that `DYNAMODB_ENDPOINT` names.

#![cfg(unix)]

mod common;

#[path = "fifolock_run/blocked.rs"]
mod blocked;
#[path = "fifolock_run/codes.rs"]
mod codes;
#[cfg(target_os = "linux")]
#[path = "fifolock_run/deaths.rs"]
mod deaths;
#[cfg(target_os = "linux")]
#[path = "fifolock_run/escapes.rs"]
mod escapes;
#[path = "fifolock_run/job.rs"]
mod job;
#[path = "fifolock_run/loss.rs"]
mod loss;
#[cfg(target_os = "linux")]
#[path = "fifolock_run/privileges.rs"]
mod privileges;
#[path = "fifolock_run/queue.rs"]
mod queue;
#[path = "fifolock_run/signals.rs"]
mod signals;
#[path = "fifolock_run/terminal.rs"]
mod terminal;
