//! `dlock`. Its `with` waits and renews; whoever wants less does it by hand.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use dlock::error::DLockError;
use dlock::{DLock, DynamodbLease, DynamodbProvider, Lease};

use super::{LOCK, Options, Voice, hold_async, line_up, now, sdk};
use crate::peers::{LEASE_MS, Settings};

/// How long an eager contender pauses between two tries.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let dynamodb = sdk(&options.endpoint);
    let own = lock(&dynamodb, options, &options.own_lock());
    for _ in 0..options.warm_up {
        acquire(&own).await?.release().await?;
    }
    let lock = lock(&dynamodb, options, LOCK);
    line_up()?;
    let voice = Voice(options.number);
    for _ in 0..options.rounds {
        match options.settings {
            Settings::Default => with(&lock, voice, options).await?,
            Settings::Eager => by_hand(&lock, voice, options).await?,
        }
    }
    Ok(())
}

fn lock(dynamodb: &Client, options: &Options, name: &str) -> DLock<DynamodbProvider> {
    let provider = DynamodbProvider::builder()
        .client(dynamodb.clone())
        .table_name(options.table.clone())
        .build();
    DLock::builder()
        .name(name.into())
        .owner(options.number.to_string())
        .duration(Duration::from_millis(LEASE_MS))
        .provider(provider)
        .build()
}

async fn with(
    lock: &DLock<DynamodbProvider>,
    voice: Voice,
    options: &Options,
) -> anyhow::Result<()> {
    voice.asked()?;
    let began = lock
        .with(async |_| {
            voice.granted()?;
            hold_async(options.hold()).await;
            anyhow::Ok(now())
        })
        .await??;
    voice.released(began)
}

async fn by_hand(
    lock: &DLock<DynamodbProvider>,
    voice: Voice,
    options: &Options,
) -> anyhow::Result<()> {
    voice.asked()?;
    let lease = acquire(lock).await?;
    voice.granted()?;
    hold_async(options.hold()).await;
    let began = now();
    lease.release().await?;
    voice.released(began)
}

async fn acquire(lock: &DLock<DynamodbProvider>) -> anyhow::Result<DynamodbLease> {
    let mut seen = None;
    loop {
        let tried = match seen.take() {
            Some(seen) => lock.retry(seen).await,
            None => lock.acquire().await,
        };
        match tried {
            Ok(lease) => return Ok(lease),
            Err(DLockError::AlreadyAcquired(holder)) => seen = Some(holder),
            Err(DLockError::AlreadyReleased) => {}
            Err(error @ DLockError::ProviderError(_)) => {
                anyhow::bail!("{error}")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
