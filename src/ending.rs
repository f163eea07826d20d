//! Writes that are sent while their thread may be ending: thread-local variables of a store, and
//! of what it uses, may be gone by then, and asking for one is a panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{TryRecvError, bounded};

use crate::core::Core;
use crate::error::StoreError;
use crate::protocol::Write;
use crate::store::Written;
use crate::types::LockName;

/// Why there is no answer.
pub(crate) struct Unsent {
    pub(crate) error: StoreError,
    /// Another thread may succeed.
    pub(crate) by_panic: bool,
}

/// Sends a write from this thread. A panic of the store is a failure like others.
pub(crate) fn send_here(
    core: &Core,
    lock: &LockName,
    write: &Write,
    within: Duration,
) -> Result<Written, Unsent> {
    let send = || core.store.write(lock, write, within);
    match catch_unwind(AssertUnwindSafe(send)) {
        Ok(sent) => sent.map_err(|error| Unsent {
            error,
            by_panic: false,
        }),
        Err(panic) => Err(Unsent {
            error: said(&*panic),
            by_panic: true,
        }),
    }
}

/// Sends a write from a thread of its own, and waits for it.
pub(crate) fn send_elsewhere(
    core: &Arc<Core>,
    lock: &LockName,
    write: Write,
    within: Duration,
) -> Result<Written, Unsent> {
    let failed = |why: String| Unsent {
        error: StoreError::Unreachable { source: why.into() },
        by_panic: false,
    };
    let (answer, answered) = bounded(1);
    let (sender, lock) = (Arc::clone(core), lock.clone());
    let send = move || {
        let _ = answer.send(send_here(&sender, &lock, &write, within));
    };
    let machine = &core.machine;
    machine
        .spawn("fifolock-release", Box::new(send))
        .map_err(|error| failed(format!("no thread to send it from: {error}")))?;
    let until = machine.now().plus(within);
    loop {
        machine.wait(&[&answered], until);
        match answered.try_recv() {
            Ok(sent) => return sent,
            Err(TryRecvError::Empty) if machine.now() < until => {}
            Err(_) => return Err(failed("no answer in time".into())),
        }
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("without a message");
    StoreError::Unreachable {
        source: format!("the store or an observer panicked: {text}").into(),
    }
}
