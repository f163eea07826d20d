//! The lock record as a DynamoDB item, and back.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rusoto_dynamodb::AttributeValue;

use crate::error::StoreError;
use crate::record::{Holder, LockRecord, SCHEMA_VERSION, Sharer};
use crate::types::{HolderId, LockName, Ticket};

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) const LOCK: &str = "lock";
pub(super) const TICKET: &str = "ticket";
pub(super) const SCHEMA: &str = "schema";
pub(super) const ISSUED: &str = "issued";
pub(super) const SERVED: &str = "served";
pub(super) const HOLDER: &str = "holder";
pub(super) const REVISION: &str = "revision";
pub(super) const GRACE: &str = "grace_ms";
pub(super) const MOVED_AT: &str = "moved_at";
pub(super) const MARK: &str = "mark";
pub(super) const ID: &str = "id";
pub(super) const LEASE: &str = "lease_ms";
pub(super) const OWNER: &str = "owner";
pub(super) const SINCE: &str = "since";
pub(super) const RENEWED_AT: &str = "renewed_at";
pub(super) const DATA: &str = "data";
pub(super) const STATE: &str = "state";

/// How many share the lock.
pub(super) const SHARERS: &str = "sharers";

/// Stands before the id of each who does, in the name of an attribute of its own: so
/// one write can add it to a record that is there as well as to a new one.
const SHARER: &str = "sharer:";

/// The signs of life of one who shares.
pub(super) const BEATS: &str = "beats";

/// The attribute by which DynamoDB deletes the rows of waiters that are gone.
/// The lock record never has it.
pub(super) const EXPIRES_AT: &str = "expires_at";

/// The sort key of the lock record. The rows of waiters have their tickets.
pub(super) const RECORD_KEY: u64 = 0;

const KNOWN: [&str; 11] = [
    LOCK, TICKET, SCHEMA, ISSUED, SERVED, HOLDER, REVISION, GRACE, MOVED_AT, MARK, SHARERS,
];
const KNOWN_OF_HOLDER: [&str; 6] = [ID, LEASE, OWNER, SINCE, RENEWED_AT, DATA];
const KNOWN_OF_SHARER: [&str; 6] = [LEASE, OWNER, SINCE, RENEWED_AT, DATA, BEATS];

/// How many parts a holder has that has data. Without, it has one less.
pub(super) const PARTS_WITH_DATA: u64 = KNOWN_OF_HOLDER.len() as u64;

/// A lease or grace beyond this is a slip, or somebody else's number.
pub(super) const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// Whether an item may have attributes that a record does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strangers {
    Refused,
    Ignored,
}

pub(super) fn number(value: u64) -> AttributeValue {
    AttributeValue {
        n: Some(value.to_string()),
        ..AttributeValue::default()
    }
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue {
        s: Some(value.into()),
        ..AttributeValue::default()
    }
}

/// The key of a lock's record.
pub(super) fn key(lock: &LockName) -> Item {
    key_of_row(lock, RECORD_KEY)
}

pub(super) fn key_of_row(lock: &LockName, ticket: u64) -> Item {
    HashMap::from([
        (LOCK.into(), text(lock.as_str())),
        (TICKET.into(), number(ticket)),
    ])
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of the attribute of one who shares.
pub(super) fn name_of_sharer(id: &HolderId) -> String {
    format!("{SHARER}{id}")
}

/// Somebody who begins to share.
pub(super) fn sharer(holder: &Holder, beats: u64) -> AttributeValue {
    let mut parts = parts(holder);
    parts.insert(BEATS.into(), number(beats));
    AttributeValue {
        m: Some(parts),
        ..AttributeValue::default()
    }
}

pub(super) fn holder(holder: &Holder) -> AttributeValue {
    let mut parts = parts(holder);
    parts.insert(ID.into(), text(holder.id.as_str()));
    AttributeValue {
        m: Some(parts),
        ..AttributeValue::default()
    }
}

fn parts(holder: &Holder) -> Item {
    let mut parts = HashMap::from([
        (LEASE.into(), number(millis(holder.lease))),
        (OWNER.into(), text(&holder.owner)),
        (SINCE.into(), number(holder.since_ms)),
        (RENEWED_AT.into(), number(holder.renewed_at_ms)),
    ]);
    if let Some(data) = &holder.data {
        parts.insert(DATA.into(), text(data));
    }
    parts
}

/// Reads a lock record.
pub(super) fn record(
    lock: &LockName,
    item: &Item,
    strangers: Strangers,
) -> Result<LockRecord, StoreError> {
    let top = Reader {
        lock,
        prefix: "",
        suffix: "",
        item,
    };
    top.check_schema()?;
    if strangers == Strangers::Refused {
        top.refuse_strangers(|name| KNOWN.contains(&name) || name.starts_with(SHARER))?;
    }
    let issued = top.number(ISSUED, 0..=Ticket::MAX.get())?;
    let served = top.number(SERVED, 0..=issued)?;
    let holder = match item.get(HOLDER) {
        None => None,
        Some(_) if issued == served => {
            return Err(top.malformed(HOLDER, "is there, though no ticket is out".into()));
        }
        Some(AttributeValue { m: Some(map), .. }) => Some(read_holder(lock, map)?),
        Some(other) => return Err(top.malformed(HOLDER, format!("is {}, not a map", kind(other)))),
    };
    Ok(LockRecord {
        issued: Ticket::new(issued),
        served: Ticket::new(served),
        holder,
        revision: top.number(REVISION, 0..=Ticket::MAX.get())?,
        grace: Duration::from_millis(top.number(GRACE, 1..=LONGEST_MS)?),
        moved_at_ms: top.number(MOVED_AT, 0..=Ticket::MAX.get())?,
        mark: Ticket::new(top.number(MARK, 0..=Ticket::MAX.get())?),
        sharers: read_sharers(&top)?,
    })
}

fn read_sharers(top: &Reader<'_>) -> Result<BTreeMap<HolderId, Sharer>, StoreError> {
    let mut sharers = BTreeMap::new();
    for (name, value) in top.item {
        let Some(id) = name.strip_prefix(SHARER) else {
            continue;
        };
        let Some(map) = &value.m else {
            return Err(top.malformed(name, format!("is {}, not a map", kind(value))));
        };
        let sharer = Reader {
            lock: top.lock,
            prefix: &format!("{name}."),
            suffix: "",
            item: map,
        };
        sharer.refuse_strangers(|name| KNOWN_OF_SHARER.contains(&name))?;
        let id = HolderId::new(id);
        let sharer = Sharer {
            beats: sharer.number(BEATS, 0..=Ticket::MAX.get())?,
            holder: read_parts(id.clone(), &sharer)?,
        };
        sharers.insert(id, sharer);
    }
    let counted = match top.item.get(SHARERS) {
        None => 0,
        Some(_) => top.number(SHARERS, 0..=Ticket::MAX.get())?,
    };
    if counted != sharers.len() as u64 {
        let there = sharers.len();
        return Err(top.malformed(SHARERS, format!("is {counted}, but {there} are there")));
    }
    Ok(sharers)
}

fn read_holder(lock: &LockName, item: &Item) -> Result<Holder, StoreError> {
    let holder = Reader {
        lock,
        prefix: "holder.",
        suffix: "",
        item,
    };
    holder.refuse_strangers(|name| KNOWN_OF_HOLDER.contains(&name))?;
    read_parts(HolderId::new(holder.text(ID)?), &holder)
}

fn read_parts(id: HolderId, holder: &Reader<'_>) -> Result<Holder, StoreError> {
    Ok(Holder {
        id,
        lease: Duration::from_millis(holder.number(LEASE, 1..=LONGEST_MS)?),
        owner: holder.text(OWNER)?.into(),
        since_ms: holder.number(SINCE, 0..=Ticket::MAX.get())?,
        renewed_at_ms: holder.number(RENEWED_AT, 0..=Ticket::MAX.get())?,
        data: match holder.item.get(DATA) {
            Some(_) => Some(holder.text(DATA)?.into()),
            None => None,
        },
    })
}

/// Reads attributes, and names the one at fault.
pub(super) struct Reader<'a> {
    pub(super) lock: &'a LockName,
    /// Stands before the name of an attribute.
    pub(super) prefix: &'a str,
    /// Stands after the problem.
    pub(super) suffix: &'a str,
    pub(super) item: &'a Item,
}

impl<'a> Reader<'a> {
    pub(super) fn check_schema(&self) -> Result<(), StoreError> {
        let found = self.number(SCHEMA, 0..=Ticket::MAX.get())?;
        if found == SCHEMA_VERSION {
            return Ok(());
        }
        Err(StoreError::UnsupportedSchema {
            lock: self.lock.to_string(),
            attribute: SCHEMA.into(),
            found,
            understood: SCHEMA_VERSION,
        })
    }

    pub(super) fn number(
        &self,
        attribute: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, StoreError> {
        let value = self.value(attribute)?;
        let Some(text) = &value.n else {
            return Err(self.malformed(attribute, format!("is {}, not a number", kind(value))));
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(self.malformed(
                attribute,
                format!(
                    "is {text}, not a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )),
        }
    }

    pub(super) fn text(&self, attribute: &str) -> Result<&'a str, StoreError> {
        let value = self.value(attribute)?;
        match &value.s {
            Some(text) => Ok(text),
            None => Err(self.malformed(attribute, format!("is {}, not a text", kind(value)))),
        }
    }

    fn value(&self, attribute: &str) -> Result<&'a AttributeValue, StoreError> {
        self.item
            .get(attribute)
            .ok_or_else(|| self.malformed(attribute, "is missing".into()))
    }

    fn refuse_strangers(&self, is_known: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let mut strangers: Vec<_> = self.item.keys().filter(|name| !is_known(name)).collect();
        strangers.sort();
        match strangers.first() {
            None => Ok(()),
            Some(name) => Err(self.malformed(name, "does not belong there".into())),
        }
    }

    pub(super) fn malformed(&self, attribute: &str, problem: String) -> StoreError {
        StoreError::Malformed {
            lock: self.lock.to_string(),
            attribute: format!("{}{attribute}", self.prefix),
            problem: format!("{problem}{}", self.suffix),
        }
    }
}

fn kind(value: &AttributeValue) -> &'static str {
    if value.s.is_some() {
        "a text"
    } else if value.n.is_some() {
        "a number"
    } else if value.bool.is_some() {
        "true or false"
    } else if value.m.is_some() {
        "a map"
    } else if value.null.is_some() {
        "null"
    } else {
        "a list, a set or binary"
    }
}
