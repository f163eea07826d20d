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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::machine::Machine;
    use crate::options::Wishes;
    use crate::protocol::{Grant, Tenure, Title};
    use crate::record::{Holder, Mode};
    use crate::store::MemoryStore;
    use crate::testing::TestClock;
    use crate::types::{HolderId, LockName, Ticket};

    #[test]
    fn a_loss_that_a_late_renewal_finds_is_told_once() {
        let (clock, told) = (TestClock::frozen(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&told);
        let observer = move |event: &Event<'_>| {
            assert!(matches!(event, Event::Lost { .. }));
            count.fetch_add(1, Ordering::SeqCst);
        };
        let core = Arc::new(Core::new(
            Arc::new(MemoryStore::new()),
            Arc::new(clock.clone()),
            Wishes::default().settle().unwrap(),
            Arc::new(observer),
        ));
        let holder = Holder {
            id: HolderId::new("a"),
            lease: Duration::from_secs(20),
            owner: "a".into(),
            since_ms: 0,
            renewed_at_ms: 0,
            data: None,
        };
        let grant = Grant {
            ticket: Ticket::new(8),
            mode: Mode::Exclusive,
            lease: holder.lease,
            holder,
            title: Title::Claimed { sent: clock.now() },
        };
        let tenure = Tenure::new(grant, Duration::from_secs(5));
        let lock = LockName::new("late").unwrap();
        let lease = Arc::new(Lease::new(lock, tenure, &core));
        clock.advance(Duration::from_secs(20));
        for _ in 0..2 {
            renew(Arc::clone(&core), Arc::clone(&lease))();
        }
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }
}
