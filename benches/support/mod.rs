//! What the benches share: the server, the command line, and the tests' own tools.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every bench binary compiles this and none uses all of it"
)]

#[path = "../../tests/common/mod.rs"]
pub mod common;
pub mod report;

use std::process;

use common::{Table, embedded_endpoint, named_endpoint};

/// An empty table on the server that `DYNAMODB_ENDPOINT` names, else on an embedded
/// one.
pub fn table() -> Table {
    match named_endpoint() {
        Some(endpoint) => Table::create("named server", endpoint),
        None => Table::create("embedded server", embedded_endpoint()),
    }
}

/// What the command line asks for.
pub struct Options {
    /// One JSON object a line on the standard output.
    pub json: bool,
    /// `cargo bench` measures; `cargo test --benches` only sees whether it would.
    pub measure: bool,
}

/// Reads the command line, or says what is wrong with it and ends the process.
pub fn options() -> Options {
    let mut options = Options {
        json: false,
        measure: false,
    };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => options.measure = true,
            "--json" => options.json = true,
            _ => {
                eprintln!("unknown argument {argument:?}; there is only --json");
                process::exit(2);
            }
        }
    }
    options
}
