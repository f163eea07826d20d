//! Signals sent to `fifolock`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::proxy::{Fault, Proxy};
use crate::common::{embedded_table, quick, tables, unique};
use crate::job::Job;
#[cfg(target_os = "linux")]
use crate::job::{Pids, Scratch};

// Scripts with traps are bash's: dash forgets a signal that meets it while it forks.

const FAMILY: &str = r#"
    (trap "echo grandchild; exit" TERM; echo born; while :; do sleep 0.02; done) &
    trap "wait; echo child; exit 17" TERM
    echo born
    while :; do sleep 0.02; done
"#;

#[test]
fn term_reaches_the_command_and_its_children() {
    for table in tables() {
        let mut job = Job::run(&table, &[&unique("family"), "--", "bash", "-c", FAMILY]);
        job.prints("born\nborn\n");
        job.send(Signal::TERM);
        assert_eq!(job.code(), 17, "{}", job.err());
        assert_eq!(job.out(), "born\nborn\ngrandchild\nchild\n");
    }
}

#[test]
fn a_command_that_a_signal_ends_shows_it() {
    let table = embedded_table();
    for (signal, code) in [
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::USR1, 138),
    ] {
        let lock = unique("ended");
        let mut job = Job::run(&table, &[&lock, "--", "sh", "-c", "echo up; exec sleep 60"]);
        job.prints("up");
        job.send(signal);
        assert_eq!(job.code(), code, "{}", job.err());
        let record = table.get(&lock);
        assert_eq!(record["issued"], record["served"], "it was released");
    }
}

#[test]
fn signals_of_all_kinds_are_passed_on() {
    // It waits in a builtin: while bash waits for a child that ends by itself in the same
    // moment, it takes SIGINT for the child's.
    let script = r#"
        for signal in HUP INT QUIT USR1 USR2 WINCH; do trap "echo $signal" $signal; done
        trap "exit 0" TERM
        exec 3<> <(:)
        echo up
        while :; do read -t 0.05 -u 3 nothing; done
    "#;
    let table = embedded_table();
    let mut job = Job::run(&table, &[&unique("kinds"), "--", "bash", "-c", script]);
    job.prints("up");
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
    ] {
        job.send(signal);
        job.prints(name);
    }
    job.send(Signal::TERM);
    assert_eq!(job.code(), 0, "{}", job.err());
}

/// Those that would end `fifolock` and are not meant for the command, by number: rustix
/// has no name for all of them.
#[cfg(target_os = "linux")]
const FATAL: [i32; 12] = [6, 14, 16, 24, 25, 26, 27, 29, 30, 34, 40, 64];

#[cfg(target_os = "linux")]
fn send(job: &Job, number: i32) {
    let target = job.id().to_string();
    let kill = format!("kill -{number} {target}");
    let sent = std::process::Command::new("bash")
        .args(["-c", &kill])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn what_ends_fifolock_stops_the_command_first() {
    let table = embedded_table();
    let script = r#"trap "" TERM; echo $$ >> "$0"; while :; do sleep 0.02; done"#;
    for number in FATAL {
        let (lock, scratch) = (unique("fatal"), Scratch::new());
        let pids = Pids::in_file(scratch.path("pids"));
        let options = ["--kill-after", "200ms", &lock];
        let command = ["--", "bash", "-c", script, pids.path()];
        let mut job = Job::run(&table, &[&options[..], &command[..]].concat());
        pids.wait_for(1);
        send(&job, number);
        assert_eq!(job.code(), 128 + number, "{}", job.err());
        assert_eq!(pids.running(), [0; 0], "signal {number}");
        assert!(job.err().contains("was sent "), "{}", job.err());
        let record = table.get(&lock);
        assert_eq!(record["issued"], record["served"], "it was released");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_ends_fifolock_ends_the_wait() {
    let table = embedded_table();
    let lock = unique("fatal-wait");
    let client = quick().build(table.store()).unwrap();
    let guard = client.acquire(&lock).unwrap();
    for number in [14, 30, 40] {
        let mut job = Job::run(&table, &[&lock, "--", "true"]);
        job.says("joined the queue");
        send(&job, number);
        assert_eq!(job.code(), 128 + number, "{}", job.err());
    }
    guard.release().unwrap();
    let mut next = Job::run(&table, &["--try", &lock, "--", "true"]);
    assert_eq!(next.code(), 0, "{}", next.err());
}

#[test]
fn a_signal_while_waiting_leaves_the_queue() {
    for table in tables() {
        let lock = unique("leaving");
        let client = quick().build(table.store()).unwrap();
        let guard = client.acquire(&lock).unwrap();
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let mut job = Job::run(&table, &[&lock, "--", "echo", "ran"]);
            job.says("joined the queue");
            // Without a command, this one is for nobody.
            job.send(Signal::USR1);
            job.send(signal);
            assert_eq!((job.code(), job.out().as_str()), (code, ""));
        }
        guard.release().unwrap();
        // A try never waits, and never overtakes: so nobody is in the queue.
        let mut next = Job::run(&table, &["--try", &lock, "--", "true"]);
        assert_eq!(next.code(), 0, "{}", next.err());
        let record = table.get(&lock);
        assert_eq!(record["issued"], record["served"]);
    }
}

#[test]
fn a_signal_ends_the_wait_also_if_the_store_hangs() {
    let table = embedded_table();
    let hangs = Arc::new(AtomicBool::new(false));
    let (proxy, _open) = black_hole(&table.endpoint, &hangs);
    let lock = unique("hanging");
    let client = quick().build(table.store()).unwrap();
    let _guard = client.acquire(&lock).unwrap();
    let mut job = Job::run_at(&proxy.endpoint, &table, &[&lock, "--", "true"]);
    job.says("joined the queue");
    hangs.store(true, Ordering::Relaxed);
    let began = Instant::now();
    job.send(Signal::INT);
    job.send(Signal::INT);
    assert_eq!(job.code(), 130);
    // The request time-out is 3 s, the outage limit 30 s.
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[test]
fn a_command_that_is_stopped_keeps_the_lock() {
    let table = embedded_table();
    let lock = unique("stopped");
    let script = "echo $$; kill -STOP $$; echo back";
    let arguments = ["--lease", "2s", &lock, "--", "sh", "-c", script];
    let mut job = Job::run(&table, &arguments);
    job.prints("\n");
    let stopped = job.out().trim().parse().ok().and_then(Pid::from_raw);
    let mut other = Job::run(&table, &["--timeout", "3s", &lock, "--", "true"]);
    assert_eq!(
        other.code(),
        124,
        "the lease is long over, but for the heartbeat"
    );
    kill_process(stopped.unwrap(), Signal::CONT).unwrap();
    assert_eq!(job.code(), 0, "{}", job.err());
    assert!(job.out().ends_with("back\n"));
}

/// A proxy that swallows every request while it is told to.
pub(crate) fn black_hole(
    upstream: &str,
    hangs: &Arc<AtomicBool>,
) -> (Proxy, crossbeam_channel::Sender<()>) {
    let (open, until) = crossbeam_channel::bounded(0);
    let hangs = Arc::clone(hangs);
    let proxy = Proxy::before(upstream, move |_| match hangs.load(Ordering::Relaxed) {
        true => Fault::Hang(until.clone()),
        false => Fault::None,
    });
    (proxy, open)
}
