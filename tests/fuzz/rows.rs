//! Rows of random attributes, put into the table past every check.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Consistency, Write, apply};
use dynamodb_fifo_lock::record::{Holder, LockRecord, Sharer, TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, LockName, LockStore, StoreError, Ticket, Written};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::common::{Table, ask, tables, unique};

const WITHIN: Duration = Duration::from_secs(10);
const LAST: u64 = (1 << 53) - 1;
const DAY_MS: u64 = 86_400_000;

type Attributes = Map<String, Value>;

/// How numbers look that are at an edge, or are none of ours.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0u64..5).prop_map(|n| n.to_string()),
        4 => any::<u64>().prop_map(|n| (n >> (n % 60)).to_string()),
        2 => prop::sample::select(vec![LAST - 1, LAST, LAST + 1, DAY_MS, DAY_MS + 1])
            .prop_map(|n| n.to_string()),
        3 => prop::sample::select(vec![
            "-1", "1.5", "0.1", "1e3", "1000.0", "1e30", "1e-30", "00050", "-0", "1E2",
            "99999999999999999999999999999999999999",
        ])
        .prop_map(str::to_owned),
    ]
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["waiting", "left", "Left", "50", "me"]).prop_map(str::to_owned),
        vec(any::<char>(), 1..12).prop_map(String::from_iter),
    ]
}

/// Any value that an attribute can have.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => number().prop_map(|n| json!({ "N": n })),
        4 => words().prop_map(|s| json!({ "S": s })),
        1 => any::<bool>().prop_map(|b| json!({ "BOOL": b })),
        1 => Just(json!({ "NULL": true })),
        1 => Just(json!({ "B": "AAEC" })),
        1 => btree_set(words(), 1..3).prop_map(|set| json!({ "SS": set })),
        1 => btree_set(0u64..9, 1..3).prop_map(|set| {
            json!({ "NS": set.iter().map(u64::to_string).collect::<Vec<_>>() })
        }),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|list| json!({ "L": list })),
            btree_map(one_of(OF_HOLDERS), inner, 0..6).prop_map(|map| json!({ "M": map })),
        ]
    })
}

const OF_LOCKS: &[&str] = &[
    "schema", "issued", "served", "revision", "grace_ms", "moved_at", "mark", "holder", "color",
    "sharers", "sharers", "sharer:a", "sharer:z", "sharer:",
];
const OF_HOLDERS: &[&str] = &[
    "id",
    "lease_ms",
    "owner",
    "since",
    "renewed_at",
    "data",
    "beats",
    "sharer:a",
    "color",
];
/// Those who may share a lock.
const SHARERS: &[&str] = &["sharer:a", "sharer:b", "sharer:c"];
/// What has parts.
const MAPS: &[&str] = &["holder", "sharer:a", "sharer:b"];
const OF_TICKETS: &[&str] = &[
    "schema",
    "id",
    "owner",
    "state",
    "since",
    "expires_at",
    "color",
];

fn one_of(names: &'static [&str]) -> impl Strategy<Value = String> {
    prop::sample::select(names).prop_map(str::to_owned)
}

/// What is wrong with a row.
#[derive(Clone, Debug)]
enum Flaw {
    Set(String, Value),
    Remove(String),
    /// In the holder, or one who shares, if it is there.
    SetInside(String, String, Value),
    RemoveInside(String, String),
}

fn flaws(names: &'static [&str]) -> impl Strategy<Value = Vec<Flaw>> {
    let flaw = prop_oneof![
        4 => (one_of(names), value()).prop_map(|(name, value)| Flaw::Set(name, value)),
        1 => one_of(names).prop_map(Flaw::Remove),
        3 => (one_of(MAPS), one_of(OF_HOLDERS), value())
            .prop_map(|(map, name, value)| Flaw::SetInside(map, name, value)),
        1 => (one_of(MAPS), one_of(OF_HOLDERS))
            .prop_map(|(map, name)| Flaw::RemoveInside(map, name)),
    ];
    vec(flaw, 0..3)
}

fn spoil(mut row: Value, flaws: Vec<Flaw>) -> Value {
    fn inside<'a>(row: &'a mut Value, map: &str) -> Option<&'a mut Attributes> {
        row.get_mut(map)?.get_mut("M")?.as_object_mut()
    }
    for flaw in flaws {
        match flaw {
            Flaw::Set(name, value) => row[name] = value,
            Flaw::Remove(name) => drop(row.as_object_mut().unwrap().remove(&name)),
            Flaw::SetInside(map, name, value) => {
                if let Some(map) = inside(&mut row, &map) {
                    map.insert(name, value);
                }
            }
            Flaw::RemoveInside(map, name) => {
                if let Some(map) = inside(&mut row, &map) {
                    map.remove(&name);
                }
            }
        }
    }
    row
}

fn lock_row() -> impl Strategy<Value = Value> {
    // Now and then more tickets are finished than were given out.
    let tickets = prop_oneof![8 => 0i64..4, 1 => -3i64..0];
    let numbers = (10u64..1 << 50, tickets, 0u64..9, 1u64..5_000);
    // Now and then somebody who shares is not counted, or the other way about.
    let sharing = (
        0..=SHARERS.len(),
        prop_oneof![8 => Just(0i64), 1 => -1i64..2],
    );
    let words = (any::<bool>(), any::<bool>());
    (numbers, words, sharing, flaws(OF_LOCKS)).prop_map(
        |((served, waiting, revision, grace), (held, data), (sharing, uncounted), flaws)| {
            let n = |number: u64| json!({ "N": number.to_string() });
            let mut row = json!({
                "schema": n(2), "issued": n(served.saturating_add_signed(waiting)), "served": n(served),
                "revision": n(revision), "grace_ms": n(grace), "moved_at": n(7),
                "mark": n(served),
            });
            let mut parts = json!({
                "lease_ms": n(grace), "owner": { "S": "else" }, "since": n(1),
                "renewed_at": n(revision),
            });
            if data {
                parts["data"] = json!({ "S": "a job" });
            }
            for name in &SHARERS[..sharing] {
                row[*name] = json!({ "M": parts });
                row[*name]["M"]["beats"] = n(revision);
            }
            // Once somebody has shared the lock, it is counted that nobody does.
            if sharing > 0 || held {
                let counted = sharing as i64 + uncounted;
                row["sharers"] = json!({ "N": counted.to_string() });
            }
            if held && waiting != 0 {
                row["holder"] = json!({ "M": parts });
                row["holder"]["M"]["id"] = json!({ "S": "somebody" });
            }
            spoil(row, flaws)
        },
    )
}

fn ticket_row() -> impl Strategy<Value = Value> {
    let state = prop_oneof![6 => one_of(&["waiting", "left"]), 1 => words()];
    (state, 0u64..1 << 40, flaws(OF_TICKETS)).prop_map(|(state, number, flaws)| {
        let row = json!({
            "schema": { "N": "2" }, "id": { "S": "somebody" }, "owner": { "S": "else" },
            "state": { "S": state },
            "since": { "N": number.to_string() }, "expires_at": { "N": number.to_string() },
        });
        spoil(row, flaws)
    })
}

/// A second reading of the rules, to hold the first against.
mod reading {
    use super::*;

    fn number(row: &Attributes, name: &str, low: u64, high: u64) -> Option<u64> {
        let text = row.get(name)?.get("N")?.as_str()?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok())??;
        (low <= number && number <= high).then_some(number)
    }

    fn text(row: &Attributes, name: &str) -> Option<String> {
        Some(row.get(name)?.get("S")?.as_str()?.to_owned())
    }

    fn only(row: &Attributes, names: &[&str]) -> Option<()> {
        let known = |name: &String| names.contains(&name.as_str());
        row.keys().all(known).then_some(())
    }

    fn holder(row: &Attributes) -> Option<Holder> {
        let names = ["id", "lease_ms", "owner", "since", "renewed_at", "data"];
        only(row, &names)?;
        parts(row, &text(row, "id")?)
    }

    fn sharer(row: &Attributes, id: &str) -> Option<Sharer> {
        let names = ["beats", "lease_ms", "owner", "since", "renewed_at", "data"];
        only(row, &names)?;
        Some(Sharer {
            holder: parts(row, id)?,
            beats: number(row, "beats", 0, LAST)?,
        })
    }

    fn parts(row: &Attributes, id: &str) -> Option<Holder> {
        Some(Holder {
            id: HolderId::new(id),
            lease: Duration::from_millis(number(row, "lease_ms", 1, DAY_MS)?),
            owner: text(row, "owner")?,
            since_ms: number(row, "since", 0, LAST)?,
            renewed_at_ms: number(row, "renewed_at", 0, LAST)?,
            data: match row.contains_key("data") {
                true => Some(text(row, "data")?),
                false => None,
            },
        })
    }

    pub(super) fn lock(row: &Attributes) -> Option<LockRecord> {
        let names = [
            "lock", "ticket", "schema", "issued", "served", "holder", "revision", "grace_ms",
            "moved_at", "mark", "sharers",
        ];
        let (shares, rest): (Attributes, Attributes) = row
            .clone()
            .into_iter()
            .partition(|(name, _)| name.starts_with("sharer:"));
        only(&rest, &names)?;
        let mut sharers = BTreeMap::new();
        for (name, value) in &shares {
            let id = &name["sharer:".len()..];
            let map = value.get("M")?.as_object()?;
            sharers.insert(HolderId::new(id), sharer(map, id)?);
        }
        counts(row, sharers.len() as u64)?;
        number(row, "schema", 2, 2)?;
        let issued = number(row, "issued", 0, LAST)?;
        let served = number(row, "served", 0, issued)?;
        let holder = match row.get("holder") {
            Some(_) if issued == served => return None,
            Some(value) => Some(holder(value.get("M")?.as_object()?)?),
            None => None,
        };
        Some(LockRecord {
            issued: Ticket::new(issued),
            served: Ticket::new(served),
            holder,
            revision: number(row, "revision", 0, LAST)?,
            grace: Duration::from_millis(number(row, "grace_ms", 1, DAY_MS)?),
            moved_at_ms: number(row, "moved_at", 0, LAST)?,
            mark: Ticket::new(number(row, "mark", 0, LAST)?),
            sharers,
        })
    }

    /// Whether the row counts so many who share.
    fn counts(row: &Attributes, sharing: u64) -> Option<()> {
        match row.contains_key("sharers") {
            true => number(row, "sharers", sharing, sharing).map(drop),
            false => (sharing == 0).then_some(()),
        }
    }

    /// Whether the row counts those who share, rightly or not.
    pub(super) fn has_a_count(row: &Attributes) -> bool {
        !row.contains_key("sharers") || number(row, "sharers", 0, LAST).is_some()
    }

    pub(super) fn ticket(row: &Attributes) -> Option<TicketRow> {
        number(row, "schema", 2, 2)?;
        Some(TicketRow {
            ticket: Ticket::new(number(row, "ticket", 1, LAST)?),
            id: HolderId::new(text(row, "id")?),
            owner: text(row, "owner")?,
            state: match text(row, "state")?.as_str() {
                "waiting" => TicketState::Waiting,
                "left" => TicketState::Left,
                _ => return None,
            },
            since_ms: number(row, "since", 0, LAST)?,
            expires_at_s: number(row, "expires_at", 0, LAST)?,
        })
    }
}

/// Whether what is wrong may escape the server, which sees neither fractions nor
/// attributes that a condition does not name, such as those of who shares.
fn may_be_moved(row: &Attributes) -> bool {
    let fraction = row.values().any(|value| value.to_string().contains('.'));
    let shared = row.keys().any(|name| name.starts_with("sharer"));
    fraction || row.contains_key("color") || (shared && reading::has_a_count(row))
}

/// Puts a row; says whether the server takes such a thing at all.
fn put(table: &Table, lock: &str, ticket: u64, mut row: Value) -> bool {
    row["lock"] = json!({ "S": lock });
    row["ticket"] = json!({ "N": ticket.to_string() });
    let body = json!({ "TableName": table.table, "Item": row });
    ask(&table.endpoint, "PutItem", &body).0 == 200
}

fn names_the_lock(error: &StoreError, name: &LockName) -> bool {
    let (StoreError::Malformed {
        lock, attribute, ..
    }
    | StoreError::UnsupportedSchema {
        lock, attribute, ..
    }) = error
    else {
        return false;
    };
    let text = error.to_string();
    lock == name.as_str() && text.contains(lock) && text.contains(attribute)
}

/// Runs a test, which says whether it saw a sound row, in each table.
fn run<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(&Table, &dyn LockStore, S::Value) -> Result<bool, TestCaseError>,
) {
    for table in tables() {
        let config = Config {
            cases,
            // What fails is printed, as small as it can be.
            failure_persistence: None,
            ..Config::default()
        };
        let store = table.store();
        let sound = Cell::new(0);
        let result = TestRunner::new(config).run(&strategy, |input| {
            let is_sound = test(&table, &store, input)?;
            sound.set(sound.get() + u32::from(is_sound));
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", table.name);
        }
        let sound = sound.get();
        println!("{}: {sound} of {cases} were sound", table.name);
        assert!(
            sound > cases / 10 && sound < cases * 9 / 10,
            "{sound} of {cases} were sound"
        );
    }
}

/// The writes that draw a ticket, which nobody may draw from a row that is none of
/// ours.
fn draw() -> impl Strategy<Value = Write> {
    let (start, grace) = (Ticket::new(10), Duration::from_secs(1));
    let holder = Holder {
        id: HolderId::new("fuzz"),
        lease: Duration::from_secs(20),
        owner: "fuzz".into(),
        since_ms: 7,
        renewed_at_ms: 7,
        data: None,
    };
    let sharing = holder.clone();
    prop_oneof![
        Just(Write::EnqueueBehind),
        Just(Write::Enqueue {
            start,
            grace,
            wall_ms: 1,
        }),
        Just(Write::Try {
            holder,
            start,
            grace,
        }),
        (1u32..5).prop_map(move |limit| Write::TryShare {
            holder: sharing.clone(),
            limit,
            start,
            grace,
        }),
    ]
}

#[test]
fn a_lock_row_is_read_exactly_or_refused_by_name() {
    run(300, (lock_row(), draw()), |table, store, (row, write)| {
        let name = LockName::new(&unique("fuzz")).unwrap();
        prop_assume!(put(table, name.as_str(), 0, row));
        // As the server keeps it: it may write a number differently.
        let kept = table.get(name.as_str()).as_object().unwrap().clone();
        let expected = reading::lock(&kept);
        for consistency in [Consistency::Strong, Consistency::Eventual] {
            match store.read(&name, consistency, WITHIN) {
                Ok(record) => {
                    prop_assert_eq!(&record, &expected);
                    let record = record.unwrap();
                    prop_assert!(record.served <= record.issued);
                    prop_assert!(record.holder.is_none() || !record.is_free());
                }
                Err(error) => {
                    prop_assert!(expected.is_none(), "{error} for {kept:?}");
                    prop_assert!(names_the_lock(&error, &name), "{error}");
                }
            }
        }
        let answer = store.write(&name, &write, WITHIN).map(Written::applied);
        match (&expected, &answer) {
            (Some(before), Ok(after)) => prop_assert_eq!(after, &apply(Some(before), &write)),
            (Some(_), Err(error)) => prop_assert!(false, "{error} for {kept:?}"),
            (None, Ok(after)) => prop_assert!(after.is_none(), "{after:?} for {kept:?}"),
            (None, Err(error)) => prop_assert!(names_the_lock(error, &name), "{error}"),
        }
        if expected.is_none() && !may_be_moved(&kept) {
            let after = table.get(name.as_str());
            prop_assert_eq!(Value::Object(kept), after);
        }
        Ok(expected.is_some())
    });
}

#[test]
fn ticket_rows_are_read_exactly_or_refused_by_name() {
    run(150, vec(ticket_row(), 1..4), |table, store, rows| {
        let name = LockName::new(&unique("fuzz")).unwrap();
        let mut expected = Some(Vec::new());
        for (n, row) in rows.into_iter().enumerate() {
            // Ten comes after nine.
            let ticket = 8 + n as u64;
            prop_assume!(put(table, name.as_str(), ticket, row));
            let kept = table.get_row(name.as_str(), ticket);
            let row = reading::ticket(kept.as_object().unwrap());
            expected = expected.zip(row).map(|(mut rows, row)| {
                rows.push(row);
                rows
            });
        }
        let (from, to) = (Ticket::new(1), Ticket::MAX);
        match store.look(&name, from, to, 100, WITHIN) {
            Ok(rows) => prop_assert_eq!(Some(&rows), expected.as_ref()),
            Err(error) => {
                prop_assert!(expected.is_none(), "{error}");
                prop_assert!(names_the_lock(&error, &name), "{error}");
            }
        }
        Ok(expected.is_some())
    });
}
