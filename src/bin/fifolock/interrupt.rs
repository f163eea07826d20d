//! Ctrl-C, as something to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// So long nobody notices that Ctrl-C was not obeyed at once.
const SLICE: Duration = Duration::from_millis(50);

/// Whether the user has asked this process to end.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on Ctrl-C does not end the process by itself: once is a wish, twice
    /// is an order.
    pub(crate) fn watch() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        {
            use signal_hook::consts::SIGINT;
            let code = crate::exit::INTERRUPTED.into();
            signal_hook::flag::register_conditional_shutdown(SIGINT, code, Arc::clone(&asked))?;
            signal_hook::flag::register(SIGINT, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for this long, or until the user asks. Says whether the user did.
    pub(crate) fn wait(&self, span: Duration) -> bool {
        let began = Instant::now();
        while !self.is_asked() {
            let left = span.saturating_sub(began.elapsed());
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(SLICE));
        }
        true
    }
}
