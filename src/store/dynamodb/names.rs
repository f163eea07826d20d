//! Looking names up: never on the way of a request that may have an open connection, and with an
//! error and no panic where there can be no thread.
//!
//! The resolver that ureq brings starts a thread for each request and panics if the system
//! refuses; and ureq asks it before it looks for an open connection.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// A look-up that takes longer will not end, and no longer stands in the way of the next one.
const LOST: Duration = Duration::from_secs(30);

/// ureq takes no more addresses for a name.
const MOST: usize = 16;

type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The names of hosts, as one agent knows them.
///
/// A connection stays open for a while without a request. So a name that was asked for
/// within that time may have one, and gets the addresses that are known, however old; they are
/// looked up again behind its back: once in that time, and after every request and look-up that
/// failed. Another name is looked up and waited for. If that fails, or takes half of the time
/// there is, the last addresses serve once more.
#[derive(Clone)]
pub(super) struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    look_up: Box<LookUp>,
    names: Mutex<HashMap<String, Name>>,
    changed: Condvar,
    max_idle: Duration,
}

#[derive(Default)]
struct Name {
    /// The last that were found.
    addresses: Vec<SocketAddr>,
    asked: Option<Instant>,
    /// When the last look-up began.
    begun: Option<Instant>,
    /// Whether it is still under way.
    looking: bool,
    /// How it failed, if it did.
    failure: Option<io::Error>,
}

/// Why there is no address.
enum Miss {
    Failed(io::Error),
    TimeIsUp,
}

impl Names {
    /// No names yet. A connection stays open for `max_idle` without a request.
    pub(super) fn new(max_idle: Duration) -> Self {
        let look_up = |name: &str| Ok(name.to_socket_addrs()?.collect());
        Self::over(look_up, max_idle)
    }

    fn over(
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        max_idle: Duration,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                look_up: Box::new(look_up),
                names: Mutex::default(),
                changed: Condvar::new(),
                max_idle,
            }),
        }
    }

    /// The addresses of `name`, a host with a port.
    fn find(&self, name: &str, until: Instant) -> Result<Vec<SocketAddr>, Miss> {
        let inner = &*self.inner;
        let mut names = inner.names.lock();
        let now = Instant::now();
        let known = names.entry(name.to_owned()).or_default();
        let recent = |then: Option<Instant>| {
            then.is_some_and(|then| now.saturating_duration_since(then) < inner.max_idle)
        };
        let open = recent(known.asked);
        let fresh = recent(known.begun) && known.failure.is_none();
        known.asked = Some(now);
        if known.addresses.is_empty() || !fresh {
            self.begin(name, known, now);
        }
        if !known.addresses.is_empty() && (open || fresh) {
            return Ok(known.addresses.clone());
        }
        let until = match known.addresses.is_empty() {
            true => until,
            false => now + until.saturating_duration_since(now) / 2,
        };
        loop {
            let Some(known) = names.get_mut(name) else {
                return Err(Miss::TimeIsUp);
            };
            let waiting = known.looking && Instant::now() < until;
            if !waiting {
                return match (known.addresses.as_slice(), &known.failure) {
                    ([], Some(failure)) => Err(Miss::Failed(copied(failure))),
                    ([], None) => Err(Miss::TimeIsUp),
                    (addresses, _) => Ok(addresses.to_vec()),
                };
            }
            inner.changed.wait_until(&mut names, until);
        }
    }

    /// A request has failed: the addresses may be why.
    pub(super) fn doubt(&self) {
        let mut names = self.inner.names.lock();
        for known in names.values_mut().filter(|known| !known.looking) {
            known.begun = None;
        }
    }

    /// Has a thread of its own look `name` up.
    fn begin(&self, name: &str, known: &mut Name, now: Instant) {
        let lost = |begun: Instant| now.saturating_duration_since(begun) >= LOST;
        if known.looking && !known.begun.is_some_and(lost) {
            return;
        }
        known.begun = Some(now);
        known.failure = None;
        let (inner, owned) = (Arc::clone(&self.inner), name.to_owned());
        let look = move || {
            let found = (inner.look_up)(&owned);
            inner.found(&owned, now, found);
        };
        let started = thread::Builder::new()
            .name("fifolock-names".into())
            .spawn(look);
        known.looking = started.is_ok();
        known.failure = started.err().map(|error| {
            let text = format!(
                "no thread to look {name} up with ({error}); \
                 raise the limit of threads of the process or its container"
            );
            io::Error::new(error.kind(), text)
        });
    }
}

impl Inner {
    fn found(&self, name: &str, begun: Instant, found: io::Result<Vec<SocketAddr>>) {
        let mut names = self.names.lock();
        // One that was given up as lost has nothing to say any more.
        if let Some(known) = names
            .get_mut(name)
            .filter(|known| known.begun == Some(begun))
        {
            known.looking = false;
            match found {
                Ok(addresses) if addresses.is_empty() => {
                    known.failure = Some(io::Error::other(format!("{name} has no address")));
                }
                Ok(addresses) => known.addresses = addresses,
                Err(error) => known.failure = Some(error),
            }
        }
        drop(names);
        self.changed.notify_all();
    }
}

/// An error for each of those who wait for the same look-up.
fn copied(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let name = uri
            .scheme()
            .zip(uri.authority())
            .and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority))
            .ok_or(ureq::Error::HostNotFound)?;
        let addresses = match name.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let now = Instant::now();
                let until = now.checked_add(*timeout.after).unwrap_or(now + LOST);
                self.find(&name, until).map_err(|miss| match miss {
                    Miss::Failed(error) => ureq::Error::Io(error),
                    Miss::TimeIsUp => ureq::Error::Timeout(timeout.reason),
                })?
            }
        };
        let mut wanted = self.empty();
        let family = config.ip_family();
        for address in family.keep_wanted(addresses.into_iter()).take(MOST) {
            wanted.push(address);
        }
        match wanted.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(wanted),
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::bounded;

    use super::*;

    const NAME: &str = "db.example:443";
    const LONG: Duration = Duration::from_secs(3_600);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// The address that the `n`th look-up finds.
    fn address(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], u16::try_from(n).unwrap()))
    }

    fn found(names: &Names, until: Instant) -> Option<SocketAddr> {
        names.find(NAME, until).ok().map(|all| all[0])
    }

    /// Names whose look-ups are counted; from the `n`th on they fail.
    fn failing_from(n: usize, max_idle: Duration) -> (Names, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let look_up = move |_: &str| match counted.fetch_add(1, Ordering::SeqCst) {
            call if call < n => Ok(vec![address(call)]),
            _ => Err(io::Error::other("no such name")),
        };
        (Names::over(look_up, max_idle), calls)
    }

    #[test]
    fn a_name_in_use_is_looked_up_once() {
        let (names, calls) = failing_from(9, LONG);
        for _ in 0..100 {
            assert_eq!(found(&names, soon()), Some(address(0)));
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_name_in_use_is_looked_up_behind_a_request_that_failed() {
        let (names, _) = failing_from(9, LONG);
        assert_eq!(found(&names, soon()), Some(address(0)));
        names.doubt();
        let until = soon();
        while found(&names, until) != Some(address(1)) {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
    }

    #[test]
    fn a_name_that_was_not_in_use_is_looked_up_again() {
        let (names, _) = failing_from(9, Duration::ZERO);
        for call in 0..5 {
            assert_eq!(found(&names, soon()), Some(address(call)));
        }
    }

    #[test]
    fn the_last_address_serves_when_the_name_is_gone() {
        let (names, calls) = failing_from(1, Duration::ZERO);
        for _ in 0..3 {
            assert_eq!(found(&names, soon()), Some(address(0)));
        }
        assert_eq!(
            calls.load(Ordering::SeqCst),
            3,
            "it was asked for each time"
        );
        let (unknown, _) = failing_from(0, Duration::ZERO);
        assert!(matches!(unknown.find(NAME, soon()), Err(Miss::Failed(_))));
    }

    #[test]
    fn a_name_in_use_does_not_wait_for_a_look_up_that_hangs() {
        let (unhang, hangs) = bounded::<()>(0);
        let calls = AtomicUsize::new(0);
        let look_up = move |_: &str| {
            if calls.fetch_add(1, Ordering::SeqCst) > 0 {
                let _ = hangs.recv();
            }
            Ok(vec![address(7)])
        };
        let names = Names::over(look_up, LONG);
        assert_eq!(found(&names, soon()), Some(address(7)));
        names.doubt();
        let until = soon();
        for _ in 0..10 {
            assert_eq!(found(&names, until), Some(address(7)));
        }
        assert!(Instant::now() < until);
        drop(unhang);
    }

    #[test]
    fn a_look_up_that_hangs_is_waited_for_until_the_time_is_up_and_by_all_together() {
        let (unhang, hangs) = bounded::<()>(0);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let look_up = move |_: &str| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = hangs.recv();
            Ok(vec![address(7)])
        };
        let names = Names::over(look_up, LONG);
        for _ in 0..5 {
            let until = Instant::now() + Duration::from_millis(5);
            assert!(matches!(names.find(NAME, until), Err(Miss::TimeIsUp)));
        }
        drop(unhang);
        assert_eq!(found(&names, soon()), Some(address(7)));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn addresses_need_no_look_up() {
        let never = |name: &str| -> io::Result<Vec<SocketAddr>> { panic!("looks {name} up") };
        let names = Names::over(never, LONG);
        for (uri, expected) in [
            ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
            ("https://10.1.2.3", "10.1.2.3:443"),
            ("http://[::1]/x", "[::1]:80"),
        ] {
            let found = names.resolve(
                &uri.parse().unwrap(),
                &Config::default(),
                NextTimeout::default(),
            );
            assert_eq!(found.unwrap().to_vec(), [expected.parse().unwrap()]);
        }
    }
}
