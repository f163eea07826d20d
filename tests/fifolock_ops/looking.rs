//! `show` and `ls`.

use dynamodb_fifo_lock::record::TicketState::{Left, Waiting};
use dynamodb_fifo_lock::{AcquireOptions, LockName};
use serde_json::{Value, json};

use crate::command::{fifolock, hold, queue, run};
use crate::common::{embedded_table, fresh_tables, quick, tables, unique};

fn name() -> LockName {
    LockName::new(&unique("shown")).unwrap()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn show_says_who_holds_and_who_waits_in_order() {
    for table in tables() {
        let (store, lock) = (table.store(), name());
        let show =
            |more: &[&str]| run(fifolock(&table, &[&["show", lock.as_str()], more].concat()));

        let absent = show(&[]);
        assert_eq!(absent.code, 1, "{}", absent.err);
        assert!(
            absent.out.contains("nobody ever asked for it"),
            "{}",
            absent.out
        );
        assert_eq!(
            parse(&show(&["--json"]).out),
            json!({ "name": lock.as_str(), "state": "absent" })
        );

        hold(
            &store,
            &lock,
            "billing-7",
            1_700_000_000_123,
            Some("invoices of May"),
        );
        queue(&store, &lock, "second", Waiting, 1_700_000_001_000);
        queue(&store, &lock, "third", Left, 1_700_000_002_000);
        let shown = show(&[]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        let lines: Vec<_> = shown.out.lines().collect();
        let fact = |line: usize, what: &str, begins: &str| {
            assert!(
                lines[line]
                    .strip_prefix(what)
                    .unwrap()
                    .trim_start()
                    .starts_with(begins),
                "{what} {begins}: {}",
                shown.out
            );
        };
        fact(0, "lock", lock.as_str());
        fact(1, "holder", "billing-7");
        fact(2, "token", "41");
        fact(3, "since", "2023-11-14T22:13:20.123Z (");
        fact(4, "lease", "20 s");
        fact(5, "renewed", "2023-11-14T22:13:20.123Z (");
        assert!(lines[5].contains("longer than its lease"), "{}", shown.out);
        fact(6, "data", "invoices of May");
        fact(7, "waiting", "2");
        fact(10, "42", "waiting  second  2023-11-14T22:13:21.000Z");
        fact(11, "43", "left     third   2023-11-14T22:13:22.000Z");

        let shown = show(&["--json"]);
        assert_eq!(shown.out.lines().count(), 1);
        let document = parse(&shown.out);
        assert_eq!(document["state"], "held");
        assert_eq!(document["turn"], 41);
        let holder = &document["holder"];
        assert_eq!(holder["owner"], "billing-7");
        assert_eq!(holder["token"], 41);
        assert_eq!(holder["since"], "2023-11-14T22:13:20.123Z");
        assert_eq!(holder["since_ms"], 1_700_000_000_123_u64);
        assert_eq!(holder["lease_ms"], 20_000);
        assert_eq!(holder["data"], "invoices of May");
        assert!(holder["held_ms"].as_i64() > Some(0));
        assert_eq!(document["waiting"], 2);
        let waiter = |at: usize, what: &str| document["waiters"][at][what].clone();
        assert_eq!(
            (waiter(0, "ticket"), waiter(0, "state")),
            (json!(42), json!("waiting"))
        );
        assert_eq!(
            (waiter(1, "owner"), waiter(1, "state")),
            (json!("third"), json!("left"))
        );
    }
}

/// Whoever may write to the table must not write to the operator's terminal.
#[test]
fn nothing_from_the_table_controls_the_terminal() {
    for table in fresh_tables() {
        let (store, lock) = (table.store(), name());
        let nasty = "evil\u{1b}[2J\u{9b}1m\r\u{202e}";
        hold(&store, &lock, nasty, 1_700_000_000_000, Some(nasty));
        queue(&store, &lock, nasty, Waiting, 1_700_000_000_000);
        table.put("bad\u{1b}]0;name\u{7}", json!({ "schema": { "N": "2" } }));
        let attribute = "odd\u{1b}[5m";
        table.put(
            "odd",
            json!({ "schema": { "N": "2" }, attribute: { "N": "1" } }),
        );

        let (show, ls) = (["show", lock.as_str()], ["ls"]);
        for command in [&show[..], &ls[..]] {
            for more in [&[][..], &["--json"][..]] {
                let shown = run(fifolock(&table, &[command, more].concat()));
                let all = shown.out.clone() + &shown.err;
                let is_treacherous = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
                assert!(!all.contains(is_treacherous), "{all:?}");
                assert!(all.contains("evil"), "{all}");
                if command == ls {
                    // The others are shown all the same.
                    assert_eq!(shown.code, 78, "{all}");
                    assert_eq!(shown.err.lines().count(), 2, "{all}");
                    continue;
                }
                assert_eq!(shown.code, 0, "{all}");
                if more == ["--json"] {
                    assert_eq!(parse(&shown.out)["holder"]["owner"], nasty);
                }
            }
        }
    }
}

#[test]
fn a_clock_that_is_off_is_said_to_be() {
    let (table, lock) = (embedded_table(), name());
    hold(
        &table.store(),
        &lock,
        "from the future",
        4_000_000_000_000,
        None,
    );
    let shown = run(fifolock(&table, &["show", lock.as_str()])).out;
    assert!(
        shown.contains("in the future: the clock that wrote it or the one here is off"),
        "{shown}"
    );
    let shown = run(fifolock(&table, &["show", lock.as_str(), "--json"])).out;
    assert!(
        parse(&shown)["holder"]["held_ms"].as_i64() < Some(0),
        "{shown}"
    );
}

#[test]
fn ls_lists_by_name_and_as_asked() {
    for table in fresh_tables() {
        let store = table.store();
        let client = crate::common::quick().build(store.clone()).unwrap();
        for lock in ["b/free", "c/other"] {
            client.acquire(lock).unwrap().release().unwrap();
        }
        let held = LockName::new("a/held").unwrap();
        hold(&store, &held, "billing-7", 1_700_000_000_000, None);
        queue(&store, &held, "second", Waiting, 1_700_000_000_000);
        let first_words = |more: &[&str]| -> Vec<String> {
            let listed = run(fifolock(&table, &[&["ls"], more].concat()));
            assert_eq!(listed.code, 0, "{}", listed.err);
            let word = |line: &str| line.split_whitespace().next().unwrap().to_owned();
            listed.out.lines().map(word).collect()
        };
        assert_eq!(first_words(&[]), ["LOCK", "a/held", "b/free", "c/other"]);
        assert_eq!(first_words(&["--prefix", "b/"]), ["LOCK", "b/free"]);
        assert_eq!(first_words(&["--held"]), ["LOCK", "a/held"]);
        assert_eq!(first_words(&["--prefix", "none"]), ["LOCK"]);

        let text = run(fifolock(&table, &["ls", "--held"])).out;
        let row = text.lines().nth(1).unwrap();
        let cells: Vec<_> = row.split_whitespace().take(5).collect();
        assert_eq!(cells, ["a/held", "held", "1", "41", "billing-7"], "{text}");

        let listed = run(fifolock(&table, &["ls", "--json"])).out;
        let names: Vec<_> = listed
            .lines()
            .map(|line| parse(line)["name"].clone())
            .collect();
        assert_eq!(names, ["a/held", "b/free", "c/other"]);
        assert_eq!(parse(listed.lines().next().unwrap())["holder"]["token"], 41);
        assert_eq!(
            run(fifolock(&table, &["ls", "--json", "--prefix", "none"])).out,
            ""
        );
    }
}

#[test]
fn those_who_share_are_shown() {
    for table in tables() {
        let lock = name();
        let client = |owner: &str| quick().owner(owner).build(table.store()).unwrap();
        let shared = AcquireOptions::new().shared();
        let (one, two) = (client("reader-1"), client("reader-2"));
        let _one = one.acquire_with(lock.as_str(), shared.clone()).unwrap();
        let _two = two.acquire_with(lock.as_str(), shared).unwrap();

        let shown = run(fifolock(&table, &["show", lock.as_str()]));
        assert_eq!(shown.code, 0, "{}", shown.err);
        assert!(shown.out.contains("the lock is shared"), "{}", shown.out);
        let rows = shown
            .out
            .lines()
            .skip_while(|line| !line.starts_with("SHARED BY"));
        let owners: Vec<_> = rows
            .skip(1)
            .filter_map(|row| row.split_whitespace().next())
            .collect();
        assert_eq!(owners, ["reader-1", "reader-2"], "{}", shown.out);

        let document = parse(&run(fifolock(&table, &["show", lock.as_str(), "--json"])).out);
        assert_eq!(document["state"], "shared");
        assert_eq!(document["sharing"], 2);
        assert_eq!(document["sharers"][1]["owner"], "reader-2");

        let listed = run(fifolock(
            &table,
            &["ls", "--held", "--prefix", lock.as_str()],
        ));
        assert!(listed.out.contains("(2 share it)"), "{}", listed.out);
    }
}
