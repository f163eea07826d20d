//! An HTTP proxy before a server: counts requests, and spoils answers on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What happens to one request.
#[derive(Clone)]
pub enum Fault {
    /// Nothing out of order.
    None,
    /// The connection closes after the server has done what was asked.
    DropAnswer,
    /// No answer until the channel closes; the server never hears of it.
    Hang(Receiver<()>),
    /// Half of the body, and then nothing until the channel closes.
    HalfBody(Receiver<()>),
    /// A header that is not ASCII stands in the answer.
    OddHeader,
    /// This answer instead of the server's, which never hears of the request.
    Instead(u16, &'static str),
    /// The answer is kept back for this long.
    Late(Duration),
}

type Plan = dyn FnMut(&str) -> Fault + Send;

/// What was asked for: the operation, and the body.
pub type Asked = (String, Vec<u8>);

type Log = Mutex<Vec<Asked>>;

/// A proxy that listens on a port of its own, until the process ends.
pub struct Proxy {
    pub endpoint: String,
    log: Arc<Log>,
}

/// What requests cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub requests: usize,
    /// Write units: one for a write, since no row comes near a kilobyte. A write
    /// that is refused costs the same.
    pub writes: usize,
    /// Read units: one for a consistent read and a half for another, since the rows
    /// are small, and one for a query, since answers of more than 4 KB are rare.
    pub reads: f64,
}

impl Proxy {
    /// A proxy before `upstream`; `plan` is asked about each operation.
    pub fn before(upstream: &str, plan: impl FnMut(&str) -> Fault + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Log::default());
        let plan: Arc<Mutex<Box<Plan>>> = Arc::new(Mutex::new(Box::new(plan)));
        let (upstream, to) = (upstream.to_owned(), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let (upstream, log, plan) = (upstream.clone(), Arc::clone(&to), Arc::clone(&plan));
                thread::spawn(move || serve(stream, &upstream, &log, &plan));
            }
        });
        Self { endpoint, log }
    }

    /// The same with TLS, for the host name `localhost`.
    pub fn with_tls(upstream: &str, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Log::default());
        let (upstream, to) = (upstream.to_owned(), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let (upstream, log) = (upstream.clone(), Arc::clone(&to));
                thread::spawn(move || {
                    let plan: Mutex<Box<Plan>> = Mutex::new(Box::new(|_| Fault::None));
                    serve(StreamOwned::new(session, stream), &upstream, &log, &plan)
                });
            }
        });
        Self {
            endpoint: format!("https://localhost:{port}"),
            log,
        }
    }

    /// What was asked for since anything was last taken.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.log.lock())
    }

    /// The operations asked for since anything was last taken.
    pub fn take_operations(&self) -> Vec<String> {
        let taken = self.take();
        taken.into_iter().map(|(operation, _)| operation).collect()
    }

    /// What was asked for since anything was last taken cost so much.
    pub fn take_cost(&self) -> Cost {
        let mut cost = Cost::default();
        for (operation, body) in self.take() {
            cost.requests += 1;
            match operation.as_str() {
                "GetItem" if is_strong(&body) => cost.reads += 1.0,
                "GetItem" => cost.reads += 0.5,
                "Query" => cost.reads += 1.0,
                _ => cost.writes += 1,
            }
        }
        cost
    }
}

/// What a consistent read has in its body.
const STRONG: &str = "\"ConsistentRead\":true";

fn is_strong(body: &[u8]) -> bool {
    body.windows(STRONG.len())
        .any(|window| window == STRONG.as_bytes())
}

/// Serves one connection until either side closes it.
fn serve(
    stream: impl Read + Write,
    upstream: &str,
    log: &Log,
    plan: &Mutex<Box<Plan>>,
) -> Option<()> {
    let agent = agent();
    let mut reader = BufReader::new(stream);
    loop {
        let (headers, body) = read_request(&mut reader)?;
        let operation = operation_of(&headers).to_owned();
        log.lock().push((operation.clone(), body.clone()));
        let fault = (plan.lock())(&operation);
        let mut writer = reader.get_mut();
        match &fault {
            Fault::Hang(until) => {
                let _ = until.recv();
                return None;
            }
            Fault::Instead(status, text) => {
                answer(&mut writer, *status, "", text.as_bytes())?;
                continue;
            }
            _ => {}
        }
        let (status, text) = forward(&agent, upstream, &headers, &body)?;
        match fault {
            Fault::Late(by) => {
                sleep_until(Instant::now() + by);
                answer(&mut writer, status, "", &text)?;
            }
            Fault::DropAnswer => return None,
            Fault::HalfBody(until) => {
                let head = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n",
                    text.len()
                );
                writer.write_all(head.as_bytes()).ok()?;
                writer.write_all(&text[..text.len() / 2]).ok()?;
                writer.flush().ok()?;
                let _ = until.recv();
                return None;
            }
            Fault::OddHeader => answer(&mut writer, status, "X-Odd: gr\u{fc}\u{df}e\r\n", &text)?,
            _ => answer(&mut writer, status, "", &text)?,
        }
    }
}

/// Sleeps until `due`, and no longer: timers alone are late by a part of a millisecond.
fn sleep_until(due: Instant) {
    const LATE: Duration = Duration::from_micros(250);
    let left = due.saturating_duration_since(Instant::now());
    thread::sleep(left.saturating_sub(LATE));
    while Instant::now() < due {
        thread::yield_now();
    }
}

pub type Headers = Vec<(String, String)>;

/// What a request asks for.
pub fn operation_of(headers: &Headers) -> &str {
    headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-amz-target"))
        .and_then(|(_, value)| value.rsplit('.').next())
        .unwrap_or("?")
}

/// For the way from a proxy to the server.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent()
}

/// Has the server answer a request: the status and the body.
pub fn forward(
    agent: &ureq::Agent,
    upstream: &str,
    headers: &Headers,
    body: &[u8],
) -> Option<(u16, Vec<u8>)> {
    let mut request = agent.post(upstream);
    for (name, value) in headers {
        let own = [
            "host",
            "content-length",
            "connection",
            "user-agent",
            "accept",
        ];
        if !own.contains(&name.to_lowercase().as_str()) {
            request = request.header(name, value);
        }
    }
    let mut reply = request.send(body).ok()?;
    let text = reply.body_mut().read_to_vec().ok()?;
    Some((reply.status().as_u16(), text))
}

pub fn read_request(reader: &mut impl BufRead) -> Option<(Headers, Vec<u8>)> {
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok()?;
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((headers, body))
}

pub fn answer(writer: &mut impl Write, status: u16, extra: &str, body: &[u8]) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.0\r\n{extra}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // One segment: a test must not wait for delayed acknowledgements.
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    writer.write_all(&bytes).ok()?;
    writer.flush().ok()
}
