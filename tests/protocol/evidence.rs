//! What is believed about others, and for how long.

use super::*;

/// Somebody has shared the lock for longer than wall clocks can be apart, and lives. Who
/// wants it alone has just drawn a ticket, and is about to claim.
#[test]
fn a_try_does_not_overtake_a_waiter_behind_an_old_reader() {
    let millis = 10 * MINUTE_MS;
    let mut record = shared(millis);
    record.moved_at_ms = EPOCH_MS - 50 * MINUTE_MS;
    let mut world = World::new(millis, record);
    let mut writer = Waiter::new(attempt("writer", Patience::Queue));
    let mut answer = Answer::Ready;
    while writer.ticket().is_none() {
        let Step::Write(write) = writer.step(answer, now(millis)) else {
            panic!("it draws a ticket");
        };
        if matches!(write, Write::Enqueue { .. } | Write::EnqueueBehind) {
            let drawn = apply(world.record.as_ref(), &write);
            if let Some(record) = drawn {
                world.record = Some(record);
                break;
            }
        }
        answer = Answer::Refused(world.record.clone());
    }
    let drawn = world.record.clone().unwrap();
    assert!(!drawn.is_free(), "{drawn:?}");
    let trying = Attempt {
        mode: Mode::Shared { limit: 100 },
        ..attempt("trying", Patience::TryOnly)
    };
    let step = world.run(&mut Waiter::new(trying), Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy));
    assert_eq!(world.record, Some(drawn), "the writer keeps its turn");
}

/// The rows were read in time, but their reader did not run for a while. The waiter before
/// it has renewed its row meanwhile.
#[test]
fn a_row_that_expires_while_the_answer_waits_has_not_expired() {
    let millis = 10 * MINUTE_MS;
    let mut record = idle(EPOCH_MS + millis);
    let alive = Ticket::new(EPOCH_MS + 2);
    record.issued = alive;
    let mut waiter = waiting(millis, &mut record);
    let late = millis + 5_000;
    let step = waiter.step(Answer::Ready, now(late));
    assert!(matches!(step, Step::Read(_)), "{step:?}");
    let step = waiter.step(Answer::Read(Some(record)), now(late));
    assert!(matches!(step, Step::Look { .. }), "{step:?}");
    let row = TicketRow {
        ticket: alive,
        id: HolderId::new("alive"),
        owner: "alive".into(),
        state: TicketState::Waiting,
        since_ms: EPOCH_MS + millis,
        expires_at_s: (EPOCH_MS + late) / 1_000 + 5,
    };
    match waiter.step(Answer::Rows(vec![row]), now(late + 10_000)) {
        Step::Write(Write::Advance { to, .. }) => assert_eq!(to, alive),
        other => panic!("{other:?}"),
    }
}

/// The answer to a try took a whole lease, and its share was ended. What was meant for
/// that share must not hit another one of the same attempt: its end may arrive late, and
/// who saw it a while ago counts from then on.
#[test]
fn a_share_that_was_given_up_never_begins_again() {
    let millis = 10 * MINUTE_MS;
    let mut world = World::new(millis, idle(EPOCH_MS + millis));
    let mut slow = Waiter::new(Attempt {
        mode: Mode::Shared { limit: 5 },
        ..attempt("slow", Patience::Queue)
    });
    let Step::Write(share) = slow.step(Answer::Ready, now(millis)) else {
        panic!("it tries");
    };
    let seen = apply(world.record.as_ref(), &share).unwrap();
    world.record = Some(seen.clone());
    // Somebody tries, and remembers the share.
    world.millis += 10;
    let mut trying = Waiter::new(attempt("trying", Patience::TryOnly));
    let step = world.run(&mut trying, Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy));
    world.millis += 25_000;
    let step = world.run(&mut slow, Answer::Applied(seen));
    assert!(matches!(step, Step::Granted(_)), "{step:?}");
    let mut again = Waiter::new(Attempt {
        watch: trying.watch().clone(),
        ..attempt("again", Patience::TryOnly)
    });
    let step = world.run(&mut again, Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy), "{:?}", world.record);
}

/// The record went back, and its tickets are given out for the second time. The word of
/// whoever had one of them the first time must not be taken for that of its new owner,
/// who may hold the lock on it without a claim.
#[test]
fn who_finds_that_the_record_went_back_says_nothing_about_its_ticket() {
    let millis = 10 * MINUTE_MS;
    let backup = idle(EPOCH_MS + millis);
    let mut record = held(millis);
    let mut before = waiting(millis, &mut record);
    let (ticket, _) = before.ticket().unwrap();
    let mut world = World::new(millis + 5_000, backup);
    let step = world.run(&mut before, Answer::Ready);
    assert!(
        matches!(step, Step::GaveUp(GaveUp::WentBack { .. })),
        "{step:?}"
    );
    // Its number is given out again, and has its turn.
    let millis = world.millis;
    let mut record = held(millis);
    let mut owner = waiting_as(attempt("owner", Patience::Queue), millis, &mut record);
    assert_eq!(owner.ticket().unwrap().0, ticket);
    world.record = Some(released(&record, millis));
    let step = world.run(&mut owner, Answer::Nudged);
    let Step::Granted(grant) = step else {
        panic!("{step:?}");
    };
    assert!(matches!(grant.title, Title::Turn { .. }), "{grant:?}");
    let mut trying = Waiter::new(attempt("trying", Patience::TryOnly));
    let step = world.run(&mut trying, Answer::Ready);
    assert_eq!(step, Step::GaveUp(GaveUp::Busy), "{:?}", world.record);
}

/// A waiter's wall clock is a second ahead of those that release the lock, so that each
/// new turn looks old to it. It does not ask about each of them whether its waiter left.
#[test]
fn a_clock_that_is_a_second_ahead_makes_no_waiter_ask_about_every_turn() {
    let millis = 10 * MINUTE_MS;
    let mut record = held(millis);
    // Others join, and this waiter behind them.
    for _ in 0..20 {
        record = apply(Some(&record), &Write::EnqueueBehind).unwrap();
    }
    let mut waiter = waiting(millis, &mut record);
    let mut asked = 0;
    for turn in 1..20 {
        let (millis, turn_began) = (millis + turn * 100, millis + turn * 100 - 1_000);
        record = apply(
            Some(&record),
            &Write::Release {
                ticket: record.turn(),
                id: HolderId::new("other"),
                wall_ms: EPOCH_MS + turn_began,
            },
        )
        .unwrap();
        let mut answer = Answer::Ready;
        loop {
            match waiter.step(answer, now(millis)) {
                Step::Pause(_) => break,
                Step::Read(_) => answer = Answer::Read(Some(record.clone())),
                Step::Look { .. } => {
                    asked += 1;
                    answer = Answer::Rows(Vec::new());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(asked < 5, "asked about {asked} of 19 turns");
}
