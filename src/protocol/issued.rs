//! Which tickets were out, and since when at the latest.

use std::time::Duration;

use super::Moment;
use crate::types::Ticket;

/// What one observer knows about the age of a lock's tickets: two numbers that it saw
/// in `issued`, with the moment at which the answer that showed them had arrived. Two
/// are enough to tell, a few seconds late, that a ticket is older than a few seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Issued {
    earlier: Option<(Ticket, Moment)>,
    later: Option<(Ticket, Moment)>,
}

impl Issued {
    /// Takes note of the last ticket that was out at `now`, for those who ask which
    /// tickets were out for longer than `age`.
    pub(super) fn observe(&mut self, issued: Ticket, age: Duration, now: Moment) {
        match self.later {
            // Another record stands in the place of the one seen before, or the read was
            // behind.
            Some((ticket, _)) if issued <= ticket => {}
            Some((_, since)) if now.since(since) <= age => {}
            later => {
                self.earlier = later;
                self.later = Some((issued, now));
            }
        }
    }

    /// Adds what another attempt of the same client saw.
    pub(super) fn take_over(&mut self, other: &Self) {
        let latest = |seen: &Self| seen.later.map(|(_, since)| since);
        if latest(self) < latest(other) {
            self.clone_from(other);
        }
    }

    /// The last ticket that is known to have been out for longer than `age`.
    pub(super) fn out_for(&self, age: Duration, now: Moment) -> Option<Ticket> {
        let seen = self.later.into_iter().chain(self.earlier);
        seen.filter(|(_, since)| now.since(*since) > age)
            .map(|(ticket, _)| ticket)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(4);

    fn at(seconds: u64) -> Moment {
        Moment::after_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_ticket_is_as_old_as_the_first_look_that_showed_it() {
        let mut issued = Issued::default();
        assert_eq!(issued.out_for(AGE, at(100)), None);
        issued.observe(Ticket::new(10), AGE, at(10));
        assert_eq!(issued.out_for(AGE, at(14)), None);
        assert_eq!(issued.out_for(AGE, at(15)), Some(Ticket::new(10)));
        // A steady stream of arrivals does not push out what is known.
        for second in 11..100 {
            issued.observe(Ticket::new(second), AGE, at(second));
            let known = issued.out_for(AGE, at(second)).map_or(0, Ticket::get);
            assert!(known + 4 < second, "{known} was not out for so long");
            assert!(second < 20 || known + 10 >= second, "{known} at {second}");
        }
    }

    #[test]
    fn a_read_that_is_behind_changes_nothing() {
        let mut issued = Issued::default();
        issued.observe(Ticket::new(7), AGE, at(10));
        issued.observe(Ticket::new(3), AGE, at(20));
        assert_eq!(issued.out_for(AGE, at(20)), Some(Ticket::new(7)));
    }
}
