//! Who of those in the queue is gone, by the rows they wrote.

use crate::record::{TicketRow, TicketState};
use crate::types::Ticket;

/// So many rows are looked at in one go.
pub const LOOK_LIMIT: usize = 100;

/// What counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Only the word of whoever left. Nothing else is evidence before the claim
    /// grace is over: whoever has its turn may hold the lock unclaimed.
    Tombstones,
    /// Also a row that has expired.
    Expiry,
    /// Also that there is no row, although there should be one by now.
    Absence,
}

/// What the rows say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All that were looked at are gone. Look on from this ticket.
    More(Ticket),
    /// Everybody before this ticket is gone.
    First {
        /// The first ticket that is not gone; the end of the range if all are.
        ticket: Ticket,
        /// If it has a row, when the last of those that are there, from its own on,
        /// stops counting, in seconds since 1970. Who is alive renews its row before
        /// that, and it is for the first of them to get past the dead.
        alive_until_s: Option<u64>,
    },
}

/// Reads `rows`, which are those of the tickets from `from` up to, and without,
/// `end`, or the first [`LOOK_LIMIT`] of them.
#[must_use]
pub fn survey(
    from: Ticket,
    end: Ticket,
    rows: &[TicketRow],
    evidence: Evidence,
    wall_ms: u64,
) -> Finding {
    let is_gone = |row: &TicketRow| match evidence {
        Evidence::Tombstones => row.state == TicketState::Left,
        Evidence::Expiry | Evidence::Absence => !row.is_alive(wall_ms),
    };
    let mut next = from;
    for (index, row) in rows.iter().enumerate() {
        if next < row.ticket && evidence != Evidence::Absence {
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
    let all_seen = rows.last().is_none_or(|last| next > last.ticket);
    if all_seen && rows.len() >= LOOK_LIMIT {
        return Finding::More(next);
    }
    Finding::First {
        ticket: if all_seen && evidence == Evidence::Absence {
            end
        } else {
            next
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
            since_ms: 0,
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

    fn look(rows: &[TicketRow], evidence: Evidence) -> Finding {
        survey(
            Ticket::new(10),
            Ticket::new(20),
            rows,
            evidence,
            NOW_S * 1_000,
        )
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
            look(&rows, Evidence::Absence),
            Finding::First {
                ticket: Ticket::new(15),
                alive_until_s: Some(NOW_S + 7),
            }
        );
        // Those without a row may be about to write one.
        let Finding::First { ticket, .. } = look(&rows, Evidence::Expiry) else {
            panic!("that is all");
        };
        assert_eq!(ticket, Ticket::new(12));
        let Finding::First { ticket, .. } = look(&rows, Evidence::Tombstones) else {
            panic!("that is all");
        };
        assert_eq!(ticket, Ticket::new(10));
    }

    #[test]
    fn if_all_are_gone_it_is_the_end() {
        assert_eq!(look(&[dead(10), dead(12)], Evidence::Absence), first(20));
        assert_eq!(look(&[], Evidence::Absence), first(20));
        assert_eq!(look(&[], Evidence::Expiry), first(10));
        let departed: Vec<_> = (10..20).map(left).collect();
        assert_eq!(look(&departed, Evidence::Tombstones), first(20));
    }

    #[test]
    fn a_long_run_is_read_in_parts() {
        let rows: Vec<_> = (0..LOOK_LIMIT as u64).map(|n| dead(10 + n)).collect();
        let end = Ticket::new(1_000);
        let found = survey(
            Ticket::new(10),
            end,
            &rows,
            Evidence::Absence,
            NOW_S * 1_000,
        );
        assert_eq!(found, Finding::More(Ticket::new(10 + LOOK_LIMIT as u64)));
    }
}
