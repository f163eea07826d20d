//! `dynamodb-lease`. A task renews its leases.

use std::time::Duration;

use dynamodb_lease::Client;

use super::{LOCK, Options, Voice, hold_async, line_up, now, sdk};
use crate::peers::Settings;

pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut builder = Client::builder().table_name(&options.table);
    if options.settings == Settings::Eager {
        builder = builder.acquire_cooldown(Duration::from_millis(1));
    }
    let client = builder.build_and_check_db(sdk(&options.endpoint)).await?;
    for _ in 0..options.warm_up {
        client.acquire(options.own_lock()).await?.release().await?;
    }
    line_up()?;
    let voice = Voice(options.number);
    for _ in 0..options.rounds {
        voice.asked()?;
        let lease = client.acquire(LOCK).await?;
        voice.granted()?;
        hold_async(options.hold()).await;
        let began = now();
        lease.release().await?;
        voice.released(began)?;
    }
    Ok(())
}
