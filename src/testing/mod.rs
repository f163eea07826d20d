//! For tests of programs that use locks: a store that fails on demand and a clock that
//! jumps on demand, beside [`MemoryStore`](crate::MemoryStore), which needs nothing.
//! Feature `test-util`.

mod clock;
mod faulty;

pub use clock::TestClock;
pub use faulty::{Fate, FaultyStore, Request};
