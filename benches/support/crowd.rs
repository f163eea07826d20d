//! A crowd at one lock in virtual time.

#[path = "../../tests/sim/mod.rs"]
mod sim;

use std::time::Duration;

use serde_json::{Value, json};
use sim::{Crowd, Settings};

use crate::support::common::turns::HOLD;

/// A hold, and the round trips around it, in the simulation.
const TURN: Duration = Duration::from_millis(40);

/// What it costs to have so many wait for a lock whenever somebody holds it, in virtual
/// time: each holds it for as long as the real crowds do and queues again at once.
pub(crate) fn cost_with_waiters(waiters: usize) -> Value {
    let clients = waiters + 1;
    let round = TURN * u32::try_from(clients).unwrap();
    let span = Duration::from_secs(100).max(round * 3);
    let settings = Settings {
        hold: HOLD,
        ..Settings::default()
    };
    let count = Crowd::contend(clients, settings, span, span);
    let writes = count.writes + count.announcements + count.deletions;
    json!({
        "case": format!("{waiters} waiter{}", if waiters == 1 { "" } else { "s" }),
        "waiters": waiters,
        "virtual": true,
        "acquisitions": count.grants,
        "requests": writes + count.reads + count.looks,
        "writes": writes,
        "reads": count.read_units + count.looks as f64,
        "ms_per_grant": span.as_secs_f64() * 1e3 / count.grants as f64,
    })
}
