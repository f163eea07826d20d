//! An exhaustive check of the shipped protocol within bounds. `docs/verification.md`
//! says what is modelled, what is not, and what the figures mean.
//!
//! `cargo test --test model -- --nocapture` prints them. With
//! `FIFOLOCK_MODEL_BOUND=large` the bounds are wider; then add `--release`.

#[path = "model/mod.rs"]
mod harness;

use harness::bounds::{Bounds, CHECKS};
use harness::explore;
use harness::mutation::{GROUNDS, MUTATIONS};
use harness::state::Law;

fn bounds(check: &Bounds) -> Bounds {
    let large = std::env::var("FIFOLOCK_MODEL_BOUND").is_ok_and(|bound| bound == "large");
    match check.large {
        (horizon, faults) if large => Bounds {
            horizon,
            faults,
            ..*check
        },
        _ => *check,
    }
}

/// Explores, prints the figures, and returns the number of distinct states.
fn explore_all(checks: impl Iterator<Item = Bounds>) -> usize {
    let mut distinct = 0;
    for check in checks {
        let outcome = explore(check, None);
        println!(
            "{}: {} distinct states, {} generated, depth {}, longest wait after the last \
             fault {} ticks, {:.1?}, {} violations",
            check.name,
            outcome.distinct,
            outcome.generated,
            outcome.depth,
            outcome.longest_wait,
            outcome.took,
            outcome.violations.len(),
        );
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        distinct += outcome.distinct;
    }
    println!("{distinct} distinct states in all");
    distinct
}

#[test]
fn every_law_holds_in_every_state() {
    let distinct = explore_all(CHECKS.iter().map(bounds));
    assert!(
        distinct > 1_000_000,
        "the bounds are too narrow: {distinct}"
    );
}

#[test]
fn every_mutation_is_caught() {
    for entry in MUTATIONS {
        let outcome = explore(entry.bounds, Some(entry.mutation));
        println!(
            "{:?}: {:?} after {} states, {:.1?}",
            entry.mutation,
            outcome.violations.keys().collect::<Vec<_>>(),
            outcome.distinct,
            outcome.took,
        );
        assert!(
            outcome.violations.contains_key(entry.law.name()),
            "{:?} should break {:?} and broke {:#?}",
            entry.mutation,
            entry.law,
            outcome.violations,
        );
    }
    println!("{0} of {0} mutations caught", MUTATIONS.len());
}

#[test]
fn without_mutations_their_grounds_are_free_of_violations() {
    explore_all(GROUNDS.iter().copied());
}

/// The rows that `docs/verification.md` has to have.
fn documented_rows() -> Vec<String> {
    let checks = CHECKS.iter().map(|check| {
        let acquisitions: Vec<_> = check
            .scripts
            .iter()
            .map(|script| script.acquisitions.len().to_string())
            .collect();
        format!(
            "| {} | {} | {} | {} |",
            check.name,
            acquisitions.join(" + "),
            check.horizon,
            check.faults,
        )
    });
    let mutations = MUTATIONS.iter().map(|entry| {
        format!(
            "| {:?} | {} | {} | {} |",
            entry.mutation,
            entry.wrong,
            entry.bounds.name,
            entry.law.name(),
        )
    });
    checks.chain(mutations).collect()
}

#[test]
fn the_documentation_has_these_tables() {
    let page = include_str!("../docs/verification.md");
    let missing: Vec<_> = documented_rows()
        .into_iter()
        .filter(|row| !page.lines().any(|line| line.starts_with(row)))
        .collect();
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
    // And no mutation that is not there any more.
    let laws = Law::ALL.map(|law| format!("| {} |", law.name()));
    let told = page
        .lines()
        .filter(|line| laws.iter().any(|law| line.ends_with(law)))
        .count();
    assert_eq!(told, MUTATIONS.len());
}
