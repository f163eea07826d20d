//! An HTTP proxy before a server: counts requests, and spoils answers on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

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
}

type Plan = dyn FnMut(&str) -> Fault + Send;

/// The operations, and whether they were to be consistent.
type Log = Vec<(String, bool)>;

/// A proxy that listens on a port of its own, until the process ends.
pub struct Proxy {
    pub endpoint: String,
    operations: Arc<Mutex<Log>>,
}

impl Proxy {
    /// A proxy before `upstream`; `plan` is asked about each operation.
    pub fn before(upstream: &str, plan: impl FnMut(&str) -> Fault + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let operations = Arc::new(Mutex::new(Vec::new()));
        let plan: Arc<Mutex<Box<Plan>>> = Arc::new(Mutex::new(Box::new(plan)));
        let (upstream, log) = (upstream.to_owned(), Arc::clone(&operations));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (upstream, log, plan) = (upstream.clone(), Arc::clone(&log), Arc::clone(&plan));
                thread::spawn(move || serve(stream, &upstream, &log, &plan));
            }
        });
        Self {
            endpoint,
            operations,
        }
    }

    /// The same with TLS, for the host name `localhost`.
    pub fn with_tls(upstream: &str, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let operations = Arc::new(Mutex::new(Vec::new()));
        let (upstream, log) = (upstream.to_owned(), Arc::clone(&operations));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let (upstream, log) = (upstream.clone(), Arc::clone(&log));
                thread::spawn(move || {
                    let plan: Mutex<Box<Plan>> = Mutex::new(Box::new(|_| Fault::None));
                    serve(StreamOwned::new(session, stream), &upstream, &log, &plan)
                });
            }
        });
        Self {
            endpoint: format!("https://localhost:{port}"),
            operations,
        }
    }

    /// The operations asked for since this was last called.
    pub fn take_operations(&self) -> Vec<String> {
        let taken = std::mem::take(&mut *self.operations.lock());
        taken.into_iter().map(|(operation, _)| operation).collect()
    }

    /// How many writes, and how many read units, were asked for since anything was
    /// last taken.
    pub fn take_units(&self) -> (usize, f64) {
        let taken = std::mem::take(&mut *self.operations.lock());
        let reads = taken.iter().filter(|(operation, _)| operation == "GetItem");
        let units = reads
            .map(|(_, strong)| if *strong { 1.0 } else { 0.5 })
            .sum();
        let writes = taken
            .iter()
            .filter(|(operation, _)| operation == "UpdateItem");
        (writes.count(), units)
    }
}

/// What a consistent read has in its body.
const STRONG: &str = "\"ConsistentRead\":true";

/// Serves one connection until either side closes it.
fn serve(
    stream: impl Read + Write,
    upstream: &str,
    log: &Mutex<Log>,
    plan: &Mutex<Box<Plan>>,
) -> Option<()> {
    let agent = agent();
    let mut reader = BufReader::new(stream);
    loop {
        let (headers, body) = read_request(&mut reader)?;
        let operation = operation_of(&headers).to_owned();
        let strong = body
            .windows(STRONG.len())
            .any(|window| window == STRONG.as_bytes());
        log.lock().push((operation.clone(), strong));
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
