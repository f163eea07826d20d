//! Which contests are held.

use std::thread;
use std::time::Duration;

use crate::contest::{self, Contest};
use crate::figures::figures;
use crate::peers::{OURS, Peer, RAW, Runner, Settings};
use crate::results::{ContestRow, DeathRow, Row, Workload};
use crate::runners;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Acquisitions of one contender alone.
    alone: usize,
    /// Bare requests by which a round trip is measured.
    probes: usize,
    contenders: usize,
    rounds: usize,
    limit: Duration,
    crowds: &'static [usize],
    /// Acquisitions of a whole crowd.
    crowd_total: usize,
    distances_ms: &'static [u64],
    sweep_limit: Duration,
    death_limit: Duration,
}

pub(crate) const FULL: Extent = Extent {
    alone: 150,
    probes: 50,
    contenders: 8,
    rounds: 20,
    limit: Duration::from_secs(60),
    crowds: &[1, 2, 4, 8, 16, 32],
    crowd_total: 96,
    distances_ms: &[0, 1, 2, 5, 10],
    sweep_limit: Duration::from_secs(20),
    death_limit: Duration::from_secs(90),
};

pub(crate) const QUICK: Extent = Extent {
    alone: 30,
    probes: 20,
    contenders: 4,
    rounds: 5,
    limit: Duration::from_secs(6),
    crowds: &[1, 4],
    crowd_total: 12,
    distances_ms: &[0, 5],
    sweep_limit: Duration::from_secs(4),
    death_limit: Duration::from_secs(25),
};

/// How long the lock is held.
const HOLD: Duration = Duration::from_millis(5);

/// What is added to a round trip where that is not what is varied.
const ADDED: Duration = Duration::from_millis(5);

/// How long a wait for the end of bare requests may be.
const PROBING: Duration = Duration::from_secs(60);

/// The round trip through one proxy, measured with bare requests.
#[derive(Debug, Clone, Copy, Default)]
struct Distance {
    round_trip_ms: f64,
    pair_ms: f64,
}

pub(crate) struct Program<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) extent: Extent,
    pub(crate) peers: Vec<&'static Peer>,
    pub(crate) rows: Vec<Row>,
}

impl Program<'_> {
    /// Holds all contests. A peer that fails in one of them is noted, and the others
    /// go on.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut able = Vec::new();
        for peer in std::mem::take(&mut self.peers) {
            match runners::prepare(peer.runner) {
                Ok(()) => able.push(peer),
                Err(error) => self.fail(peer, "all", &error),
            }
        }
        self.peers = able;
        self.alone()?;
        self.crowd(Workload::Default, Settings::Default)?;
        self.crowd(Workload::Eager, Settings::Eager)?;
        self.crowds()?;
        self.distances()?;
        self.deaths();
        Ok(())
    }

    fn alone(&mut self) -> anyhow::Result<()> {
        for added in [Duration::ZERO, ADDED] {
            for peer in self.peers.clone() {
                let distance = self.measure(added)?;
                let contest = Contest {
                    contenders: 1,
                    rounds: self.extent.alone,
                    hold: Duration::ZERO,
                    added,
                    ..self.contest(peer, Settings::Default)
                };
                self.hold(Workload::Alone, contest, distance);
            }
        }
        Ok(())
    }

    fn crowd(&mut self, workload: Workload, settings: Settings) -> anyhow::Result<()> {
        for peer in self.peers.clone() {
            if settings == Settings::Eager && peer.eager.is_none() && peer.name != OURS {
                continue;
            }
            let distance = self.measure(ADDED)?;
            let contest = self.contest(peer, settings);
            self.hold(workload, contest, distance);
            if peer.name == OURS {
                self.hold(
                    workload,
                    Contest {
                        one_client: true,
                        ..contest
                    },
                    distance,
                );
            }
        }
        Ok(())
    }

    fn crowds(&mut self) -> anyhow::Result<()> {
        let distance = self.measure(ADDED)?;
        for &contenders in self.extent.crowds {
            for peer in self.natives() {
                let contest = Contest {
                    contenders,
                    rounds: (self.extent.crowd_total / contenders).max(1),
                    limit: self.extent.sweep_limit,
                    ..self.contest(peer, Settings::Eager)
                };
                self.hold(Workload::Crowds, contest, distance);
            }
        }
        Ok(())
    }

    fn distances(&mut self) -> anyhow::Result<()> {
        for &added in self.extent.distances_ms {
            let added = Duration::from_millis(added);
            let distance = self.measure(added)?;
            for peer in self.natives() {
                let contest = Contest {
                    rounds: self.extent.rounds.div_ceil(2),
                    added,
                    limit: self.extent.sweep_limit,
                    ..self.contest(peer, Settings::Eager)
                };
                self.hold(Workload::Distances, contest, distance);
            }
        }
        Ok(())
    }

    /// All at once: they only wait.
    fn deaths(&mut self) {
        eprintln!("dead holders");
        let (endpoint, limit) = (self.endpoint, self.extent.death_limit);
        let found: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = self
                .peers
                .iter()
                .map(|&peer| {
                    (
                        peer,
                        scope.spawn(move || contest::death(endpoint, peer, limit)),
                    )
                })
                .collect();
            running
                .into_iter()
                .map(|(peer, thread)| (peer, thread.join()))
                .collect()
        });
        for (peer, outcome) in found {
            match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))) {
                Ok(after) => self.rows.push(Row::Death(DeathRow {
                    peer: peer.name.into(),
                    lease_ms: peer.lease_ms,
                    limit_ms: whole_millis(limit),
                    after_ms: after.map(whole_millis),
                })),
                Err(error) => self.fail(peer, "dead holder", &error),
            }
        }
    }

    fn natives(&self) -> Vec<&'static Peer> {
        self.peers
            .iter()
            .copied()
            .filter(|peer| peer.runner == Runner::Itself)
            .collect()
    }

    fn contest(&self, peer: &'static Peer, settings: Settings) -> Contest {
        Contest {
            peer,
            settings,
            contenders: self.extent.contenders,
            one_client: false,
            rounds: self.extent.rounds,
            hold: HOLD,
            added: ADDED,
            limit: self.extent.limit,
            warm_up: 5,
        }
    }

    fn measure(&self, added: Duration) -> anyhow::Result<Distance> {
        let contest = Contest {
            contenders: 1,
            rounds: self.extent.probes,
            added,
            limit: PROBING,
            ..self.contest(&RAW, Settings::Default)
        };
        let found = figures(&contest.run(self.endpoint)?.events, 0);
        Ok(Distance {
            round_trip_ms: found.median_wait_ms.unwrap_or_default(),
            pair_ms: found.cycle_ms.unwrap_or_default(),
        })
    }

    fn hold(&mut self, workload: Workload, contest: Contest, distance: Distance) {
        let Contest {
            peer,
            settings,
            contenders,
            rounds,
            ..
        } = contest;
        eprintln!(
            "{workload:?}: {}, {} settings, {contenders} x {rounds}, {:?} added",
            peer.name,
            settings.name(),
            contest.added,
        );
        match contest.run(self.endpoint) {
            Ok(outcome) => self.rows.push(Row::Contest(ContestRow {
                workload,
                peer: peer.name.into(),
                set: peer.describe(settings).into(),
                one_client: contest.one_client,
                contenders,
                rounds,
                hold_ms: whole_millis(contest.hold),
                added_ms: whole_millis(contest.added),
                round_trip_ms: distance.round_trip_ms,
                pair_ms: distance.pair_ms,
                limit_ms: whole_millis(contest.limit),
                finished: outcome.finished,
                tally: outcome.tally,
                figures: figures(&outcome.events, (distance.round_trip_ms * 1e6) as u64),
            })),
            Err(error) => self.fail(peer, &format!("{workload:?}, {contenders}"), &error),
        }
    }

    fn fail(&mut self, peer: &Peer, what: &str, error: &anyhow::Error) {
        eprintln!("{}: {error:#}", peer.name);
        self.rows.push(Row::Failed {
            peer: peer.name.into(),
            what: what.into(),
            reason: format!("{error:#}"),
        });
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
