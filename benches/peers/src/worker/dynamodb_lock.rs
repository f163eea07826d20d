//! `dynamodb_lock` of the Delta Lake project. Nothing renews its leases.

use std::time::Duration;

use dynamodb_lock::{DynamoDbLockClient, DynamoDbOptions, DynamoError, Region};
use hyper_of_rusoto::client::HttpConnector;
use rusoto_core::HttpClient;
use rusoto_core::credential::StaticProvider;
use rusoto_dynamodb::DynamoDbClient;

use super::{LOCK, Options, Voice, hold_async, line_up, now};
use crate::peers::Settings;

pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    // Its own HTTP client would refuse an address without TLS.
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let dynamodb = DynamoDbClient::new_with(
        HttpClient::from_connector(connector),
        StaticProvider::new_minimal("test".into(), "test".into()),
        Region::Custom {
            name: "us-east-1".into(),
            endpoint: options.endpoint.clone(),
        },
    );
    let client = |lock: &str| {
        let mut wishes = DynamoDbOptions {
            partition_key_value: lock.into(),
            table_name: options.table.clone(),
            ..DynamoDbOptions::default()
        };
        if options.settings == Settings::Eager {
            wishes.refresh_period = Duration::from_millis(1);
        }
        DynamoDbLockClient::default()
            .with_client(dynamodb.clone())
            .with_options(wishes)
    };
    let own = client(&options.own_lock());
    for _ in 0..options.warm_up {
        let lock = own.acquire_lock(None).await?;
        own.release_lock(&lock).await?;
    }
    let client = client(LOCK);
    line_up()?;
    let voice = Voice(options.number);
    for _ in 0..options.rounds {
        let lock = loop {
            voice.asked()?;
            match client.acquire_lock(None).await {
                Ok(lock) => break lock,
                Err(DynamoError::TimedOut(_)) => voice.gave_up()?,
                Err(error) => return Err(error.into()),
            }
        };
        voice.granted()?;
        hold_async(options.hold()).await;
        let began = now();
        client.release_lock(&lock).await?;
        voice.released(began)?;
    }
    Ok(())
}
