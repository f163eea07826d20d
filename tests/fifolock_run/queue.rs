//! Many processes at one lock.

use std::fs;

use crate::common::{tables, unique, wait_for};
use crate::job::{Job, Scratch, text};

const CROWD: usize = 20;

/// Says who begins and ends.
const TURN: &str = r#"
    echo "begin $1 $FIFOLOCK_TOKEN" >> "$0/turns"
    while [ ! -e "$0/go" ]; do sleep 0.02; done
    echo "end $1 $FIFOLOCK_TOKEN" >> "$0/turns"
"#;

#[test]
fn a_crowd_takes_turns_in_the_order_in_which_it_came() {
    for table in tables() {
        let (lock, scratch) = (unique("crowd"), Scratch::new());
        let turns = scratch.path("turns");
        let folder = scratch.path("");
        let folder = folder.to_str().unwrap();
        let mut jobs = Vec::new();
        for number in 0..CROWD {
            let number_text = number.to_string();
            let command = ["sh", "-c", TURN, folder, &number_text];
            let job = Job::run(&table, &[&[lock.as_str(), "--"], &command[..]].concat());
            // The first one holds until all are there.
            match number {
                0 => wait_for("the first turn", || text(&turns).contains("begin 0")),
                _ => job.says("joined the queue"),
            }
            jobs.push(job);
        }
        fs::write(scratch.path("go"), "").unwrap();
        for job in &mut jobs {
            assert_eq!(job.code(), 0, "{}", job.err());
        }
        let turns = text(&turns);
        let lines: Vec<&str> = turns.lines().collect();
        assert_eq!(lines.len(), 2 * CROWD, "{turns}");
        let mut newest = 0;
        for (number, turn) in lines.chunks(2).enumerate() {
            let token = turn[0].strip_prefix(&format!("begin {number} "));
            let token: u64 = token.unwrap_or_else(|| panic!("{turns}")).parse().unwrap();
            assert_eq!(turn[1], format!("end {number} {token}"), "{turns}");
            assert!(token > newest, "{turns}");
            newest = token;
        }
    }
}
