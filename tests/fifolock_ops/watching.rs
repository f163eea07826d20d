//! `--watch`.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Heard, OnTerminal, fifolock};
use crate::common::proxy::{Fault, Proxy};
use crate::common::{Table, embedded_table, quick, unique, wait_for};

#[test]
fn a_watch_over_a_pipe_goes_on_until_it_is_interrupted() {
    let table = embedded_table();
    let lock = unique("watched");
    let client = quick().owner("billing-7").build(table.store()).unwrap();
    let mut child = fifolock(&table, &["show", &lock, "--watch=100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = Heard::listen(child.stdout.take().unwrap());
    heard.wait_for("nobody ever asked for it");
    let guard = client.acquire(&lock).unwrap();
    heard.wait_for("billing-7");
    guard.release().unwrap();
    heard.wait_for("the lock is free");
    heard.clear();
    // One block after the other, and nothing in between but an empty line.
    heard.wait_for("\n\nlock");
    assert!(!heard.text().contains('\u{1b}'));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_watch_in_json_is_a_document_a_line() {
    let table = embedded_table();
    let lock = unique("watched");
    let client = quick().build(table.store()).unwrap();
    let guard = client.acquire(&lock).unwrap();
    let mut child = fifolock(&table, &["show", &lock, "--watch=100ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["holder"]["token"], guard.fencing_token().get());
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_watch_on_a_terminal_stays_in_its_place_and_leaves_it_clean() {
    let table = embedded_table();
    let lock = unique("watched");
    let client = quick().owner("billing-7").build(table.store()).unwrap();
    let watch = OnTerminal::on(&table, &["ls", "--prefix", &lock, "--watch=100ms"]);
    watch.heard.wait_for("HOLDER");
    let guard = client.acquire(&lock).unwrap();
    watch.heard.wait_for("billing-7");
    guard.release().unwrap();
    watch.heard.clear();
    watch.heard.wait_for("free");
    watch.type_in("\u{3}");
    let (code, shown) = watch.end();
    assert_eq!(code, 130);
    // Each frame goes up by the two lines of the one before, and clears them.
    assert!(
        shown.contains("\u{1b}[2A") && shown.contains("\u{1b}[0J"),
        "{shown:?}"
    );
    // Neither hidden cursor nor other screen nor colour is left behind.
    for left in ["\u{1b}[?25l", "\u{1b}[?1049h", "\u{1b}[3"] {
        assert!(!shown.contains(left), "{shown:?}");
    }
}

#[test]
fn a_watch_outlives_an_outage() {
    let table = embedded_table();
    let is_down = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_down);
    let proxy = Proxy::before(&table.endpoint, move |_| {
        match asked.load(Ordering::SeqCst) {
            true => Fault::Instead(503, "{}"),
            false => Fault::None,
        }
    });
    let behind = Table {
        endpoint: proxy.endpoint.clone(),
        ..table
    };
    let watch = OnTerminal::on(&behind, &["ls", "--watch=100ms"]);
    watch.heard.wait_for("no usable answer");
    is_down.store(false, Ordering::SeqCst);
    watch.heard.wait_for("HOLDER");
    watch.type_in("\u{3}");
    assert_eq!(watch.end().0, 130);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let table = embedded_table();
    let mut child = fifolock(&table, &["ls", "--watch=100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let heard = Heard::listen(child.stderr.take().unwrap());
    wait_for("the end", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(heard.to_the_end(), "");
}

#[test]
fn an_interval_that_makes_no_sense_is_refused() {
    for interval in ["soon", "1ms"] {
        let watch = format!("--watch={interval}");
        let refused = crate::command::run(fifolock(&embedded_table(), &["ls", &watch]));
        assert_eq!(refused.code, 64, "{}", refused.err);
    }
}
