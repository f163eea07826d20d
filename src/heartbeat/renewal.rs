//! One renewal of a held lock, and the news of its loss.

use std::sync::Arc;

use crate::core::Core;
use crate::event::Event;
use crate::lease::Lease;
use crate::machine::Task;
use crate::protocol::{Standing, Write};
use crate::store::Written;

/// Renews one lease, once. Runs on a carrier, and returns what tells the observer.
pub(crate) fn renew(core: Arc<Core>, lease: Arc<Lease>) -> Task {
    let sent = core.now();
    let limit = core.settings.request_timeout;
    let ((standing, write, within), news) = lease.settle(|tenure, now| {
        let within = tenure.patience(limit, now);
        tenure.sending(now);
        (tenure.standing(now), tenure.renewal(sent), within)
    });
    if standing != Standing::Held {
        // It waited for a carrier for too long.
        return Box::new(move || {
            if let Some(reason) = news {
                lease.tell_loss(&core, reason);
            }
        });
    }
    let answer = core.store.write(&lease.name, &write, within);
    let ((took, margin), news) = lease.settle(|tenure, now| {
        let margin = tenure.remaining(now);
        match &answer {
            Ok(Written::Applied(_)) => tenure.renewed(sent.moment, now),
            Ok(Written::Refused(_)) => tenure.refused(),
            Err(_) => tenure.failed(core.now()),
        }
        (now.since(sent.moment), margin)
    });
    let is_claim = matches!(write, Write::Claim { .. });
    let in_time = !margin.is_zero() && !is_claim;
    Box::new(move || {
        let (lock, token) = (&lease.name, lease.token());
        lease.span.in_scope(|| match &answer {
            Ok(Written::Applied(_)) if in_time => core.tell(&Event::Renewed {
                lock,
                token,
                took,
                margin,
            }),
            Ok(_) => {}
            Err(error) => core.tell(&Event::RenewalFailed { lock, token, error }),
        });
        if let Some(reason) = news {
            lease.tell_loss(&core, reason);
        }
    })
}
