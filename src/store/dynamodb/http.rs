//! How signed requests travel: one blocking HTTP/1.1 exchange on the calling
//! thread, over ureq. `docs/http.md` says why not rusoto's own HTTP client, or the
//! AWS SDK's.

use std::future::ready;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use rusoto_core::request::{DispatchSignedRequestFuture, HttpResponse};
use rusoto_core::signature::{SignedRequest, SignedRequestPayload};
use rusoto_core::{ByteStream, DispatchSignedRequest, HttpDispatchError};
use ureq::Agent;
use ureq::http::{Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::names::Names;

/// DynamoDB closes idle connections after one to one and a half minutes. Ours
/// are gone well before that, so that a request rarely meets a closing one.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// As many connections stay open as threads that may be renewing at once.
const POOL: usize = 64;

/// No answer to a request of ours comes near this: an item has 400 KB at most.
const MAX_BODY: u64 = 4 * 1024 * 1024;

/// The connections of one process, and the names that they lead to.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) agent: Agent,
    names: Names,
}

impl Line {
    /// None yet. They will trust `roots`.
    pub(super) fn new(roots: RootCerts) -> Self {
        let names = Names::new(MAX_IDLE);
        let agent = agent(roots, names.clone());
        Self { agent, names }
    }
}

/// An agent that never repeats or redirects a request by itself: whether a
/// write may be sent again is for the protocol to decide.
fn agent(roots: RootCerts, names: Names) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_age(MAX_IDLE)
        .max_idle_connections(POOL)
        .max_idle_connections_per_host(POOL)
        .user_agent(concat!("dynamodb-fifo-lock/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    Agent::with_parts(config, DefaultConnector::default(), names)
}

/// Whether a connection could not be opened since there are too many open files, of this
/// process or of the machine.
fn wants_files(error: &ureq::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let ureq::Error::Io(error) = error else {
        return false;
    };
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Carries one request, until its deadline.
pub(super) struct Courier {
    /// `None` if the store was handed down through too many forks.
    pub(super) line: Option<Line>,
    pub(super) deadline: Instant,
}

impl DispatchSignedRequest for Courier {
    fn dispatch(&self, request: SignedRequest, _: Option<Duration>) -> DispatchSignedRequestFuture {
        let answer = self
            .carry(request)
            .map_err(|error| HttpDispatchError::new(format!("{error:#}")));
        Box::pin(ready(answer))
    }
}

impl Courier {
    fn carry(&self, request: SignedRequest) -> anyhow::Result<HttpResponse> {
        let url = format!(
            "{}://{}{}",
            request.scheme(),
            request.hostname(),
            request.canonical_path()
        );
        let mut outgoing = Request::builder().method(request.method()).uri(&url);
        for (name, values) in request.headers() {
            for value in values {
                outgoing = outgoing.header(name.as_str(), value.as_slice());
            }
        }
        let body = match request.payload {
            Some(SignedRequestPayload::Buffer(bytes)) => bytes,
            Some(SignedRequestPayload::Stream(_)) => anyhow::bail!("a streaming request"),
            None => Bytes::new(),
        };
        let outgoing = outgoing
            .body(&body[..])
            .context("the request is not valid")?;
        let answer = self.exchange(outgoing)?;

        let status = http::StatusCode::from_u16(answer.status().as_u16())
            .context("the answer has no valid status")?;
        let mut headers = http::HeaderMap::default();
        for (name, value) in answer.headers() {
            if let Ok(name) = http::HeaderName::from_bytes(name.as_str().as_bytes()) {
                // A header may hold any bytes. The few that matter are ASCII.
                headers.append(name, String::from_utf8_lossy(value.as_bytes()).into_owned());
            }
        }
        Ok(HttpResponse {
            status,
            body: ByteStream::from(answer.into_body()),
            headers,
        })
    }

    /// Sends a request, once, and waits for the whole answer.
    pub(super) fn exchange(&self, outgoing: Request<&[u8]>) -> anyhow::Result<Response<Vec<u8>>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "the time for this request was up");
        let url = outgoing.uri().to_string();
        let Line { agent, names } = self
            .line
            .as_ref()
            .context("this store was handed down through too many forks; build one here")?;
        let outgoing = agent
            .configure_request(outgoing)
            .timeout_global(Some(left))
            .build();
        let answer = agent.run(outgoing).map_err(|error| {
            names.doubt();
            match wants_files(&error) {
                true => anyhow!(error).context("raise this process's limit of open files"),
                false => anyhow!(error),
            }
        });
        let (head, mut body) = answer.context(url)?.into_parts();
        let body = body
            .with_config()
            .limit(MAX_BODY)
            .read_to_vec()
            .context("the answer's body")?;
        // rusoto and the AWS SDK read an empty body as an empty object: to a read,
        // that would look like a lock that nobody holds.
        ensure!(
            !head.status.is_success() || !body.is_empty(),
            "the answer is empty"
        );
        Ok(Response::from_parts(head, body))
    }
}
