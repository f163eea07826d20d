//! Bare requests: how tables are made, and the round trip that all others are compared
//! with.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use ureq::Agent;

/// A bare HTTP client of one server. Requests are not signed: the servers that
/// run here do not check signatures.
pub(crate) struct Raw {
    agent: Agent,
    endpoint: String,
}

impl Raw {
    pub(crate) fn new(endpoint: &str) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .no_delay(true)
            .build()
            .into();
        Self {
            agent,
            endpoint: endpoint.to_owned(),
        }
    }

    pub(crate) fn call(&self, operation: &str, input: &Value) -> anyhow::Result<Value> {
        let mut response = self
            .agent
            .post(&self.endpoint)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header("x-amz-date", "20260101T000000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, \
                 SignedHeaders=host, Signature=0",
            )
            .send(input.to_string())?;
        let status = response.status();
        let body = response.body_mut().read_to_string()?;
        ensure!(status.is_success(), "{operation}: {status}: {body}");
        serde_json::from_str(&body).context("the answer is no JSON")
    }

    /// What the server calls itself.
    pub(crate) fn server(&self) -> anyhow::Result<String> {
        let response = self.agent.get(&self.endpoint).call()?;
        let name = response
            .headers()
            .get("server")
            .and_then(|name| name.to_str().ok());
        Ok(name.unwrap_or("unknown server").to_owned())
    }

    /// Makes a table with string keys and, if one is named, an attribute with the time
    /// at which rows expire.
    pub(crate) fn create_table(
        &self,
        table: &str,
        keys: &[&str],
        expiry: Option<&str>,
    ) -> anyhow::Result<()> {
        let attributes: Vec<_> = keys
            .iter()
            .map(|key| json!({"AttributeName": key, "AttributeType": "S"}))
            .collect();
        let schema: Vec<_> = keys
            .iter()
            .zip(["HASH", "RANGE"])
            .map(|(key, role)| json!({"AttributeName": key, "KeyType": role}))
            .collect();
        self.call(
            "CreateTable",
            &json!({
                "TableName": table,
                "AttributeDefinitions": attributes,
                "KeySchema": schema,
                "BillingMode": "PAY_PER_REQUEST",
            }),
        )?;
        if let Some(attribute) = expiry {
            self.call(
                "UpdateTimeToLive",
                &json!({
                    "TableName": table,
                    "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": true},
                }),
            )?;
        }
        Ok(())
    }

    /// One write to one row.
    pub(crate) fn update(&self, table: &str) -> anyhow::Result<()> {
        self.call(
            "UpdateItem",
            &json!({
                "TableName": table,
                "Key": {"key": {"S": "raw"}},
                "UpdateExpression": "ADD revision :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }),
        )?;
        Ok(())
    }
}
