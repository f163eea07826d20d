//! What the workers said, and what of it must not be.
//!
//! A worker says whether its guard holds in answer to something that we said. So
//! whatever it says was true at some instant between the two, by our own clock, and
//! no clock of a worker has to be believed. A guard that holds at two instants holds
//! in between.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::arena::GRACE;

/// So many of the last words are kept, for whoever has to find out what went wrong.
const LOGGED: usize = 80;

/// Between the name of a worker and the number of a process that it has forked.
pub(crate) const OF_PARENT: char = '+';

/// For how long a holder is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    For(Duration),
    UntilTold,
}

/// One grant of the lock, as the resource that it protects saw it.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) worker: String,
    pub(crate) token: u64,
    /// When the first write with the token came.
    pub(crate) first: Instant,
    /// From when on, and until when, it surely was held.
    pub(crate) begin: Option<Instant>,
    pub(crate) end: Option<Instant>,
    /// When the guard first said that it does not hold.
    pub(crate) denied: Option<Instant>,
    /// Whether the resource took any write with it.
    pub(crate) accepted: bool,
    /// Writes that were refused because somebody newer had written.
    pub(crate) refused: usize,
    /// How it ended, in the worker's words.
    pub(crate) ended: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) hold: Hold,
    /// Of how many processes it is to become the parent, when it next holds.
    pub(crate) forks: usize,
    /// Whether it is to stop after its next turn.
    pub(crate) finish: bool,
    pub(crate) finished: bool,
    /// Killed. Its last words may still arrive.
    pub(crate) dead: bool,
    /// Whether it has nothing to do with the lock at the moment.
    pub(crate) resting: bool,
    /// The token with which it writes, and is to go on writing.
    pub(crate) holds: Option<u64>,
    /// The ticket with which it waits.
    pub(crate) ticket: Option<u64>,
    /// Turns it had, from the first write to the end.
    pub(crate) turns: usize,
    pub(crate) passed_over: Vec<u64>,
    pub(crate) failures: Vec<String>,
    /// Waits that it gave up, because it was not to wait for longer, or not at all.
    pub(crate) gave_up: usize,
    asked: Instant,
    spoken_to: Instant,
    /// So many things are wrong with it or its connection.
    troubles: usize,
    /// When the last of them ended.
    troubled: Option<Instant>,
}

impl Account {
    /// Whether it has begun.
    pub(crate) fn has_asked(&self) -> bool {
        self.holds.is_some() || self.ticket.is_some() || self.turns > 0
    }

    /// Whether nothing was wrong with it since it asked for the lock.
    fn was_well(&self) -> bool {
        self.troubles == 0 && self.troubled.is_none_or(|until| until < self.asked)
    }
}

pub(crate) struct Book {
    pub(crate) accounts: BTreeMap<String, Account>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) violations: Vec<String>,
    /// What befell workers with whom nothing was wrong.
    pub(crate) unfair: Vec<String>,
    /// Nobody is to begin another turn.
    pub(crate) rest: bool,
    pub(crate) closed: bool,
    /// When the lock was last used, or first asked for.
    used: Option<Instant>,
    /// The longest time for which it was not used.
    unused: Duration,
    began: Instant,
    log: VecDeque<String>,
}

/// What a worker hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    More,
    Enough,
    Stale,
    /// More, and it is to fork.
    Fork(usize),
    /// It may ask for the lock again.
    Again,
    Bye,
}

impl Reply {
    pub(crate) fn word(self) -> String {
        match self {
            Self::Nothing => "".into(),
            Self::More => "more".into(),
            Self::Enough => "enough".into(),
            Self::Stale => "stale".into(),
            Self::Fork(children) => format!("fork {children}"),
            Self::Again => "again".into(),
            Self::Bye => "bye".into(),
        }
    }
}

impl Book {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            accounts: BTreeMap::new(),
            grants: Vec::new(),
            violations: Vec::new(),
            unfair: Vec::new(),
            rest: false,
            closed: false,
            used: None,
            unused: Duration::ZERO,
            began: now,
            log: VecDeque::new(),
        }
    }

    pub(crate) fn open_account(&mut self, worker: &str, hold: Hold, now: Instant) {
        let account = Account {
            hold,
            forks: 0,
            finish: false,
            finished: false,
            dead: false,
            resting: false,
            holds: None,
            ticket: None,
            turns: 0,
            passed_over: Vec::new(),
            failures: Vec::new(),
            gave_up: 0,
            asked: now,
            spoken_to: now,
            troubles: 0,
            troubled: None,
        };
        self.accounts.insert(worker.into(), account);
    }

    /// A process that a worker has forked introduces itself. Whatever goes wrong with the
    /// connection of its parent does so with its own.
    pub(crate) fn adopt(&mut self, worker: &str, now: Instant) {
        if let Some((parent, _)) = worker.split_once(OF_PARENT)
            && !self.accounts.contains_key(worker)
        {
            // Long enough to claim, so that whoever has the same identity finds itself there.
            let hold = Hold::For(GRACE * 2 / 5);
            self.note(&format!("-- {parent} forks {worker}"));
            self.open_account(worker, hold, now);
            self.trouble(worker);
        }
    }

    /// The processes that workers have forked.
    pub(crate) fn forked(&self) -> impl Iterator<Item = &Account> {
        let all = self.accounts.iter();
        all.filter(|(name, _)| name.contains(OF_PARENT))
            .map(|(_, account)| account)
    }

    /// The longest time up to now for which nobody used the lock, although it was asked
    /// for: as long as somebody always does.
    pub(crate) fn unused_for(&self, now: Instant) -> Duration {
        let since = self.used.map_or(Duration::ZERO, |used| now - used);
        self.unused.max(since)
    }

    pub(crate) fn account(&self, worker: &str) -> &Account {
        &self.accounts[worker]
    }

    pub(crate) fn account_mut(&mut self, worker: &str) -> &mut Account {
        self.accounts.get_mut(worker).unwrap()
    }

    /// From here on, until it is over, a worker may lose its place.
    pub(crate) fn trouble(&mut self, worker: &str) {
        self.account_mut(worker).troubles += 1;
    }

    pub(crate) fn trouble_is_over(&mut self, worker: &str, now: Instant) {
        let account = self.account_mut(worker);
        account.troubles -= 1;
        account.troubled = Some(now);
    }

    /// Notes something that was done to a worker.
    pub(crate) fn note(&mut self, words: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.log.push_back(format!("{at:8.3} {words}"));
        if self.log.len() > LOGGED {
            self.log.pop_front();
        }
    }

    pub(crate) fn last_words(&self) -> String {
        self.log.iter().map(|line| format!("\n  {line}")).collect()
    }

    /// The worker that is writing, by all that is known here.
    pub(crate) fn holder(&self) -> Option<&str> {
        let newest = self.grants.iter().rev().find(|grant| grant.accepted)?;
        let holds = self.account(&newest.worker).holds == Some(newest.token);
        holds.then_some(newest.worker.as_str())
    }

    pub(crate) fn grants_of(&self, worker: &str) -> impl DoubleEndedIterator<Item = &Grant> {
        self.grants
            .iter()
            .filter(move |grant| grant.worker == worker)
    }

    /// Takes what a worker says, and decides what it hears.
    pub(crate) fn hear(&mut self, worker: &str, words: &str, now: Instant) -> Reply {
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        let (number, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let number: u64 = number.parse().unwrap_or_default();
        let reply = match word {
            "write" => self.write(worker, number, more == "held", now),
            "asks" => {
                let account = self.account_mut(worker);
                account.asked = now;
                account.resting = false;
                account.ticket = None;
                self.used.get_or_insert(now);
                Reply::Nothing
            }
            "inherits" => {
                // The memory of a process is copied, its hold is not.
                if more == "held" {
                    self.violations.push(format!(
                        "{worker} was forked from a holder, and says that it holds with its \
                         token {number}"
                    ));
                }
                Reply::Nothing
            }
            "gave" => {
                self.account_mut(worker).gave_up += 1;
                self.next(worker)
            }
            "joined" => {
                self.account_mut(worker).ticket = Some(number);
                Reply::Nothing
            }
            "passed" => {
                self.account_mut(worker).passed_over.push(number);
                self.should_not_be(worker, words);
                Reply::Nothing
            }
            "released" | "ended" | "unreleased" => self.end(worker, number, words),
            "failed" => {
                self.account_mut(worker).failures.push(rest.into());
                self.next(worker)
            }
            _ => {
                self.violations.push(format!("{worker} says: {words}"));
                Reply::Nothing
            }
        };
        if reply != Reply::More {
            self.note(&format!("{worker}: {words} -> {}", reply.word()));
        }
        if reply != Reply::Nothing {
            self.account_mut(worker).spoken_to = now;
        }
        reply
    }

    fn write(&mut self, worker: &str, token: u64, held: bool, now: Instant) -> Reply {
        let account = &self.accounts[worker];
        let (asked, hold, finish) = (account.spoken_to, account.hold, account.finish);
        let known = self
            .grants
            .iter()
            .rposition(|grant| grant.worker == worker && grant.token == token);
        let index = known.unwrap_or_else(|| self.granted(worker, token, now));
        let newer = self.grants.iter().filter(|other| other.token > token);
        // Whoever is newer was granted the lock before it first wrote.
        let superseded = newer.clone().any(|other| held && other.first < asked);
        if superseded {
            self.violations.push(format!(
                "{worker} says that it holds with token {token}, after a later one was used"
            ));
        }
        let stale = newer.clone().any(|other| other.accepted);
        let grant = &mut self.grants[index];
        if held && grant.denied.is_some() {
            self.violations
                .push(format!("token {token} was lost, and is held again"));
        }
        if held {
            grant.begin.get_or_insert(now);
            grant.end = Some(asked);
        } else {
            grant.denied.get_or_insert(now);
        }
        if stale {
            grant.refused += 1;
            return Reply::Stale;
        }
        grant.accepted = true;
        let enough = match hold {
            Hold::For(time) => now.duration_since(grant.first) >= time,
            Hold::UntilTold => false,
        };
        self.unused = self.unused_for(now);
        self.used = Some(now);
        let over = enough || finish;
        let account = self.account_mut(worker);
        account.ticket = None;
        account.holds = (!over && !account.dead).then_some(token);
        match std::mem::take(&mut account.forks) {
            _ if over => Reply::Enough,
            0 => Reply::More,
            children => Reply::Fork(children),
        }
    }

    fn granted(&mut self, worker: &str, token: u64, now: Instant) -> usize {
        if let Some(other) = self.grants.iter().find(|grant| grant.token == token) {
            self.violations.push(format!(
                "token {token} was given to {} and to {worker}",
                other.worker
            ));
        }
        let account = &self.accounts[worker];
        if account.was_well() && account.ticket.is_some_and(|ticket| ticket != token) {
            self.violations.push(format!(
                "{worker} waited with ticket {:?} and was granted {token}",
                account.ticket
            ));
        }
        self.grants.push(Grant {
            worker: worker.into(),
            token,
            first: now,
            begin: None,
            end: None,
            denied: None,
            accepted: false,
            refused: 0,
            ended: None,
        });
        self.grants.len() - 1
    }

    /// Notes what must not happen to a worker with whom nothing is wrong.
    fn should_not_be(&mut self, worker: &str, words: &str) {
        if self.account(worker).was_well() {
            self.unfair
                .push(format!("{worker}, with whom nothing was wrong: {words}"));
        }
    }

    fn end(&mut self, worker: &str, token: u64, words: &str) -> Reply {
        // A release without an answer is the server's or the machine's doing.
        if words.starts_with("ended") {
            self.should_not_be(worker, words);
        }
        let grant = self
            .grants
            .iter_mut()
            .rfind(|grant| grant.worker == worker && grant.token == token);
        if let Some(grant) = grant {
            grant.ended = Some(words.into());
            if words.starts_with("released") && grant.denied.is_some() {
                self.violations
                    .push(format!("token {token} was lost, and its release succeeded"));
            }
        }
        let account = self.account_mut(worker);
        account.holds = None;
        account.turns += 1;
        self.next(worker)
    }

    fn next(&mut self, worker: &str) -> Reply {
        let account = self.account_mut(worker);
        account.ticket = None;
        account.resting = true;
        if account.finish {
            account.finished = true;
            return Reply::Bye;
        }
        Reply::Again
    }

    /// Writes that were refused because somebody newer had written.
    pub(crate) fn refused(&self) -> usize {
        self.grants.iter().map(|grant| grant.refused).sum()
    }

    /// Everything that must not be, of all that was said up to now. That somebody lost
    /// a place or a lock for no reason counts only while the machine itself ran well.
    pub(crate) fn judge(&self, fairly: bool) -> Vec<String> {
        let mut found = self.violations.clone();
        if fairly {
            found.extend(self.unfair.iter().cloned());
        }
        let mut last: Option<&Grant> = None;
        for grant in self.grants.iter().filter(|grant| grant.accepted) {
            if let Some(last) = last
                && grant.token <= last.token
            {
                found.push(format!("token {} after token {}", grant.token, last.token));
            }
            last = Some(grant);
        }
        let mut spans: Vec<_> = self
            .grants
            .iter()
            .filter_map(|grant| Some((grant.begin?, grant.end?, grant)))
            .filter(|(begin, end, _)| begin < end)
            .collect();
        spans.sort_by_key(|(begin, ..)| *begin);
        for pair in spans.windows(2) {
            let ((_, end, one), (begin, _, other)) = (&pair[0], &pair[1]);
            if begin < end {
                found.push(format!(
                    "two at once: {} with token {} and {} with token {}",
                    one.worker, one.token, other.worker, other.token
                ));
            }
        }
        found
    }
}
