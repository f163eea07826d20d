//! What the workers are run with. Python's and Node's packages are installed below
//! `target`, once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::peers::Runner;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// The program of a worker, with all that comes before its options.
pub(crate) fn command(runner: Runner) -> anyhow::Result<Command> {
    let workers = Path::new(PACKAGE).join("workers");
    Ok(match runner {
        Runner::Itself => {
            let mut command = Command::new(env::current_exe()?);
            command.arg("worker");
            command
        }
        Runner::Python => {
            let mut command = Command::new(home("python").join("bin/python"));
            command.arg(workers.join("worker.py"));
            command
        }
        Runner::Node => {
            let mut command = Command::new("node");
            command.arg(home("node").join("worker.js"));
            command
        }
    })
}

/// Installs what is missing.
pub(crate) fn prepare(runner: Runner) -> anyhow::Result<()> {
    let workers = Path::new(PACKAGE).join("workers");
    match runner {
        Runner::Itself => Ok(()),
        Runner::Python => {
            let home = home("python");
            let wanted = fs::read_to_string(workers.join("requirements.txt"))?;
            unless_done(&home, &wanted, || {
                run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
                run(Command::new(home.join("bin/python"))
                    .args(["-m", "pip", "install", "--quiet", "--requirement"])
                    .arg(workers.join("requirements.txt")))
            })
        }
        Runner::Node => {
            let home = home("node");
            fs::create_dir_all(&home)?;
            for file in ["package.json", "package-lock.json", "worker.js"] {
                fs::copy(workers.join(file), home.join(file))?;
            }
            let wanted = fs::read_to_string(workers.join("package-lock.json"))?;
            unless_done(&home, &wanted, || {
                run(Command::new("npm")
                    .args([
                        "ci",
                        "--silent",
                        "--no-audit",
                        "--no-fund",
                        "--ignore-scripts",
                    ])
                    .current_dir(&home))
            })
        }
    }
}

fn home(runner: &str) -> PathBuf {
    Path::new(PACKAGE).join("target").join(runner)
}

/// Does the work if the same was not done for the same wish before.
fn unless_done(
    home: &Path,
    wanted: &str,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mark = home.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    work()?;
    Ok(fs::write(mark, wanted)?)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{name} is not installed"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}
