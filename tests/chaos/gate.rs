//! The gate between one worker and the server, which can be shut in many ways.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::common::proxy::{agent, answer, forward, operation_of, read_request};
use crate::schedule::LATEST;

/// What becomes of the requests that come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Clear,
    /// They arrive so much later: also after the worker has given them up.
    Late(Duration),
    /// They are carried out at once, and answered so much later.
    AnswerLate(Duration),
    /// The connection closes, and the server never hears of them.
    RequestLost,
    /// They are carried out, and then the connection closes.
    AnswerLost,
    /// They are carried out, and the connection closes half-way through the answer.
    AnswerCut,
    /// They vanish, and the connection stays open for as long as this lasts.
    Silent,
    /// The server asks for fewer of them.
    Throttled,
    /// The server denies access, and does nothing.
    Denied,
    /// They are carried out, and answered with 500.
    Broken,
    /// They are answered with 503, and not carried out.
    Unavailable,
    /// Each of them meets one of the above, or none, at random.
    Flaky,
    /// Releases are held back. Once the mood changes, they meet the new one.
    HoldsReleases,
}

const THROTTLED: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"on purpose"}"#;
const DENIED: &str =
    r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"on purpose"}"#;
const BROKEN: &str =
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"on purpose"}"#;
const UNAVAILABLE: &str =
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#ServiceUnavailable","message":"on purpose"}"#;

/// A release has this in its body, and so has a hand-over. No other write has.
const RELEASE: &[u8] = b"#served = :ticket";

/// How often what was done to anybody.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Tally {
    pub(crate) fn add(&self, kind: &'static str) {
        *self.0.lock().entry(kind).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.0.lock().clone()
    }
}

/// Listens until it is dropped.
pub(crate) struct Gate {
    pub(crate) endpoint: String,
    inner: Arc<Inner>,
}

struct Inner {
    port: u16,
    upstream: String,
    state: Mutex<State>,
    changed: Condvar,
    tally: Tally,
}

struct State {
    mood: Mood,
    dice: StdRng,
    /// Nobody listens.
    away: bool,
    closed: bool,
    /// So many releases are being held back.
    holding: usize,
}

impl Gate {
    pub(crate) fn before(upstream: &str, tally: &Tally, seed: u64) -> Self {
        let listener = listen_anywhere();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            port,
            upstream: upstream.to_owned(),
            state: Mutex::new(State {
                mood: Mood::Clear,
                dice: StdRng::seed_from_u64(seed),
                away: false,
                closed: false,
                holding: 0,
            }),
            changed: Condvar::new(),
            tally: tally.clone(),
        });
        let keeper = Arc::clone(&inner);
        thread::spawn(move || keep(&keeper, listener));
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            inner,
        }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.inner.state.lock().mood = mood;
        self.inner.changed.notify_all();
    }

    /// From here on connections are refused, and those that are open close.
    pub(crate) fn go_away(&self) {
        self.inner.state.lock().away = true;
        // The keeper notices with the next connection.
        let _ = TcpStream::connect(("127.0.0.1", self.inner.port));
    }

    pub(crate) fn come_back(&self) {
        self.inner.state.lock().away = false;
        self.inner.changed.notify_all();
    }

    /// Waits until a release is being held back; says whether it came.
    pub(crate) fn holds_a_release(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.inner.state.lock();
        while state.holding == 0 {
            if self.inner.changed.wait_until(&mut state, until).timed_out() {
                return state.holding > 0;
            }
        }
        true
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.inner.state.lock().closed = true;
        self.inner.changed.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.inner.port));
    }
}

/// Ports that no system gives away by itself. Each gate takes the next one, so that
/// its own is still there when it comes back: drawn at random, two gates would now
/// and then have the same while one of them is away.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 6_000;

fn listen_anywhere() -> TcpListener {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(rand::random_range(0..PORTS)));
    loop {
        let port = FIRST_PORT + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
    }
}

/// Lets connections in, one thread for each.
fn keep(inner: &Arc<Inner>, mut listener: TcpListener) {
    loop {
        let stream = listener.accept();
        let mut state = inner.state.lock();
        if state.away && !state.closed {
            drop((stream, listener));
            while state.away && !state.closed {
                inner.changed.wait(&mut state);
            }
            if state.closed {
                return;
            }
            drop(state);
            let Some(again) = inner.listen_again() else {
                return;
            };
            listener = again;
            continue;
        }
        if state.closed {
            return;
        }
        drop(state);
        if let Ok((stream, _)) = stream {
            let inner = Arc::clone(inner);
            thread::spawn(move || serve(&inner, stream));
        }
    }
}

/// Serves one connection until either side closes it.
fn serve(inner: &Inner, stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let agent = agent();
    let mut reader = BufReader::new(stream);
    loop {
        let (headers, body) = read_request(&mut reader)?;
        let release = operation_of(&headers) == "UpdateItem"
            && body.windows(RELEASE.len()).any(|part| part == RELEASE);
        let mood = inner.mood_for(release)?;
        let ask = || forward(&agent, &inner.upstream, &headers, &body);
        let (mut writer, tally) = (reader.get_mut(), &inner.tally);
        match mood {
            Mood::RequestLost => {
                tally.add("request lost");
                return None;
            }
            Mood::AnswerLost => {
                tally.add("answer lost");
                ask()?;
                return None;
            }
            Mood::AnswerCut => {
                tally.add("answer cut");
                let (status, text) = ask()?;
                let head = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n",
                    text.len()
                );
                writer.write_all(head.as_bytes()).ok()?;
                writer.write_all(&text[..text.len() / 2]).ok()?;
                return None;
            }
            Mood::Silent => {
                tally.add("request swallowed");
                inner.wait_for_change(mood);
                return None;
            }
            Mood::Throttled => {
                tally.add("throttled");
                answer(&mut writer, 400, "", THROTTLED.as_bytes())?;
            }
            Mood::Denied => {
                tally.add("denied");
                answer(&mut writer, 400, "", DENIED.as_bytes())?;
            }
            Mood::Broken => {
                tally.add("answered with 500");
                ask()?;
                answer(&mut writer, 500, "", BROKEN.as_bytes())?;
            }
            Mood::Unavailable => {
                tally.add("answered with 503");
                answer(&mut writer, 503, "", UNAVAILABLE.as_bytes())?;
            }
            Mood::Late(by) => {
                tally.add("request late");
                thread::sleep(by);
                let (status, text) = ask()?;
                answer(&mut writer, status, "", &text)?;
            }
            Mood::AnswerLate(by) => {
                tally.add("answer late");
                let (status, text) = ask()?;
                thread::sleep(by);
                answer(&mut writer, status, "", &text)?;
            }
            Mood::Clear | Mood::Flaky | Mood::HoldsReleases => {
                let (status, text) = ask()?;
                answer(&mut writer, status, "", &text)?;
            }
        }
    }
}

impl Inner {
    /// What a request meets; `None` if there is nobody to take it.
    fn mood_for(&self, release: bool) -> Option<Mood> {
        let mut state = self.state.lock();
        if release && state.mood == Mood::HoldsReleases {
            state.holding += 1;
            self.changed.notify_all();
            while state.mood == Mood::HoldsReleases && !state.closed {
                self.changed.wait(&mut state);
            }
            state.holding -= 1;
        }
        if state.away || state.closed {
            return None;
        }
        Some(match state.mood {
            Mood::Flaky => roll(&mut state.dice),
            mood => mood,
        })
    }

    /// A process that has just been started holds a copy of the listener until it
    /// runs its own program.
    fn listen_again(&self) -> Option<TcpListener> {
        while !self.state.lock().closed {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", self.port)) {
                return Some(listener);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn wait_for_change(&self, mood: Mood) {
        let mut state = self.state.lock();
        while state.mood == mood && !state.closed {
            self.changed.wait(&mut state);
        }
    }
}

fn roll(dice: &mut StdRng) -> Mood {
    match dice.random_range(0..100) {
        0..8 => Mood::RequestLost,
        8..16 => Mood::AnswerLost,
        16..22 => Mood::AnswerCut,
        22..34 => Mood::Late(Duration::from_millis(dice.random_range(20..LATEST))),
        34..40 => Mood::Throttled,
        40..45 => Mood::Broken,
        45..50 => Mood::Unavailable,
        50..54 => Mood::Denied,
        _ => Mood::Clear,
    }
}
