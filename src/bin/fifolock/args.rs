//! The command line.

#[cfg(feature = "dev")]
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{break_lock, demo, doctor, ls, policy, shell, show, table};

/// Distributed locks on DynamoDB: run a command under one, see who waits, repair what is broken
#[derive(Debug, Parser)]
#[command(name = "fifolock", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which table, and how to get there.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The table with the locks; defaults to FIFOLOCK_TABLE, else `locks`
    #[arg(long, global = true)]
    pub(crate) table: Option<String>,

    /// The table's region; defaults to AWS_REGION, AWS_DEFAULT_REGION, or the profile's
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,

    /// Where the service is; defaults to AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL, or the
    /// region's own
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,

    /// The profile with the credentials and the region; defaults to the usual chain:
    /// environment, AWS_PROFILE, container, instance
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,

    /// Keep the locks in a file on this machine instead of DynamoDB, to try things out;
    /// defaults to ~/.fifolock-dev.sqlite
    #[cfg(feature = "dev")]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with_all = ["region", "endpoint_url", "profile"],
    )]
    pub(crate) dev: Option<Option<PathBuf>>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Show(show::Args),
    Ls(ls::Args),
    Break(break_lock::Args),
    Table(table::Args),
    Doctor(doctor::Args),
    Iam(policy::IamArgs),
    Terraform(policy::TerraformArgs),
    Demo(demo::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    #[cfg(unix)]
    Run(crate::run::Args),
}
