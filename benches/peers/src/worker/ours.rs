//! This crate. All threads of a worker share one client.

use std::thread;

use anyhow::anyhow;
use dynamodb_fifo_lock::{AccessKeys, Credentials, DynamoDbStore, Error, LockClient};

use super::{LOCK, Options, Voice, hold, line_up, now};

pub(crate) fn store(endpoint: &str, table: &str) -> Result<DynamoDbStore, Error> {
    DynamoDbStore::builder(table)
        .region("us-east-1")
        .endpoint(endpoint)
        .credentials(Credentials::fixed(AccessKeys::new("test", "test")))
        .build()
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let client = LockClient::builder().build(store(&options.endpoint, &options.table)?)?;
    for _ in 0..options.warm_up {
        client.acquire(&options.own_lock())?.release()?;
    }
    line_up()?;
    thread::scope(|scope| {
        let contenders: Vec<_> = (0..options.threads)
            .map(|thread| {
                let voice = Voice(options.number + thread);
                let client = &client;
                scope.spawn(move || contend(client, voice, options))
            })
            .collect();
        contenders
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

fn contend(client: &LockClient, voice: Voice, options: &Options) -> anyhow::Result<()> {
    for _ in 0..options.rounds {
        let guard = loop {
            voice.asked()?;
            match client.acquire(LOCK) {
                Ok(guard) => break guard,
                Err(Error::AcquireTimeout { .. }) => voice.gave_up()?,
                Err(error) => return Err(error.into()),
            }
        };
        voice.granted()?;
        hold(options.hold());
        let began = now();
        guard.release()?;
        voice.released(began)?;
    }
    Ok(())
}
