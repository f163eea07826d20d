//! The user's credentials, found by the SDK's ways and kept by ours.
//!
//! The SDK fetches them on the path of the request that finds them gone, and gives
//! up the old ones if that fails. A renewal cannot wait for that.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use aws_sdk_dynamodb::config::{
    ConfigBag, IdentityCache, ResolveCachedIdentity, RuntimeComponents,
};
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveIdentity, SharedIdentityResolver,
};

use super::http::Deadline;
use crate::error::Cause;
use crate::process::PerProcess;
use crate::store::dynamodb::credentials::{Cache, Perishable};

/// How long a search for credentials may take. It is begun long before it is needed.
const SEARCH: Duration = Duration::from_secs(30);

/// When to look again for credentials that do not say how long they last. The SDK
/// takes as long.
const UNSAID: Duration = Duration::from_secs(15 * 60);

/// There are no credentials, and why.
#[derive(Debug, thiserror::Error)]
#[error("no credentials: {0}")]
pub(super) struct NoKeys(String);

/// Who finds credentials: the SDK says so with the first request.
type Finder = OnceLock<(SharedIdentityResolver, RuntimeComponents)>;

/// For each process its own: one may be forked while a thread of the other notes the finder.
pub(super) struct Keys {
    chains: PerProcess<Chain>,
}

struct Chain {
    finder: Arc<Finder>,
    cache: Arc<Cache<Kept>>,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            chains: PerProcess::new(),
        }
    }
}

impl Chain {
    fn new() -> Self {
        let finder = Arc::new(Finder::new());
        let asked = Arc::clone(&finder);
        let cache = Cache::over(move || search(&asked));
        Self { finder, cache }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl ResolveCachedIdentity for Keys {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let Some(chain) = self.chains.get_or_init(Chain::new) else {
            let why = "this store was handed down through too many forks; build one here";
            return IdentityFuture::ready(Err(NoKeys(why.into()).into()));
        };
        if chain.finder.get().is_none() {
            // Without this cache, which would otherwise keep itself alive for ever.
            let components = components
                .to_builder()
                .with_identity_cache(Some(IdentityCache::no_cache()))
                .build();
            match components {
                Ok(components) => drop(chain.finder.set((resolver, components))),
                Err(error) => return IdentityFuture::ready(Err(error.into())),
            }
        }
        let deadline = match bag.load::<Deadline>() {
            Some(Deadline(deadline)) => *deadline,
            None => Instant::now(),
        };
        let found = chain.cache.get(deadline);
        IdentityFuture::ready(match found {
            Ok(kept) => Ok(kept.identity),
            Err(why) => Err(NoKeys(why).into()),
        })
    }
}

/// Credentials, and when they count as old.
#[derive(Clone)]
struct Kept {
    identity: Identity,
    until: SystemTime,
}

impl Perishable for Kept {
    fn expires_at(&self) -> Option<SystemTime> {
        Some(self.until)
    }
}

/// Whoever finds credentials may need a reactor, so there is one, for as long as
/// this takes: the cache calls on a thread that is nobody else's.
fn search(finder: &Finder) -> Result<Kept, Cause> {
    let (resolver, components) = finder.get().context("nobody to ask for credentials")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let nothing_set = ConfigBag::base();
    let found = runtime.block_on(async {
        let search = resolver.resolve_identity(components, &nothing_set);
        tokio::time::timeout(SEARCH, search).await
    });
    // A name lookup that hangs is not waited for.
    runtime.shutdown_background();
    let identity = found
        .context("the search for credentials took too long")?
        // It says why only in its causes.
        .map_err(|error| format!("{:#}", anyhow!(error)))?;
    let until = identity
        .expiration()
        .unwrap_or_else(|| SystemTime::now() + UNSAID);
    Ok(Kept { identity, until })
}
