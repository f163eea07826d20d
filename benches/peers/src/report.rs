//! The report: `docs/benchmarks.md`.

use std::fmt::Write as _;

use anyhow::Context;

use crate::behind;
use crate::machine::About;
use crate::markdown::{duration, figure, percent, table};
use crate::own_report;
use crate::peers::{ABSENT, PEERS};
use crate::plots::{COST, FAIRNESS, FOLDER, HAND_OVER};
use crate::results::{ContestRow, DeathRow, Row, Workload};

const MEASURED: &str = "\
Every contender is an operating-system process of its own, with a client of its own; all of them, in \
whatever language, report by the machine's one monotonic clock. They reach the server through a proxy \
that counts requests and adds a fixed time to each round trip. All start together, after a few \
acquisitions of other locks that open their connections and are not counted; whoever has released asks \
again at once.

- **Round trip**: a bare UpdateItem through the same proxy, the median. It is longer than what is added by \
  what server and proxy take.
- **Write unit**: one for each write, refused ones included; **read unit**: one for a consistent read, a \
  half for another. All rows are below 1 KB. Requests about tables are not counted.
- **Hand-over**: from the moment before the holder calls release to the moment at which the next holder's \
  call has returned, while somebody waited. **Taken again**: the share of hand-overs that went to the \
  releaser itself.
- **Inversions**: how many contenders had asked earlier, and still waited, when one was granted; the mean. \
  In brackets only those that had asked more than a round trip earlier: requests that are under way \
  together arrive in any order. **Overtaking**: the most grants to later askers during one wait.
- **Waits** that had not ended when the time was up count up to that moment.
- **Two at once**: grants by their holders' stamps before the previous holder began to release.
";

/// The whole text.
pub(crate) fn text(rows: &[Row]) -> anyhow::Result<String> {
    let about = rows
        .iter()
        .find_map(|row| match row {
            Row::About(about) => Some(about),
            _ => None,
        })
        .context("the results do not say where they are from")?;
    let contests = |workload| -> Vec<&ContestRow> {
        rows.iter()
            .filter_map(|row| match row {
                Row::Contest(row) if row.workload == workload => Some(row),
                _ => None,
            })
            .collect()
    };
    let deaths: Vec<&DeathRow> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Death(row) => Some(row),
            _ => None,
        })
        .collect();

    let mut text = String::from("# Benchmarks\n\n");
    text += &head(about);
    text += &alone(&contests(Workload::Alone));
    text += &crowd(
        "As they come",
        "with its default settings",
        &contests(Workload::Default),
    );
    text += &crowd(
        "Set to look as often as is sensible",
        "set as named in the last column; this crate has nothing to set and is as it comes",
        &contests(Workload::Eager),
    );
    text += &fairness();
    text += &crowds(&contests(Workload::Crowds));
    text += &distances(&contests(Workload::Distances));
    text += &dead(&deaths);
    text += &where_behind(
        &contests(Workload::Alone),
        &contests(Workload::Default),
        &contests(Workload::Eager),
        &deaths,
    );
    let own = own_report::text(rows);
    if !own.is_empty() {
        text += "## This crate's own benches\n\n";
        text += &own;
        text.push('\n');
    }
    let _ = write!(text, "## How it is measured\n\n{MEASURED}\n");
    text += &absent(rows);
    Ok(text)
}

fn head(about: &About) -> String {
    let mut text = format!(
        "Written by one command; every figure is from this one run.\n\n```sh\n{}\n```\n\n",
        about.command
    );
    if about.quick {
        text += "**A smoke run: too short for its figures to mean anything.**\n\n";
    }
    let facts = [
        ("date", about.date.clone()),
        (
            "processor",
            format!("{}, {} cores", about.processor, about.cores),
        ),
        ("memory", format!("{} GiB", about.memory_gib)),
        ("kernel", about.kernel.clone()),
        ("load when it began", about.load.clone()),
        ("server", about.server.clone()),
        (
            "this crate",
            format!("{}, commit {}", about.our_version(), about.commit),
        ),
        ("compiler", about.rustc.clone()),
    ];
    text += "| | |\n|---|---|\n";
    for (name, value) in facts {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    for (name, version) in about.versions.iter().skip(1) {
        let _ = writeln!(text, "| {name} | {version} |");
    }
    text + "\nRaw results: [results.jsonl](benchmarks/results.jsonl).\n\n"
}

fn alone(rows: &[&ContestRow]) -> String {
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.peer.clone(),
                format!("{} ms", row.added_ms),
                figure(row.requests()),
                figure(row.write_units()),
                figure(row.read_units()),
                duration(row.figures.cycle_ms),
                duration(Some(row.pair_ms)),
                figure(row.against_pair()),
            ]
        })
        .collect();
    let head = [
        "peer",
        "added to a round trip",
        "requests",
        "write units",
        "read units",
        "acquire and release",
        "two bare UpdateItem",
        "ratio",
    ];
    format!(
        "## Alone\n\nOne contender acquires and releases, with default settings and without a hold. \
         Requests and units are those of one acquisition with its release; times are medians, the \
         bare requests measured right before each row.\n\n{}\n",
        table(&head, &lines)
    )
}

fn crowd(title: &str, how: &str, rows: &[&ContestRow]) -> String {
    let Some(any) = rows.first() else {
        return String::new();
    };
    let cost: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.label(),
                done(row),
                duration(Some(row.figures.took_ms)),
                figure(row.requests()),
                figure(row.write_units()),
                figure(row.read_units()),
                duration(row.figures.hand_over_ms),
                duration(row.figures.hand_over_p95_ms),
                figure(row.hand_over_in_round_trips()),
            ]
        })
        .collect();
    let order: Vec<_> = rows
        .iter()
        .map(|row| {
            let found = &row.figures;
            vec![
                row.label(),
                format!(
                    "{} ({})",
                    figure(Some(found.inversions)),
                    figure(Some(found.clear_inversions))
                ),
                found.overtaking.to_string(),
                percent(found.taken_again),
                duration(found.median_wait_ms),
                duration(found.longest_wait_ms),
                figure(row.spread()),
                found.violations.to_string(),
                row.set.clone(),
            ]
        })
        .collect();
    format!(
        "## {title}\n\n{} contenders, {} acquisitions each, hold {} ms, {} ms added to each round \
         trip, {} s at most; each peer {how}.\n\n{}\n{}\n",
        any.contenders,
        any.rounds,
        any.hold_ms,
        any.added_ms,
        any.limit_ms / 1_000,
        table(
            &[
                "peer",
                "acquisitions",
                "time",
                "requests each",
                "write units each",
                "read units each",
                "hand-over, median",
                "p95",
                "in round trips",
            ],
            &cost,
        ),
        table(
            &[
                "peer",
                "inversions each",
                "overtaking",
                "taken again",
                "wait, median",
                "longest",
                "ratio",
                "two at once",
                "settings",
            ],
            &order,
        ),
    )
}

/// How many of the acquisitions were made.
fn done(row: &ContestRow) -> String {
    let mut text = if row.finished {
        row.figures.granted.to_string()
    } else {
        format!(
            "{} of {} when the time was up",
            row.figures.granted,
            row.wanted()
        )
    };
    if row.figures.gave_up > 0 {
        let _ = write!(text, ", {} given up", row.figures.gave_up);
    }
    text
}

fn fairness() -> String {
    format!("![Inversions for each acquisition, by peer]({FOLDER}/{FAIRNESS})\n\n")
}

fn crowds(rows: &[&ContestRow]) -> String {
    sweep(
        "Cost against the number of contenders",
        "Requests for each acquisition; hold 5 ms, 5 ms added to each round trip, each peer set as in \
         the table before. In brackets, if not all were made in time, how many were.",
        &format!("![Requests for each acquisition against contenders]({FOLDER}/{COST})"),
        rows,
        |row| row.contenders.to_string(),
        |row| {
            let cost = figure(row.requests());
            if row.finished {
                cost
            } else {
                format!("{cost} ({} of {})", row.figures.granted, row.wanted())
            }
        },
    )
}

fn distances(rows: &[&ContestRow]) -> String {
    sweep(
        "Hand-over against the round trip",
        "The median hand-over of eight contenders by what is added to a round trip, and in brackets \
         how many measured round trips that is. Settings as before.",
        &format!("![Hand-over against the round trip]({FOLDER}/{HAND_OVER})"),
        rows,
        |row| format!("{} ms", row.added_ms),
        |row| {
            format!(
                "{} ({})",
                duration(row.figures.hand_over_ms),
                figure(row.hand_over_in_round_trips())
            )
        },
    )
}

/// A row for each peer, and a column for each step.
fn sweep(
    title: &str,
    what: &str,
    plot: &str,
    rows: &[&ContestRow],
    step: impl Fn(&ContestRow) -> String,
    cell: impl Fn(&ContestRow) -> String,
) -> String {
    let mut steps: Vec<String> = Vec::new();
    let mut peers: Vec<&str> = Vec::new();
    for row in rows {
        if !steps.contains(&step(row)) {
            steps.push(step(row));
        }
        if !peers.contains(&row.peer.as_str()) {
            peers.push(&row.peer);
        }
    }
    let lines: Vec<_> = peers
        .iter()
        .map(|peer| {
            let cells = steps.iter().map(|wanted| {
                rows.iter()
                    .find(|row| row.peer == *peer && step(row) == *wanted)
                    .map_or("–".into(), |row| cell(row))
            });
            std::iter::once((*peer).to_owned()).chain(cells).collect()
        })
        .collect();
    let head: Vec<_> = std::iter::once("peer")
        .chain(steps.iter().map(String::as_str))
        .collect();
    format!(
        "## {title}\n\n{what}\n\n{plot}\n\n{}\n",
        table(&head, &lines)
    )
}

fn dead(rows: &[&DeathRow]) -> String {
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let after = match row.after_ms {
                Some(after) => duration(Some(after as f64)),
                None => format!("not within {} s", row.limit_ms / 1_000),
            };
            let leases = row.after_ms.map(|after| after as f64 / row.lease_ms as f64);
            let peer = PEERS.iter().find(|peer| peer.name == row.peer);
            vec![
                row.peer.clone(),
                format!("{} s", row.lease_ms / 1_000),
                after,
                figure(leases),
                peer.map_or(String::new(), |peer| peer.dead_holder.to_owned()),
            ]
        })
        .collect();
    let head = [
        "peer",
        "lease",
        "next grant after",
        "in leases",
        "when it is over",
    ];
    format!(
        "## A holder that is killed\n\nOne process holds the lock, another has waited for two seconds, \
         and the holder is killed (`SIGKILL`). Default settings; the peers are measured at the same \
         time.\n\n{}\n",
        table(&head, &lines)
    )
}

fn where_behind(
    alone: &[&ContestRow],
    default: &[&ContestRow],
    eager: &[&ContestRow],
    deaths: &[&DeathRow],
) -> String {
    let at = |added| -> Vec<_> {
        alone
            .iter()
            .filter(|row| row.added_ms == added)
            .copied()
            .collect::<Vec<_>>()
    };
    let groups = [
        ("alone, 0 ms added", behind::alone(&at(0))),
        ("alone, 5 ms added", behind::alone(&at(5))),
        ("as they come", behind::crowd(default)),
        ("set to look often", behind::crowd(eager)),
        ("a holder that is killed", behind::death(deaths)),
    ];
    let lines: Vec<_> = groups
        .into_iter()
        .flat_map(|(group, rows)| {
            rows.into_iter().map(move |mut row| {
                row[0] = format!("{group}: {}", row[0]);
                row
            })
        })
        .collect();
    let head = ["figure", "this crate", "best peer", "behind by", "because"];
    let text = if lines.is_empty() {
        "Nowhere, in this run.\n".into()
    } else {
        table(&head, &lines)
    };
    format!(
        "## Where this crate is behind\n\nEvery figure above in which some peer does better by more than \
         a twentieth, found by comparing them all.\n\n{text}\n"
    )
}

fn absent(rows: &[Row]) -> String {
    let mut text = String::from("## Who is not in it\n\n");
    for (peer, reason) in ABSENT {
        let _ = writeln!(text, "- {peer}: {reason}.");
    }
    for row in rows {
        if let Row::Failed { peer, what, reason } = row {
            let _ = writeln!(
                text,
                "- {peer} ({what}): it failed: {}.",
                reason.replace('\n', " ")
            );
        }
    }
    text
}
