//! The library's own two requests, without the library: rusoto's client sends them over
//! the HTTP layer that the store uses.

#[path = "../../src/store/dynamodb/http.rs"]
mod courier;
#[path = "../../src/store/dynamodb/names.rs"]
#[allow(dead_code, unused_imports, reason = "its tests are run elsewhere")]
mod names;

use std::time::{Duration, Instant};

use dynamodb_fifo_lock::LockClient;
use dynamodb_fifo_lock::rusoto_dynamodb::{
    AttributeValue, DynamoDb, DynamoDbClient, UpdateItemInput,
};
use futures_util::FutureExt;
use rusoto_core::credential::StaticProvider;
use rusoto_core::{Client, Region};
use serde_json::{Map, Value};
use ureq::tls::RootCerts;

use crate::support::common::proxy::{Fault, Proxy};
use crate::support::common::{Table, store_at, unique};
use courier::{Courier, Line};

/// Takes a lock and gives it back by turns, each with one UpdateItem that has the same
/// expressions, values and size as the library's.
#[derive(Clone)]
pub(crate) struct Raw {
    client: DynamoDbClient,
    take: UpdateItemInput,
    give_back: UpdateItemInput,
    /// The ticket with which the lock is held.
    ticket: Option<u64>,
}

impl Raw {
    /// Looks at what the library sends to `table`, to send the same to `endpoint`.
    pub(crate) fn like_the_library(table: &Table, endpoint: &str) -> Self {
        let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
        let library = LockClient::builder()
            .build(store_at(&proxy.endpoint, &table.table))
            .unwrap();
        library.acquire(&unique("raw")).unwrap().release().unwrap();
        let mut sent = proxy.take().into_iter().map(|(operation, body)| {
            assert_eq!(operation, "UpdateItem");
            input(&serde_json::from_slice(&body).unwrap())
        });
        let courier = Courier {
            line: Some(Line::new(RootCerts::WebPki)),
            deadline: Instant::now() + Duration::from_secs(3_600),
        };
        let keys = StaticProvider::new_minimal("test".into(), "test".into());
        let region = Region::Custom {
            name: "us-east-1".into(),
            endpoint: endpoint.into(),
        };
        Self {
            client: DynamoDbClient::new_with_client(Client::new_with(keys, courier), region),
            take: sent.next().unwrap(),
            give_back: sent.next().unwrap(),
            ticket: None,
        }
    }

    /// The same for another lock, over the same connections.
    pub(crate) fn for_lock(&self, lock: &str) -> Self {
        let mut raw = self.clone();
        for input in [&mut raw.take, &mut raw.give_back] {
            input.key.insert("lock".into(), text(lock));
        }
        raw
    }

    /// One UpdateItem.
    pub(crate) fn update(&mut self) {
        let held = self.ticket.take();
        let input = match held {
            None => self.take.clone(),
            Some(ticket) => {
                let mut input = self.give_back.clone();
                let values = input.expression_attribute_values.as_mut().unwrap();
                values.insert(":before".into(), number(ticket - 1));
                values.insert(":ticket".into(), number(ticket));
                input
            }
        };
        let answer = self.client.update_item(input).now_or_never();
        let record = answer.unwrap().unwrap().attributes.unwrap();
        if held.is_none() {
            self.ticket = record["issued"].n.as_ref().map(|n| n.parse().unwrap());
        }
    }
}

fn number(n: u64) -> AttributeValue {
    AttributeValue {
        n: Some(n.to_string()),
        ..AttributeValue::default()
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue {
        s: Some(text.into()),
        ..AttributeValue::default()
    }
}

/// A request from its body.
fn input(body: &Value) -> UpdateItemInput {
    let part = |name: &str| body[name].as_str().map(String::from);
    let parts = |name: &str| body[name].as_object().unwrap();
    let names = parts("ExpressionAttributeNames").iter();
    let names = names.map(|(name, attribute)| (name.clone(), attribute.as_str().unwrap().into()));
    UpdateItemInput {
        table_name: part("TableName").unwrap(),
        key: attributes(parts("Key")),
        condition_expression: part("ConditionExpression"),
        update_expression: part("UpdateExpression"),
        expression_attribute_names: Some(names.collect()),
        expression_attribute_values: Some(attributes(parts("ExpressionAttributeValues"))),
        return_values: part("ReturnValues"),
        ..UpdateItemInput::default()
    }
}

fn attributes<A: FromIterator<(String, AttributeValue)>>(parts: &Map<String, Value>) -> A {
    let named = parts
        .iter()
        .map(|(name, part)| (name.clone(), attribute(part)));
    named.collect()
}

fn attribute(value: &Value) -> AttributeValue {
    AttributeValue {
        s: value["S"].as_str().map(Into::into),
        n: value["N"].as_str().map(Into::into),
        m: value["M"].as_object().map(attributes),
        ..AttributeValue::default()
    }
}
