//! Rows and settings that nobody would think of: each is taken exactly as it is, or
//! refused with an error that says which. Nothing panics.

mod common;

#[path = "fuzz/rows.rs"]
mod rows;
#[path = "fuzz/settings.rs"]
mod settings;
