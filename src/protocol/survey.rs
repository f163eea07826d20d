//! Which of the tickets in the queue are gone, by the rows of their waiters.

use crate::record::{TicketRow, TicketState};
use crate::types::Ticket;

/// The maximum number of rows that the first read of a scan returns: as a rule the
/// first of them belongs to a live waiter.
pub const LOOK_LIMIT: usize = 100;

/// The maximum number of rows that each further read of a scan returns, once a whole
/// page of waiters was gone.
pub const FURTHER_LIMIT: usize = 1_000;

/// What counts as gone. A ticket whose row says that its waiter left is gone always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Criteria {
    /// Whether the present turn may be ended without its waiter's word: it stood still
    /// for the claim grace, or is abandoned. Until then the waiter may hold the lock
    /// unclaimed. If so, a ticket is gone as well if its row has expired, or if it has
    /// none although it should.
    pub may_end: bool,
    /// The last ticket that should have a row by now, as far as is known without rows.
    pub due: Option<Ticket>,
    /// The reader's wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Whoever waited before this time, by its own wall clock, should have a row; and so
    /// should those before it in the queue.
    pub due_since_ms: u64,
}

/// What the rows say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All tickets before this one are gone, and there may be more rows from it on.
    More(Ticket),
    /// All tickets before this one are gone.
    First {
        /// The first ticket that is not gone; the end of the range if all are.
        ticket: Ticket,
        /// If it has a row, when the last of those that are there, from its own on,
        /// stops counting, in seconds since 1970. A live waiter renews its row before
        /// that, and the first of them gets past the dead.
        alive_until_s: Option<u64>,
    },
}

/// Reads `rows`, which are those of the tickets from `from` up to, and without,
/// `end`, or the first `limit` of them.
#[must_use]
pub fn survey(
    from: Ticket,
    end: Ticket,
    rows: &[TicketRow],
    limit: usize,
    criteria: &Criteria,
) -> Finding {
    // The first ticket of those that need not have a row yet.
    let by_rows = rows
        .iter()
        .rev()
        .find(|row| row.since_ms <= criteria.due_since_ms);
    let due = criteria.due.max(by_rows.map(|row| row.ticket));
    let not_due = match due {
        Some(due) if criteria.may_end => due.next(),
        _ => from,
    };
    let is_gone = |row: &TicketRow| {
        row.state == TicketState::Left || criteria.may_end && row.has_expired(criteria.wall_ms)
    };
    let mut next = from;
    for (index, row) in rows.iter().enumerate() {
        // Tickets without a row stand before this one.
        next = row.ticket.min(not_due.max(next));
        if next < row.ticket {
            break;
        }
        if !is_gone(row) {
            return Finding::First {
                ticket: row.ticket,
                alive_until_s: rows[index..]
                    .iter()
                    .filter(|row| row.state == TicketState::Waiting)
                    .map(|row| row.expires_at_s)
                    .max(),
            };
        }
        next = row.ticket.next();
    }
    let all_gone = rows.last().is_none_or(|last| next > last.ticket);
    if all_gone && rows.len() >= limit {
        return Finding::More(next);
    }
    Finding::First {
        ticket: match all_gone {
            true => end.min(not_due.max(next)),
            false => next,
        },
        alive_until_s: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::HolderId;

    const NOW_S: u64 = 1_000;

    fn row(ticket: u64, state: TicketState, expires_at_s: u64) -> TicketRow {
        TicketRow {
            ticket: Ticket::new(ticket),
            id: HolderId::new("a"),
            owner: "a".into(),
            state,
            since_ms: NOW_S * 1_000,
            expires_at_s,
        }
    }

    fn dead(ticket: u64) -> TicketRow {
        row(ticket, TicketState::Waiting, NOW_S)
    }

    fn left(ticket: u64) -> TicketRow {
        row(ticket, TicketState::Left, NOW_S + 50)
    }

    fn alive(ticket: u64) -> TicketRow {
        row(ticket, TicketState::Waiting, NOW_S + 5)
    }

    /// Only the word of those that left counts.
    const WORD: Criteria = Criteria {
        may_end: false,
        due: Some(Ticket::new(19)),
        wall_ms: NOW_S * 1_000,
        due_since_ms: 0,
    };

    /// The turn may be ended; tickets up to 11 should have a row.
    const SOME_DUE: Criteria = Criteria {
        may_end: true,
        due: Some(Ticket::new(11)),
        ..WORD
    };

    /// The turn may be ended; all tickets should have a row.
    const ALL_DUE: Criteria = Criteria {
        due: Some(Ticket::new(19)),
        ..SOME_DUE
    };

    fn look(rows: &[TicketRow], criteria: Criteria) -> Finding {
        let (from, end) = (Ticket::new(10), Ticket::new(20));
        survey(from, end, rows, LOOK_LIMIT, &criteria)
    }

    fn first(ticket: u64) -> Finding {
        Finding::First {
            ticket: Ticket::new(ticket),
            alive_until_s: None,
        }
    }

    #[test]
    fn a_run_of_dead_and_departed_ends_at_the_first_that_lives() {
        let mut rows = [dead(10), left(11), dead(14), alive(15), left(16), alive(17)];
        rows[5].expires_at_s = NOW_S + 7;
        assert_eq!(
            look(&rows, ALL_DUE),
            Finding::First {
                ticket: Ticket::new(15),
                alive_until_s: Some(NOW_S + 7),
            }
        );
        // Those without a row may be about to write one.
        assert_eq!(look(&rows, SOME_DUE), first(12));
        let Finding::First { ticket, .. } = look(&rows, WORD) else {
            panic!("that is all");
        };
        assert_eq!(ticket, Ticket::new(10));
    }

    #[test]
    fn if_all_are_gone_it_is_the_end() {
        assert_eq!(look(&[dead(10), dead(12)], ALL_DUE), first(20));
        assert_eq!(look(&[], ALL_DUE), first(20));
        assert_eq!(look(&[], SOME_DUE), first(12));
        assert_eq!(
            look(
                &[],
                Criteria {
                    due: None,
                    ..ALL_DUE
                }
            ),
            first(10)
        );
        assert_eq!(look(&[], WORD), first(10));
        let departed: Vec<_> = (10..20).map(left).collect();
        assert_eq!(look(&departed, WORD), first(20));
    }

    #[test]
    fn a_ticket_should_have_a_row_if_a_later_one_has_waited_for_long() {
        let old = Criteria {
            due: None,
            due_since_ms: 5,
            ..ALL_DUE
        };
        let mut rows = [left(12), left(14), left(16)];
        rows[0].since_ms = 5;
        rows[1].since_ms = 5;
        rows[2].since_ms = 6;
        assert_eq!(look(&rows, old), first(15));
        let word = Criteria {
            may_end: false,
            ..old
        };
        assert_eq!(look(&rows, word), first(10));
    }

    #[test]
    fn a_long_run_is_read_in_parts() {
        let rows: Vec<_> = (0..LOOK_LIMIT as u64).map(|n| dead(10 + n)).collect();
        let (from, end) = (Ticket::new(10), Ticket::new(1_000));
        let found = survey(from, end, &rows, LOOK_LIMIT, &ALL_DUE);
        assert_eq!(found, Finding::More(Ticket::new(10 + LOOK_LIMIT as u64)));
        // Fewer than were asked for: there are no more.
        let found = survey(from, end, &rows, FURTHER_LIMIT, &ALL_DUE);
        assert_eq!(found, first(10 + LOOK_LIMIT as u64));
    }
}
