//! Who leaves gives back what it has, whatever it was about to ask for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use dynamodb_fifo_lock::protocol::Write;
use dynamodb_fifo_lock::record::Holder;
use dynamodb_fifo_lock::{
    AcquireOptions, Error, Event, HolderId, LockClient, LockGuard, LockName, LockStore,
    MemoryStore, Ticket,
};
use parking_lot::Mutex;

use super::{announcing, read, reading};
use crate::common::{DEADLINE, quick, wait_for};
use dynamodb_fifo_lock::testing::{Fate, FaultyStore, Request};

/// So many requests an attempt makes here at least, polls included.
const REQUESTS: usize = 12;

/// At this request the lock comes free.
const LET_GO_AT: usize = 7;

const TIMEOUT: Duration = Duration::from_millis(120);

/// How an attempt ends before its time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Exit {
    TimeOut,
    Cancel,
    Close,
    ObserverPanics,
}

/// What an attempt waits for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// To be alone, while another one shares the lock.
    Alone,
    /// For the only permit.
    Room,
    /// To share, while another one holds alone.
    Turn,
    /// For nothing but its own discovery that whoever shares is long dead.
    Dead,
    /// For nothing: nobody is there.
    Nothing,
    /// The same, to hold alone.
    NothingAlone,
}

impl Wait {
    /// What keeps the attempt waiting, if anything does.
    fn obstacle(self, client: &LockClient) -> Option<LockGuard> {
        match self {
            Self::Alone | Self::Room => Some(read(client, "left")),
            Self::Turn => Some(client.acquire("left").unwrap()),
            Self::Dead | Self::Nothing | Self::NothingAlone => None,
        }
    }

    fn options(self) -> AcquireOptions {
        match self {
            Self::Alone | Self::Dead | Self::NothingAlone => AcquireOptions::new(),
            Self::Room => AcquireOptions::new().permits(1),
            Self::Turn | Self::Nothing => reading(),
        }
    }
}

/// Has an attempt end while its `nth` request is under way, and checks that nothing is
/// left that keeps others out. Says whether it ended before it was granted the lock.
fn leaves_at(nth: usize, wait: Wait, exit: Exit) -> bool {
    let store = MemoryStore::new();
    let (other, _) = announcing(store.clone());
    if let Wait::Dead = wait {
        leave_a_corpse(&store);
    }
    let obstacle = Arc::new(Mutex::new(wait.obstacle(&other)));
    let let_go = Arc::clone(&obstacle);
    let (cancel, cancelled) = bounded::<()>(1);
    let closing: Arc<OnceLock<LockClient>> = Arc::default();
    let to_close = Arc::clone(&closing);
    let seen = AtomicUsize::new(0);
    let faulty = FaultyStore::new(store, move |lock, request| {
        if lock.as_str() != "left" {
            return Fate::Fine;
        }
        let number = seen.fetch_add(1, Ordering::SeqCst) + 1;
        if number == LET_GO_AT {
            drop(let_go.lock().take());
        }
        if number != nth {
            return Fate::Fine;
        }
        match exit {
            Exit::TimeOut => thread::sleep(TIMEOUT),
            Exit::Cancel => drop(cancel.try_send(())),
            Exit::Close => close(to_close.get().unwrap().clone()),
            // The observer panics as it hears of a failure. Nobody can give back a
            // ticket that it does not know of.
            Exit::ObserverPanics => match request {
                Request::Write(Write::Enqueue { .. } | Write::EnqueueBehind) => {
                    return Fate::Lost;
                }
                _ => return Fate::AnswerLost,
            },
        }
        Fate::Fine
    });
    let client = quick()
        .observer(move |event: &Event<'_>| {
            let disturbed = matches!(event, Event::WaitDisturbed { .. });
            assert!(!(disturbed && exit == Exit::ObserverPanics), "on purpose");
        })
        .build(faulty)
        .unwrap();
    closing.set(client.clone()).unwrap();
    let timeout = match exit {
        Exit::TimeOut => TIMEOUT,
        _ => DEADLINE,
    };
    let options = wait.options().timeout(timeout).cancel(cancelled);
    let outcome = thread::spawn(move || client.acquire_with("left", options)).join();
    let left = match (exit, outcome) {
        (_, Ok(Ok(guard))) => {
            let _ = guard.release();
            false
        }
        (Exit::TimeOut, Ok(Err(Error::AcquireTimeout { .. })))
        | (Exit::Cancel, Ok(Err(Error::Cancelled { .. })))
        | (Exit::Close, Ok(Err(Error::Closed { .. })))
        | (Exit::ObserverPanics, Err(_)) => true,
        (_, other) => panic!("{wait:?}, {exit:?} at {nth}: {other:?}"),
    };
    drop(obstacle.lock().take());
    // Even who does not wait gets in: there is no turn, no claim and no share left.
    let next = other.try_acquire("left").unwrap();
    let next = next.unwrap_or_else(|| {
        let status = other.inspect("left").unwrap();
        panic!("{wait:?}, {exit:?} at {nth}: {status:?}")
    });
    assert!(next.is_held());
    left
}

/// Has somebody share the lock who has not been heard of since 1970.
fn leave_a_corpse(store: &MemoryStore) {
    let share = Write::TryShare {
        holder: Holder {
            id: HolderId::new("corpse"),
            lease: Duration::from_secs(1),
            owner: "corpse".into(),
            since_ms: 1,
            renewed_at_ms: 1,
            data: None,
        },
        limit: 1,
        start: Ticket::new(10),
        grace: Duration::from_secs(1),
    };
    let lock = LockName::new("left").unwrap();
    let written = store.write(&lock, &share, DEADLINE).unwrap();
    assert!(written.applied().is_some());
}

/// Closes a client, and returns once it takes nothing on any more.
fn close(client: LockClient) {
    let probe = client.clone();
    thread::spawn(move || client.close());
    wait_for("the client to close", || {
        matches!(probe.try_acquire("probe"), Err(Error::Closed { .. }))
    });
}

/// Tries every request of every wait.
fn leaves_everywhere(exit: Exit) {
    let check = |wait: Wait| {
        let left = (1..=REQUESTS).filter(|nth| leaves_at(*nth, wait, exit));
        let left = left.count();
        let least = match (wait, exit) {
            // What is granted late is granted.
            (Wait::Nothing | Wait::NothingAlone, Exit::TimeOut) => 0,
            (Wait::Nothing | Wait::NothingAlone, _) => 1,
            // Try, enqueue, evict: the guard rests on the turn.
            (Wait::Dead, _) => 2,
            _ => LET_GO_AT - 1,
        };
        assert!(left >= least, "{wait:?}, {exit:?}: {left} of {REQUESTS}");
    };
    thread::scope(|scope| {
        for wait in [
            Wait::Alone,
            Wait::Room,
            Wait::Turn,
            Wait::Dead,
            Wait::Nothing,
            Wait::NothingAlone,
        ] {
            scope.spawn(move || check(wait));
        }
    });
}

#[test]
fn a_wait_that_times_out_gives_everything_back() {
    leaves_everywhere(Exit::TimeOut);
}

#[test]
fn a_wait_that_is_cancelled_gives_everything_back() {
    leaves_everywhere(Exit::Cancel);
}

#[test]
fn a_wait_that_is_closed_gives_everything_back() {
    leaves_everywhere(Exit::Close);
}

#[test]
fn a_wait_whose_observer_panics_gives_everything_back() {
    leaves_everywhere(Exit::ObserverPanics);
}

/// The observer hears of the grant before the caller has the guard.
#[test]
fn a_panic_at_the_grant_gives_the_share_back() {
    let store = MemoryStore::new();
    let (other, _) = announcing(store.clone());
    let client = quick()
        .observer(|event: &Event<'_>| {
            assert!(!matches!(event, Event::Granted { .. }), "on purpose");
        })
        .build(store)
        .unwrap();
    for wait in [Wait::Nothing, Wait::Room, Wait::Alone] {
        let client = client.clone();
        let asked = thread::spawn(move || client.acquire_with("left", wait.options()));
        assert!(asked.join().is_err());
        assert!(other.try_acquire("left").unwrap().is_some(), "{wait:?}");
    }
}

/// Whoever gives up lets the next one in at once, and not when its lease or its claim
/// has run out.
#[test]
fn the_turn_of_a_writer_that_gave_up_is_passed_on() {
    let store = MemoryStore::new();
    let (told, news) = unbounded();
    let writer = quick()
        .lease(Duration::from_secs(3_600))
        .observer(move |event: &Event<'_>| {
            if let Event::Enqueued { ticket, .. } = event {
                let _ = told.send(*ticket);
            }
        })
        .build(store.clone())
        .unwrap();
    let (client, joins) = announcing(store);
    let reader = read(&client, "passed-on");
    thread::scope(|scope| {
        let (cancel, cancelled) = bounded::<()>(0);
        let options = AcquireOptions::new().cancel(cancelled);
        let gives_up = scope.spawn(|| writer.acquire_with("passed-on", options));
        news.recv_timeout(DEADLINE).unwrap();
        wait_for("the claim", || {
            client
                .inspect("passed-on")
                .unwrap()
                .unwrap()
                .holder
                .is_some()
        });
        let later = scope.spawn(|| client.acquire_with("passed-on", reading()).unwrap());
        joins.recv_timeout(DEADLINE).unwrap();
        assert!(!later.is_finished());
        drop(cancel);
        assert!(matches!(
            gives_up.join().unwrap(),
            Err(Error::Cancelled { .. })
        ));
        // Beside the reader that was there all the time.
        let later = later.join().unwrap();
        assert!(later.is_held() && reader.is_held());
    });
}
