//! Waiting for the lock, in sight of whoever waits and within reach of signals.

use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, TryRecvError, after, bounded, never, select, tick};
use dynamodb_fifo_lock::{AcquireOptions, Error, LockClient, LockGuard, StoreError};

use super::lookout::Lookout;
use super::news::News;
use super::progress::Progress;
use super::signals::{self, Received};

/// How often the line on the terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
pub(super) enum Patience {
    Try,
    Queue(Option<Duration>),
}

pub(super) enum Outcome {
    Granted(LockGuard),
    Busy,
    /// This signal ended the wait.
    Signalled(i32),
}

pub(super) struct Wait<'a> {
    pub(super) client: &'a LockClient,
    pub(super) lock: &'a str,
    pub(super) patience: Patience,
    pub(super) signals: &'a Receiver<Received>,
    pub(super) news: &'a Receiver<News>,
    /// For somebody who watches.
    pub(super) lookout: Option<Lookout>,
    /// How long leaving the queue may take.
    pub(super) farewell: Duration,
}

impl Wait<'_> {
    pub(super) fn run(mut self, progress: &mut Progress) -> anyhow::Result<Outcome> {
        let (stop, stopped) = bounded(0);
        let outcome = self.ask(stopped)?;
        let redraw = match self.lookout {
            Some(_) => tick(REDRAW),
            None => never(),
        };
        let seen = match &self.lookout {
            Some(lookout) => lookout.seen.clone(),
            None => never(),
        };
        loop {
            select! {
                recv(outcome) -> outcome => {
                    let outcome = outcome.context("the thread that waits has died")?;
                    return Ok(outcome?.map_or(Outcome::Busy, Outcome::Granted));
                }
                recv(self.signals) -> signal => match signal.map(signals::ends) {
                    Ok(Some(signal)) => {
                        drop(stop);
                        progress.leaving();
                        // Come what may: a queue that is not left is a place that is
                        // passed over.
                        select! {
                            recv(outcome) -> _ => {}
                            recv(after(self.farewell)) -> _ => {}
                        }
                        return Ok(Outcome::Signalled(signal));
                    }
                    Ok(None) => {} // There is no command to pass it on to.
                    Err(_) => return Err(anyhow!("the thread for signals has died")),
                },
                recv(self.news) -> news => if let Ok(news) = news {
                    self.hear(news, progress);
                },
                recv(seen) -> record => match record {
                    Ok(Ok(record)) => progress.saw(record),
                    Ok(Err(StoreError::Throttled { .. })) => self.hold_back(),
                    // Whoever waits hears of it if it lasts.
                    _ => {}
                },
                recv(redraw) -> _ => {
                    if let Some(lookout) = &mut self.lookout && progress.is_in_queue() {
                        lookout.glance();
                    }
                    progress.draw();
                }
            }
        }
    }

    /// Asks for the lock, on a thread of its own.
    fn ask(
        &self,
        stopped: Receiver<()>,
    ) -> anyhow::Result<Receiver<Result<Option<LockGuard>, Error>>> {
        let (done, outcome) = bounded(1);
        let (client, lock, patience) = (self.client.clone(), self.lock.to_owned(), self.patience);
        let ask = move || {
            let asked = match patience {
                Patience::Try => client.try_acquire(&lock),
                Patience::Queue(timeout) => {
                    let options = AcquireOptions::new().cancel(stopped.clone());
                    let options = match timeout {
                        Some(timeout) => options.timeout(timeout),
                        None => options,
                    };
                    client.acquire_with(&lock, options).map(Some)
                }
            };
            // What is granted after all is given back here.
            if stopped.try_recv() != Err(TryRecvError::Disconnected) {
                let _ = done.send(asked);
            }
        };
        thread::Builder::new()
            .name("fifolock-wait".into())
            .spawn(ask)
            .context("could not start a thread to wait")?;
        Ok(outcome)
    }

    fn hear(&mut self, news: News, progress: &mut Progress) {
        match news {
            News::Place { ticket, ahead } => progress.place(ticket, ahead),
            News::PassedOver => progress.passed_over(),
            News::Trouble { what, throttled } => {
                if throttled {
                    self.hold_back();
                }
                progress.trouble(&what);
            }
            News::RenewalFailed(_) => {}
        }
    }

    fn hold_back(&mut self) {
        if let Some(lookout) = &mut self.lookout {
            lookout.hold_back();
        }
    }
}
