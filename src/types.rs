//! The small values everything else is made of.

use std::fmt;
use std::sync::Arc;

use crate::chance;
use crate::error::Error;

/// The number that proves *which* grant of a lock a write belongs to.
///
/// It grows with every grant of the same lock, also after the lock's row was
/// deleted; but not after the row was restored from a backup, which a client notices
/// only if it has seen a higher token
/// ([`Error::WentBack`](crate::Error::WentBack)). Send it along with every write to the resource that the lock
/// protects, and let the resource refuse a token lower than the highest it has
/// seen: a holder that lost its lease can then do no harm. The idea is Martin
/// Kleppmann's, ["How to do distributed locking"][kleppmann] (2016).
///
/// Tokens of different locks have no order. A token fits into 53 bits, so
/// JavaScript numbers carry it exactly.
///
/// [kleppmann]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
///
/// ```
/// use dynamodb_fifo_lock::FencingToken;
///
/// let earlier = FencingToken::new(41);
/// let later = FencingToken::new(42);
/// assert!(later > earlier);
/// assert_eq!(later.to_string(), "42");
/// assert_eq!(later.get(), 42);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// A token with this value, for code that receives one from elsewhere.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number to send with a write.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

impl From<Ticket> for FencingToken {
    fn from(ticket: Ticket) -> Self {
        Self(ticket.0)
    }
}

/// A place in the queue of one lock. The ticket under which a lock is granted
/// becomes the grant's [`FencingToken`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The highest ticket there can be: 2^53 - 1, the largest whole number that
    /// every JSON reader carries exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The ticket with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The ticket's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The ticket after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The ticket before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What names one acquire attempt in the table: random, never reused, so that
/// a holder found in the table can be told apart from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderId(Arc<str>);

impl HolderId {
    /// An identity with this text. Uniqueness is the caller's affair.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// A fresh identity: 128 random bits in hexadecimal, drawn from the operating system each
    /// time. So processes that came out of one by `fork` do not draw the same.
    ///
    /// # Errors
    /// [`Error::Randomness`] if the operating system refuses.
    pub fn random() -> Result<Self, Error> {
        chance::unique_bits()
            .map(Self::from_bits)
            .map_err(|source| Error::Randomness { source })
    }

    pub(crate) fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }

    /// The identity's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a lock, known to be usable as a DynamoDB partition key.
///
/// ```
/// use dynamodb_fifo_lock::LockName;
///
/// assert!(LockName::new("invoices/2026-11").is_ok());
/// assert!(LockName::new("").is_err());
/// assert!(LockName::new("two\nlines").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Arc<str>);

impl LockName {
    /// The longest name in bytes: [DynamoDB's limit][limit] for a partition key.
    ///
    /// [limit]: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
    pub const MAX_BYTES: usize = 2048;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] if the name is empty, longer than
    /// [`MAX_BYTES`](Self::MAX_BYTES), or has a control character in it.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let fault = if name.is_empty() {
            NameFault::Empty
        } else if name.len() > Self::MAX_BYTES {
            NameFault::TooLong { bytes: name.len() }
        } else if let Some(at) = name.find(char::is_control) {
            NameFault::ControlCharacter { at }
        } else {
            return Ok(Self(name.into()));
        };
        Err(InvalidName {
            shown: name.chars().take(64).collect(),
            fault,
        })
    }

    /// A name that [`new`](Self::new) refuses, so that no lock has it: for requests
    /// that must find nothing.
    pub(crate) fn nobodys() -> Self {
        Self("\nno lock".into())
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot name a lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} cannot name a lock: {fault}")]
pub struct InvalidName {
    shown: String,
    fault: NameFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NameFault {
    #[error("it is empty; give the lock a name")]
    Empty,
    #[error(
        "it has {bytes} bytes and the limit is {max}; shorten it, or use a hash of it",
        max = LockName::MAX_BYTES
    )]
    TooLong { bytes: usize },
    #[error("there is a control character at byte {at}; remove it")]
    ControlCharacter { at: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_limit_are_taken_and_beyond_it_refused() {
        assert!(LockName::new(&"x".repeat(2048)).is_ok());
        let error = LockName::new(&"x".repeat(2049)).unwrap_err();
        assert!(error.to_string().contains("2049 bytes"), "{error}");
        // The limit counts bytes, not characters.
        assert!(LockName::new(&"ü".repeat(1025)).is_err());
    }

    #[test]
    fn names_that_would_garble_a_log_are_refused() {
        let nobodys = LockName::nobodys();
        for name in ["", "a\0b", "a\nb", "\u{7f}", "\u{85}", nobodys.as_str()] {
            assert!(LockName::new(name).is_err(), "{name:?}");
        }
        assert!(LockName::new("größe/7 🔒").is_ok());
    }

    #[test]
    fn holder_ids_do_not_repeat() {
        let first = HolderId::random().unwrap();
        assert_eq!(first.as_str().len(), 32);
        assert_ne!(first, HolderId::random().unwrap());
    }
}
