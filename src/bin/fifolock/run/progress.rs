//! What somebody who waits is shown: a line that is redrawn, or lines of a log.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dynamodb_fifo_lock::record::{Holder, LockRecord};
use dynamodb_fifo_lock::{FencingToken, LockName, Ticket};
use humantime::format_duration;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::frames::Frames;
use crate::text::{printable, say};

/// A log tells of changes no more often than this.
const LOG_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    lock: LockName,
    began: Instant,
    face: Face,
    ticket: Option<Ticket>,
    ahead: Option<u64>,
    holder: Option<Holder>,
    trouble: Option<String>,
}

enum Face {
    Line(ProgressBar),
    Log { last: Option<Instant> },
    None,
}

impl Progress {
    pub(super) fn new(lock: &LockName, quiet: bool) -> Self {
        let face = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Face::None,
            (false, true) => Face::Line(line()),
            (false, false) => Face::Log { last: None },
        };
        Self {
            lock: lock.clone(),
            began: Instant::now(),
            face,
            ticket: None,
            ahead: None,
            holder: None,
            trouble: None,
        }
    }

    /// Whether somebody watches to whom it matters who holds.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.face, Face::Line(_))
    }

    pub(super) fn is_in_queue(&self) -> bool {
        self.ticket.is_some()
    }

    pub(super) fn place(&mut self, ticket: Ticket, ahead: u64) {
        let joined = self.ticket.replace(ticket) != Some(ticket);
        let moved = self.ahead.replace(ahead) != Some(ahead);
        self.trouble = None;
        if joined {
            self.log(&format!("joined the queue, {ahead} ahead"), true);
        } else if moved {
            self.log(&format!("{ahead} ahead"), false);
        }
        self.draw();
    }

    pub(super) fn passed_over(&mut self) {
        self.log("lost its place, joins the queue again", true);
        self.ahead = None;
        self.draw();
    }

    pub(super) fn trouble(&mut self, what: &str) {
        self.log(&format!("{what}; trying again"), false);
        self.trouble = Some(printable(what));
        self.draw();
    }

    /// The record was looked at.
    pub(super) fn saw(&mut self, record: Option<LockRecord>) {
        let turn = record.as_ref().map(LockRecord::turn);
        if let (Some(ticket), Some(turn)) = (self.ticket, turn) {
            self.ahead = Some(ticket.get().saturating_sub(turn.get()));
        }
        self.holder = record.and_then(|record| record.holder);
        self.draw();
    }

    pub(super) fn leaving(&mut self) {
        self.log("leaving the queue", true);
        if let Face::Line(line) = &self.face {
            line.set_message(format!("leaving the queue for {}", self.lock));
            line.tick();
        }
    }

    pub(super) fn granted(&mut self, token: FencingToken) {
        let after = match self.ticket {
            Some(_) => format!(" after {}", roughly(self.began.elapsed())),
            None => String::new(),
        };
        self.log(&format!("granted{after}, token {token}"), true);
    }

    pub(super) fn busy(&mut self) {
        let words = format!("{} is busy", self.lock);
        match &self.face {
            Face::Line(line) => line.suspend(|| say(&words)),
            Face::Log { .. } => say(&words),
            Face::None => {}
        }
    }

    /// Shows how time goes by.
    pub(super) fn draw(&self) {
        if let Face::Line(line) = &self.face {
            line.set_message(self.line());
            line.tick();
        }
    }

    fn line(&self) -> String {
        let mut line = format!("waiting for {}", self.lock);
        match self.ahead {
            Some(ahead) => line.push_str(&format!(": {ahead} ahead")),
            None => line.push_str(": asking"),
        }
        if let Some(holder) = &self.holder {
            let since = UNIX_EPOCH.checked_add(Duration::from_millis(holder.since_ms));
            let held = since.and_then(|since| SystemTime::now().duration_since(since).ok());
            line.push_str(&format!(
                ", held by {} for {}",
                printable(&holder.owner),
                roughly(held.unwrap_or_default())
            ));
        }
        line.push_str(&format!("; {} so far", roughly(self.began.elapsed())));
        if let Some(trouble) = &self.trouble {
            line.push_str(&format!("; {trouble}"));
        }
        line
    }

    /// Writes a line of a log, if this is one; what is not `important` may be left out.
    fn log(&mut self, words: &str, important: bool) {
        let Face::Log { last } = &mut self.face else {
            return;
        };
        let soon = last.is_some_and(|last| last.elapsed() < LOG_PAUSE);
        if important || !soon {
            *last = Some(Instant::now());
            say(&format!("{}: {words}", self.lock));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Face::Line(line) = &self.face {
            line.finish_and_clear();
        }
    }
}

fn line() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    ProgressBar::with_draw_target(
        None,
        ProgressDrawTarget::term_like(Box::<Frames>::default()),
    )
    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// For people, to the second; what is shorter, to the tenth.
fn roughly(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{:.1}s", time.as_secs_f64()),
        whole => format_duration(Duration::from_secs(whole)).to_string(),
    }
}
