//! The checks, in the order in which one rests on the other.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use dynamodb_fifo_lock::{Action, ClockOffset, DynamoDbStore, Expiry, LockClient, StoreError};

use super::{Args, Finding, Report};
use crate::args::Connection;
use crate::connect::from_environment;
use crate::table;
use crate::text::{ago, span};

/// How long one request of a check may take.
const WITHIN: Duration = Duration::from_secs(5);

/// How long the search for credentials may take: a metadata service may not be there.
const SEARCH: Duration = Duration::from_secs(15);

/// So many round trips are measured, after the ones that open the connection.
const ROUNDS: usize = 9;

/// Clocks that are kept in step are closer than this.
const CLOCK_WARNING: Duration = Duration::from_secs(3);

/// DynamoDB refuses requests that are signed by a clock further off than this.
const CLOCK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long a turn may stay unclaimed, unless the table's clients say otherwise.
const CLAIM_GRACE: Duration = Duration::from_secs(1);

pub(super) fn all(connection: &Connection, args: &Args, report: &mut Report) -> Result<()> {
    let store = match connection.store() {
        Ok(store) => store,
        Err(error) => {
            let advice = "correct the setting, on the command line or in the environment";
            return report.add(Finding::fail("settings", format!("{error:#}"), advice));
        }
    };
    report.add(region(connection, &store))?;
    report.add(endpoint(connection, &store))?;
    report.add(clock(&store))?;
    match credentials(&store) {
        Ok(found) => report.add(found)?,
        Err(failure) => return report.add(failure),
    }
    match schema(&store) {
        Ok(found) => report.add(found)?,
        // Every request would fail for the same reason.
        Err(failure) => return report.add(failure),
    }
    report.add(billing(&store))?;
    report.add(expiry(&store))?;
    for action in Action::ALL {
        report.add(permission(&store, action))?;
    }
    if let Some(trips) = round_trips(&store) {
        report.add(round_trip(&trips))?;
        report.add(timing(&store, args, &trips))?;
    }
    Ok(())
}

fn region(connection: &Connection, store: &DynamoDbStore) -> Finding {
    let named = |name: &str| from_environment(name).is_some();
    let source = if connection.region.is_some() {
        "--region".into()
    } else if named("AWS_REGION") {
        "AWS_REGION".into()
    } else if named("AWS_DEFAULT_REGION") {
        "AWS_DEFAULT_REGION".into()
    } else if store.region() == "local" {
        "none is needed by a server with plain http".into()
    } else {
        format!("profile {}", profile(connection))
    };
    #[cfg(feature = "dev")]
    let source = match connection.dev {
        Some(_) => "--dev".into(),
        None => source,
    };
    Finding::ok("region", format!("{} ({source})", store.region()))
}

fn profile(connection: &Connection) -> String {
    let given = connection.profile.clone();
    given
        .or_else(|| from_environment("AWS_PROFILE"))
        .unwrap_or_else(|| "default".into())
}

fn endpoint(connection: &Connection, store: &DynamoDbStore) -> Finding {
    let named = |name: &str| from_environment(name).is_some();
    let source = if connection.endpoint_url.is_some() {
        "--endpoint-url"
    } else if named("AWS_ENDPOINT_URL_DYNAMODB") {
        "AWS_ENDPOINT_URL_DYNAMODB"
    } else if named("AWS_ENDPOINT_URL") {
        "AWS_ENDPOINT_URL"
    } else {
        "the region's own"
    };
    #[cfg(feature = "dev")]
    let source = match connection.dev {
        Some(_) => "--dev, in this process",
        None => source,
    };
    Finding::ok("endpoint", format!("{} ({source})", store.endpoint()))
}

fn clock(store: &DynamoDbStore) -> Finding {
    let what = "clock";
    let (side, by) = match store.clock_offset(WITHIN) {
        Ok(ClockOffset::Ahead(by)) => ("ahead of", by),
        Ok(ClockOffset::Behind(by)) => ("behind", by),
        Ok(ClockOffset::Unknown) => {
            let found = "not compared: the service does not say what time it is";
            return Finding::warn(
                what,
                found,
                "none is needed with an emulator on this machine",
            );
        }
        Ok(_) => {
            let found = "in step with the service's, as far as can be seen (within a second)";
            return Finding::ok(what, found);
        }
        Err(error) => {
            let found = format!("could not be compared: {error}");
            return Finding::warn(what, found, "see whether the next checks get through");
        }
    };
    let found = format!(
        "{} {side} the service's, or more (it tells whole seconds)",
        span(by)
    );
    if by >= CLOCK_LIMIT {
        let advice = "set the clock: DynamoDB refuses requests signed by a clock that is more than \
            15 minutes off";
        return Finding::fail(what, found, advice);
    }
    if by >= CLOCK_WARNING {
        let advice = "keep the clock in step (NTP). Leases do not rest on it, but three things do: \
            the ages shown here, for how long a waiter's row counts (20 s), and when a holder is \
            taken for dead without being watched (its lease and the clock allowance, 30 minutes)";
        return Finding::warn(what, found, advice);
    }
    Finding::ok(what, found)
}

fn credentials(store: &DynamoDbStore) -> Result<Finding, Finding> {
    let what = "credentials";
    match store.signing_keys(SEARCH) {
        Ok(keys) => {
            let until = match keys.expires_at {
                Some(at) if at < SystemTime::now() => {
                    let found = format!(
                        "{} expired {}",
                        keys.access_key_id,
                        ago(at, SystemTime::now())
                    );
                    return Err(Finding::fail(what, found, "sign in again"));
                }
                Some(at) => format!(", until {}", crate::text::rfc3339(at)),
                None => String::new(),
            };
            let found = format!("{} ({}{until})", keys.access_key_id, keys.found_in);
            Ok(Finding::ok(what, found))
        }
        Err(error) => {
            let advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE or \
                --profile, or run where the container or the instance has a role";
            Err(Finding::fail(what, error.to_string(), advice))
        }
    }
}

fn schema(store: &DynamoDbStore) -> Result<Finding, Finding> {
    let what = "table";
    let (error, advice) = match store.check_table() {
        Ok(()) => {
            let found = format!(
                "{} is active and has the key of a lock table",
                store.table()
            );
            return Ok(Finding::ok(what, found));
        }
        Err(error @ StoreError::Denied { .. }) => {
            let found = format!("could not be looked at: {error}");
            let advice = "locking itself does not need it; to check the table, allow \
                dynamodb:DescribeTable (`fifolock iam`)";
            return Ok(Finding::warn(what, found, advice));
        }
        Err(error @ StoreError::TableMissing { .. }) => {
            let advice =
                "check --table, --region and --endpoint-url, or run `fifolock table create`";
            (error, advice)
        }
        Err(error @ StoreError::WrongKeySchema { .. }) => (
            error,
            "name another table, or create one with `fifolock table create`",
        ),
        Err(error) => (
            error,
            "check the network, the endpoint and any proxy between",
        ),
    };
    Err(Finding::fail(what, error.to_string(), advice))
}

fn billing(store: &DynamoDbStore) -> Finding {
    let what = "billing";
    match store.is_on_demand() {
        Ok(true) => Finding::ok(what, "on demand"),
        Ok(false) => Finding::warn(
            what,
            "provisioned",
            "a lock that many wait for may be throttled; on-demand billing is not",
        ),
        Err(error) => not_known(what, &error, "DescribeTable"),
    }
}

fn expiry(store: &DynamoDbStore) -> Finding {
    let what = "expiry (TTL)";
    match store.expiry() {
        Ok(Expiry::On) => Finding::ok(what, "on"),
        Ok(other) => Finding::warn(what, "not as it should be", table::describe(&other)),
        Err(error) => not_known(what, &error, "DescribeTimeToLive"),
    }
}

fn not_known(what: &str, error: &StoreError, action: &str) -> Finding {
    let advice = format!("locking itself does not need it; to check it, allow dynamodb:{action}");
    Finding::warn(what, format!("not known: {error}"), advice)
}

fn permission(store: &DynamoDbStore, action: Action) -> Finding {
    let what = action.name();
    let error = match store.try_action(action, WITHIN) {
        Ok(()) => return Finding::ok(what, "allowed"),
        Err(error) => error,
    };
    let advice = match &error {
        StoreError::Denied { .. } => format!(
            "allow dynamodb:{what} on the table (`fifolock iam` prints a policy); it is for {}",
            purpose(action)
        ),
        StoreError::Throttled { .. } => "raise the table's capacity, or bill it on demand".into(),
        _ => "check the network, the endpoint and any proxy between".into(),
    };
    match action {
        Action::Scan | Action::ConditionCheckItem => Finding::warn(what, error.to_string(), advice),
        _ => Finding::fail(what, error.to_string(), advice),
    }
}

fn purpose(action: Action) -> &'static str {
    match action {
        Action::Query | Action::DeleteItem => "getting past dead waiters and tidying up",
        Action::ConditionCheckItem => "guard.condition_check() only",
        Action::Scan => "`fifolock ls` only",
        _ => "every lock",
    }
}

/// How long reads take, in ascending order; `None` if they fail, which was reported.
fn round_trips(store: &DynamoDbStore) -> Option<Vec<Duration>> {
    let mut trips = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        store.try_action(Action::GetItem, WITHIN).ok()?;
        trips.push(began.elapsed());
    }
    trips.sort_unstable();
    Some(trips)
}

fn round_trip(trips: &[Duration]) -> Finding {
    let found = format!(
        "{:.1} ms (median of {} reads, {:.1} to {:.1})",
        millis(median(trips)),
        trips.len(),
        millis(fastest(trips)),
        millis(slowest(trips))
    );
    let what = "round trip";
    if slowest(trips) * 4 > CLAIM_GRACE {
        let advice = "a waiter has a second to take its turn (`claim_grace`), which is short for a \
            table that is so far away: it may be passed over. Lock in a nearer region, or give a \
            longer grace";
        return Finding::warn(what, found, advice);
    }
    Finding::ok(what, found)
}

/// Whether lease and time-out leave room for requests that take this long.
fn timing(store: &DynamoDbStore, args: &Args, trips: &[Duration]) -> Finding {
    let what = "lease, time-out";
    let mut builder = LockClient::builder().lease(args.lease);
    if let Some(limit) = args.request_timeout {
        builder = builder.request_timeout(limit);
    }
    if let Err(error) = builder.build(store.clone()) {
        return Finding::fail(
            what,
            error.to_string(),
            "give a lease and a time-out that fit",
        );
    }
    let limit = args
        .request_timeout
        .unwrap_or(Duration::from_secs(3).min(args.lease / 4));
    let found = format!("{} and {}", span(args.lease), span(limit));
    if slowest(trips) * 4 > limit {
        let advice = format!(
            "one of {} reads took {:.1} ms: with a time-out of {} a request that is a few times \
             slower is given up; allow more, and a longer lease with it",
            trips.len(),
            millis(slowest(trips)),
            span(limit)
        );
        return Finding::warn(what, found, advice);
    }
    let room = args.lease.as_secs_f64() / median(trips).as_secs_f64().max(1e-6);
    Finding::ok(
        what,
        format!("{found}: a lease is {room:.0} round trips long"),
    )
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

fn median(trips: &[Duration]) -> Duration {
    trips.get(trips.len() / 2).copied().unwrap_or_default()
}

fn fastest(trips: &[Duration]) -> Duration {
    trips.first().copied().unwrap_or_default()
}

fn slowest(trips: &[Duration]) -> Duration {
    trips.last().copied().unwrap_or_default()
}
