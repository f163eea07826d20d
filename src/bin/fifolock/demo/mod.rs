//! `fifolock demo`: locks at work, to look at.

mod cut_off;
mod picture;
mod stage;
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dynamodb_fifo_lock::{LockClient, LockStore, MemoryStore};

use crate::args::Connection;
use crate::exit;
use crate::interrupt::Interrupt;
use crate::screen::Screen;
use crate::text::{print, span};
use picture::Picture;
use stage::Stage;

/// So often the picture is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// Watch workers take turns at a lock, one of them vanish while it holds, and its late write
/// be refused
///
/// Takes about half a minute, in this process's memory. With --table or --endpoint-url on the
/// command line the lock is in that table, and its row stays there. Ends with 1 if two held at
/// once, if anybody was overtaken, or if a stale token was accepted.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The lease; everything else takes longer or shorter with it
    #[arg(long, default_value = "8s", value_parser = lease)]
    lease: Duration,
}

fn lease(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(1)..=Duration::from_secs(60);
    match humantime::parse_duration(text) {
        Ok(span) if allowed.contains(&span) => Ok(span),
        Ok(_) => Err("give 1s to 60s".into()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn run(connection: &Connection, args: &Args) -> Result<u8> {
    let (place, store): (_, Arc<dyn LockStore>) = if connection.is_explicit() {
        let store = connection.store()?;
        (format!("table {}", store.table()), Arc::new(store))
    } else {
        ("memory".into(), Arc::new(MemoryStore::new()))
    };
    let interrupt = Interrupt::watch()?;
    let stage = Arc::new(Stage::new(store, args.lease)?);
    let viewer = LockClient::builder().build(Arc::clone(&stage.store))?;
    let picture = Picture {
        stage: &stage,
        place,
    };
    let mut screen = Screen::new();
    if !screen.is_terminal() {
        print(&[picture.title()])?;
    }
    worker::start_all(&stage)?;
    let mut told = 0;
    // Far longer than it takes; a machine may be slow.
    let until = Instant::now() + args.lease * 20 + Duration::from_secs(60);
    loop {
        // The end first, so that the last frame shows it.
        let is_over = stage.is_over();
        if screen.is_terminal() {
            let status = viewer.inspect(stage.lock.as_str())?;
            screen.draw(&picture.frame(status.as_ref()))?;
        } else {
            let news = picture.news(told);
            told += news.len();
            print(&news)?;
        }
        if is_over {
            break;
        }
        if interrupt.wait(TICK) {
            return Ok(exit::INTERRUPTED);
        }
        if Instant::now() >= until {
            bail!("the demo did not come to its end");
        }
    }
    conclude(&stage)
}

fn conclude(stage: &Stage) -> Result<u8> {
    let mut scene = stage.scene.lock();
    if let Some(error) = scene.failure.take() {
        return Err(error);
    }
    let mut lines = vec![String::new()];
    if !scene.violations.is_empty() {
        lines.extend(
            scene
                .violations
                .iter()
                .map(|what| format!("VIOLATED: {what}")),
        );
        print(&lines)?;
        return Ok(exit::FAILED);
    }
    lines.push(format!(
        "ok: {} grants, one at a time, in the order of asking, with growing tokens;",
        scene.grants
    ));
    lines.push(format!(
        "    a holder that was cut off was gone past after {} (lease {}), and its late write refused.",
        span(scene.taken_over_after.unwrap_or_default()),
        span(stage.lease)
    ));
    print(&lines)?;
    Ok(exit::OK)
}

/// Lets time go by for those who look.
fn pause(span: Duration) {
    thread::sleep(span);
}
