//! Chance. Ids are drawn from the operating system each time: a generator of the program's own
//! would be copied by `fork`, and two processes would then draw the same.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::Process;

/// Taken from the last id, so that machines and processes that begin alike do not wait alike.
static SEED: AtomicU64 = AtomicU64::new(0);

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// 128 bits that nobody else draws.
///
/// # Errors
/// If the operating system refuses.
pub(crate) fn unique_bits() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    let bits = u128::from_le_bytes(bytes);
    SEED.store((bits >> 64) as u64 ^ bits as u64, Ordering::Relaxed);
    Ok(bits)
}

/// A number from 0 (included) to 1 (excluded), to spread pauses with and for nothing else. Needs
/// no thread-local variable, so that it can be drawn while a thread ends.
pub(crate) fn dice() -> f64 {
    let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
    let seed = SEED.load(Ordering::Relaxed) ^ Process::salt().rotate_left(32);
    // As many bits as a float has.
    (splitmix(seed, drawn) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The `drawn`th number of the generator SplitMix64, begun with `seed`.
fn splitmix(seed: u64, drawn: u64) -> u64 {
    let mut bits = seed.wrapping_add(drawn.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::client::LockClient;
    use crate::error::Error;
    use crate::machine::TestMachine;
    use crate::store::MemoryStore;
    use crate::testing::{Fate, FaultyStore};

    #[test]
    fn the_generator_is_the_published_one() {
        // The first numbers of the reference implementation, begun with 1234567.
        let first: Vec<u64> = (0..3).map(|drawn| splitmix(1_234_567, drawn)).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn pauses_are_spread_evenly() {
        let dice: Vec<f64> = (0..10_000).map(|_| dice()).collect();
        assert!(dice.iter().all(|dice| (0.0..1.0).contains(dice)));
        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            let here = dice
                .iter()
                .filter(|dice| (from..from + 0.1).contains(*dice));
            let here = here.count();
            assert!((800..1_200).contains(&here), "{here} of 10,000 from {from}");
        }
    }

    #[test]
    fn ids_do_not_repeat() {
        assert_ne!(unique_bits().unwrap(), unique_bits().unwrap());
    }

    #[test]
    fn without_chance_nothing_is_written() {
        let (asked, store) = (Arc::new(AtomicU64::new(0)), MemoryStore::new());
        let count = Arc::clone(&asked);
        let counting = FaultyStore::new(store, move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Fate::Fine
        });
        let machine = TestMachine {
            without_chance: true,
            ..TestMachine::default()
        };
        let client = LockClient::builder().machine(Arc::new(machine));
        let client = client.build(counting).unwrap();
        let refused = [
            client.acquire("x").map(drop),
            client.try_acquire("x").map(drop),
            client.with_lock("x", |_| Ok(())),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(Error::Randomness { .. })));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        assert!(client.close().is_clean());
    }

    /// Processes that begin alike would otherwise ask alike from then on.
    #[cfg(unix)]
    #[test]
    fn forked_processes_spread_their_pauses_differently() {
        use std::io::{Read, Write, pipe};

        use fork::{Fork, fork, waitpid};
        use rustix::process::{Signal, getpid, kill_process};

        let _ = (dice(), unique_bits().unwrap());
        let drawn = || {
            let (mut said, mut says) = pipe().unwrap();
            match fork().unwrap() {
                Fork::Child => {
                    // As a client does before it asks for anything.
                    let _ = Process::current();
                    let _ = says.write_all(&dice().to_le_bytes());
                    loop {
                        let _ = kill_process(getpid(), Signal::KILL);
                    }
                }
                Fork::Parent(pid) => {
                    drop(says);
                    let mut bytes = [0; 8];
                    said.read_exact(&mut bytes).unwrap();
                    waitpid(pid).unwrap();
                    u64::from_le_bytes(bytes)
                }
            }
        };
        let all: HashSet<u64> = (0..8).map(|_| drawn()).collect();
        assert_eq!(all.len(), 8);
    }
}
