//! The protocol's writes as UpdateItem requests.
//!
//! Each of them says on the server what [`apply`](crate::protocol::apply) says
//! in this process; the contract tests hold the two against each other.

use std::collections::HashMap;
use std::time::Duration;

use rusoto_dynamodb::{AttributeValue, ConditionCheck, UpdateItemInput};

use super::item::{
    BEATS, DATA, EXPIRES_AT, GRACE, HOLDER, ID, ISSUED, LEASE, LOCK, LONGEST_MS, MARK, MOVED_AT,
    OWNER, PARTS_WITH_DATA, RENEWED_AT, REVISION, SCHEMA, SERVED, SHARERS, SINCE, STATE, TICKET,
    holder, key, millis, name_of_sharer, number, sharer, text,
};
use crate::protocol::Write;
use crate::record::SCHEMA_VERSION;
use crate::types::{HolderId, LockName, Ticket};

/// There is no record yet.
const ABSENT: &str = "attribute_not_exists(#lock)";

/// The record is one of ours. A number compared with a text is false, so this
/// checks the types as well. What it cannot see is a fraction, and an attribute
/// that it does not name.
const SOUND: &str = "#schema = :schema AND #served >= :zero AND #served <= #issued \
    AND #issued < :last AND #revision >= :zero AND #revision <= :last \
    AND #grace >= :one AND #grace <= :longest AND #moved_at >= :zero AND #moved_at <= :last \
    AND #mark >= :zero AND #mark <= :last \
    AND (attribute_not_exists(#sharers) OR (#sharers >= :zero AND #sharers <= :last))";

/// So is its holder, if it has one. The number of its parts leaves no room for a
/// foreign one.
const HOLDER_SOUND: &str = "(attribute_not_exists(#holder) OR (#served < #issued \
    AND ((size(#holder) = :parts AND attribute_not_exists(#holder.#data)) \
    OR (size(#holder) = :parts_with_data AND attribute_type(#holder.#data, :text))) AND attribute_type(#holder.#id, :text) \
    AND attribute_type(#holder.#owner, :text) \
    AND #holder.#lease >= :one AND #holder.#lease <= :longest \
    AND #holder.#since >= :zero AND #holder.#since <= :last \
    AND #holder.#renewed_at >= :zero AND #holder.#renewed_at <= :last))";

/// Draws a ticket, creating the record if there is none.
const DRAW: &str = "#schema = if_not_exists(#schema, :schema), \
    #issued = if_not_exists(#issued, :start) + :one, \
    #served = if_not_exists(#served, :start), \
    #grace = if_not_exists(#grace, :grace)";

/// A new record begins to move when it is created.
const UNMOVED: &str = "#moved_at = if_not_exists(#moved_at, :start), \
    #mark = if_not_exists(#mark, :start)";

/// A ticket is drawn with which a turn may begin.
const JOINED: &str = "#moved_at = :now, #mark = if_not_exists(#issued, :start) + :one";

/// It is the ticket's turn, and nobody else has claimed it.
const OURS_TO_TAKE: &str = "#schema = :schema AND #served = :before AND #issued >= :ticket \
    AND (attribute_not_exists(#holder) OR #holder.#id = :id)";

/// Nobody has a turn, and nobody waits for one.
const FREE: &str = "#issued = #served AND attribute_not_exists(#holder)";

/// Nobody shares the lock.
const UNSHARED: &str = "(attribute_not_exists(#sharers) OR #sharers = :zero)";

/// One more may share it, and does not yet.
const ROOM: &str = "(attribute_not_exists(#sharers) OR (#sharers >= :zero AND #sharers < :limit)) \
    AND attribute_not_exists(#mine)";

const JOIN: &str = "#mine = :sharer, #sharers = if_not_exists(#sharers, :zero) + :one";

/// Somebody shares the lock no longer.
const LEAVE: &str = "SET #sharers = #sharers - :one REMOVE #mine";

const STEP: &str = "#revision = #revision + :one";

/// A write that moves `served` says when, and which tickets were out.
const MOVE: &str = "#moved_at = :now, #mark = #issued, #revision = #revision + :one";

/// The request that asks DynamoDB to apply `write`, or to refuse it.
pub(super) fn update(table: &str, lock: &LockName, write: &Write) -> UpdateItemInput {
    let schema = (":schema", number(SCHEMA_VERSION));
    let one = (":one", number(1));
    let (condition, update, values) = match write {
        Write::Try {
            holder: holding,
            start,
            grace,
        } => (
            format!("{ABSENT} OR ({SOUND} AND {FREE} AND {UNSHARED})"),
            format!(
                "SET {DRAW}, {UNMOVED}, \
                 #revision = if_not_exists(#revision, :zero) + :one, #holder = :holder"
            ),
            drawing(*start, *grace, vec![(":holder", holder(holding))]),
        ),
        Write::TryShare {
            holder,
            limit,
            start,
            grace,
        } => (
            format!("{ABSENT} OR ({SOUND} AND {FREE} AND {ROOM})"),
            format!(
                "SET #schema = if_not_exists(#schema, :schema), \
                 #issued = if_not_exists(#issued, :start) + :one, \
                 #served = if_not_exists(#served, :start) + :one, \
                 #grace = if_not_exists(#grace, :grace), {JOINED}, \
                 #revision = if_not_exists(#revision, :zero) + :one, {JOIN}"
            ),
            drawing(
                *start,
                *grace,
                vec![
                    (":limit", number(u64::from(*limit))),
                    (":now", number(holder.since_ms)),
                    (":sharer", sharer(holder, 0)),
                ],
            ),
        ),
        Write::Share {
            ticket,
            holder,
            limit,
        } => (
            format!("{OURS_TO_TAKE} AND {ROOM}"),
            format!("SET #served = :ticket, {JOIN}, {MOVE} REMOVE #holder"),
            vec![
                schema,
                one,
                (":zero", number(0)),
                (":before", number(ticket.previous().get())),
                (":ticket", number(ticket.get())),
                (":id", text(holder.id.as_str())),
                (":limit", number(u64::from(*limit))),
                (":now", number(holder.since_ms)),
                (":sharer", sharer(holder, ticket.get())),
            ],
        ),
        Write::RenewShare { wall_ms, .. } => (
            "#schema = :schema AND attribute_exists(#mine)".into(),
            "SET #mine.#beats = #mine.#beats + :one, #mine.#renewed_at = :now".into(),
            vec![schema, one, (":now", number(*wall_ms))],
        ),
        Write::Unshare { .. } => (
            "#schema = :schema AND attribute_exists(#mine)".into(),
            LEAVE.into(),
            vec![schema, one],
        ),
        Write::Evict { beats, .. } => (
            "#schema = :schema AND #mine.#beats = :seen".into(),
            LEAVE.into(),
            vec![schema, one, (":seen", number(*beats))],
        ),
        Write::EnqueueBehind => (
            format!("{SOUND} AND {HOLDER_SOUND} AND #issued > #served"),
            "SET #issued = #issued + :one".into(),
            [sound(), holder_sound()].concat(),
        ),
        Write::Enqueue {
            start,
            grace,
            wall_ms,
        } => {
            let mut more = holder_sound();
            more.push((":now", number(*wall_ms)));
            (
                format!("{ABSENT} OR ({SOUND} AND {HOLDER_SOUND})"),
                format!("SET {DRAW}, {JOINED}, #revision = if_not_exists(#revision, :zero)"),
                drawing(*start, *grace, more),
            )
        }
        Write::Claim {
            ticket,
            holder: holding,
        } => (
            OURS_TO_TAKE.into(),
            format!("SET #holder = :holder, {STEP}"),
            vec![
                schema,
                one,
                (":before", number(ticket.previous().get())),
                (":ticket", number(ticket.get())),
                (":id", text(holding.id.as_str())),
                (":holder", holder(holding)),
            ],
        ),
        Write::Renew {
            ticket,
            id,
            wall_ms,
        } => (
            "#schema = :schema AND #served = :before AND #holder.#id = :id".into(),
            format!("SET #holder.#renewed_at = :now, {STEP}"),
            vec![
                schema,
                one,
                (":before", number(ticket.previous().get())),
                (":id", text(id.as_str())),
                (":now", number(*wall_ms)),
            ],
        ),
        Write::Release {
            ticket,
            id,
            wall_ms,
        } => (
            OURS_TO_TAKE.into(),
            format!("SET #served = :ticket, {MOVE} REMOVE #holder"),
            vec![
                schema,
                one,
                (":before", number(ticket.previous().get())),
                (":ticket", number(ticket.get())),
                (":id", text(id.as_str())),
                (":now", number(*wall_ms)),
            ],
        ),
        Write::HandOver { ticket, id, next } => (
            format!("{OURS_TO_TAKE} AND #issued > :ticket"),
            format!("SET #served = :ticket, #holder = :holder, {MOVE}"),
            vec![
                schema,
                one,
                (":before", number(ticket.previous().get())),
                (":ticket", number(ticket.get())),
                (":id", text(id.as_str())),
                (":holder", holder(next)),
                (":now", number(next.since_ms)),
            ],
        ),
        Write::Withdraw { id, wall_ms } => (
            "#schema = :schema AND #holder.#id = :id".into(),
            format!("SET #served = #served + :one, {MOVE} REMOVE #holder"),
            vec![
                schema,
                one,
                (":id", text(id.as_str())),
                (":now", number(*wall_ms)),
            ],
        ),
        Write::Advance {
            served,
            revision,
            moved_at_ms,
            to,
            wall_ms,
        } => (
            "#schema = :schema AND #served = :seen AND #revision = :revision \
             AND #moved_at = :moved_at AND #served < :finished AND #issued >= :finished"
                .into(),
            format!("SET #served = :finished, {MOVE} REMOVE #holder"),
            vec![
                schema,
                one,
                (":seen", number(served.get())),
                (":revision", number(*revision)),
                (":moved_at", number(*moved_at_ms)),
                (":finished", number(to.previous().get())),
                (":now", number(*wall_ms)),
            ],
        ),
    };
    let mut names = names(&[&condition, &update]);
    if let Some(id) = whose_share(write) {
        names.insert("#mine".into(), name_of_sharer(id));
    }
    UpdateItemInput {
        table_name: table.into(),
        key: key(lock),
        expression_attribute_names: Some(names),
        expression_attribute_values: Some(owned(values)),
        condition_expression: Some(condition),
        update_expression: Some(update),
        return_values: Some("ALL_NEW".into()),
        ..UpdateItemInput::default()
    }
}

/// The values of a write that draws a ticket from a sound record or a new one, and
/// `more`.
fn drawing(
    start: Ticket,
    grace: Duration,
    more: Vec<(&'static str, AttributeValue)>,
) -> Vec<(&'static str, AttributeValue)> {
    let mut values = sound();
    values.push((":start", number(start.get())));
    values.push((":grace", number(millis(grace))));
    values.extend(more);
    values
}

/// The values of [`SOUND`].
fn sound() -> Vec<(&'static str, AttributeValue)> {
    vec![
        (":schema", number(SCHEMA_VERSION)),
        (":one", number(1)),
        (":zero", number(0)),
        (":last", number(Ticket::MAX.get())),
        (":longest", number(LONGEST_MS)),
    ]
}

/// What [`HOLDER_SOUND`] needs on top.
fn holder_sound() -> Vec<(&'static str, AttributeValue)> {
    vec![
        (":parts", number(PARTS_WITH_DATA - 1)),
        (":parts_with_data", number(PARTS_WITH_DATA)),
        (":text", text("S")),
    ]
}

/// Whose share a write begins, renews or ends.
fn whose_share(write: &Write) -> Option<&HolderId> {
    match write {
        Write::TryShare { holder, .. } | Write::Share { holder, .. } => Some(&holder.id),
        Write::RenewShare { id, .. } | Write::Unshare { id } | Write::Evict { id, .. } => Some(id),
        _ => None,
    }
}

/// The part of a transaction that lets it commit only while a release of `ticket`
/// by `id` would be applied.
pub(super) fn condition_check(
    table: &str,
    lock: &LockName,
    ticket: Ticket,
    id: &HolderId,
) -> ConditionCheck {
    ConditionCheck {
        table_name: table.into(),
        key: key(lock),
        expression_attribute_names: Some(names(&[OURS_TO_TAKE])),
        expression_attribute_values: Some(owned(vec![
            (":schema", number(SCHEMA_VERSION)),
            (":before", number(ticket.previous().get())),
            (":ticket", number(ticket.get())),
            (":id", text(id.as_str())),
        ])),
        condition_expression: OURS_TO_TAKE.into(),
        return_values_on_condition_check_failure: None,
    }
}

/// The names that stand in `expressions`: DynamoDB rejects those that are
/// declared and not used. Each of ours stands after a `#`, because `lock`,
/// `owner`, `schema` and others are reserved words.
pub(super) fn names(expressions: &[&str]) -> HashMap<String, String> {
    let all = [
        ("#lock", LOCK),
        ("#ticket", TICKET),
        ("#schema", SCHEMA),
        ("#issued", ISSUED),
        ("#served", SERVED),
        ("#holder", HOLDER),
        ("#revision", REVISION),
        ("#grace", GRACE),
        ("#moved_at", MOVED_AT),
        ("#mark", MARK),
        ("#id", ID),
        ("#lease", LEASE),
        ("#owner", OWNER),
        ("#since", SINCE),
        ("#renewed_at", RENEWED_AT),
        ("#data", DATA),
        ("#sharers", SHARERS),
        ("#beats", BEATS),
        ("#state", STATE),
        ("#expires_at", EXPIRES_AT),
    ];
    all.into_iter()
        .filter(|(name, _)| expressions.iter().any(|text| text.contains(name)))
        .map(|(name, attribute)| (name.into(), attribute.into()))
        .collect()
}

pub(super) fn owned(values: Vec<(&str, AttributeValue)>) -> HashMap<String, AttributeValue> {
    values
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}
