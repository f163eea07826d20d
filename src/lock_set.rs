//! Several locks at once, or none.

use crate::client::LockClient;
use crate::error::Error;
use crate::guard::LockGuard;
use crate::options::AcquireOptions;
use crate::types::LockName;

/// Several locks, held together. Dropping it releases them all, in the reverse order of
/// their names.
///
/// ```
/// use dynamodb_fifo_lock::{AcquireOptions, LockClient, MemoryStore};
///
/// let client = LockClient::builder().build(MemoryStore::new())?;
/// let both = client.acquire_all(["accounts/7", "accounts/3"], AcquireOptions::new())?;
/// both.ensure_held()?;
/// for guard in both.guards() {
///     println!("{} with token {}", guard.name(), guard.fencing_token());
/// }
/// both.release()?;
/// # Ok::<(), dynamodb_fifo_lock::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the locks are released as soon as the set is dropped"]
pub struct LockSet {
    guards: Vec<LockGuard>,
}

impl LockSet {
    /// The guards, in the order of their names.
    pub fn guards(&self) -> &[LockGuard] {
        &self.guards
    }

    /// The guard of the lock `name`, if it is one of these.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LockGuard> {
        self.guards
            .iter()
            .find(|guard| guard.name().as_str() == name)
    }

    /// Whether all of them are held. No request.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.guards.iter().all(LockGuard::is_held)
    }

    /// Checks that all of them are held. No request.
    ///
    /// # Errors
    /// [`Error::Lost`] for the first that is not.
    pub fn ensure_held(&self) -> Result<(), Error> {
        self.guards.iter().try_for_each(LockGuard::ensure_held)
    }

    /// Releases all of them, whatever becomes of each.
    ///
    /// # Errors
    /// The first that there was, as of [`LockGuard::release`].
    pub fn release(mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        while let Some(guard) = self.guards.pop() {
            outcome = outcome.and(guard.release());
        }
        outcome
    }
}

impl Drop for LockSet {
    fn drop(&mut self) {
        while self.guards.pop().is_some() {}
    }
}

impl IntoIterator for LockSet {
    type Item = LockGuard;
    type IntoIter = std::vec::IntoIter<LockGuard>;

    /// Each lock by itself from here on, in the order of their names.
    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.guards).into_iter()
    }
}

impl LockClient {
    /// Acquires several locks, or none of them: one after the other in the order of
    /// their names, which is the same for everybody, so that no two of these calls wait
    /// for each other. A name that stands there twice is acquired once. A time-out
    /// counts for all of them together.
    ///
    /// What is held already stays held, and waited for by others, until the last one is
    /// granted. A thread that holds other locks meanwhile can still be part of a
    /// deadlock: give a time-out then.
    ///
    /// # Errors
    /// As [`acquire_with`](Self::acquire_with), for the first that fails; and
    /// [`Error::Lost`] if one of them was lost before all were there. Those that were
    /// held by then are released, which takes as long for each as dropping its
    /// [guard](LockGuard) does.
    pub fn acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        options: AcquireOptions,
    ) -> Result<LockSet, Error> {
        let names = in_order(names)?;
        options.check()?;
        let core = self.core();
        let timeout = options.timeout.or(core.settings.acquire_timeout);
        let give_up_at = timeout.map(|timeout| core.machine.now().plus(timeout));
        let mut set = LockSet {
            guards: Vec::with_capacity(names.len()),
        };
        for name in names {
            let mut options = options.clone();
            if let Some(end) = give_up_at {
                let left = end.since(core.machine.now());
                if left.is_zero() {
                    return Err(Error::AcquireTimeout {
                        lock: name,
                        waited: timeout.unwrap_or_default(),
                        ahead: None,
                    });
                }
                options = options.timeout(left);
            }
            set.guards.push(self.acquire_with(name.as_str(), options)?);
        }
        set.ensure_held()?;
        Ok(set)
    }

    /// Acquires several locks if all of them are free at this moment, in the order of
    /// their names; never waits. `None` if one of them is not: those that were taken are
    /// released then.
    ///
    /// # Errors
    /// As [`try_acquire_with`](Self::try_acquire_with), for the first that fails.
    pub fn try_acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        options: AcquireOptions,
    ) -> Result<Option<LockSet>, Error> {
        let mut set = LockSet { guards: Vec::new() };
        for name in in_order(names)? {
            match self.try_acquire_with(name.as_str(), options.clone())? {
                Some(guard) => set.guards.push(guard),
                None => return Ok(None),
            }
        }
        Ok(Some(set))
    }
}

/// All names are looked at before the first lock is asked for.
fn in_order<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Vec<LockName>, Error> {
    let mut names = names
        .into_iter()
        .map(|name| LockName::new(name.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort();
    names.dedup();
    Ok(names)
}
