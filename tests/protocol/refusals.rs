//! How long a refusal is borne.

use super::*;

/// Answers every request of the attempt in this way until it leaves. Returns for how long
/// that took, and how many requests there were.
fn fail_until_it_leaves(waiter: &mut Waiter, kind: FailureKind, began: u64) -> (u64, usize) {
    let (mut millis, mut requests) = (began, 0);
    let mut answer = Answer::Ready;
    while !waiter.is_leaving() {
        answer = match waiter.step(answer, now(millis)) {
            Step::Pause(until) => {
                millis = u64::try_from(until.since(at(0)).as_millis()).unwrap();
                Answer::Ready
            }
            Step::GaveUp(why) => {
                assert_eq!(why, GaveUp::Failed);
                break;
            }
            _ => {
                requests += 1;
                Answer::Failed(Failure {
                    maybe_applied: false,
                    kind,
                })
            }
        };
    }
    (millis - began, requests)
}

/// A wrong policy shows soon; a place in the queue is kept for longer; and an outage is
/// survived for as long as the client says. Each to the millisecond, plus a request.
#[test]
fn a_refusal_is_borne_for_its_time_and_no_longer() {
    let millis = 10 * MINUTE_MS;
    for (kind, fresh, waits) in [
        (FailureKind::Refused, 2_000, 15_000),
        (FailureKind::Transient, 30_000, 30_000),
        (FailureKind::Final, 0, 0),
    ] {
        let mut waiter = Waiter::new(attempt("a", Patience::Queue));
        let (took, requests) = fail_until_it_leaves(&mut waiter, kind, millis);
        assert_eq!(took, fresh, "{kind:?}");
        assert_eq!(requests > 3, fresh > 0);
        let mut record = held(millis);
        let mut waiter = waiting(millis, &mut record);
        let (took, _) = fail_until_it_leaves(&mut waiter, kind, millis);
        assert_eq!(took, waits, "{kind:?}");
        let mut waiter = Waiter::new(attempt("a", Patience::TryOnly));
        let (took, requests) = fail_until_it_leaves(&mut waiter, kind, millis);
        assert_eq!((took, requests), (0, 1), "who only tries does not wait");
    }
}

/// Keys that expired while the network was away are not the end.
#[test]
fn the_time_of_an_outage_does_not_count_as_that_of_a_refusal() {
    let millis = 10 * MINUTE_MS;
    let mut record = held(millis);
    let mut waiter = waiting(millis, &mut record);
    let failed = |kind| {
        Answer::Failed(Failure {
            maybe_applied: false,
            kind,
        })
    };
    assert!(matches!(
        waiter.step(Answer::Ready, now(millis)),
        Step::Read(_)
    ));
    let later = millis + 20_000;
    let pause = waiter.step(failed(FailureKind::Transient), now(later));
    assert!(matches!(pause, Step::Pause(_)), "{pause:?}");
    let look = waiter.step(Answer::Ready, now(later + 100));
    assert!(matches!(look, Step::Read(_)), "{look:?}");
    let pause = waiter.step(failed(FailureKind::Refused), now(later + 200));
    assert!(matches!(pause, Step::Pause(_)), "{pause:?}");
    // But both together are not borne for longer than an outage.
    let (took, _) = fail_until_it_leaves(&mut waiter, FailureKind::Refused, later + 200);
    assert_eq!(took, 9_800);
}
