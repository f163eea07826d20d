//! The store as a process sees it through a network that delays, loses and repeats
//! nothing by itself, but carries out late what its sender has given up on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;

use super::scheduler::{OUTSIDE, Scheduler};
use crate::error::StoreError;
use crate::protocol::{Consistency, Write, apply};
use crate::record::{LockRecord, TicketRow};
use crate::store::{LockStore, Page, PageEnd, Written};
use crate::types::{HolderId, LockName, Ticket};

/// How often what goes wrong, of a thousand requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: u32,
    pub(super) answer_lost: u32,
    pub(super) late: u32,
    pub(super) throttled: u32,
    /// Refused, and so is what the same process sends for a while after it.
    pub(super) denied: u32,
    pub(super) slow: u32,
}

/// How many requests met which fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) requests_lost: u64,
    pub(super) answers_lost: u64,
    /// Carried out after their sender had given up.
    pub(super) late: u64,
    pub(super) throttled: u64,
    pub(super) denied: u64,
}

impl Met {
    pub(super) fn add(&mut self, other: Self) {
        self.requests_lost += other.requests_lost;
        self.answers_lost += other.answers_lost;
        self.late += other.late;
        self.throttled += other.throttled;
        self.denied += other.denied;
    }
}

/// A store that breaks the contract on purpose: the checks have to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// Does not count renewals.
    SilentRenewals,
    /// Answers consistent reads with what was true three seconds ago.
    StaleReads,
    /// Ends a turn for whoever says that it is its own.
    BlindRelease,
    /// Numbers tickets anew when the lock comes free.
    ForgetfulTickets,
    /// Does not count the signs of life of those who share.
    SilentSharers,
    /// Lets somebody take the lock for itself although others share it.
    UnseenSharers,
    /// Lets any number share.
    CountlessSharers,
}

/// The server: the one lock's record and rows, and what was done to it.
pub(super) struct Server {
    pub(super) state: Mutex<ServerState>,
    pub(super) sabotage: Sabotage,
}

#[derive(Default)]
pub(super) struct ServerState {
    pub(super) record: Option<LockRecord>,
    /// What an eventually consistent read may still see, and until when.
    before: Option<(Option<LockRecord>, Duration)>,
    rows: BTreeMap<Ticket, TicketRow>,
    /// When the last request was sent that extended the lease of an attempt, in the
    /// turn of a ticket, or as one who shares.
    pub(super) extended: HashMap<(HolderId, Option<Ticket>), Duration>,
    /// With which ticket an attempt began to share last.
    pub(super) shared_with: HashMap<HolderId, Ticket>,
    pub(super) faults: Faults,
    /// Until when the requests of a process are refused.
    denied_until: HashMap<usize, Duration>,
    pub(super) requests: u64,
    pub(super) met: Met,
}

impl Server {
    /// Nothing goes wrong any more.
    pub(super) fn calm(&self) {
        let mut state = self.state.lock();
        state.faults = Faults::default();
        state.denied_until.clear();
    }

    fn write(&self, write: &Write, sent: Duration, now: Duration) -> Option<LockRecord> {
        let mut state = self.state.lock();
        let after = self.apply(state.record.as_ref(), write)?;
        let extends = match write {
            Write::Try { holder, .. } | Write::Claim { holder, .. } => {
                Some((&holder.id, Some(after.turn())))
            }
            Write::HandOver { next, .. } => Some((&next.id, Some(after.turn()))),
            Write::Renew { id, .. } => Some((id, Some(after.turn()))),
            Write::TryShare { holder, .. } | Write::Share { holder, .. } => {
                Some((&holder.id, None))
            }
            Write::RenewShare { id, .. } => Some((id, None)),
            _ => None,
        };
        if let Some((id, turn)) = extends {
            let turn = (id.clone(), turn);
            let latest = state.extended.entry(turn).or_default();
            *latest = sent.max(*latest);
        }
        match write {
            Write::TryShare { holder, .. } => {
                state.shared_with.insert(holder.id.clone(), after.issued);
            }
            Write::Share { ticket, holder, .. } => {
                state.shared_with.insert(holder.id.clone(), *ticket);
            }
            _ => {}
        }
        let before = state.record.replace(after.clone());
        let stale_for = match self.sabotage {
            Sabotage::StaleReads => Duration::from_secs(3),
            _ => Duration::from_millis(50),
        };
        state.before = Some((before, now + stale_for));
        Some(after)
    }

    fn apply(&self, record: Option<&LockRecord>, write: &Write) -> Option<LockRecord> {
        let mut write = write.clone();
        let mut seen = record.cloned();
        match (self.sabotage, &mut write, &mut seen) {
            (Sabotage::BlindRelease, Write::Release { ticket, .. }, Some(record)) => {
                *ticket = record.turn();
                record.holder = None;
            }
            (Sabotage::ForgetfulTickets, Write::Try { start, .. }, Some(record))
                if record.is_free() =>
            {
                seen = None;
                *start = Ticket::new(1_000);
            }
            (Sabotage::CountlessSharers, Write::TryShare { limit, .. }, _)
            | (Sabotage::CountlessSharers, Write::Share { limit, .. }, _) => *limit = u32::MAX,
            (Sabotage::UnseenSharers, Write::Try { .. }, Some(record)) => record.sharers.clear(),
            _ => {}
        }
        let mut after = apply(seen.as_ref(), &write)?;
        if self.sabotage == Sabotage::SilentSharers
            && let Write::RenewShare { id, .. } = &write
            && let Some(sharer) = after.sharers.get_mut(id)
        {
            sharer.beats -= 1;
        }
        if self.sabotage == Sabotage::SilentRenewals && matches!(write, Write::Renew { .. }) {
            after.revision -= 1;
        }
        Some(after)
    }

    fn read(&self, stale: bool, now: Duration) -> Option<LockRecord> {
        let state = self.state.lock();
        match &state.before {
            Some((before, until)) if stale && now < *until => before.clone(),
            _ => state.record.clone(),
        }
    }
}

/// One process's way to the server.
pub(super) struct Network {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) server: Arc<Server>,
    pub(super) process: usize,
}

enum Fate {
    Fine,
    Lost,
    AnswerLost,
    Late,
    Throttled,
    Denied,
}

impl Network {
    /// Carries one request to the server and its answer back.
    fn carry<T: Send + 'static>(
        &self,
        within: Duration,
        request: impl FnOnce(&Server, Duration) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let scheduler = &self.scheduler;
        if scheduler.is_over() {
            return Err(unreachable());
        }
        let (faults, denied) = {
            let mut state = self.server.state.lock();
            state.requests += 1;
            let until = state.denied_until.get(&self.process);
            let denied = until.is_some_and(|until| scheduler.now() < *until);
            (state.faults, denied)
        };
        let (fate, there, back, denied_for) = scheduler.draw(|dice| {
            let mut millis =
                |most: u64| Duration::from_micros(dice.random_range(500..most * 1_000));
            let (there, back) = (millis(10), millis(10));
            let slow = dice.random_range(0..1_000) < faults.slow;
            let there = if slow { there + within } else { there };
            // Once, or for a few seconds.
            let denied_for = match dice.random_range(0..2) {
                0 => Duration::ZERO,
                _ => Duration::from_millis(dice.random_range(1..5_000)),
            };
            if denied {
                return (Fate::Denied, there, back, Duration::ZERO);
            }
            let thousand = dice.random_range(0..1_000);
            let bounds = [
                (faults.lost, Fate::Lost),
                (faults.answer_lost, Fate::AnswerLost),
                (faults.late, Fate::Late),
                (faults.throttled, Fate::Throttled),
                (faults.denied, Fate::Denied),
            ];
            let mut end = 0;
            for (share, fate) in bounds {
                end += share;
                if thousand < end {
                    return (fate, there, back, denied_for);
                }
            }
            (Fate::Fine, there, back, denied_for)
        });
        let in_time = there + back < within;
        // No call takes longer than it may.
        let arrives = there.min(within);
        let mut left = within;
        let met = match fate {
            Fate::Fine if in_time => Met::default(),
            Fate::Lost => Met {
                requests_lost: 1,
                ..Met::default()
            },
            Fate::AnswerLost => Met {
                answers_lost: 1,
                ..Met::default()
            },
            Fate::Late | Fate::Fine => Met {
                late: 1,
                ..Met::default()
            },
            Fate::Throttled => Met {
                throttled: 1,
                ..Met::default()
            },
            Fate::Denied => Met {
                denied: 1,
                ..Met::default()
            },
        };
        self.server.state.lock().met.add(met);
        match fate {
            Fate::Fine if in_time => {
                scheduler.sleep(there);
                let answer = request(&self.server, scheduler.now());
                scheduler.sleep(back);
                return match scheduler.is_over() {
                    true => Err(unreachable()),
                    false => Ok(answer),
                };
            }
            Fate::Throttled => {
                scheduler.sleep(arrives);
                return Err(StoreError::Throttled {
                    source: "on purpose".into(),
                });
            }
            Fate::Denied => {
                if !denied {
                    let until = scheduler.now() + denied_for;
                    let mut state = self.server.state.lock();
                    state.denied_until.insert(self.process, until);
                }
                scheduler.sleep(arrives);
                return Err(StoreError::Denied {
                    source: "on purpose".into(),
                });
            }
            Fate::Lost => {}
            Fate::AnswerLost => {
                scheduler.sleep(arrives);
                left -= arrives;
                request(&self.server, scheduler.now());
            }
            // The sender gives up before the request arrives.
            Fate::Late | Fate::Fine => {
                let late =
                    there + scheduler.draw(|dice| within.mul_f64(dice.random_range(0.0..3.0)));
                let (far, server) = (Arc::clone(scheduler), Arc::clone(&self.server));
                let deliver = Box::new(move || {
                    far.sleep(late);
                    if !far.is_over() {
                        request(&server, far.now());
                    }
                });
                let _ = scheduler.spawn(OUTSIDE, deliver);
            }
        }
        scheduler.sleep(left);
        Err(unreachable())
    }
}

fn unreachable() -> StoreError {
    StoreError::Unreachable {
        source: "on purpose".into(),
    }
}

impl LockStore for Network {
    fn read(
        &self,
        _: &LockName,
        consistency: Consistency,
        within: Duration,
    ) -> Result<Option<LockRecord>, StoreError> {
        let sound = self.server.sabotage != Sabotage::StaleReads;
        let stale = (consistency == Consistency::Eventual || !sound)
            && self.scheduler.draw(|dice| dice.random_bool(0.3));
        self.carry(within, move |server, now| server.read(stale, now))
    }

    fn write(&self, _: &LockName, write: &Write, within: Duration) -> Result<Written, StoreError> {
        let (write, sent) = (write.clone(), self.scheduler.now());
        let (scheduler, process) = (Arc::clone(&self.scheduler), self.process);
        // Some stores show the record that made them refuse, some do not.
        let shows = scheduler.draw(|dice| dice.random_bool(0.5));
        self.carry(within, move |server, now| {
            let after = server.write(&write, sent, now);
            scheduler.note(|| format!("{process}: {} -> {}", name(&write), brief(after.as_ref())));
            match after {
                Some(record) => Written::Applied(record),
                None if shows => Written::Refused(server.read(false, now)),
                None => Written::Refused(None),
            }
        })
    }

    fn announce(
        &self,
        _: &LockName,
        row: &TicketRow,
        within: Duration,
    ) -> Result<bool, StoreError> {
        let row = row.clone();
        self.carry(within, move |server, _| {
            let mut state = server.state.lock();
            let there = state.rows.get(&row.ticket);
            let ours = there.is_none_or(|there| there.gives_way_to(&row));
            if ours {
                state.rows.insert(row.ticket, row);
            }
            ours
        })
    }

    fn dequeue(
        &self,
        _: &LockName,
        ticket: Ticket,
        id: &HolderId,
        within: Duration,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        self.carry(within, move |server, _| {
            let mut state = server.state.lock();
            if state.rows.get(&ticket).is_some_and(|row| row.id == id) {
                state.rows.remove(&ticket);
            }
        })
    }

    fn look(
        &self,
        _: &LockName,
        from: Ticket,
        to: Ticket,
        limit: usize,
        within: Duration,
    ) -> Result<Vec<TicketRow>, StoreError> {
        self.carry(within, move |server, _| {
            let state = server.state.lock();
            let rows = state.rows.range(from..=to).take(limit);
            rows.map(|(_, row)| row.clone()).collect()
        })
    }

    fn list(&self, _: Option<&PageEnd>, _: Duration) -> Result<Page, StoreError> {
        Ok(Page {
            locks: Vec::new(),
            next: None,
        })
    }
}

/// Without the identities, which are not drawn from the seed.
fn name(write: &Write) -> String {
    match write {
        Write::Try { .. } => "try".into(),
        Write::EnqueueBehind => "enqueue behind".into(),
        Write::Enqueue { .. } => "enqueue".into(),
        Write::Claim { ticket, .. } => format!("claim {ticket}"),
        Write::Renew { ticket, .. } => format!("renew {ticket}"),
        Write::Release { ticket, .. } => format!("release {ticket}"),
        Write::HandOver { ticket, .. } => format!("hand over {ticket}"),
        Write::Withdraw { .. } => "withdraw".into(),
        Write::TryShare { .. } => "try to share".into(),
        Write::Share { ticket, .. } => format!("share {ticket}"),
        Write::RenewShare { .. } => "renew share".into(),
        Write::Unshare { .. } => "unshare".into(),
        Write::Evict { beats, .. } => format!("evict at {beats} beats"),
        Write::Advance { revision, to, .. } => format!("advance to {to}, revision {revision}"),
    }
}

fn brief(record: Option<&LockRecord>) -> String {
    record.map_or_else(
        || "refused".into(),
        |record| {
            let held = if record.holder.is_some() {
                ", held"
            } else {
                ""
            };
            let (issued, served) = (record.issued, record.served);
            format!(
                "issued {issued}, served {served}{held}, {} share, revision {}",
                record.sharers.len(),
                record.revision
            )
        },
    )
}
