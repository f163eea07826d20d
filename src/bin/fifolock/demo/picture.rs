//! The demo as a picture.

use std::time::SystemTime;

use console::style;
use dynamodb_fifo_lock::{FencingToken, LockStatus};

use super::stage::{Doing, Entry, REFUSED, Scene, Stage, WORKERS, name};
use crate::text::{columns, span};

/// So many of the last things that happened are shown.
const LOG: usize = 9;

/// How long a whole lease is drawn.
const BAR: usize = 24;

pub(super) struct Picture<'a> {
    pub(super) stage: &'a Stage,
    pub(super) place: String,
}

impl Picture<'_> {
    pub(super) fn title(&self) -> String {
        format!(
            "{WORKERS} workers take turns at lock {:?}, in {}; lease {}",
            self.stage.lock.as_str(),
            self.place,
            span(self.stage.lease)
        )
    }

    /// The picture of this moment; `status` is what the table says.
    pub(super) fn frame(&self, status: Option<&LockStatus>) -> Vec<String> {
        let scene = self.stage.scene.lock();
        let elapsed = self.stage.began.elapsed().as_secs_f64();
        let mut lines = vec![
            format!("{}   {elapsed:.1} s", style(self.title()).bold()),
            String::new(),
        ];
        lines.extend(self.workers(&scene, status));
        let newest = scene
            .newest
            .map_or_else(|| "any".into(), |token| token.to_string());
        lines.push(String::new());
        lines.push(format!("the resource takes tokens from {newest} on"));
        lines.push(String::new());
        let first = scene.log.len().saturating_sub(LOG);
        lines.extend(
            scene.log[first..]
                .iter()
                .map(|entry| match entry.text.ends_with(REFUSED) {
                    true => style(line(entry)).red().to_string(),
                    false => line(entry),
                }),
        );
        lines
    }

    /// What happened since so many things had happened.
    pub(super) fn news(&self, told: usize) -> Vec<String> {
        let scene = self.stage.scene.lock();
        scene.log.iter().skip(told).map(line).collect()
    }

    /// Whoever has the turn, those who wait in their order, and the others.
    fn workers(&self, scene: &Scene, status: Option<&LockStatus>) -> Vec<String> {
        let mut order: Vec<usize> = (0..WORKERS).collect();
        order.sort_by_key(|worker| match scene.workers[*worker].doing {
            Doing::Holding(token) | Doing::CutOff(token) => (0, token),
            Doing::Waiting(ticket) => (1, ticket.into()),
            Doing::Nothing => (2, FencingToken::new(0)),
        });
        let mut place = 0;
        let rows: Vec<_> = order
            .into_iter()
            .map(|worker| {
                let (doing, number, more) = match scene.workers[worker].doing {
                    Doing::Holding(token) => {
                        let doing = style("holds  ").green().bold().to_string();
                        (doing, format!("token  {token}"), self.lease(token, status))
                    }
                    Doing::CutOff(token) => {
                        let doing = style("CUT OFF").red().bold().to_string();
                        (doing, format!("token  {token}"), self.lease(token, status))
                    }
                    Doing::Waiting(ticket) => {
                        place += 1;
                        let more = format!("number {place} in line");
                        ("waits  ".into(), format!("ticket {ticket}"), more)
                    }
                    Doing::Nothing => (
                        style("-      ").dim().to_string(),
                        String::new(),
                        String::new(),
                    ),
                };
                vec![format!("  {}", name(worker)), doing, number, more]
            })
            .collect();
        columns(&rows)
    }

    /// How much is left of a lease, as those who look at the table count it.
    fn lease(&self, token: FencingToken, status: Option<&LockStatus>) -> String {
        let Some(status) =
            status.filter(|status| status.turn.map(FencingToken::from) == Some(token))
        else {
            return "its turn is over".into();
        };
        let Some(holder) = &status.holder else {
            return "has not written itself down yet".into();
        };
        let silent = SystemTime::now().duration_since(holder.renewed_at);
        let left = holder.lease.saturating_sub(silent.unwrap_or_default());
        let share = left.as_secs_f64() / holder.lease.as_secs_f64();
        let full = (share * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
        let bar = "█".repeat(full) + &"░".repeat(BAR - full);
        format!("lease {bar} {:.1} s left", left.as_secs_f64())
    }
}

fn line(entry: &Entry) -> String {
    format!("{:>6.1} s  {}", entry.at.as_secs_f64(), entry.text)
}
