//! The shipped protocol under a model checker.
//!
//! Nothing of the protocol is written down here a second time: the states that are
//! explored contain the machines themselves, and the record changes by
//! [`apply`](dynamodb_fifo_lock::protocol::apply). What is written here is what is
//! around them: the network, the clocks, the users, and what goes wrong.

#![allow(unreachable_pub, reason = "a test binary has nobody outside")]

pub mod actions;
pub mod bounds;
pub mod drive;
pub mod found;
pub mod laws;
pub mod mutation;
pub mod progress;
pub mod state;
pub mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dynamodb_fifo_lock::record::LockRecord;
use dynamodb_fifo_lock::{HolderId, Ticket};
use stateright::{Checker, HasDiscoveries, Model};

use self::bounds::{Bounds, GRACE, Start};
use self::drive::seconds;
use self::mutation::Mutation;
use self::state::{Client, State};

/// What is explored, and how it is driven.
pub struct Harness {
    bounds: Bounds,
    mutation: Option<Mutation>,
    /// The identity of each acquisition of each client.
    ids: Vec<Vec<HolderId>>,
    /// The longest that anybody waited after the last fault, in ticks.
    pub longest_wait: AtomicU64,
}

impl Harness {
    pub fn new(bounds: Bounds, mutation: Option<Mutation>) -> Self {
        let same = mutation == Some(Mutation::SameIdTwice);
        let ids = |(client, script): (usize, &bounds::Script)| {
            let client = if same { 0 } else { client };
            let acquisitions = 0..script.acquisitions.len() + progress::ASKED;
            acquisitions
                .map(|number| HolderId::new(format!("{client}/{number}")))
                .collect()
        };
        Self {
            bounds,
            mutation,
            ids: bounds.scripts.iter().enumerate().map(ids).collect(),
            longest_wait: AtomicU64::new(0),
        }
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn initial(&self) -> State {
        let record = match self.bounds.start {
            Start::Empty => None,
            Start::Orphan(ticket) => Some(LockRecord {
                issued: Ticket::new(ticket),
                served: Ticket::new(ticket).previous(),
                holder: None,
                revision: 1,
                grace: seconds(GRACE),
                moved_at_ms: drive::EPOCH_MS,
                mark: Ticket::new(ticket),
                sharers: BTreeMap::new(),
            }),
        };
        State {
            tick: 0,
            fresh: true,
            record,
            before: None,
            rows: BTreeMap::new(),
            clients: self
                .bounds
                .scripts
                .iter()
                .map(|_| Arc::new(Client::default()))
                .collect(),
            late: Vec::new(),
            faults_left: self.bounds.faults,
            turn_began: 0,
            highest: Ticket::new(0),
            highest_alone: Ticket::new(0),
            broken: None,
        }
    }
}

/// What came of a check.
pub struct Outcome {
    pub distinct: usize,
    pub generated: usize,
    pub depth: usize,
    pub took: Duration,
    pub longest_wait: u64,
    /// The laws that were broken, and how, step by step.
    pub violations: BTreeMap<&'static str, String>,
}

/// Explores all there is within the bounds, or up to the first violation.
pub fn explore(bounds: Bounds, mutation: Option<Mutation>) -> Outcome {
    // A mutation is to be caught by the same law each time.
    let threads = match mutation {
        Some(_) => 1,
        None => 2,
    };
    let began = Instant::now();
    let checker = Harness::new(bounds, mutation)
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    Outcome {
        distinct: checker.unique_state_count(),
        generated: checker.state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        longest_wait: checker.model().longest_wait.load(Ordering::Relaxed),
        violations: checker
            .discoveries()
            .into_iter()
            .map(|(law, path)| (law, format!("{:?}", path.into_actions())))
            .collect(),
    }
}
