//! `table`, `iam`, `terraform`, `completions`, `man`.

use serde_json::{Value, json};

use crate::command::{bare, fifolock, run};
use crate::common::{Table, call, tables, unique};

/// A table that is not there yet, on each server.
fn absent_tables() -> Vec<Table> {
    let absent = |table| Table {
        table: unique("new"),
        ..table
    };
    tables().into_iter().map(absent).collect()
}

/// Creates the table with this sort key, past every check.
fn create_as(table: &Table, sort_key: &str) {
    let question = json!({
        "TableName": table.table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            { "AttributeName": "lock", "AttributeType": "S" },
            { "AttributeName": sort_key, "AttributeType": "N" },
        ],
        "KeySchema": [
            { "AttributeName": "lock", "KeyType": "HASH" },
            { "AttributeName": sort_key, "KeyType": "RANGE" },
        ],
    });
    call(&table.endpoint, "CreateTable", &question);
}

fn turn_on_expiry(table: &Table, attribute: &str) {
    let specification = json!({ "AttributeName": attribute, "Enabled": true });
    let question = json!({ "TableName": table.table, "TimeToLiveSpecification": specification });
    call(&table.endpoint, "UpdateTimeToLive", &question);
}

#[test]
fn a_table_is_created_once_and_checked() {
    for table in absent_tables() {
        let check = || run(fifolock(&table, &["table", "check"]));
        let missing = check();
        assert_eq!(missing.code, 78, "{}", missing.err);
        assert!(missing.err.contains("does not exist"), "{}", missing.err);
        for _ in 0..2 {
            let created = run(fifolock(&table, &["table", "create"]));
            assert_eq!(created.code, 0, "{}", created.err);
        }
        let checked = check();
        assert_eq!(checked.code, 0, "{}", checked.err);
        assert!(
            checked.out.contains("billing  on demand"),
            "{}",
            checked.out
        );
        assert!(checked.out.contains("expiry   on"), "{}", checked.out);
    }
}

#[test]
fn a_table_without_expiry_is_told_apart() {
    for table in absent_tables() {
        create_as(&table, "ticket");
        let check = || run(fifolock(&table, &["table", "check"]));
        let checked = check();
        assert_eq!(checked.code, 1, "{}", checked.err);
        assert!(checked.out.contains("expiry   off"), "{}", checked.out);
        run(fifolock(&table, &["table", "create"]));
        assert_eq!(check().code, 0);
    }
    for table in absent_tables() {
        create_as(&table, "ticket");
        turn_on_expiry(&table, "expires");
        for what in ["check", "create"] {
            let checked = run(fifolock(&table, &["table", what]));
            assert_eq!(checked.code, 1, "{}", checked.err);
            assert!(
                checked.out.contains("goes by the attribute expires"),
                "{}",
                checked.out
            );
        }
    }
}

#[test]
fn a_table_with_another_key_is_refused() {
    for table in absent_tables() {
        create_as(&table, "number");
        for what in ["check", "create"] {
            let refused = run(fifolock(&table, &["table", what]));
            assert_eq!(refused.code, 78, "{}", refused.err);
            assert!(refused.err.contains("number RANGE N"), "{}", refused.err);
        }
    }
}

fn policy(arguments: &[&str]) -> Value {
    let printed = run(bare(&[&["iam"], arguments].concat()));
    assert_eq!(printed.code, 0, "{}", printed.err);
    serde_json::from_str(&printed.out).unwrap()
}

#[test]
fn a_policy_names_what_is_needed_and_nothing_else() {
    let policy_of_ours = policy(&[
        "--table",
        "our-locks",
        "--region",
        "eu-central-1",
        "--account",
        "123456789012",
    ]);
    assert_eq!(policy_of_ours["Version"], "2012-10-17");
    let actions = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| json!(format!("dynamodb:{name}")))
            .collect()
    };
    let expected = [
        (
            "Locking",
            actions(&[
                "GetItem",
                "UpdateItem",
                "Query",
                "DeleteItem",
                "ConditionCheckItem",
            ]),
        ),
        (
            "Inspecting",
            actions(&[
                "GetItem",
                "UpdateItem",
                "Query",
                "Scan",
                "DescribeTable",
                "DescribeTimeToLive",
            ]),
        ),
        (
            "Creating",
            actions(&[
                "CreateTable",
                "DescribeTable",
                "DescribeTimeToLive",
                "UpdateTimeToLive",
            ]),
        ),
    ];
    for (at, (name, actions)) in expected.into_iter().enumerate() {
        let statement = &policy_of_ours["Statement"][at];
        assert_eq!(statement["Sid"], name);
        assert_eq!(statement["Effect"], "Allow");
        assert_eq!(statement["Action"], actions);
        assert_eq!(
            statement["Resource"],
            "arn:aws:dynamodb:eu-central-1:123456789012:table/our-locks"
        );
    }
    assert_eq!(policy_of_ours["Statement"].as_array().unwrap().len(), 3);
    let anywhere = &policy(&[])["Statement"][0]["Resource"];
    assert_eq!(anywhere, "arn:aws:dynamodb:*:*:table/locks");
}

const SNAPSHOT: &str = r#"resource "aws_dynamodb_table" "our_locks" {
  name         = "our.locks"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "lock"
  range_key    = "ticket"

  attribute {
    name = "lock"
    type = "S"
  }

  attribute {
    name = "ticket"
    type = "N"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }
}
"#;

#[test]
fn a_table_in_hcl() {
    let printed = run(bare(&["terraform", "--table", "our.locks"]));
    assert_eq!((printed.code, printed.out.as_str()), (0, SNAPSHOT));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for arguments in [
        &["iam", "--table", "a\"b"][..],
        &["terraform", "--table", "x"],
        &["iam", "--account", "me"],
        &["show", "a\nb", "--endpoint-url", "http://127.0.0.1:9"],
        &["ls", "--endpoint-url", "localhost"],
        &["shwo"],
    ] {
        let refused = run(bare(arguments));
        assert_eq!(refused.code, 64, "{arguments:?}: {}", refused.err);
        assert!(!refused.err.is_empty());
    }
}

/// Each failure has the code of its kind, and one line that says what to do.
#[test]
fn a_failure_has_the_code_of_its_kind() {
    let unreachable = run(bare(&["ls", "--endpoint-url", "http://127.0.0.1:9"]));
    assert_eq!(unreachable.code, 69, "{}", unreachable.err);
    assert!(
        unreachable.err.starts_with("fifolock: ") && unreachable.err.contains("check the network")
    );
    let refusals = unreachable.err.matches("refused").count();
    assert_eq!(refusals, 1, "the cause is said once: {}", unreachable.err);
    let mut command = bare(&[
        "ls",
        "--endpoint-url",
        "http://127.0.0.1:9",
        "--profile",
        "absent",
    ]);
    command.env_remove("AWS_ACCESS_KEY_ID");
    let denied = run(command);
    assert_eq!(denied.code, 77, "{}", denied.err);
}

/// The hazard: a message that nobody reads any more ends the command with a panic.
#[test]
fn the_code_is_the_same_if_nobody_reads_the_complaint() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = bare(&["ls", "--endpoint-url", "http://127.0.0.1:9"]);
    let status = command.stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(69));
}

#[test]
fn a_profile_gives_the_region() {
    let file = std::env::temp_dir().join(unique("config"));
    std::fs::write(&file, "[profile ops]\nregion = eu-north-1\n").unwrap();
    let mut command = bare(&["doctor", "--json", "--profile", "ops"]);
    command.env("AWS_CONFIG_FILE", &file);
    command.args(["--endpoint-url", "http://127.0.0.1:9"]);
    let checked = run(command);
    let report: Value = serde_json::from_str(&checked.out).unwrap();
    assert_eq!(report["checks"][0]["found"], "eu-north-1 (profile ops)");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let printed = run(bare(&["completions", shell]));
        assert_eq!(printed.code, 0, "{}", printed.err);
        assert!(printed.out.contains("doctor"), "{shell}");
    }
    let page = run(bare(&["man"])).out;
    assert!(
        page.contains(".TH fifolock 1") && page.contains("doctor"),
        "{page}"
    );
    let page = run(bare(&["man", "break"])).out;
    assert!(
        page.contains("fifolock\\-break") && page.contains("\\-\\-token"),
        "{page}"
    );
    assert_eq!(run(bare(&["man", "shwo"])).code, 1);
}
