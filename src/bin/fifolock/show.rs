//! `fifolock show`: one lock, who holds it and who waits.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use dynamodb_fifo_lock::{HolderStatus, LockStatus, SharerStatus, WaiterStatus};
use serde_json::{Value, json};

use crate::args::Connection;
use crate::exit;
use crate::text::{age_ms, ago, columns, epoch_ms, json_line, printable, rfc3339, span};
use crate::watch::{Frame, Watch};

/// Show a lock: who holds it, since when, with which token, and who waits
///
/// Ages are by the wall clock of this machine and those of whoever wrote the times down. A
/// waiter is shown once it has waited for three seconds; before, it is only counted.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The lock's name
    name: String,

    #[command(flatten)]
    watch: Watch,
}

pub(crate) fn run(connection: &Connection, args: &Args) -> Result<u8> {
    let client = connection.observer()?;
    args.watch.run(|| {
        let status = client.inspect(&args.name)?;
        let now = SystemTime::now();
        let code = match status {
            Some(_) => exit::OK,
            None => exit::FAILED,
        };
        let lines = match (&status, args.watch.json) {
            (Some(status), true) => vec![json_line(&document(status, now))],
            (None, true) => vec![json_line(&absent(&args.name))],
            (Some(status), false) => lines(status, now),
            (None, false) => vec![format!(
                "table {} has no lock {:?}: nobody ever asked for it, or its row was deleted",
                connection.table(),
                args.name
            )],
        };
        Ok(Frame {
            lines,
            complaints: Vec::new(),
            code,
        })
    })
}

/// What state a lock is in, in one word.
pub(crate) fn state(status: &LockStatus) -> &'static str {
    match (&status.holder, status.turn) {
        (Some(_), _) => "held",
        (None, Some(_)) => "unclaimed",
        (None, None) if !status.sharers.is_empty() => "shared",
        (None, None) => "free",
    }
}

fn absent(name: &str) -> Value {
    json!({ "name": name, "state": "absent" })
}

/// A lock for programs.
pub(crate) fn document(status: &LockStatus, now: SystemTime) -> Value {
    let mut document = summary(status, now);
    let waiters = status
        .waiters
        .iter()
        .map(|waiter| waiter_document(waiter, now));
    document["waiters"] = waiters.collect();
    let sharers = status
        .sharers
        .iter()
        .map(|sharer| sharer_document(sharer, now));
    document["sharers"] = sharers.collect();
    document
}

/// The same without those who wait.
pub(crate) fn summary(status: &LockStatus, now: SystemTime) -> Value {
    json!({
        "name": status.name.as_str(),
        "state": state(status),
        "turn": status.turn.map(|turn| turn.get()),
        "holder": status.holder.as_ref().map(|holder| holder_document(holder, now)),
        "waiting": status.waiting,
        "sharing": status.sharers.len(),
    })
}

fn sharer_document(sharer: &SharerStatus, now: SystemTime) -> Value {
    hold_document(
        &sharer.owner,
        sharer.lease,
        (sharer.since, sharer.renewed_at),
        sharer.data.as_deref(),
        now,
    )
}

fn holder_document(holder: &HolderStatus, now: SystemTime) -> Value {
    let mut document = hold_document(
        &holder.owner,
        holder.lease,
        (holder.since, holder.renewed_at),
        holder.data.as_deref(),
        now,
    );
    document["token"] = holder.token.get().into();
    document
}

/// What there is to say of anybody who holds, alone or not.
fn hold_document(
    owner: &str,
    lease: Duration,
    (since, renewed_at): (SystemTime, SystemTime),
    data: Option<&str>,
    now: SystemTime,
) -> Value {
    json!({
        "owner": owner,
        "since": rfc3339(since),
        "since_ms": epoch_ms(since),
        "held_ms": age_ms(since, now),
        "lease_ms": u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
        "renewed_at": rfc3339(renewed_at),
        "renewed_at_ms": epoch_ms(renewed_at),
        "silent_ms": age_ms(renewed_at, now),
        "data": data,
    })
}

fn waiter_document(waiter: &WaiterStatus, now: SystemTime) -> Value {
    json!({
        "ticket": waiter.ticket.get(),
        "owner": waiter.owner,
        "since": rfc3339(waiter.since),
        "since_ms": epoch_ms(waiter.since),
        "waited_ms": age_ms(waiter.since, now),
        "state": waiter_state(waiter),
    })
}

fn waiter_state(waiter: &WaiterStatus) -> &'static str {
    match (waiter.left, waiter.expired) {
        (true, _) => "left",
        (false, true) => "expired",
        (false, false) => "waiting",
    }
}

/// A lock for people.
pub(crate) fn lines(status: &LockStatus, now: SystemTime) -> Vec<String> {
    let mut facts = vec![("lock", printable(status.name.as_str()))];
    match (&status.holder, status.turn) {
        (Some(holder), _) => facts.extend(holder_facts(holder, now)),
        (None, Some(turn)) => facts.push((
            "turn",
            format!("{turn}, which has not said yet that it holds (it need not, for a moment)"),
        )),
        (None, None) if !status.sharers.is_empty() => {
            facts.push(("holder", "nobody alone: the lock is shared".into()));
        }
        (None, None) => facts.push(("holder", "nobody, the lock is free".into())),
    }
    if !status.sharers.is_empty() {
        facts.push(("sharing", status.sharers.len().to_string()));
    }
    let announced = match status.waiters.len() {
        shown if shown as u64 == status.waiting => String::new(),
        shown => format!(" ({shown} announced)"),
    };
    facts.push(("waiting", format!("{}{announced}", status.waiting)));
    let facts: Vec<_> = facts
        .into_iter()
        .map(|(what, fact)| vec![what.to_owned(), fact])
        .collect();
    let mut lines = columns(&facts);
    if !status.sharers.is_empty() {
        lines.push(String::new());
        let head = ["SHARED BY", "SINCE", "", "RENEWED"];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(status.sharers.iter().map(|sharer| sharer_row(sharer, now)));
        lines.extend(columns(&rows));
    }
    if !status.waiters.is_empty() {
        lines.push(String::new());
        let head = ["TICKET", "STATE", "OWNER", "WAITING SINCE", ""];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(status.waiters.iter().map(|waiter| waiter_row(waiter, now)));
        lines.extend(columns(&rows));
    }
    lines
}

fn holder_facts(holder: &HolderStatus, now: SystemTime) -> Vec<(&'static str, String)> {
    let since = |then| format!("{} ({})", rfc3339(then), ago(then, now));
    let silent = now.duration_since(holder.renewed_at).unwrap_or_default();
    let verdict = match silent > holder.lease {
        true => "; longer than its lease: it is dead, or a clock is off",
        false => "",
    };
    let mut facts = vec![
        ("holder", printable(&holder.owner)),
        ("token", holder.token.to_string()),
        ("since", since(holder.since)),
        ("lease", span(holder.lease)),
        ("renewed", since(holder.renewed_at) + verdict),
    ];
    if let Some(data) = &holder.data {
        facts.push(("data", printable(data)));
    }
    facts
}

fn sharer_row(sharer: &SharerStatus, now: SystemTime) -> Vec<String> {
    vec![
        printable(&sharer.owner),
        rfc3339(sharer.since),
        ago(sharer.since, now),
        ago(sharer.renewed_at, now),
    ]
}

fn waiter_row(waiter: &WaiterStatus, now: SystemTime) -> Vec<String> {
    vec![
        waiter.ticket.to_string(),
        waiter_state(waiter).into(),
        printable(&waiter.owner),
        rfc3339(waiter.since),
        ago(waiter.since, now),
    ]
}
