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
use crate::machine::{Machine, SharedMachine, has_news};
use crate::presence::Presence;
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

pub(crate) struct Lobby {
    machine: SharedMachine,
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
    /// What says whether it goes on as it means to.
    presence: Arc<Presence>,
    /// Another one found it stuck, and polls in its place.
    stuck: bool,
}

impl Member {
    /// What tells it something. If it sleeps, it is expected to wake up at `now`.
    fn bell(&self, now: Moment) -> Sender<Nudge> {
        if self.parked {
            self.presence.expect(now);
        }
        self.nudge.clone()
    }
}

impl Local {
    /// The first of those who are not stuck, as far as anybody knows.
    fn first(&self) -> Option<(Ticket, &Member)> {
        let mut waiting = self.waiting.iter();
        let (ticket, member) = waiting.find(|(_, member)| !member.stuck)?;
        Some((*ticket, member))
    }
}

/// How a waiter may sleep.
pub(crate) enum Rest {
    /// It is the first and polls.
    Poll,
    /// Until it is nudged: somebody of the same client comes first.
    UntilNudged,
    /// The same, as the very next. It looks now and then whether the first is stuck.
    BehindFirst,
    /// Until it is nudged, or this channel closes: the holder right before it is of
    /// the same client.
    BehindHolder(Receiver<Never>),
}

impl Lobby {
    pub(crate) fn new(machine: SharedMachine) -> Self {
        Self {
            machine,
            locks: Mutex::default(),
        }
    }

    /// Takes a seat for a waiter that drew `ticket` and would hold as `holder`, or that
    /// has to go and see for itself.
    pub(crate) fn enter(
        self: &Arc<Self>,
        lock: &LockName,
        ticket: Ticket,
        holder: Option<Holder>,
        presence: Arc<Presence>,
    ) -> Seat {
        let (nudge, nudges) = unbounded();
        let member = Member {
            holder,
            nudge,
            parked: false,
            reserved: false,
            presence,
            stuck: false,
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
    /// client, asleep, and not stuck. Until the reservation ends it stays where it is.
    pub(crate) fn reserve_next(
        self: &Arc<Self>,
        lock: &LockName,
        ticket: Ticket,
    ) -> Option<Reservation> {
        let now = self.machine.now();
        let mut locks = self.locks.lock();
        let local = locks.get_mut(lock)?;
        let member = local.waiting.get_mut(&ticket.next())?;
        if member.presence.is_overdue(now) {
            // Somebody else of this client has to poll for those behind it.
            member.stuck = true;
            let first = local.first().map(|(_, first)| first.bell(now));
            drop(locks);
            if let Some(first) = first {
                let _ = first.send(Nudge::First);
            }
            return None;
        }
        if !member.parked || member.reserved {
            return None;
        }
        let holder = member.holder.clone()?;
        member.reserved = true;
        Some(Reservation {
            holder,
            lobby: Arc::clone(self),
            nudge: member.nudge.clone(),
            presence: Arc::clone(&member.presence),
            told: false,
        })
    }

    /// Tells the first waiter of this client that it is worth a look: one who shared
    /// the lock does no longer.
    pub(crate) fn nudge_first(&self, lock: &LockName) {
        let now = self.machine.now();
        let first = {
            let locks = self.locks.lock();
            let first = locks.get(lock).and_then(Local::first);
            first.map(|(_, member)| member.bell(now))
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
    /// Falls asleep: from here on the lock may be claimed in this waiter's name. Those
    /// before it that are stuck, if any, cannot be relied on to poll for it.
    pub(crate) fn park(&self) -> Rest {
        let now = self.lobby.machine.now();
        let mut locks = self.lobby.locks.lock();
        let Some(local) = locks.get_mut(&self.lock) else {
            return Rest::Poll;
        };
        for member in local.waiting.range_mut(..self.ticket).map(|(_, it)| it) {
            if !member.presence.is_overdue(now) {
                break;
            }
            member.stuck = true;
        }
        if let Some(member) = local.waiting.get_mut(&self.ticket) {
            member.parked = true;
            member.stuck = false;
        }
        let mut well = local.waiting.iter().filter(|(_, member)| !member.stuck);
        let mut is_next = || well.next().map(|(ticket, _)| ticket) == Some(&self.ticket);
        let (first, second) = (is_next(), is_next());
        match &local.held {
            Some((held, lost)) if held.next() == self.ticket && !has_news(lost) => {
                Rest::BehindHolder(lost.clone())
            }
            _ if first => Rest::Poll,
            _ if second => Rest::BehindFirst,
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
        let now = self.lobby.machine.now();
        let next = {
            let mut locks = self.lobby.locks.lock();
            let Some(local) = locks.get_mut(&self.lock) else {
                return;
            };
            let first = local.first().map(|(ticket, _)| ticket);
            let was_first = first == Some(self.ticket);
            local.waiting.remove(&self.ticket);
            let next = local.first().filter(|_| was_first);
            let next = next.map(|(_, member)| member.bell(now));
            if local.waiting.is_empty() && local.held.is_none() {
                locks.remove(&self.lock);
            }
            next
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
    lobby: Arc<Lobby>,
    nudge: Sender<Nudge>,
    presence: Arc<Presence>,
    told: bool,
}

impl Reservation {
    /// The lock was claimed, by a write sent at `sent`.
    pub(crate) fn handed_over(mut self, sent: Moment) {
        self.told = true;
        self.tell(Nudge::HandedOver(sent));
    }

    /// From here on the waiter is to go on.
    fn tell(&self, nudge: Nudge) {
        self.presence.expect(self.lobby.machine.now());
        let _ = self.nudge.send(nudge);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Nudge::Look);
        }
    }
}
