//! Processes that leave the command's process group, and the command's end.

use rustix::process::Signal;

use crate::common::{Table, embedded_table, unique, wait_for};
use crate::job::{Job, Pids, Scratch, text};
use crate::loss::take_away;

/// Ways to leave the group. All write the ids of their processes into the file `$1`, and
/// run `$2`, `fifolock`, with the lock `$3` if they need another one.
const WAYS: [(&str, &str, usize); 7] = [
    (
        "timeout",
        r#"timeout 600 sh -c 'echo $$ >> "$0"; exec sleep 600' "$1"; true"#,
        1,
    ),
    (
        "job control",
        r#"set -m; sleep 600 & echo $! >> "$1"; wait"#,
        1,
    ),
    (
        "interactive",
        r#"bash --norc -ic 'trap "" TERM; sleep 600 & echo $! >> "$0"; echo $$ >> "$0"; wait' "$1"; true"#,
        2,
    ),
    (
        "session",
        r#"setsid sh -c 'echo $$ >> "$0"; exec sleep 600' "$1" & sleep 600"#,
        1,
    ),
    (
        "daemon",
        r#"(setsid sh -c 'sleep 600 & echo $! >> "$0"' "$1" &); sleep 600"#,
        1,
    ),
    (
        "daemon that ignores",
        r#"(setsid bash -c 'trap "" TERM HUP INT; echo $$ >> "$0"; while :; do sleep 0.05; done' "$1" &); sleep 600"#,
        1,
    ),
    (
        "nested",
        r#""$2" run --quiet "$3" -- bash -c 'trap "" TERM; echo $$ >> "$0"; while :; do sleep 0.05; done' "$1"; true"#,
        1,
    ),
];

fn run(table: &Table, lock: &str, script: &str, pids: &Pids) -> Job {
    let binary = env!("CARGO_BIN_EXE_fifolock");
    let inner = unique("inner");
    let options = ["--lease", "4s", "--kill-after", "100ms", lock];
    let command = ["--", "bash", "-c", script, "bash"];
    let more = [pids.path(), binary, &inner];
    Job::run(table, &[&options[..], &command[..], &more[..]].concat())
}

#[test]
fn a_loss_ends_also_what_has_left_the_group() {
    let table = embedded_table();
    for (way, script, count) in WAYS {
        let (lock, scratch) = (unique("escape"), Scratch::new());
        let pids = Pids::in_file(scratch.path("pids"));
        let mut job = run(&table, &lock, script, &pids);
        pids.wait_for(count);
        take_away(&table, &lock);
        assert_eq!(job.code(), 79, "{way}: {}", job.err());
        assert_eq!(pids.running(), [0; 0], "{way}: {}", job.err());
    }
}

/// What was asked to end through `fifolock` does not hold the lock any more when it is
/// free; whatever else the command started would.
#[test]
fn a_signal_that_ends_the_command_ends_what_has_left_the_group() {
    let table = embedded_table();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1] {
        for (way, script, count) in WAYS {
            if way == "interactive" && signal != Signal::TERM {
                continue; // Such a shell ignores some, and then the lock is kept.
            }
            let (lock, scratch) = (unique("asked"), Scratch::new());
            let pids = Pids::in_file(scratch.path("pids"));
            let mut job = run(&table, &lock, script, &pids);
            pids.wait_for(count);
            job.send(signal);
            job.code();
            assert_eq!(pids.running(), [0; 0], "{signal:?} {way}: {}", job.err());
            let record = table.get(&lock);
            assert_eq!(record["issued"], record["served"], "it was released");
        }
    }
}

/// As after Ctrl-C, which the terminal sends to the command's group only.
#[test]
fn a_command_that_a_signal_ends_leaves_nothing() {
    let table = embedded_table();
    for (way, script, count) in WAYS {
        let (lock, scratch) = (unique("crash"), Scratch::new());
        let pids = Pids::in_file(scratch.path("pids"));
        let script =
            format!("({script}) & while [ ! -e \"$1.go\" ]; do sleep 0.02; done; kill -KILL $$");
        let mut job = run(&table, &lock, &script, &pids);
        pids.wait_for(count);
        std::fs::write(scratch.path("pids.go"), "").unwrap();
        assert_eq!(job.code(), 137, "{way}: {}", job.err());
        assert_eq!(pids.running(), [0; 0], "{way}: {}", job.err());
        let record = table.get(&lock);
        assert_eq!(record["issued"], record["served"], "it was released");
    }
}

/// A process that forks and ends, each time in a session of its own: none lives for as long
/// as it takes to look at all processes.
const RUNNER: &str = r#"
    use POSIX; $SIG{TERM} = "IGNORE";
    if (!fork) {
        while (1) {
            POSIX::_exit(0) if fork;
            POSIX::setsid();
            open(my $beats, ">>", $ARGV[0]) or POSIX::_exit(1);
            syswrite($beats, "beat\n");
        }
    }
    sleep 600;
"#;

#[test]
fn a_process_that_is_another_one_all_the_time_is_caught() {
    let table = embedded_table();
    let (lock, scratch) = (unique("runner"), Scratch::new());
    let beats = scratch.path("beats");
    let folder = beats.to_str().unwrap();
    let command = ["--lease", "4s", &lock, "--", "perl", "-e", RUNNER, folder];
    let mut job = Job::run(&table, &command);
    wait_for("beats", || text(&beats).lines().count() > 3);
    take_away(&table, &lock);
    assert_eq!(job.code(), 79, "{}", job.err());
    let before = text(&beats);
    // It would have gone on a hundred times by then.
    let mut next = Job::run(&table, &[&lock, "--", "sleep", "0.3"]);
    assert_eq!(next.code(), 0, "{}", next.err());
    assert_eq!(text(&beats), before);
}
