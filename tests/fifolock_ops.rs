//! The command `fifolock`, as a person or a script meets it: all of it but `run`.
#![cfg(unix)]

mod common;

#[path = "fifolock_ops/command.rs"]
mod command;

#[path = "fifolock_ops/breaking.rs"]
mod breaking;
#[path = "fifolock_ops/demo.rs"]
mod demo;
#[cfg(feature = "dev")]
#[path = "fifolock_ops/dev.rs"]
mod dev;
#[path = "fifolock_ops/doctor.rs"]
mod doctor;
#[path = "fifolock_ops/looking.rs"]
mod looking;
#[path = "fifolock_ops/setting_up.rs"]
mod setting_up;
#[path = "fifolock_ops/watching.rs"]
mod watching;
