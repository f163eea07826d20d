//! One state of the world: the table, the requests under way, and the clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use dynamodb_fifo_lock::Ticket;
use dynamodb_fifo_lock::protocol::{
    Answer, Consistency, Moment, Presence, Releasing, Tenure, Waiter, Watch, Write,
};
use dynamodb_fifo_lock::record::{LockRecord, TicketRow};

/// What must always hold, numbered as in `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    OneHolder,
    TokensGrow,
    Order,
    Progress,
    GuardEnds,
    Release,
}

impl Law {
    pub const ALL: [Self; 6] = [
        Self::OneHolder,
        Self::TokensGrow,
        Self::Order,
        Self::Progress,
        Self::GuardEnds,
        Self::Release,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::OneHolder => "1 one holder",
            Self::TokensGrow => "2 tokens grow",
            Self::Order => "3 order",
            Self::Progress => "4 progress",
            Self::GuardEnds => "5 guard ends",
            Self::Release => "6 release",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub tick: u8,
    /// Whether nothing has been served in this tick yet.
    pub fresh: bool,
    pub record: Option<LockRecord>,
    /// What the record was before the last write to it: an eventually consistent
    /// read may still return this.
    pub before: Option<LockRecord>,
    pub rows: BTreeMap<Ticket, TicketRow>,
    pub clients: Vec<Arc<Client>>,
    /// Requests that nobody waits for any more, and that may still arrive.
    pub late: Vec<Late>,
    pub faults_left: u8,
    /// When the present turn began. Nobody can have counted the grace from before.
    pub turn_began: u8,
    /// The highest ticket that was granted.
    pub highest: Ticket,
    /// The highest of those that were granted to somebody alone.
    pub highest_alone: Ticket,
    /// The first law that was broken on the way here.
    pub broken: Option<Law>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    pub request: Request,
    pub sent: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    Write(Write),
    Read(Consistency),
    Look {
        from: Ticket,
        to: Ticket,
        limit: usize,
    },
    Announce(TicketRow),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    pub doing: Doing,
    /// How many acquisitions it has begun.
    pub begun: u8,
    /// What acquires and releases.
    pub main: Lane,
    /// What renews leases and rows meanwhile.
    pub beat: Lane,
    pub presence: Option<Presence>,
    pub tenure: Option<Tenure>,
    /// Since when it does not run.
    pub stopped: Option<u8>,
    /// Whether only its heartbeat runs.
    pub stuck: bool,
    /// Something it was told while it was busy.
    pub nudge: Option<Answer>,
    pub contended: bool,
    /// What its earlier attempts saw.
    pub watch: Watch,
    /// Which kind of asker it is, once it asks beyond its script.
    pub asks: usize,
    /// When the user wants to give the lock back, if that is laid down.
    pub give_back_at: Option<u8>,
    /// Until when its guard may say that it holds, by what was applied and when
    /// that was sent.
    pub entitled: u8,
    /// The share that its guard is to rest on, or does, is in the record.
    pub shares: bool,
    /// Something happened to it, so that it may lose its place.
    pub disturbed: bool,
    /// Its guard has said that it does not hold any more.
    pub lost: bool,
    /// For how many ticks it did not run, if its clock stood still meanwhile.
    pub slept: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Doing {
    #[default]
    Idle,
    Waiting(Box<Waiter>),
    Holding,
    Releasing {
        releasing: Releasing,
        /// The client that the lock is handed over to.
        next: Option<usize>,
    },
}

/// One strand of a client, which does one thing at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lane {
    #[default]
    Quiet,
    Rest(Moment),
    /// Somebody of the same process is claiming the lock for it.
    Reserved {
        until: u8,
    },
    /// The request is on its way and arrives in tick `due`.
    Asked {
        request: Request,
        sent: u8,
        due: u8,
    },
    /// The answer is on its way and arrives in tick `due`.
    Answered {
        answer: Answer,
        sent: u8,
        due: u8,
    },
}

/// Which strand of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strand {
    Main,
    Beat,
}

impl Client {
    pub fn lane(&mut self, strand: Strand) -> &mut Lane {
        match strand {
            Strand::Main => &mut self.main,
            Strand::Beat => &mut self.beat,
        }
    }

    /// Says by when it means to go on, should it wait with a ticket.
    pub fn goes_on_by(&mut self, by: Moment) {
        if let Some(presence) = &mut self.presence {
            presence.expect(by);
        }
    }

    /// The request on its way to the store: the request, when it was sent, and when
    /// it is to arrive.
    pub fn asked(&self, strand: Strand) -> Option<(&Request, u8, u8)> {
        let lane = match strand {
            Strand::Main => &self.main,
            Strand::Beat => &self.beat,
        };
        match lane {
            Lane::Asked { request, sent, due } => Some((request, *sent, *due)),
            _ => None,
        }
    }

    pub fn waiting_with(&self) -> Option<Ticket> {
        match &self.doing {
            Doing::Waiting(waiter) => waiter.ticket().map(|(ticket, _)| ticket),
            _ => None,
        }
    }
}

impl State {
    pub fn client(&mut self, client: usize) -> &mut Client {
        Arc::make_mut(&mut self.clients[client])
    }

    pub fn breaks(&mut self, law: Law) {
        self.broken.get_or_insert(law);
    }
}
