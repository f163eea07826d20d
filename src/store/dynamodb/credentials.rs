//! Who signs the requests: where credentials come from, and keeping them fresh.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusoto_core::credential::{
    AwsCredentials, CredentialsError, EnvironmentProvider, ProfileProvider, ProvideAwsCredentials,
};

use super::metadata;
use super::probe::SigningKeys;
use super::region::from_environment;
use crate::error::Cause;
use crate::process::PerProcess;

/// Credentials are fetched anew when they last no longer than this.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// The pause after a fetch that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Access keys, as a program hands them over.
///
/// ```
/// use dynamodb_fifo_lock::AccessKeys;
///
/// let keys = AccessKeys::new("AKIDEXAMPLE", "a secret").session_token("a token");
/// assert!(!format!("{keys:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct AccessKeys {
    id: String,
    secret: String,
    session_token: Option<String>,
    expires_at: Option<SystemTime>,
    found_in: &'static str,
}

impl AccessKeys {
    /// Keys that do not expire.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            id: access_key_id.into(),
            secret: secret_access_key.into(),
            session_token: None,
            expires_at: None,
            found_in: "program",
        }
    }

    /// The session token of temporary keys. Defaults to none.
    #[must_use]
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// When the keys expire. They are fetched anew five minutes before. Defaults
    /// to never.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    fn found_in(mut self, place: &'static str) -> Self {
        self.found_in = place;
        self
    }

    /// As much of them as anybody may see.
    pub(super) fn shown(&self) -> SigningKeys {
        SigningKeys {
            access_key_id: self.id.clone(),
            found_in: self.found_in,
            expires_at: self.expires_at,
        }
    }
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeys").finish_non_exhaustive()
    }
}

impl From<AwsCredentials> for AccessKeys {
    fn from(keys: AwsCredentials) -> Self {
        Self {
            id: keys.aws_access_key_id().into(),
            secret: keys.aws_secret_access_key().into(),
            session_token: keys.token().clone(),
            expires_at: keys.expires_at().map(SystemTime::from),
            found_in: "program",
        }
    }
}

/// Where a [`DynamoDbStore`](super::DynamoDbStore) finds its credentials.
///
/// ```
/// use dynamodb_fifo_lock::{AccessKeys, Credentials};
///
/// let fixed = Credentials::fixed(AccessKeys::new("AKIDEXAMPLE", "a secret"));
/// let vault = Credentials::from_fn(|| {
///     Err("ask the vault here".into())
/// });
/// # drop((fixed, vault));
/// ```
#[derive(Clone)]
pub struct Credentials(Source);

type Fetch = dyn Fn() -> Result<AccessKeys, Cause> + Send + Sync;

#[derive(Clone)]
enum Source {
    Chain,
    Environment,
    Profile(Option<String>),
    Container,
    Instance,
    Fixed(AccessKeys),
    Function(Arc<Fetch>),
}

impl Credentials {
    /// The first of environment, profile, container and instance that has
    /// credentials. This is the default.
    #[must_use]
    pub fn chain() -> Self {
        Self(Source::Chain)
    }

    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    #[must_use]
    pub fn environment() -> Self {
        Self(Source::Environment)
    }

    /// The shared credentials file, or the `credential_process` of the config
    /// file; the profile named in `AWS_PROFILE`, or else `default`.
    #[must_use]
    pub fn profile() -> Self {
        Self(Source::Profile(None))
    }

    /// This profile of the shared credentials file.
    #[must_use]
    pub fn named_profile(name: impl Into<String>) -> Self {
        Self(Source::Profile(Some(name.into())))
    }

    /// The credentials endpoint of an ECS task or an EKS pod.
    #[must_use]
    pub fn container() -> Self {
        Self(Source::Container)
    }

    /// The role of the EC2 instance, by version 2 of the metadata service.
    #[must_use]
    pub fn instance() -> Self {
        Self(Source::Instance)
    }

    /// These keys.
    #[must_use]
    pub fn fixed(keys: AccessKeys) -> Self {
        Self(Source::Fixed(keys))
    }

    /// Whatever the function returns. It is called on a thread of its own, before
    /// the first request and before the keys expire.
    pub fn from_fn(fetch: impl Fn() -> Result<AccessKeys, Cause> + Send + Sync + 'static) -> Self {
        Self(Source::Function(Arc::new(fetch)))
    }

    fn fetch(&self) -> Result<AccessKeys, Cause> {
        Ok(match &self.0 {
            Source::Fixed(keys) => keys.clone(),
            Source::Function(fetch) => fetch()?,
            Source::Environment => environment()?.found_in("environment"),
            Source::Profile(name) => profile(name.as_deref())?.found_in("profile"),
            Source::Container => container()?.found_in("container"),
            Source::Instance => instance()?.found_in("instance"),
            Source::Chain => chain()?,
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::Chain => "Credentials::chain",
            Source::Environment => "Credentials::environment",
            Source::Profile(_) => "Credentials::profile",
            Source::Container => "Credentials::container",
            Source::Instance => "Credentials::instance",
            Source::Fixed(_) => "Credentials::fixed",
            Source::Function(_) => "Credentials::from_fn",
        })
    }
}

fn chain() -> anyhow::Result<AccessKeys> {
    let mut misses = Vec::new();
    let sources: [(&str, &dyn Fn() -> anyhow::Result<AccessKeys>); 4] = [
        ("environment", &environment),
        ("profile", &|| profile(None)),
        ("container", &container),
        ("instance", &instance),
    ];
    for (name, source) in sources {
        match source() {
            Ok(keys) => return Ok(keys.found_in(name)),
            Err(error) => misses.push(format!("{name}: {error:#}")),
        }
    }
    Err(anyhow!("no credentials found ({})", misses.join("; ")))
}

fn environment() -> anyhow::Result<AccessKeys> {
    ask(&EnvironmentProvider::default())
}

fn container() -> anyhow::Result<AccessKeys> {
    metadata::container(&from_environment).map(Into::into)
}

fn instance() -> anyhow::Result<AccessKeys> {
    metadata::instance(&from_environment).map(Into::into)
}

fn profile(name: Option<&str>) -> anyhow::Result<AccessKeys> {
    let mut provider = ProfileProvider::new()?;
    if let Some(name) = name {
        provider.set_profile(name);
    }
    ask(&provider)
}

/// Asks a provider of rusoto's. A profile's `credential_process` is awaited on a
/// reactor, so there is one, for as long as this takes: fetching is done on a
/// thread that is nobody else's.
fn ask(provider: &dyn ProvideAwsCredentials) -> anyhow::Result<AccessKeys> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no reactor to ask for credentials with")?;
    Ok(runtime.block_on(provider.credentials())?.into())
}

/// Fetches credentials when needed, and keeps them.
///
/// A fetch runs on a thread of its own, so that no request waits for one while
/// there are keys that may still serve; and a fetch that fails is forgotten
/// after a moment, so that one bad answer is not kept for ever. Each process has keys of its
/// own: a fork copies no thread that fetches, and perhaps a lock that was held.
pub(super) struct Cache<K: Perishable = AccessKeys> {
    fetch: Box<dyn Fn() -> Result<K, Cause> + Send + Sync>,
    /// What needs no fetch to begin with, and no thread for it.
    given: Option<K>,
    kept: PerProcess<Kept<K>>,
}

struct Kept<K> {
    state: Mutex<State<K>>,
    changed: Condvar,
}

/// Something that may be worth nothing after a while.
pub(super) trait Perishable: Clone + Send + Sync + 'static {
    /// When; `None` for never.
    fn expires_at(&self) -> Option<SystemTime>;
}

impl Perishable for AccessKeys {
    fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }
}

struct State<K> {
    keys: Option<K>,
    fetching: bool,
    failed: Option<(Instant, String)>,
}

impl Cache {
    pub(super) fn new(credentials: Credentials) -> Arc<Self> {
        let given = match &credentials.0 {
            Source::Fixed(keys) => Some(keys.clone()),
            _ => None,
        };
        Self::beginning_with(given, move || credentials.fetch())
    }
}

impl<K: Perishable> Cache<K> {
    /// A cache of what `fetch` returns.
    #[cfg(feature = "aws-sdk")]
    pub(super) fn over(fetch: impl Fn() -> Result<K, Cause> + Send + Sync + 'static) -> Arc<Self> {
        Self::beginning_with(None, fetch)
    }

    fn beginning_with(
        given: Option<K>,
        fetch: impl Fn() -> Result<K, Cause> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            fetch: Box::new(fetch),
            given,
            kept: PerProcess::new(),
        })
    }

    fn here(&self) -> Option<&Kept<K>> {
        self.kept.get_or_init(|| Kept {
            state: Mutex::new(State {
                keys: self.given.clone(),
                fetching: false,
                failed: None,
            }),
            changed: Condvar::new(),
        })
    }

    pub(super) fn get(self: &Arc<Self>, deadline: Instant) -> Result<K, String> {
        let here = self
            .here()
            .ok_or("this store was handed down through too many forks; build one here")?;
        let mut state = here.state.lock();
        loop {
            let left = state.keys.as_ref().map(time_left);
            if left.is_none_or(|left| left <= REFRESH_BEFORE) {
                self.begin_fetch(&mut state);
            }
            match (&state.keys, left) {
                (Some(keys), Some(left)) if !left.is_zero() => return Ok(keys.clone()),
                // Expired keys may yet be accepted, and if not, the service says
                // so better than we could.
                (Some(keys), _) if !state.fetching => return Ok(keys.clone()),
                (None, _) if !state.fetching => {
                    let (_, why) = state.failed.clone().unwrap_or((deadline, String::new()));
                    return Err(why);
                }
                _ => {}
            }
            if here.changed.wait_until(&mut state, deadline).timed_out() {
                return match &state.keys {
                    Some(keys) => Ok(keys.clone()),
                    None => Err("fetching credentials took too long".into()),
                };
            }
        }
    }

    fn begin_fetch(self: &Arc<Self>, state: &mut MutexGuard<'_, State<K>>) {
        let just_failed = state
            .failed
            .as_ref()
            .is_some_and(|(when, _)| when.elapsed() < RETRY_AFTER);
        if state.fetching || just_failed {
            return;
        }
        let fetching = Fetching {
            cache: Arc::clone(self),
            outcome: Err("the search for credentials panicked".into()),
        };
        state.fetching = true;
        // Not with the state locked: a thread that is refused drops what it was to do, which
        // locks the state.
        let spawned = MutexGuard::unlocked(state, || {
            thread::Builder::new()
                .name("fifolock-keys".into())
                .spawn(move || {
                    let mut fetching = fetching;
                    let found = (fetching.cache.fetch)();
                    fetching.outcome = found.map_err(|error| format!("{error:#}"));
                })
        });
        if let Err(error) = spawned {
            let text = format!(
                "no thread to look for credentials with ({error}); \
                 raise the limit of threads of the process or its container"
            );
            state.failed = Some((Instant::now(), text));
        }
    }
}

/// Writes down how a fetch ended, also if it ended in a panic.
struct Fetching<K: Perishable> {
    cache: Arc<Cache<K>>,
    outcome: Result<K, String>,
}

impl<K: Perishable> Drop for Fetching<K> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(String::new()));
        let Some(here) = self.cache.here() else {
            return;
        };
        let mut state = here.state.lock();
        state.fetching = false;
        match outcome {
            Ok(keys) => {
                state.keys = Some(keys);
                state.failed = None;
            }
            Err(why) => state.failed = Some((Instant::now(), why)),
        }
        here.changed.notify_all();
    }
}

fn time_left(keys: &impl Perishable) -> Duration {
    match keys.expires_at() {
        None => Duration::MAX,
        Some(at) => at
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO),
    }
}

/// The cache, as one request sees it.
pub(super) struct Signer {
    pub(super) cache: Arc<Cache>,
    pub(super) deadline: Instant,
}

#[async_trait]
impl ProvideAwsCredentials for Signer {
    async fn credentials(&self) -> Result<AwsCredentials, CredentialsError> {
        let keys = self
            .cache
            .get(self.deadline)
            .map_err(CredentialsError::new)?;
        // The cache looks after the expiry.
        Ok(AwsCredentials::new(
            keys.id,
            keys.secret,
            keys.session_token,
            None,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn lasting(seconds: u64) -> AccessKeys {
        AccessKeys::new("id", "secret").expires_at(SystemTime::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn keys_say_where_they_were_found() {
        let keys = Cache::new(Credentials::fixed(AccessKeys::new("id", "secret")))
            .get(soon())
            .unwrap();
        assert_eq!(keys.shown().found_in, "program");
        let elsewhere = keys.found_in("instance").shown();
        assert_eq!(
            (elsewhere.access_key_id.as_str(), elsewhere.found_in),
            ("id", "instance")
        );
    }

    #[test]
    fn fresh_keys_are_fetched_once() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let cache = Cache::new(Credentials::from_fn(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(lasting(3_600))
        }));
        for _ in 0..3 {
            cache.get(soon()).unwrap();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn keys_near_their_end_serve_while_new_ones_are_fetched() {
        let (unhang, hangs) = crossbeam_channel::bounded::<()>(0);
        let calls = AtomicU32::new(0);
        let cache = Cache::new(Credentials::from_fn(move || {
            if calls.fetch_add(1, Ordering::SeqCst) > 0 {
                let _ = hangs.recv();
            }
            Ok(lasting(60))
        }));
        cache.get(soon()).unwrap();
        // The second fetch hangs for as long as the test holds `unhang`.
        cache.get(soon()).unwrap();
        cache.get(soon()).unwrap();
        drop(unhang);
    }

    #[test]
    fn one_failure_is_not_kept_for_ever() {
        let calls = AtomicU32::new(0);
        let cache = Cache::new(Credentials::from_fn(move || {
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 => Err("out of order".into()),
                _ => Ok(lasting(3_600)),
            }
        }));
        let error = cache.get(soon()).unwrap_err();
        assert!(error.contains("out of order"), "{error}");
        let until = soon();
        while cache.get(soon()).is_err() {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_fetch_that_hangs_is_waited_for_until_the_deadline_only() {
        let (unhang, hangs) = crossbeam_channel::bounded::<()>(0);
        let cache = Cache::new(Credentials::from_fn(move || {
            let _ = hangs.recv();
            Err("too late".into())
        }));
        let error = cache
            .get(Instant::now() + Duration::from_millis(20))
            .unwrap_err();
        assert!(error.contains("too long"), "{error}");
        drop(unhang);
    }
}
