//! Stands between the contenders and the server: counts what they ask for, and makes
//! each round trip longer by a fixed time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What was asked for. Requests about tables are left out: they are no part of locking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    /// One for each write, refused ones included: all rows are below 1 KB.
    pub(crate) write_units: u64,
    /// One for each consistent read, half of one for another: all rows are below 4 KB.
    pub(crate) read_units: f64,
    pub(crate) by_operation: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, operation: &str, body: &[u8]) {
        match operation {
            "PutItem" | "UpdateItem" | "DeleteItem" => self.write_units += 1,
            "GetItem" | "Query" | "Scan" => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let consistent = body["ConsistentRead"].as_bool().unwrap_or(false);
                self.read_units += if consistent { 1.0 } else { 0.5 };
            }
            _ => return,
        }
        self.requests += 1;
        *self.by_operation.entry(operation.to_owned()).or_default() += 1;
    }
}

/// A proxy that listens on a port of its own until this is dropped.
pub(crate) struct Proxy {
    endpoint: String,
    tally: Arc<Mutex<Tally>>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Starts one before the server at `endpoint`; half of `added` passes before a
    /// request reaches the server, and half before its answer goes back.
    pub(crate) fn start(endpoint: &str, added: Duration) -> anyhow::Result<Self> {
        let server: Uri = endpoint.parse().context("the endpoint is no address")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let tally = Arc::default();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let relay = Arc::new(Relay {
            server,
            added,
            tally: Arc::clone(&tally),
            client: Client::builder(TokioExecutor::new()).build(connector),
        });
        runtime.spawn(accept(listener, relay));
        Ok(Self {
            endpoint,
            tally,
            runtime: Some(runtime),
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What was asked for since the last call.
    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Relay {
    server: Uri,
    added: Duration,
    tally: Arc<Mutex<Tally>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

async fn accept(listener: TcpListener, relay: Arc<Relay>) {
    while let Ok((stream, _)) = listener.accept().await {
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let serve = service_fn(|request| answer(&relay, request));
            // An error here is a contender that went away.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        });
    }
}

async fn answer(
    relay: &Relay,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(relay.pass_on(request).await.unwrap_or_else(|error| {
        let mut response = Response::new(Full::from(format!("{error:#}")));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }))
}

impl Relay {
    async fn pass_on(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let target = head
            .headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok());
        if let Some((_, operation)) = target.and_then(|target| target.split_once('.')) {
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.count(operation, &body);
        }
        pause(self.added / 2).await?;

        let mut address = self.server.clone().into_parts();
        address.path_and_query = head.uri.path_and_query().cloned();
        head.uri = Uri::from_parts(address)?;
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.remove(CONTENT_LENGTH);
        let response = self
            .client
            .request(Request::from_parts(head, Full::new(body)))
            .await?;

        let (mut head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.remove(CONTENT_LENGTH);
        pause(self.added - self.added / 2).await?;
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

/// The runtime's own timer counts in whole milliseconds.
async fn pause(time: Duration) -> anyhow::Result<()> {
    if !time.is_zero() {
        tokio::task::spawn_blocking(move || thread::sleep(time)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_count_whole_and_reads_by_consistency() {
        let mut tally = Tally::default();
        tally.count("UpdateItem", b"{}");
        tally.count("GetItem", br#"{"ConsistentRead":true}"#);
        tally.count("GetItem", b"{}");
        tally.count("DescribeTable", b"{}");
        assert_eq!(
            (tally.requests, tally.write_units, tally.read_units),
            (3, 1, 1.5)
        );
        assert_eq!(tally.by_operation["GetItem"], 2);
    }
}
