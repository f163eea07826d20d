//! `doctor`.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use crate::command::{Ran, bare, fifolock, hold, queue, run};
use crate::common::proxy::{Fault, Proxy, read_request};
use crate::common::{Table, call, embedded_table, fresh_tables, tables, unique};
use dynamodb_fifo_lock::LockName;
use dynamodb_fifo_lock::record::TicketState::Waiting;

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out)
        .unwrap_or_else(|error| panic!("{error}: {} {}", ran.out, ran.err))
}

/// The verdict on one check, and what was found and advised.
fn check<'a>(report: &'a Value, name: &str) -> (&'a str, String) {
    let found = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["check"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} was not checked: {report}"));
    let text = format!("{} {}", found["found"], found["advice"]);
    (found["verdict"].as_str().unwrap(), text)
}

/// All there is in a table, byte for byte.
fn contents(table: &Table) -> String {
    let question = json!({ "TableName": table.table, "ConsistentRead": true });
    call(&table.endpoint, "Scan", &question)["Items"].to_string()
}

#[test]
fn a_table_in_good_order_passes_and_is_the_same_afterwards() {
    for table in fresh_tables() {
        let (store, lock) = (table.store(), LockName::new("in use").unwrap());
        hold(&store, &lock, "billing-7", 1_700_000_000_000, Some("data"));
        queue(&store, &lock, "second", Waiting, 1_700_000_000_000);
        let before = contents(&table);
        assert!(
            before.contains("billing-7") && before.contains("second"),
            "{before}"
        );

        let checked = run(fifolock(&table, &["doctor"]));
        assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
        assert!(!checked.out.contains("FAIL"), "{}", checked.out);
        let checked = run(fifolock(&table, &["doctor", "--json"]));
        assert_eq!(checked.code, 0, "{}", checked.out);
        assert_eq!(contents(&table), before, "{}", table.name);

        let report = report(&checked);
        for name in [
            "region",
            "endpoint",
            "credentials",
            "table",
            "billing",
            "expiry (TTL)",
            "GetItem",
            "UpdateItem",
            "Query",
            "DeleteItem",
            "ConditionCheckItem",
            "Scan",
        ] {
            let (verdict, text) = check(&report, name);
            assert_eq!(verdict, "ok", "{name}: {text}");
        }
        assert_eq!(check(&report, "region").1, "\"us-east-1 (--region)\" null");
        assert!(
            check(&report, "credentials")
                .1
                .contains("test (environment)")
        );
        // A slow machine may earn a warning here.
        assert!(check(&report, "round trip").1.contains("median of 9"));
        assert_ne!(check(&report, "lease, time-out").0, "fail");
    }
}

#[test]
fn sources_are_named() {
    let table = embedded_table();
    let mut command = bare(&["doctor", "--json", "--table", &table.table]);
    command.env("AWS_DEFAULT_REGION", "eu-west-1");
    command.env("AWS_ENDPOINT_URL", &table.endpoint);
    let report = report(&run(command));
    assert_eq!(
        check(&report, "region").1,
        "\"eu-west-1 (AWS_DEFAULT_REGION)\" null"
    );
    assert!(check(&report, "endpoint").1.contains("(AWS_ENDPOINT_URL)"));
    let (verdict, text) = check(&report, "clock");
    assert_eq!(verdict, "ok", "{text}");
}

const DENIED: &str = r#"{"__type":"com.amazon.coral.service#AccessDeniedException",
    "Message":"User: arn:aws:iam::1:user/u is not authorized"}"#;

/// The report on the table if `denied` is not allowed.
fn without(table: &Table, denied: &'static str) -> (i32, Value) {
    let proxy = Proxy::before(&table.endpoint, move |operation| {
        match operation == denied {
            true => Fault::Instead(400, DENIED),
            false => Fault::None,
        }
    });
    let behind = Table {
        endpoint: proxy.endpoint.clone(),
        ..table.clone()
    };
    let ran = run(fifolock(&behind, &["doctor", "--json"]));
    (ran.code, report(&ran))
}

#[test]
fn each_permission_that_is_missing_is_named() {
    let table = embedded_table();
    for (operation, name, verdict, code) in [
        ("GetItem", "GetItem", "fail", 1),
        ("UpdateItem", "UpdateItem", "fail", 1),
        ("Query", "Query", "fail", 1),
        ("DeleteItem", "DeleteItem", "fail", 1),
        ("TransactWriteItems", "ConditionCheckItem", "warn", 0),
        ("Scan", "Scan", "warn", 0),
        ("DescribeTable", "table", "warn", 0),
        ("DescribeTimeToLive", "expiry (TTL)", "warn", 0),
    ] {
        let (found_code, report) = without(&table, operation);
        let (found, text) = check(&report, name);
        assert_eq!(
            (found, found_code),
            (verdict, code),
            "{operation}: {report}"
        );
        let action = match name {
            "table" | "expiry (TTL)" => operation,
            name => name,
        };
        assert!(text.contains(&format!("dynamodb:{action}")), "{text}");
        assert!(text.contains("denied"), "{text}");
    }
}

#[test]
fn what_is_missing_altogether_is_said_first_and_the_rest_not_tried() {
    for table in tables() {
        let absent = Table {
            table: unique("absent"),
            ..table
        };
        let ran = run(fifolock(&absent, &["doctor", "--json"]));
        let report = report(&ran);
        let (verdict, text) = check(&report, "table");
        assert_eq!((verdict, ran.code), ("fail", 1));
        assert!(text.contains("fifolock table create"), "{text}");
        assert_eq!(
            report["checks"].as_array().unwrap().last().unwrap()["check"],
            "table"
        );
    }
    let mut command = fifolock(&embedded_table(), &["doctor", "--json"]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .args(["--profile", "absent"]);
    let ran = run(command);
    let report_of_it = report(&ran);
    let (verdict, text) = check(&report_of_it, "credentials");
    assert_eq!((verdict, ran.code), ("fail", 1));
    assert!(text.contains("AWS_PROFILE"), "{text}");
    let nowhere = run(bare(&["doctor", "--json"]));
    assert_eq!(
        (check(&report(&nowhere), "settings").0, nowhere.code),
        ("fail", 1)
    );
}

#[test]
fn settings_that_do_not_fit_are_said_to_be() {
    let table = embedded_table();
    let arguments = [
        "doctor",
        "--json",
        "--lease",
        "2s",
        "--request-timeout",
        "5s",
    ];
    let ran = run(fifolock(&table, &arguments));
    let report = report(&ran);
    assert_eq!(
        (check(&report, "lease, time-out").0, ran.code),
        ("fail", 1),
        "{report}"
    );
}

/// A server whose clock stands still, and that has nothing else to say.
fn server_of_the_past(date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let asked = read_request(&mut BufReader::new(&stream));
            let answer = format!(
                "HTTP/1.1 400 x\r\nDate: {date}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            );
            if asked.is_some() {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    endpoint
}

#[test]
fn a_clock_that_the_service_would_refuse_fails() {
    for (date, side) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", "ahead of"),
        ("Sat, 06 Nov 2190 08:49:37 GMT", "behind"),
    ] {
        let endpoint = server_of_the_past(date);
        let ran = run(bare(&["doctor", "--json", "--endpoint-url", &endpoint]));
        let report = report(&ran);
        let (verdict, text) = check(&report, "clock");
        assert_eq!(verdict, "fail", "{text}");
        assert!(text.contains(side) && text.contains("15 minutes"), "{text}");
    }
}
