//! A DynamoDB in this process, for examples and tests: the emulator `dynoxide`,
//! behind real HTTP.

use std::thread;

use anyhow::Context;
use crossbeam_channel::bounded;
use dynoxide::Database;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server that listens on a port of its own until this is dropped.
pub(crate) struct Embedded {
    endpoint: String,
    _stop: oneshot::Sender<()>,
}

impl Embedded {
    /// Starts a server without tables.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (started, starts) = bounded(1);
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .name("embedded-dynamodb".into())
            .spawn(move || {
                let serve = async {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    let database =
                        Database::memory().map_err(|error| anyhow::anyhow!("{error}"))?;
                    let _ = started.send(listener.local_addr()?);
                    let until = async { drop(stopped.await) };
                    dynoxide::server::serve_with_shutdown(listener, database, until)
                        .await
                        .map_err(anyhow::Error::msg)
                };
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(serve)
            })?;
        let address = starts.recv().context("the embedded server did not start")?;
        Ok(Self {
            endpoint: format!("http://{address}"),
            _stop: stop,
        })
    }

    /// Its address.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
