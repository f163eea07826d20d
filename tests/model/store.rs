//! The table: what it makes of a request, and what the request was entitled to.

use std::time::Duration;

use dynamodb_fifo_lock::protocol::{Answer, Consistency, Standing, Write, apply};
use dynamodb_fifo_lock::record::{LockRecord, Mode, TicketRow, TicketState};
use dynamodb_fifo_lock::{HolderId, Ticket};

use super::Harness;
use super::bounds::GRACE;
use super::drive::seconds;
use super::mutation::Mutation;
use super::state::{Doing, Law, Request, State};

impl Harness {
    /// Serves a request that was sent at tick `sent`. A `stale` answer is the one
    /// from before the last write.
    pub fn serve(&self, state: &mut State, request: &Request, sent: u8, stale: bool) -> Answer {
        match request {
            Request::Write(write) => self.write(state, write, sent),
            Request::Read(_) if stale => Answer::Read(state.before.clone()),
            Request::Read(_) => Answer::Read(state.record.clone()),
            Request::Look { from, to, limit } => Answer::Rows(self.look(state, *from, *to, *limit)),
            Request::Announce(row) => self.announce(state, row),
        }
    }

    /// Whether a read with this request may be behind.
    pub fn may_be_stale(&self, state: &State, request: &Request) -> bool {
        let eventual = match request {
            Request::Read(Consistency::Eventual) => true,
            Request::Read(Consistency::Strong) => self.has(Mutation::TurnFromStaleReads),
            _ => false,
        };
        eventual && state.before.is_some() && state.before != state.record
    }

    fn write(&self, state: &mut State, write: &Write, sent: u8) -> Answer {
        let Some(after) = self.apply(state.record.as_ref(), write) else {
            return Answer::Refused(None);
        };
        if self.robs_another(state, write, &after) || self.ends_a_share(state, &after) {
            state.breaks(Law::Release);
        }
        let turn = |record: &LockRecord| (!record.is_free()).then(|| record.turn());
        if state.record.as_ref().and_then(turn) != turn(&after) {
            state.turn_began = state.tick;
        }
        let holder = match write {
            Write::Try { holder, .. }
            | Write::Claim { holder, .. }
            | Write::TryShare { holder, .. }
            | Write::Share { holder, .. } => Some(&holder.id),
            Write::HandOver { next, .. } => Some(&next.id),
            Write::Renew { id, .. } | Write::RenewShare { id, .. } => Some(id),
            _ => None,
        };
        if let Some(client) = holder.and_then(|id| self.current(state, id)) {
            let client = state.client(client);
            client.entitled = client.entitled.max(sent + self.bounds.lease);
        }
        self.note_share(state, write);
        state.before = state.record.replace(after.clone());
        Answer::Applied(after)
    }

    /// Keeps account of who shares. What arrives after its sender has given the share
    /// back is a share of nobody's.
    fn note_share(&self, state: &mut State, write: &Write) {
        let (id, begins) = match write {
            Write::TryShare { holder, .. } | Write::Share { holder, .. } => (&holder.id, true),
            Write::Unshare { id } | Write::Evict { id, .. } => (id, false),
            _ => return,
        };
        if let Some(client) = self.current(state, id) {
            let it = state.client(client);
            it.shares = begins && matches!(it.doing, Doing::Waiting(_));
        }
    }

    /// What the shipped condition says, or a wrong one.
    fn apply(&self, record: Option<&LockRecord>, write: &Write) -> Option<LockRecord> {
        let mut write = write.clone();
        match (self.mutation, &mut write, record) {
            (Some(Mutation::ClaimUnchecked), Write::Claim { holder, .. }, Some(record)) => {
                return Some(LockRecord {
                    holder: Some(holder.clone()),
                    revision: record.revision + 1,
                    ..record.clone()
                });
            }
            (Some(Mutation::ReleaseUnchecked), Write::Release { ticket, .. }, Some(record)) => {
                return Some(LockRecord {
                    served: *ticket,
                    holder: None,
                    revision: record.revision + 1,
                    ..record.clone()
                });
            }
            (
                Some(Mutation::HandOverUnchecked),
                Write::HandOver { ticket, next, .. },
                Some(record),
            ) => {
                return Some(LockRecord {
                    served: *ticket,
                    holder: Some(next.clone()),
                    revision: record.revision + 1,
                    ..record.clone()
                });
            }
            (Some(Mutation::TryOvertakes), Write::Try { holder, .. }, Some(record))
                if record.holder.is_none() =>
            {
                return Some(LockRecord {
                    issued: record.issued.next(),
                    holder: Some(holder.clone()),
                    revision: record.revision + 1,
                    ..record.clone()
                });
            }
            (
                Some(Mutation::AdvanceWithoutRevision),
                Write::Advance { revision, .. },
                Some(record),
            ) => *revision = record.revision,
            (Some(Mutation::JoiningUnstamped), Write::Enqueue { wall_ms, .. }, Some(record)) => {
                *wall_ms = record.moved_at_ms;
            }
            (Some(Mutation::JoiningNeedsAQueue), Write::Enqueue { .. }, Some(record))
                if record.is_free() =>
            {
                return None;
            }
            (
                Some(Mutation::TokensStartFromZero),
                Write::Try { start, .. } | Write::Enqueue { start, .. },
                _,
            ) => *start = Ticket::new(0),
            _ => return self.apply_to_sharers(record, write),
        }
        apply(record, &write)
    }

    /// The same, for what has to do with sharing.
    fn apply_to_sharers(
        &self,
        record: Option<&LockRecord>,
        mut write: Write,
    ) -> Option<LockRecord> {
        let mut there = record.cloned();
        match (self.mutation, &mut write, &mut there) {
            (
                Some(Mutation::ShareWithoutLimit),
                Write::TryShare { limit, .. } | Write::Share { limit, .. },
                _,
            ) => *limit = u32::MAX,
            (Some(Mutation::TryAmongSharers), Write::Try { .. }, Some(record)) => {
                let sharers = std::mem::take(&mut record.sharers);
                let after = apply(there.as_ref(), &write)?;
                return Some(LockRecord { sharers, ..after });
            }
            (Some(Mutation::TryShareOvertakes), Write::TryShare { .. }, Some(record)) => {
                let (issued, served) = (record.issued.next(), record.served.next());
                record.issued = record.served;
                let after = apply(there.as_ref(), &write)?;
                return Some(LockRecord {
                    issued,
                    served,
                    ..after
                });
            }
            (Some(Mutation::UnshareOfAnother), Write::Unshare { id }, Some(record)) => {
                *id = record.sharers.keys().next()?.clone();
            }
            (Some(Mutation::EvictWithoutBeats), Write::Evict { id, beats }, Some(record)) => {
                *beats = record.sharers.get(id)?.beats;
            }
            _ => {}
        }
        let mut after = apply(there.as_ref(), &write)?;
        match (self.mutation, &write) {
            (Some(Mutation::BeatsUncounted), Write::RenewShare { id, .. }) => {
                after.sharers.get_mut(id)?.beats -= 1;
            }
            (Some(Mutation::BeatsMoveTheQueue), Write::RenewShare { .. }) => after.revision += 1,
            (Some(Mutation::SharesBeginAlike), Write::Share { holder, .. }) => {
                after.sharers.get_mut(&holder.id)?.beats = 0;
            }
            _ => {}
        }
        Some(after)
    }

    /// Whether a write that ends the turn of its own sender ends somebody else's.
    fn robs_another(&self, state: &State, write: &Write, after: &LockRecord) -> bool {
        let (Write::Release { id, .. } | Write::HandOver { id, .. } | Write::Withdraw { id, .. }) =
            write
        else {
            return false;
        };
        let Some(before) = &state.record else {
            return false;
        };
        let of_another = before.holder.as_ref().is_some_and(|held| held.id != *id);
        let turned_back = after.served < before.served;
        of_another
            || turned_back
            || (0..state.clients.len()).any(|client| {
                let tenure = state.clients[client].tenure.as_ref();
                tenure.is_some_and(|tenure| {
                    tenure.id() != id
                        && tenure.mode() == Mode::Exclusive
                        && tenure.ticket() <= after.served
                        && self.standing(state, client) == Some(Standing::Held)
                })
            })
    }

    /// Whether the share of somebody ends whose guard says that it holds.
    fn ends_a_share(&self, state: &State, after: &LockRecord) -> bool {
        let before = state.record.iter().flat_map(|record| record.sharers.keys());
        let mut gone = before.filter(|id| !after.sharers.contains_key(*id));
        gone.any(|id| {
            self.current(state, id)
                .is_some_and(|client| self.standing(state, client) == Some(Standing::Held))
        })
    }

    /// The client whose present acquisition this is.
    fn current(&self, state: &State, id: &HolderId) -> Option<usize> {
        (0..state.clients.len()).find(|client| {
            let begun = usize::from(state.clients[*client].begun);
            begun > 0 && self.ids[*client][begun - 1] == *id
        })
    }

    fn look(&self, state: &State, from: Ticket, to: Ticket, limit: usize) -> Vec<TicketRow> {
        if self.has(Mutation::TicketsAsText) {
            let text = |ticket: Ticket| ticket.to_string();
            let mut rows: Vec<_> = state.rows.values().cloned().collect();
            rows.retain(|row| text(from) <= text(row.ticket) && text(row.ticket) <= text(to));
            rows.sort_by_key(|row| text(row.ticket));
            return rows;
        }
        // A map panics at a range that ends before it begins.
        if from > to {
            return Vec::new();
        }
        let rows = state.rows.range(from..=to);
        rows.take(limit).map(|(_, row)| row.clone()).collect()
    }

    fn announce(&self, state: &mut State, row: &TicketRow) -> Answer {
        let mut row = row.clone();
        if self.has(Mutation::TombstoneForAnother) && row.state == TicketState::Left {
            row.ticket = row.ticket.next();
            state.rows.insert(row.ticket, row);
            return Answer::Announced;
        }
        let ours = state
            .rows
            .get(&row.ticket)
            .is_none_or(|there| there.gives_way_to(&row));
        if !ours {
            return Answer::Refused(None);
        }
        state.rows.insert(row.ticket, row);
        Answer::Announced
    }

    /// What a client makes of an answer before the protocol sees it, if it does so
    /// wrongly.
    pub fn distort(&self, state: &State, client: usize, answer: Answer) -> Answer {
        let alone = self.plan(state, client).mode == Mode::Exclusive;
        let change = |mut record: LockRecord| {
            match self.mutation {
                Some(Mutation::GraceOfOnesOwn) if client == 0 => {
                    record.grace = Duration::from_secs(u64::from(GRACE) + 2);
                }
                Some(Mutation::EveryLookIsASignOfLife) => {
                    record.revision += u64::from(state.tick);
                }
                Some(Mutation::SharersUnseen) if alone => record.sharers.clear(),
                Some(Mutation::LockDelayForgotten) => {
                    let sharers = record.sharers.values_mut();
                    let holders = sharers.map(|sharer| &mut sharer.holder);
                    for holder in holders.chain(&mut record.holder) {
                        holder.lease = seconds(self.bounds.lease);
                    }
                }
                _ => {}
            }
            record
        };
        match answer {
            Answer::Read(record) => Answer::Read(record.map(change)),
            Answer::Applied(record) => Answer::Applied(change(record)),
            other => other,
        }
    }
}
