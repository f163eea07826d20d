//! Attribute values, from rusoto's form into the SDK's and back.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck};
use rusoto_dynamodb as rusoto;

use crate::store::dynamodb::item::Item;

pub(super) type SdkItem = HashMap<String, AttributeValue>;

pub(super) fn item_to_sdk(item: Item) -> SdkItem {
    item.into_iter()
        .map(|(name, value)| (name, to_sdk(value)))
        .collect()
}

pub(super) fn item_from_sdk(item: SdkItem) -> Item {
    item.into_iter()
        .map(|(name, value)| (name, from_sdk(value)))
        .collect()
}

/// rusoto's form has room for every kind at once. Exactly one is there.
fn to_sdk(value: rusoto::AttributeValue) -> AttributeValue {
    let rusoto::AttributeValue {
        b,
        bool,
        bs,
        l,
        m,
        n,
        ns,
        null,
        s,
        ss,
    } = value;
    let blobs = |all: Vec<bytes::Bytes>| all.iter().map(|one| Blob::new(&one[..])).collect();
    None.or(s.map(AttributeValue::S))
        .or(n.map(AttributeValue::N))
        .or(m.map(|map| AttributeValue::M(item_to_sdk(map))))
        .or(l.map(|list| AttributeValue::L(list.into_iter().map(to_sdk).collect())))
        .or(b.map(|bytes| AttributeValue::B(Blob::new(&bytes[..]))))
        .or(bool.map(AttributeValue::Bool))
        .or(ss.map(AttributeValue::Ss))
        .or(ns.map(AttributeValue::Ns))
        .or(bs.map(|all| AttributeValue::Bs(blobs(all))))
        .unwrap_or(AttributeValue::Null(null.unwrap_or(true)))
}

/// A kind that is younger than this crate becomes a value of no kind, which no
/// reader takes for anything.
fn from_sdk(value: AttributeValue) -> rusoto::AttributeValue {
    let mut form = rusoto::AttributeValue::default();
    match value {
        AttributeValue::S(text) => form.s = Some(text),
        AttributeValue::N(number) => form.n = Some(number),
        AttributeValue::M(map) => form.m = Some(item_from_sdk(map)),
        AttributeValue::L(list) => form.l = Some(list.into_iter().map(from_sdk).collect()),
        AttributeValue::B(blob) => form.b = Some(blob.into_inner().into()),
        AttributeValue::Bool(truth) => form.bool = Some(truth),
        AttributeValue::Ss(texts) => form.ss = Some(texts),
        AttributeValue::Ns(numbers) => form.ns = Some(numbers),
        AttributeValue::Bs(blobs) => {
            let blobs = blobs.into_iter().map(|blob| blob.into_inner().into());
            form.bs = Some(blobs.collect());
        }
        AttributeValue::Null(truth) => form.null = Some(truth),
        _ => {}
    }
    form
}

/// The same part of a transaction; `None` if it lacks something that it has to have.
pub(crate) fn condition_check(check: rusoto::ConditionCheck) -> Option<ConditionCheck> {
    ConditionCheck::builder()
        .table_name(check.table_name)
        .set_key(Some(item_to_sdk(check.key)))
        .condition_expression(check.condition_expression)
        .set_expression_attribute_names(check.expression_attribute_names)
        .set_expression_attribute_values(check.expression_attribute_values.map(item_to_sdk))
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let text = AttributeValue::S("x".into());
        let blob = Blob::new([0, 255]);
        let all = [
            text.clone(),
            AttributeValue::N("-1.5".into()),
            AttributeValue::M(HashMap::from([("in".into(), text.clone())])),
            AttributeValue::L(vec![text, AttributeValue::Null(true)]),
            AttributeValue::B(blob.clone()),
            AttributeValue::Bool(false),
            AttributeValue::Ss(vec!["x".into()]),
            AttributeValue::Ns(vec!["1".into()]),
            AttributeValue::Bs(vec![blob]),
            AttributeValue::Null(true),
        ];
        for value in all {
            assert_eq!(to_sdk(from_sdk(value.clone())), value);
        }
    }
}
