//! Carries out what an operator decided: the turn of one ticket is over.

use crate::core::Core;
use crate::error::{Error, StoreError};
use crate::protocol::{Answer, BreakEnd, BreakStep, Breaking, Consistency};
use crate::types::{LockName, Ticket};

/// Ends the turn of `ticket`; says whether it was there to be ended.
pub(crate) fn break_turn(core: &Core, lock: &LockName, ticket: Ticket) -> Result<bool, Error> {
    let limit = core.settings.request_timeout;
    let give_up_at = core.machine.now().plus(limit * 3);
    let mut breaking = Breaking::new(ticket, give_up_at);
    let mut answer = Answer::Ready;
    let mut last_failure: Option<StoreError> = None;
    loop {
        let now = core.now();
        let within = limit.min(give_up_at.since(now.moment));
        let outcome = match breaking.step(answer, now) {
            BreakStep::Read => core
                .store
                .read(lock, Consistency::Strong, within)
                .map(Answer::Read),
            BreakStep::Write(write) => core.store.write(lock, &write, within).map(Answer::from),
            BreakStep::Pause(until) => {
                core.machine.wait(&[], until);
                Ok(Answer::Ready)
            }
            BreakStep::Done(BreakEnd::Broken) => return Ok(true),
            BreakStep::Done(BreakEnd::NotItsTurn) => return Ok(false),
            BreakStep::Done(BreakEnd::Failed) => {
                let source = last_failure.unwrap_or_else(|| StoreError::Unreachable {
                    source: "the record changed each time before it could be written".into(),
                });
                return Err(Error::Store {
                    lock: lock.clone(),
                    doing: "break",
                    source,
                });
            }
        };
        answer = outcome.unwrap_or_else(|error| {
            let failure = error.failure();
            last_failure = Some(error);
            Answer::Failed(failure)
        });
    }
}
