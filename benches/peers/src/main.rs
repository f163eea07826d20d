//! The same work over the same server with every DynamoDB lock client that can run
//! here.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- report
//! ```

mod behind;
mod contest;
mod figures;
mod machine;
mod markdown;
mod own;
mod own_report;
mod peers;
mod plots;
mod program;
mod proxy;
mod raw;
mod report;
mod results;
mod runners;
mod server;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use machine::About;
use program::Program;
use results::Row;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, and writes the report.
    Report(Report),
    /// Writes the report again from what was measured.
    Render {
        /// Where `benchmarks.md` and `benchmarks/` are.
        #[arg(long, default_value = "docs")]
        out: PathBuf,
    },
    /// One contender of a contest; started by `report`.
    #[command(hide = true)]
    Worker(worker::Options),
}

#[derive(Args)]
struct Report {
    /// The server; an embedded one, if none is named.
    #[arg(long, env = "DYNAMODB_ENDPOINT")]
    endpoint: Option<String>,
    /// What to call the server in the report, beside what it calls itself.
    #[arg(long)]
    server_name: Option<String>,
    /// A smoke run: little of everything.
    #[arg(long)]
    quick: bool,
    /// Only this peer; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Leave this crate's own benches out.
    #[arg(long)]
    skip_own: bool,
    /// Where `benchmarks.md` and `benchmarks/` go.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Report(options) => measure(&options),
        Command::Render { out } => render(&out, &results::load(&file(&out))?),
        Command::Worker(options) => worker::run(&options),
    }
}

fn measure(options: &Report) -> anyhow::Result<()> {
    let peers = if options.only.is_empty() {
        peers::PEERS.iter().collect()
    } else {
        options
            .only
            .iter()
            .map(|name| peers::peer(name))
            .collect::<Result<Vec<_>, _>>()?
    };
    let server = server::Server::open(options.endpoint.as_deref(), options.server_name.as_deref())?;
    let about = About::look(server.name(), options.quick, &peers);
    let mut program = Program {
        endpoint: server.endpoint(),
        extent: if options.quick {
            program::QUICK
        } else {
            program::FULL
        },
        peers,
        rows: vec![Row::About(about)],
    };
    program.run()?;
    let mut rows = program.rows;
    if !options.skip_own {
        rows.extend(own::run(options.endpoint.as_deref()));
    }
    fs::create_dir_all(options.out.join(plots::FOLDER))?;
    results::save(&file(&options.out), &rows)?;
    render(&options.out, &rows)
}

fn render(out: &Path, rows: &[Row]) -> anyhow::Result<()> {
    plots::draw(&out.join(plots::FOLDER), rows)?;
    fs::write(out.join("benchmarks.md"), report::text(rows)?)?;
    Ok(())
}

fn file(out: &Path) -> PathBuf {
    out.join(plots::FOLDER).join("results.jsonl")
}
