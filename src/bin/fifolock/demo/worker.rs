//! What each worker does.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use anyhow::{Context, Result};
use dynamodb_fifo_lock::{Event, LockClient};

use super::cut_off::CutOff;
use super::pause;
use super::stage::{Doing, Stage, UNLUCKY, WORKERS, name};

pub(super) fn start_all(stage: &Arc<Stage>) -> io::Result<()> {
    for worker in 0..WORKERS {
        let stage = Arc::clone(stage);
        thread::Builder::new().spawn(move || match play(&stage, worker) {
            Ok(()) => stage.left(worker),
            Err(error) => stage.change(|scene| {
                let error = error.context(name(worker));
                scene.failure.get_or_insert(error);
            }),
        })?;
    }
    Ok(())
}

fn play(stage: &Arc<Stage>, worker: usize) -> Result<()> {
    let store = CutOff::new(Arc::clone(&stage.store));
    let client = client(stage, worker, store.clone())?;
    // One after the other, so that the order of asking is there to be seen.
    stage.wait(|scene| scene.asked() >= worker)?;
    if worker > 0 {
        pause(stage.beat() / 2);
    }
    take_turn(stage, &client, worker)?;
    match worker {
        0 => {
            // Until all have asked, and for long enough to look at the queue.
            stage.wait(|scene| scene.asked() == WORKERS)?;
            pause(stage.beat() * 2);
            release(stage, worker)?;
            // Whoever asks again is behind all those who asked before.
            take_turn(stage, &client, worker)?;
            pause(stage.beat() * 2);
            release(stage, worker)
        }
        UNLUCKY => {
            wait_until_shown(stage, &client, worker)?;
            pause(stage.beat());
            store.cut();
            vanish(stage, worker)
        }
        _ => {
            pause(stage.beat() * 3);
            release(stage, worker)
        }
    }
}

fn client(stage: &Arc<Stage>, worker: usize, store: CutOff) -> Result<LockClient> {
    let observed: Weak<Stage> = Arc::downgrade(stage);
    let client = LockClient::builder()
        .owner(name(worker))
        .lease(stage.lease)
        .observer(move |event: &Event<'_>| {
            if let Event::Enqueued { ticket, ahead, .. } = event
                && let Some(stage) = observed.upgrade()
            {
                stage.asked(worker, *ticket, *ahead);
            }
        })
        .build(store)?;
    Ok(client)
}

fn take_turn(stage: &Stage, client: &LockClient, worker: usize) -> Result<()> {
    let guard = client.acquire(stage.lock.as_str())?;
    stage.granted(worker, guard);
    Ok(())
}

fn release(stage: &Stage, worker: usize) -> Result<()> {
    let guard = stage.change(|scene| {
        scene.workers[worker].doing = Doing::Nothing;
        scene.workers[worker].guard.take()
    });
    // Before the release, since the next one is granted the lock by it.
    stage.released(worker);
    guard.context("there is nothing to release")?.release()?;
    Ok(())
}

/// Who got the lock by waiting holds it for a moment before the table says so. Cut off
/// in that moment, it would be gone past after the claim grace, not after its lease.
fn wait_until_shown(stage: &Stage, client: &LockClient, worker: usize) -> Result<()> {
    loop {
        let status = client.inspect(stage.lock.as_str())?;
        let holder = status.and_then(|status| status.holder);
        if holder.is_some_and(|holder| holder.owner == name(worker)) {
            return Ok(());
        }
        pause(stage.beat() / 10);
    }
}

/// It works on, not knowing, until its own clock says that the lease is over. A write
/// of it is on its way all that time, and arrives when somebody else holds.
fn vanish(stage: &Stage, worker: usize) -> Result<()> {
    let (token, lost) = {
        let scene = stage.scene.lock();
        let guard = scene.workers[worker].guard.as_ref();
        let guard = guard.context("there is nothing to lose")?;
        (guard.fencing_token(), guard.lost().clone())
    };
    stage.cut_off(worker, token);
    // It closes; nothing is ever sent.
    let _ = lost.recv();
    stage.change(|scene| {
        let line = format!(
            "{} knows by its own clock that its lease is over",
            name(worker)
        );
        stage.log(scene, line);
    });
    stage.wait(|scene| scene.newest.is_some_and(|newest| newest > token))?;
    pause(stage.beat());
    stage.change(|scene| {
        stage.write(scene, worker, token, false);
        scene.workers[worker].doing = Doing::Nothing;
        // It is not there any more to release anything.
        if let Some(guard) = scene.workers[worker].guard.take() {
            std::mem::forget(guard);
        }
    });
    Ok(())
}
