//! Workers that fork while they hold the lock. What is random in a process is copied with
//! its memory, and so is all that it knows about the locks that it holds.

use crate::book::Account;
use crate::worker::TURNS_OF_A_CHILD;
use crate::{arenas, holder_and_waiters};

const CHILDREN: usize = 3;

#[test]
fn processes_forked_from_a_holder_exclude_each_other_and_it() {
    for mut arena in arenas() {
        let (holder, [_next]) = holder_and_waiters(&mut arena);
        arena
            .ledger
            .tell(|book| book.account_mut(&holder).forks = CHILDREN);
        let waits = |child: &&Account| child.ticket.is_some();
        arena.wait("each child waits while its parent holds", |book| {
            book.forked().filter(waits).count() == CHILDREN
        });
        assert!(arena.ledger.book().account(&holder).holds.is_some());
        arena.let_go(&holder);
        arena.wait("each child has had its turns", |book| {
            book.forked().all(|child| child.turns == TURNS_OF_A_CHILD)
        });
        arena.finish(2);
        arena.judge();
    }
}
