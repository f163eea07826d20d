//! What the library tells while it waits and holds, for this command's own threads.

use crossbeam_channel::Sender;
use dynamodb_fifo_lock::protocol::FailureKind;
use dynamodb_fifo_lock::{Event, Observer, StoreError, Ticket};

pub(super) enum News {
    /// So many turns come before the one of this ticket.
    Place {
        ticket: Ticket,
        ahead: u64,
    },
    PassedOver,
    /// A request failed, and will be sent again.
    Trouble {
        what: String,
        throttled: bool,
    },
    RenewalFailed(String),
}

/// An observer that passes the news on.
pub(super) fn reporter(to: Sender<News>) -> impl Observer {
    move |event: &Event<'_>| {
        let news = match event {
            Event::Enqueued { ticket, ahead, .. } | Event::Position { ticket, ahead, .. } => {
                News::Place {
                    ticket: *ticket,
                    ahead: *ahead,
                }
            }
            Event::PassedOver { .. } => News::PassedOver,
            Event::WaitDisturbed { error, .. } if error.failure().kind != FailureKind::Final => {
                News::Trouble {
                    what: error.to_string(),
                    throttled: matches!(error, StoreError::Throttled { .. }),
                }
            }
            Event::RenewalFailed { error, .. } => News::RenewalFailed(error.to_string()),
            _ => return,
        };
        // Nobody listens any more when the process is about to end.
        let _ = to.send(news);
    }
}
