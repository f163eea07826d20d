//! The waiters of one client, by the lock they wait for.
//!
//! Of those who wait for one lock only the first polls; the others are woken. And
//! a holder that finds the very next ticket in here hands the lock over in one
//! write. Order is not made here: it is the tickets' own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use parking_lot::Mutex;

use crate::lease::Never;
use crate::machine::{Machine, has_news};
use crate::protocol::Moment;
use crate::record::Holder;
use crate::types::{LockName, Ticket};

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nudge {
    /// You are the first now.
    First,
    /// Look at the record: the holder before you could not hand the lock over.
    Look,
    /// The lock was claimed for you, by a write sent at this moment.
    HandedOver(Moment),
}

#[derive(Default)]
pub(crate) struct Lobby {
    locks: Mutex<HashMap<LockName, Local>>,
}

/// What one client knows about one lock.
#[derive(Default)]
struct Local {
    waiting: BTreeMap<Ticket, Member>,
    /// The ticket that this client holds with, and the channel that closes when it
    /// does not any more.
    held: Option<(Ticket, Receiver<Never>)>,
}

struct Member {
    /// As whom it would hold, if the lock can be claimed in its name.
    holder: Option<Holder>,
    nudge: Sender<Nudge>,
    /// Asleep, so that the lock may be claimed in its name.
    parked: bool,
    /// Somebody is claiming the lock in its name.
    reserved: bool,
}

/// How a waiter may sleep.
pub(crate) enum Rest {
    /// It is the first and polls.
    Poll,
    /// Until it is nudged: somebody of the same client comes first.
    UntilNudged,
    /// Until it is nudged, or this channel closes: the holder right before it is of
    /// the same client.
    BehindHolder(Receiver<Never>),
}

impl Lobby {
    /// Takes a seat for a waiter that drew `ticket` and would hold as `holder`, or that
    /// has to go and see for itself.
    pub(crate) fn enter(
        self: &Arc<Self>,
        lock: &LockName,
        ticket: Ticket,
        holder: Option<Holder>,
    ) -> Seat {
        let (nudge, nudges) = unbounded();
        let member = Member {
            holder,
            nudge,
            parked: false,
            reserved: false,
        };
        let mut locks = self.locks.lock();
        let local = locks.entry(lock.clone()).or_default();
        local.waiting.insert(ticket, member);
        Seat {
            lobby: Arc::clone(self),
            lock: lock.clone(),
            ticket,
            nudges,
        }
    }

    /// Notes that this client holds `lock` with `ticket`, until `lost` closes.
    pub(crate) fn holds(&self, lock: &LockName, ticket: Ticket, lost: Receiver<Never>) {
        let mut locks = self.locks.lock();
        locks.entry(lock.clone()).or_default().held = Some((ticket, lost));
    }

    /// Notes that it does not any more.
    pub(crate) fn released(&self, lock: &LockName, ticket: Ticket) {
        let mut locks = self.locks.lock();
        if let Some(local) = locks.get_mut(lock) {
            local.held.take_if(|(held, _)| *held == ticket);
            if local.waiting.is_empty() && local.held.is_none() {
                locks.remove(lock);
            }
        }
    }

    /// Reserves the waiter with the ticket right after `ticket`, if it is of this
    /// client and asleep. Until the reservation ends it stays where it is.
    pub(crate) fn reserve_next(
        self: &Arc<Self>,
        lock: &LockName,
        ticket: Ticket,
    ) -> Option<Reservation> {
        let mut locks = self.locks.lock();
        let local = locks.get_mut(lock)?;
        let member = local.waiting.get_mut(&ticket.next())?;
        if !member.parked || member.reserved {
            return None;
        }
        let holder = member.holder.clone()?;
        member.reserved = true;
        Some(Reservation {
            holder,
            nudge: member.nudge.clone(),
            told: false,
        })
    }

    /// Tells the first waiter of this client that it is worth a look: one who shared
    /// the lock does no longer.
    pub(crate) fn nudge_first(&self, lock: &LockName) {
        let first = {
            let locks = self.locks.lock();
            let first = locks
                .get(lock)
                .and_then(|local| local.waiting.values().next());
            first.map(|member| member.nudge.clone())
        };
        if let Some(first) = first {
            let _ = first.send(Nudge::Look);
        }
    }

    /// The tickets that wait for `lock` in this client.
    pub(crate) fn waiting(&self, lock: &LockName) -> Vec<Ticket> {
        let locks = self.locks.lock();
        locks
            .get(lock)
            .map(|local| local.waiting.keys().copied().collect())
            .unwrap_or_default()
    }
}

/// A waiter's place in the lobby. Given up when dropped; whoever comes next is
/// told.
pub(crate) struct Seat {
    lobby: Arc<Lobby>,
    lock: LockName,
    pub(crate) ticket: Ticket,
    nudges: Receiver<Nudge>,
}

impl Seat {
    /// Falls asleep: from here on the lock may be claimed in this waiter's name.
    pub(crate) fn park(&self) -> Rest {
        let mut locks = self.lobby.locks.lock();
        let Some(local) = locks.get_mut(&self.lock) else {
            return Rest::Poll;
        };
        let first = local.waiting.keys().next() == Some(&self.ticket);
        if let Some(member) = local.waiting.get_mut(&self.ticket) {
            member.parked = true;
        }
        match &local.held {
            Some((held, lost)) if held.next() == self.ticket && !has_news(lost) => {
                Rest::BehindHolder(lost.clone())
            }
            _ if first => Rest::Poll,
            _ => Rest::UntilNudged,
        }
    }

    /// Wakes up, having been `told` something or nothing. If somebody is claiming the
    /// lock in this waiter's name, it cannot go anywhere before it knows how that went,
    /// which it will by `until`.
    pub(crate) fn wake(&self, told: Option<Nudge>, until: Moment) -> Option<Verdict> {
        let reserved = {
            let mut locks = self.lobby.locks.lock();
            let member = locks
                .get_mut(&self.lock)
                .and_then(|local| local.waiting.get_mut(&self.ticket));
            member.is_some_and(|member| {
                member.parked = false;
                std::mem::take(&mut member.reserved)
            })
        };
        if !reserved || matches!(told, Some(Nudge::HandedOver(_) | Nudge::Look)) {
            return None;
        }
        Some(Verdict {
            nudges: self.nudges.clone(),
            until,
        })
    }

    pub(crate) fn nudges(&self) -> &Receiver<Nudge> {
        &self.nudges
    }
}

/// How a claim in a waiter's name went: that is yet to be told.
pub(crate) struct Verdict {
    pub(crate) nudges: Receiver<Nudge>,
    /// Nothing will be told any more after this.
    pub(crate) until: Moment,
}

impl Verdict {
    /// What was told, if anything was.
    pub(crate) fn told(&self) -> Option<Nudge> {
        loop {
            match self.nudges.try_recv() {
                Ok(Nudge::First) => {}
                Ok(verdict) => return Some(verdict),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return Some(Nudge::Look),
            }
        }
    }

    /// Waits until it is told.
    pub(crate) fn wait(&self, machine: &dyn Machine) {
        while self.told().is_none() && machine.now() < self.until {
            machine.wait(&[&self.nudges], self.until);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let next = {
            let mut locks = self.lobby.locks.lock();
            let Some(local) = locks.get_mut(&self.lock) else {
                return;
            };
            let was_first = local.waiting.keys().next() == Some(&self.ticket);
            local.waiting.remove(&self.ticket);
            let next = local
                .waiting
                .values()
                .next()
                .map(|member| member.nudge.clone());
            if local.waiting.is_empty() && local.held.is_none() {
                locks.remove(&self.lock);
            }
            next.filter(|_| was_first)
        };
        if let Some(next) = next {
            let _ = next.send(Nudge::First);
        }
    }
}

/// The right to claim the lock in the name of the waiter who is next. However it
/// ends, that waiter is told.
pub(crate) struct Reservation {
    pub(crate) holder: Holder,
    nudge: Sender<Nudge>,
    told: bool,
}

impl Reservation {
    /// The lock was claimed, by a write sent at `sent`.
    pub(crate) fn handed_over(mut self, sent: Moment) {
        self.told = true;
        let _ = self.nudge.send(Nudge::HandedOver(sent));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.told {
            let _ = self.nudge.send(Nudge::Look);
        }
    }
}
