//! Exit codes, and what is passed through.

use std::process::Command;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::process::Signal;

use crate::common::proxy::{Fault, Proxy};
use crate::common::{Table, embedded_table, quick, tables, unique};
use crate::job::{Job, Scratch, environment, fifolock};

#[test]
fn the_code_of_the_command_is_passed_on() {
    for table in tables() {
        let lock = unique("codes");
        let cases: [(&[&str], i32); 7] = [
            (&["true"], 0),
            (&["sh", "-c", "exit 7"], 7),
            (&["sh", "-c", "exit 255"], 255),
            (&["sh", "-c", "kill -9 $$"], 137),
            (&["sh", "-c", "kill -TERM $$"], 143),
            (&["no-such-command"], 127),
            (&["/"], 126),
        ];
        for (command, code) in cases {
            let arguments = [&[lock.as_str(), "--"], command].concat();
            let mut job = Job::run(&table, &arguments);
            assert_eq!(
                job.code(),
                code,
                "{command:?} {}: {}",
                table.name,
                job.err()
            );
        }
        // Also if it could not be run, the lock was given back.
        let record = table.get(&lock);
        assert_eq!(record["issued"], record["served"]);
    }
}

/// As under a shell, `env` or `flock`.
#[test]
#[cfg(target_env = "gnu")]
fn a_script_without_an_interpreter_is_the_shells() {
    let (table, scratch) = (embedded_table(), Scratch::new());
    let script = scratch.path("script");
    std::fs::write(&script, "echo from the script; exit 3\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut job = Job::run(&table, &[&unique("plain"), "--", script.to_str().unwrap()]);
    assert_eq!((job.code(), job.out().as_str()), (3, "from the script\n"));
}

#[test]
fn a_command_line_that_makes_no_sense_sends_nothing() {
    let table = embedded_table();
    let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
    let cases: [&[&str]; 13] = [
        &["x"],
        &["x", "--"],
        &["x", "--", ""],
        &["", "--", "true"],
        &["two\nlines", "--", "true"],
        &["x", "--try", "--timeout", "1s", "--", "true"],
        &["x", "--try", "--wait", "--", "true"],
        &["x", "--timeout", "0s", "--", "true"],
        &["x", "--timeout", "soon", "--", "true"],
        &["x", "--lease", "900ms", "--", "true"],
        &["x", "--lease", "2days", "--", "true"],
        &["x", "--lease", "8s", "--kill-after", "1001ms", "--", "true"],
        &["x", "--owner", "", "--", "true"],
    ];
    for arguments in cases {
        let mut job = Job::run_at(&proxy.endpoint, &table, arguments);
        assert_eq!(job.code(), 64, "{arguments:?}: {}", job.err());
        assert!(!job.err().is_empty(), "{arguments:?}");
    }
    assert_eq!(proxy.take_operations(), Vec::<String>::new());
}

#[test]
fn busy_and_too_late_have_codes_of_their_own() {
    for table in tables() {
        let lock = unique("busy");
        let client = quick().build(table.store()).unwrap();
        let guard = client.acquire(&lock).unwrap();
        let mut job = Job::run(&table, &["--try", &lock, "--", "echo", "ran"]);
        assert_eq!((job.code(), job.out().as_str()), (75, ""));
        assert!(job.err().contains("is busy"), "{}", job.err());
        let mut job = Job::run(&table, &["--try", "-q", &lock, "--", "echo", "ran"]);
        assert_eq!((job.code(), job.err().as_str()), (75, ""));
        let mut job = Job::run(&table, &["--timeout", "300ms", &lock, "--", "echo", "ran"]);
        assert_eq!((job.code(), job.out().as_str()), (124, ""));
        guard.release().unwrap();
        let mut job = Job::run(&table, &["--try", &lock, "--", "echo", "ran"]);
        assert_eq!((job.code(), job.out().as_str()), (0, "ran\n"));
    }
}

#[test]
fn a_table_that_is_missing_or_forbidden_has_a_code() {
    for table in tables() {
        let missing = Table {
            table: unique("missing"),
            ..table.clone()
        };
        assert_eq!(Job::run(&missing, &["x", "--", "true"]).code(), 78);
    }
    let table = embedded_table();
    let denial = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}"#;
    let proxy = Proxy::before(&table.endpoint, move |_| Fault::Instead(400, denial));
    let mut job = Job::run_at(&proxy.endpoint, &table, &["x", "--", "true"]);
    assert_eq!(job.code(), 77, "{}", job.err());
}

/// The library goes on for its outage limit, 30 s.
#[test]
fn a_store_that_cannot_be_reached_has_a_code() {
    let table = embedded_table();
    let nobody = "http://127.0.0.1:9";
    let began = Instant::now();
    let mut waits = Job::run_at(nobody, &table, &["x", "--", "true"]);
    let mut tries = Job::run_at(nobody, &table, &["x", "--try", "--", "true"]);
    assert_eq!(tries.code(), 69, "{}", tries.err());
    assert_eq!(waits.code(), 69, "{}", waits.err());
    assert!(began.elapsed() > Duration::from_secs(25));
    assert!(waits.err().contains("trying again"), "{}", waits.err());
}

#[test]
fn the_command_knows_its_lock() {
    for table in tables() {
        let lock = unique("environment");
        let say = "echo $FIFOLOCK_NAME $FIFOLOCK_OWNER $FIFOLOCK_TOKEN";
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let arguments = ["--owner", "ci-7", &lock, "--", "sh", "-c", say];
            let mut job = Job::run(&table, &arguments);
            assert_eq!(job.code(), 0, "{}", job.err());
            let out = job.out();
            let token = out.trim_end().strip_prefix(&format!("{lock} ci-7 "));
            tokens.push(token.unwrap().parse::<u64>().unwrap());
        }
        assert!(tokens[0] < tokens[1], "{tokens:?}");
        let served = table.get(&lock)["served"]["N"].clone();
        assert_eq!(served, tokens[1].to_string());
    }
}

#[test]
fn input_and_output_are_the_commands_own() {
    let table = embedded_table();
    let input: Vec<u8> = (0..200_000u32)
        .map(|byte| b'a' + (byte % 26) as u8)
        .collect();
    let mut job = Job::run(&table, &[&unique("pipe"), "--", "cat"]);
    job.feed(&input);
    assert_eq!(job.code(), 0);
    assert!(job.out().as_bytes() == input, "passed on as it is");
    let log = job.err();
    assert!(log.contains("granted, token "), "{log}");
    assert!(
        !log.contains(char::is_control) || !log.contains('\x1b'),
        "{log:?}"
    );
    let mut job = Job::run(&table, &["--quiet", &unique("pipe"), "--", "true"]);
    assert_eq!((job.code(), job.err().as_str()), (0, ""));
}

#[test]
fn nobody_has_to_read_the_log() {
    let table = embedded_table();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut run = fifolock();
    run.args(["run", &unique("deaf"), "--", "sh", "-c", "exit 3"])
        .envs(environment(&table.endpoint, &table))
        .stderr(writer);
    assert_eq!(run.status().unwrap().code(), Some(3));
}

/// `fifolock run`, with `signal` ignored from the beginning.
#[cfg(target_os = "linux")]
fn ignoring(signal: &str, command: &str) -> Job {
    let table = embedded_table();
    let mut env = Command::new("env");
    env.arg(format!("--ignore-signal={signal}"))
        .args([env!("CARGO_BIN_EXE_fifolock"), "run", &unique("ignoring")])
        .args(["--", "sh", "-c", command]);
    Job::start(env, &table.endpoint, &table)
}

/// What `nohup` is for.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_is_ignored_stays_ignored() {
    for (name, signal) in [("HUP", Signal::HUP), ("ALRM", Signal::ALARM)] {
        let script = format!("echo up; read line; kill -{name} $$ $PPID; echo alive");
        let mut job = ignoring(name, &script);
        job.prints("up");
        job.send(signal);
        job.feed(b"go\n");
        assert_eq!((job.code(), job.out().as_str()), (0, "up\nalive\n"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_code_is_known_also_to_who_ignores_its_children() {
    assert_eq!(ignoring("CHLD", "exit 5").code(), 5);
}
