//! `fifolock iam` and `fifolock terraform`: what to give to whoever sets things up.

use anyhow::Result;
use dynamodb_fifo_lock::DynamoDbStore;
use serde_json::{Value, json};

use crate::args::Connection;
use crate::connect::from_environment;
use crate::exit;
use crate::text::print;

/// Print a policy with the least permissions, in JSON
///
/// It has a statement for locking, one for looking and breaking (show, ls, break, doctor), and
/// one for creating the table. Leave out what is not needed.
#[derive(clap::Args, Debug)]
pub(crate) struct IamArgs {
    /// The account with the table, 12 digits; defaults to `*`, any
    #[arg(long, value_parser = account)]
    account: Option<String>,
}

/// Print the table as a Terraform resource
#[derive(clap::Args, Debug)]
pub(crate) struct TerraformArgs {}

const LOCKING: &[&str] = &[
    "GetItem",
    "UpdateItem",
    "Query",
    "DeleteItem",
    "ConditionCheckItem",
];
const INSPECTING: &[&str] = &[
    "GetItem",
    "UpdateItem",
    "Query",
    "Scan",
    "DescribeTable",
    "DescribeTimeToLive",
];
const CREATING: &[&str] = &[
    "CreateTable",
    "DescribeTable",
    "DescribeTimeToLive",
    "UpdateTimeToLive",
];

fn account(text: &str) -> Result<String, String> {
    match text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(text.into()),
        false => Err("an account is 12 digits".into()),
    }
}

pub(crate) fn iam(connection: &Connection, args: &IamArgs) -> Result<u8> {
    let table = connection.table();
    DynamoDbStore::check_name(&table)?;
    let region = connection
        .region
        .clone()
        .or_else(|| from_environment("AWS_REGION"))
        .or_else(|| from_environment("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "*".into());
    let account = args.account.as_deref().unwrap_or("*");
    let resource = format!(
        "arn:{}:dynamodb:{region}:{account}:table/{table}",
        partition(&region)
    );
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            statement("Locking", LOCKING, &resource),
            statement("Inspecting", INSPECTING, &resource),
            statement("Creating", CREATING, &resource),
        ],
    });
    print(&[serde_json::to_string_pretty(&policy)?])?;
    Ok(exit::OK)
}

fn statement(name: &str, actions: &[&str], resource: &str) -> Value {
    let actions: Vec<_> = actions
        .iter()
        .map(|action| format!("dynamodb:{action}"))
        .collect();
    json!({ "Sid": name, "Effect": "Allow", "Action": actions, "Resource": resource })
}

/// The first part of every ARN in a region.
fn partition(region: &str) -> &'static str {
    match region {
        china if china.starts_with("cn-") => "aws-cn",
        government if government.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

pub(crate) fn terraform(connection: &Connection) -> Result<u8> {
    let table = connection.table();
    DynamoDbStore::check_name(&table)?;
    print(&[resource(&table)])?;
    Ok(exit::OK)
}

fn resource(table: &str) -> String {
    format!(
        r#"resource "aws_dynamodb_table" "{label}" {{
  name         = "{table}"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "lock"
  range_key    = "ticket"

  attribute {{
    name = "lock"
    type = "S"
  }}

  attribute {{
    name = "ticket"
    type = "N"
  }}

  ttl {{
    attribute_name = "expires_at"
    enabled        = true
  }}
}}"#,
        label = label(table)
    )
}

/// A table's name may have dots, and may begin with a digit; a label may not.
fn label(table: &str) -> String {
    let label = table.replace('.', "_");
    match label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        true => label,
        false => format!("_{label}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_whatever_the_table_is_called() {
        assert_eq!(label("locks-prod"), "locks-prod");
        assert_eq!(label("7.locks"), "_7_locks");
        assert_eq!(label("-x"), "_-x");
    }

    #[test]
    fn other_partitions_have_other_arns() {
        assert_eq!(partition("cn-north-1"), "aws-cn");
        assert_eq!(partition("us-gov-west-1"), "aws-us-gov");
        assert_eq!(partition("*"), "aws");
    }
}
