//! What only root can set up: commands of another user, and being the first process.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, geteuid};

use crate::common::{embedded_table, unique};
use crate::job::{Job, Pids, Scratch};
use crate::loss::take_away;

/// Says so if this is not root.
fn may_run(test: &str) -> bool {
    if !geteuid().is_root() {
        eprintln!("skipped {test}: it needs root");
        return false;
    }
    true
}

/// Has a command run as a user who may become root and may not signal what is root's: so
/// it is with sudo.
const BECOME: [&str; 6] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+setuid",
    "--ambient-caps=-all,+setuid",
    "--bounding-set=-all,+setuid",
];

/// Says so if there cannot be such a user, as in some containers.
fn may_become(test: &str) -> bool {
    let mut other = Command::new("setpriv");
    let back = ["setpriv", "--reuid=0", "true"];
    let works = other.args(BECOME).args(back).status();
    let works = may_run(test) && works.is_ok_and(|end| end.success());
    if !works {
        eprintln!("skipped {test}: it needs setpriv and another user");
    }
    works
}

/// `fifolock` where any user may run it.
fn installed(scratch: &Scratch) -> PathBuf {
    let folder = scratch.path("bin");
    fs::create_dir(&folder).unwrap();
    for path in [&scratch.path(""), &folder] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let binary = folder.join("fifolock");
    fs::copy(env!("CARGO_BIN_EXE_fifolock"), &binary).unwrap();
    binary
}

/// Runs a script as root, by a `fifolock` that is not.
fn as_root(scratch: &Scratch, lock: &str, script: &str, pids: &Pids) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(BECOME)
        .arg(installed(scratch))
        .args(["run", "--lease", "4s", lock, "--"])
        .args(["setpriv", "--reuid=0", "sh", "-c", script, "sh"])
        .arg(pids.path())
        .env("HOME", "/nonexistent");
    command
}

#[test]
fn a_command_that_cannot_be_stopped_is_not_said_to_be() {
    if !may_become("a_command_that_cannot_be_stopped_is_not_said_to_be") {
        return;
    }
    let table = embedded_table();
    let (lock, scratch) = (unique("root"), Scratch::new());
    let pids = Pids::in_file(scratch.path("pids"));
    let script = r#"echo $$ >> "$1"; exec sleep 600"#;
    let command = as_root(&scratch, &lock, script, &pids);
    let mut job = Job::start(command, &table.endpoint, &table);
    let pid = pids.wait_for(1)[0];
    take_away(&table, &lock);
    assert_eq!(job.code(), 80, "{}", job.err());
    assert_eq!(pids.running(), [pid]);
    let log = job.err();
    assert!(
        log.contains(&format!("process {pid} (sleep, user root)")),
        "{log}"
    );
    assert!(log.contains("RUNS ON WITHOUT THE LOCK"), "{log}");
    assert!(!log.contains("killed the command"), "{log}");
    assert!(!log.contains("terminating the command"), "{log}");
}

#[test]
fn the_lock_is_kept_for_a_command_that_cannot_be_asked_to_end() {
    if !may_become("the_lock_is_kept_for_a_command_that_cannot_be_asked_to_end") {
        return;
    }
    let table = embedded_table();
    for (signal, name, code) in [
        (Signal::TERM, "SIGTERM", 6),
        (Signal::ALARM, "SIGALRM", 142),
    ] {
        let (lock, scratch) = (unique("kept"), Scratch::new());
        let pids = Pids::in_file(scratch.path("pids"));
        let script = r#"echo $$ >> "$1"; read line; exit 6"#;
        let command = as_root(&scratch, &lock, script, &pids);
        let mut job = Job::start(command, &table.endpoint, &table);
        pids.wait_for(1);
        job.send(signal);
        job.says("does not permit");
        assert!(job.err().contains(name), "{}", job.err());
        let mut other = Job::run(&table, &["--timeout", "2s", &lock, "--", "true"]);
        assert_eq!(other.code(), 124, "the lock is kept");
        job.feed(b"go\n");
        assert_eq!(job.code(), code, "{}", job.err());
        let mut next = Job::run(&table, &["--try", &lock, "--", "true"]);
        assert_eq!(next.code(), 0, "it was released: {}", next.err());
    }
}

/// As in a container without an init.
#[test]
fn the_first_process_leaves_no_zombies() {
    if !may_run("the_first_process_leaves_no_zombies") {
        return;
    }
    let namespace = ["--pid", "--fork", "--mount-proc"];
    if !Command::new("unshare")
        .args(namespace)
        .arg("true")
        .status()
        .is_ok_and(|end| end.success())
    {
        eprintln!("skipped the_first_process_leaves_no_zombies: no namespaces here");
        return;
    }
    let script = r#"
        for i in 1 2 3 4 5; do (setsid sh -c 'exit 3' &); done
        count() { grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; }
        [ -e /proc/1/status ] || exit 9
        tries=0
        while [ "$(count)" != 0 ] && [ $tries -lt 600 ]; do sleep 0.05; tries=$((tries + 1)); done
        echo "zombies: $(count)"
        exit 4
    "#;
    let table = embedded_table();
    let mut command = Command::new("unshare");
    command
        .args(namespace)
        .arg(env!("CARGO_BIN_EXE_fifolock"))
        .args(["run", &unique("init"), "--", "bash", "-c", script]);
    let mut job = Job::start(command, &table.endpoint, &table);
    assert_eq!(job.code(), 4, "{}", job.err());
    assert_eq!(job.out(), "zombies: 0\n");
}
