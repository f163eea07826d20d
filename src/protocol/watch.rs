//! How long a record has stood still, as one observer saw it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ANNOUNCE_DELAY;
use super::issued::Issued;
use super::pace::{learn, per_turn};
use crate::clock::Moment;
use crate::record::{LockRecord, Sharer};
use crate::types::{HolderId, Ticket};

/// How long an observer waits for a sign of life from a holder with this lease.
///
/// Two machines' monotonic clocks do not run at exactly the same rate: clock
/// discipline may slew each by 500 parts in a million ([`adjtimex`][adj]). The
/// observer therefore waits a five-hundredth longer, so that its slow reading of
/// a lease never ends before the holder's fast one.
///
/// [adj]: https://man7.org/linux/man-pages/man2/adjtimex.2.html
#[must_use]
pub fn observed_lease(lease: Duration) -> Duration {
    lease.saturating_add(lease / 500)
}

/// Whether whoever has the turn is dead by the wall clock, so that even those who
/// do not wait may go past: no claim or renewal for longer than the lease, or no
/// claim for longer than the grace, and the clock allowance on top.
///
/// The allowance makes up for clocks that are apart. AWS refuses a request
/// that is signed with a clock more than [15 minutes off][skew]; so two clients
/// whose requests both get through differ by 30 minutes at most, also if a request
/// was long on its way.
///
/// [skew]: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
#[must_use]
pub fn is_abandoned(record: &LockRecord, wall_ms: u64, allowance: Duration) -> bool {
    if record.is_free() {
        return false;
    }
    let (last_sign_ms, patience) = match &record.holder {
        Some(holder) => (holder.renewed_at_ms, holder.lease),
        // Whoever joins a lock that nobody has does not move the queue. It takes its
        // turn for granted, without a claim, only within the grace from when the
        // queue moved, and for no longer than the grace.
        None => (record.moved_at_ms, record.grace * 2),
    };
    is_silent(last_sign_ms, patience, wall_ms, allowance)
}

/// Whether somebody who shares the lock is dead by the wall clock, in the same way.
#[must_use]
pub fn has_abandoned(sharer: &Sharer, wall_ms: u64, allowance: Duration) -> bool {
    is_silent(
        sharer.holder.renewed_at_ms,
        sharer.holder.lease,
        wall_ms,
        allowance,
    )
}

fn is_silent(last_sign_ms: u64, patience: Duration, wall_ms: u64, allowance: Duration) -> bool {
    let silent_for = Duration::from_millis(wall_ms.saturating_sub(last_sign_ms));
    silent_for > observed_lease(patience).saturating_add(allowance)
}

/// One observer's view of a lock over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    seen: Option<Seen>,
    turn_time: Option<Duration>,
    /// Of each who shares: the signs of life last seen, and when the answer that
    /// first showed them had arrived.
    sharers: BTreeMap<HolderId, (u64, Moment)>,
    /// How old the tickets are at least.
    issued: Issued,
    highest: Ticket,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    record: LockRecord,
    /// When the answer that first showed this revision had arrived. Never when
    /// it was asked for: the holder may have renewed in between.
    still_since: Moment,
    /// When the answer that first showed this turn had arrived.
    turn_since: Moment,
    /// An earlier attempt saw it, a while ago: the lock may have been idle since, and how
    /// long its turn took is not known.
    recalled: bool,
    /// When the last answer had arrived.
    last_look: Moment,
    /// When the last answer had arrived that showed an earlier turn, if one did.
    earlier_turn: Option<Moment>,
}

/// A record that has stood still for too long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stall {
    /// The holder let its lease run out.
    LeaseOver {
        /// Who it was, for people.
        owner: String,
    },
    /// The holder has not renewed for longer than its lease and the clock
    /// allowance, by the wall clock.
    Abandoned {
        /// Who it was, for people.
        owner: String,
    },
    /// The ticket whose turn it is was not claimed.
    Unclaimed,
}

impl Watch {
    /// A view of a lock that was not seen yet, whose turns lately took so long.
    #[must_use]
    pub fn new(turn_time: Option<Duration>) -> Self {
        Self {
            turn_time,
            ..Self::default()
        }
    }

    /// The view that an earlier attempt of the same client had, for a new one: what
    /// stood still then and still does counts from then on.
    #[must_use]
    pub fn resume(mut self, turn_time: Option<Duration>) -> Self {
        if let Some(seen) = &mut self.seen {
            seen.recalled = turn_time.is_none();
        }
        Self { turn_time, ..self }
    }

    /// Adds what another attempt of the same client saw, with which this view agrees
    /// about the longest time that anything stood still.
    pub fn take_over(&mut self, other: Self) {
        self.highest = self.highest.max(other.highest);
        self.turn_time = other.turn_time;
        self.issued.take_over(&other.issued);
        let Some(theirs) = other.seen else {
            return;
        };
        let order = |seen: &Seen| {
            let record = &seen.record;
            // Joining an idle lock does not change the revision.
            (record.served, record.revision, !record.is_free())
        };
        let (still_since, turn_since) = match &self.seen {
            Some(ours) if order(ours) > order(&theirs) => return,
            Some(ours) if order(ours) == order(&theirs) => (
                ours.still_since.min(theirs.still_since),
                ours.turn_since.min(theirs.turn_since),
            ),
            _ => (theirs.still_since, theirs.turn_since),
        };
        let ours = std::mem::replace(&mut self.sharers, other.sharers);
        for (id, (beats, since)) in &mut self.sharers {
            if let Some((same, earlier)) = ours.get(id)
                && same == beats
            {
                *since = (*since).min(*earlier);
            }
        }
        self.seen = Some(Seen {
            still_since,
            turn_since,
            ..theirs
        });
    }

    /// Takes note of a record whose answer arrived at `now`.
    pub fn observe(&mut self, record: &LockRecord, now: Moment) {
        self.observe_sharers(record, now);
        self.issued.observe(record.issued, row_delay(record), now);
        // Joining does not change the revision. The turn of whoever joins a free
        // lock begins all the same.
        let seen = match &mut self.seen {
            Some(seen) if !seen.record.is_free() => seen,
            _ => {
                self.seen = Some(Seen {
                    record: record.clone(),
                    still_since: now,
                    turn_since: now,
                    recalled: false,
                    last_look: now,
                    earlier_turn: None,
                });
                return;
            }
        };
        if record.served != seen.record.served {
            let turns = record.served.get().saturating_sub(seen.record.served.get());
            if let (Ok(turns @ 1..), false) = (u32::try_from(turns), seen.recalled) {
                let since_look = now.since(seen.last_look);
                let latest = per_turn(turns, now.since(seen.turn_since), since_look);
                self.turn_time = Some(learn(self.turn_time, latest));
            }
            seen.turn_since = now;
            seen.still_since = now;
            seen.earlier_turn = Some(seen.last_look);
            seen.recalled = false;
        } else if record.revision != seen.record.revision
            || holder_id(record) != holder_id(&seen.record)
        {
            seen.still_since = now;
        }
        seen.last_look = now;
        seen.record = record.clone();
    }

    fn observe_sharers(&mut self, record: &LockRecord, now: Moment) {
        let before = std::mem::take(&mut self.sharers);
        self.sharers = record
            .sharers
            .iter()
            .map(|(id, sharer)| {
                let known = before.get(id).filter(|(beats, _)| *beats == sharer.beats);
                let still_since = known.map_or(now, |(_, since)| *since);
                (id.clone(), (sharer.beats, still_since))
            })
            .collect();
    }

    /// The record as last seen.
    #[must_use]
    pub fn record(&self) -> Option<&LockRecord> {
        self.seen.as_ref().map(|seen| &seen.record)
    }

    /// The last ticket that is known to have been out for longer than `age`.
    #[must_use]
    pub fn out_for(&self, age: Duration, now: Moment) -> Option<Ticket> {
        self.issued.out_for(age, now)
    }

    /// The highest ticket of this lock that was ever seen.
    #[must_use]
    pub fn highest(&self) -> Ticket {
        self.highest
    }

    /// Takes note of a ticket that was certainly out.
    pub fn saw_ticket(&mut self, ticket: Ticket) {
        self.highest = self.highest.max(ticket);
    }

    /// For how long this can have been the turn, at most, as far as this observer saw.
    #[must_use]
    pub fn turn_lasts_at_most(&self, now: Moment) -> Duration {
        let earlier = self.seen.as_ref().and_then(|seen| seen.earlier_turn);
        earlier.map_or(Duration::MAX, |earlier| now.since(earlier))
    }

    /// How long the turn has shown no sign of life, as far as this observer saw.
    #[must_use]
    pub fn still_for(&self, now: Moment) -> Duration {
        self.seen
            .as_ref()
            .map_or(Duration::ZERO, |seen| now.since(seen.still_since))
    }

    /// How many turns are left before that of `ticket`.
    #[must_use]
    pub fn ahead_of(&self, ticket: Ticket) -> Option<u64> {
        let record = self.record()?;
        Some(ticket.get().saturating_sub(record.turn().get()))
    }

    /// How long it has been this turn.
    #[must_use]
    pub fn turn_lasts(&self, now: Moment) -> Duration {
        self.seen
            .as_ref()
            .map_or(Duration::ZERO, |seen| now.since(seen.turn_since))
    }

    /// How long a turn took lately, once that was seen.
    #[must_use]
    pub fn turn_time(&self) -> Option<Duration> {
        self.turn_time
    }

    /// The first of those who share, in the order of their ids, that showed no sign of
    /// life for its lease.
    #[must_use]
    pub fn dead_sharer(&self, now: Moment) -> Option<&Sharer> {
        let record = self.record()?;
        let dead = |sharer: &&Sharer| self.is_over(sharer).is_some_and(|over| over <= now);
        record.sharers.values().find(dead)
    }

    /// When the first of those who share will be taken for dead, should they all stay
    /// silent.
    #[must_use]
    pub fn next_death(&self) -> Option<Moment> {
        let record = self.record()?;
        let ends = record.sharers.values();
        ends.filter_map(|sharer| self.is_over(sharer)).min()
    }

    fn is_over(&self, sharer: &Sharer) -> Option<Moment> {
        let (_, still_since) = self.sharers.get(&sharer.holder.id)?;
        Some(still_since.plus(observed_lease(sharer.holder.lease)))
    }

    /// Why the turn is to be ended from outside, if it is.
    #[must_use]
    pub fn stall(&self, now: Moment) -> Option<Stall> {
        let seen = self.seen.as_ref()?;
        if now < self.stalls_at()? {
            return None;
        }
        Some(match &seen.record.holder {
            Some(holder) => Stall::LeaseOver {
                owner: holder.owner.clone(),
            },
            None => Stall::Unclaimed,
        })
    }

    /// When the record, should it not move, will have stood still for too long.
    /// There is no such moment while nobody's turn it is.
    #[must_use]
    pub fn stalls_at(&self) -> Option<Moment> {
        let seen = self.seen.as_ref()?;
        if seen.record.is_free() {
            return None;
        }
        // A turn that is not claimed may be a hold all the same, until the grace is
        // over: both are leases.
        let patience = match &seen.record.holder {
            Some(holder) => holder.lease,
            None => seen.record.grace,
        };
        Some(seen.still_since.plus(observed_lease(patience)))
    }
}

/// A waiter of this lock that has waited for longer than this should have a row.
#[must_use]
pub fn row_delay(record: &LockRecord) -> Duration {
    ANNOUNCE_DELAY.saturating_add(record.grace)
}

fn holder_id(record: &LockRecord) -> Option<&HolderId> {
    record.holder.as_ref().map(|holder| &holder.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Holder;

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    fn record(served: u64, revision: u64, held: bool) -> LockRecord {
        LockRecord {
            issued: Ticket::new(served + 5),
            served: Ticket::new(served),
            holder: held.then(|| Holder {
                id: HolderId::new("a"),
                lease: Duration::from_secs(10),
                owner: "a".into(),
                since_ms: 0,
                renewed_at_ms: 0,
                data: None,
            }),
            revision,
            grace: Duration::from_secs(1),
            moved_at_ms: 0,
            mark: Ticket::new(0),
            sharers: BTreeMap::new(),
        }
    }

    #[test]
    fn a_lease_is_counted_from_the_first_answer_that_showed_it() {
        let mut watch = Watch::default();
        watch.observe(&record(7, 1, true), at(500));
        watch.observe(&record(7, 1, true), at(9_000));
        assert_eq!(watch.stall(at(10_519)), None);
        assert!(matches!(
            watch.stall(at(10_520)),
            Some(Stall::LeaseOver { .. })
        ));
    }

    #[test]
    fn a_renewal_starts_the_count_again() {
        let mut watch = Watch::default();
        watch.observe(&record(7, 1, true), at(0));
        watch.observe(&record(7, 2, true), at(9_999));
        assert_eq!(watch.stall(at(20_000)), None);
    }

    #[test]
    fn an_unclaimed_turn_has_the_records_grace() {
        let mut watch = Watch::default();
        watch.observe(&record(7, 1, false), at(0));
        assert_eq!(watch.stall(at(1_001)), None);
        assert_eq!(watch.stall(at(1_002)), Some(Stall::Unclaimed));
    }

    #[test]
    fn the_turn_of_who_joins_a_free_lock_begins_with_the_joining() {
        let mut watch = Watch::default();
        let mut free = record(7, 1, false);
        free.issued = free.served;
        watch.observe(&free, at(0));
        // The same revision: joining does not change it.
        watch.observe(&record(7, 1, false), at(5_000));
        assert_eq!(watch.stall(at(6_001)), None);
        assert_eq!(watch.stall(at(6_002)), Some(Stall::Unclaimed));
    }

    #[test]
    fn who_is_silent_for_longer_than_clocks_can_differ_is_dead() {
        let allowance = Duration::from_secs(1_800);
        let held = record(7, 1, true);
        assert!(!is_abandoned(&held, 1_810_000, allowance));
        assert!(is_abandoned(&held, 1_810_021, allowance));
        let unclaimed = record(7, 1, false);
        assert!(!is_abandoned(&unclaimed, 1_802_000, allowance));
        assert!(is_abandoned(&unclaimed, 1_802_005, allowance));
        let mut free = unclaimed;
        free.issued = free.served;
        assert!(!is_abandoned(&free, u64::MAX, allowance));
    }

    #[test]
    fn a_free_lock_never_stalls() {
        let mut watch = Watch::default();
        let mut free = record(7, 1, false);
        free.issued = free.served;
        watch.observe(&free, at(0));
        assert_eq!(watch.stall(at(1_000_000)), None);
    }

    #[test]
    fn turn_time_is_learnt_from_how_far_the_queue_moved() {
        let mut watch = Watch::new(Some(Duration::from_millis(300)));
        watch.observe(&record(7, 1, true), at(0));
        watch.observe(&record(11, 9, true), at(400));
        assert_eq!(watch.turn_time(), Some(Duration::from_millis(100)));
        assert_eq!(watch.ahead_of(Ticket::new(15)), Some(3));
    }

    #[test]
    fn a_long_turn_says_nothing_about_those_that_ended_since_the_last_look() {
        let mut watch = Watch::new(Some(Duration::from_secs(1)));
        watch.observe(&record(7, 1, true), at(0));
        watch.observe(&record(7, 2, true), at(60_000));
        watch.observe(&record(12, 9, true), at(60_200));
        assert_eq!(watch.turn_time(), Some(Duration::from_millis(50)));
    }
}
