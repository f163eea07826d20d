//! `fifolock` itself is killed, or stopped, while its command runs.

use std::os::unix::process::ExitStatusExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Table, embedded_table, unique, wait_for};
use crate::job::{Job, Pids, Scratch, text};
use crate::loss::last_stamp;

/// Has a child that has left its group and one that has left its session. Writes down the
/// keeper first, then all of them.
const FAMILY: &str = r#"
    echo $PPID >> "$1.keeper"
    trap "" TERM
    timeout 600 sh -c 'echo $$ >> "$0"; exec sleep 600' "$1" &
    (setsid sh -c 'echo $$ >> "$0"; exec sleep 600' "$1" &)
    echo $$ >> "$1"
    while :; do date +%s%N >> "$1.beats"; sleep 0.01; done
"#;

struct Family {
    job: Job,
    pids: Pids,
    keeper: Pid,
    scratch: Scratch,
}

impl Family {
    fn start(table: &Table, lock: &str, lease: &str) -> Self {
        let scratch = Scratch::new();
        let pids = Pids::in_file(scratch.path("pids"));
        let command = ["--lease", lease, lock, "--", "bash", "-c", FAMILY, "bash"];
        let job = Job::run(table, &[&command[..], &[pids.path()]].concat());
        pids.wait_for(3);
        let keeper = text(&scratch.path("pids.keeper")).trim().parse().unwrap();
        Self {
            job,
            pids,
            keeper: Pid::from_raw(keeper).unwrap(),
            scratch,
        }
    }
}

#[test]
fn a_fifolock_that_dies_takes_all_that_its_command_started_with_it() {
    let table = embedded_table();
    for signal in [Signal::KILL, Signal::ILL, Signal::SYS] {
        let mut family = Family::start(&table, &unique("killed"), "20s");
        family.job.send(signal);
        assert_eq!(family.job.end().signal(), Some(signal.as_raw()));
        family.pids.gone();
    }
}

#[test]
fn a_fifolock_that_is_stopped_past_its_lease_does_not_keep_its_command_alive() {
    let table = embedded_table();
    for signal in [Signal::STOP, Signal::TTOU] {
        let lock = unique("paused");
        let mut family = Family::start(&table, &lock, "2s");
        family.job.send(signal);
        let mut next = Job::run(&table, &[&lock, "--", "date", "+%s%N"]);
        assert_eq!(next.code(), 0, "{}", next.err());
        family.pids.gone();
        let taken: u64 = next.out().trim().parse().unwrap();
        assert!(last_stamp(&family.scratch.path("pids.beats")) < taken);
        family.job.send(Signal::CONT);
        assert_eq!(family.job.code(), 79, "{}", family.job.err());
    }
}

#[test]
fn a_command_without_its_keeper_is_killed_and_the_lock_released() {
    let table = embedded_table();
    let lock = unique("keeper");
    let mut family = Family::start(&table, &lock, "20s");
    kill_process(family.keeper, Signal::KILL).unwrap();
    assert_eq!(family.job.code(), 1, "{}", family.job.err());
    assert_eq!(family.pids.running(), [0; 0]);
    assert!(family.job.err().contains("killed the command"));
    let record = table.get(&lock);
    assert_eq!(record["issued"], record["served"], "it was released");
}

#[test]
fn a_keeper_does_not_mind_what_is_meant_for_fifolock() {
    let table = embedded_table();
    let mut family = Family::start(&table, &unique("firm"), "20s");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::ALARM] {
        kill_process(family.keeper, signal).unwrap();
    }
    let beats = family.scratch.path("pids.beats");
    let before = text(&beats).len();
    wait_for("more beats", || text(&beats).len() > before + 200);
    family.job.send(Signal::ALARM);
    assert_eq!(family.job.code(), 142, "{}", family.job.err());
    assert_eq!(family.pids.running(), [0; 0]);
}

/// As by `pkill -KILL fifolock`. Then there is only the system's death signal, which the
/// command itself gets.
#[test]
fn a_command_whose_fifolock_and_keeper_are_killed_at_once_dies() {
    let table = embedded_table();
    let (lock, scratch) = (unique("both"), Scratch::new());
    let pids = Pids::in_file(scratch.path("pids"));
    let script = r#"echo $PPID > "$1.keeper"; echo $$ >> "$1"; exec sleep 600"#;
    let command = [&lock, "--", "sh", "-c", script, "sh", pids.path()];
    let mut job = Job::run(&table, &command);
    pids.wait_for(1);
    let keeper: i32 = text(&scratch.path("pids.keeper")).trim().parse().unwrap();
    job.send(Signal::STOP);
    kill_process(Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
    job.send(Signal::KILL);
    job.end();
    pids.gone();
}
