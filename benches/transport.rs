//! Two ways to carry rusoto's requests from a blocking caller, one GetItem each:
//! this crate's blocking client on the calling thread, and a thread with a tokio
//! runtime over rusoto's HTTP machinery. And the two libraries that build and sign
//! them, one renewal each. `docs/http.md` quotes the results.
//!
//! ```text
//! cargo bench --features aws-sdk --bench transport
//! DYNAMODB_ENDPOINT=http://localhost:8000 cargo bench --features aws-sdk --bench transport
//! ```

mod support;

use std::sync::mpsc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use dynamodb_fifo_lock::protocol::{Consistency, Write};
use dynamodb_fifo_lock::record::Holder;
use dynamodb_fifo_lock::{HolderId, LockName, LockStore, Ticket};
use rusoto_core::credential::StaticProvider;
use rusoto_core::{HttpClient, Region};
use rusoto_dynamodb::{AttributeValue, DynamoDb, DynamoDbClient, GetItemInput};
use support::common::{Wire, unique};

fn question(table: &str) -> GetItemInput {
    let text = AttributeValue {
        s: Some("bench".into()),
        ..AttributeValue::default()
    };
    let number = AttributeValue {
        n: Some("0".into()),
        ..AttributeValue::default()
    };
    GetItemInput {
        table_name: table.into(),
        consistent_read: Some(true),
        key: [("lock".into(), text), ("ticket".into(), number)].into(),
        ..GetItemInput::default()
    }
}

fn transport(c: &mut Criterion) {
    let table = support::table();
    let store = table.store();
    let lock = LockName::new("bench").unwrap();
    c.bench_function("blocking client, calling thread", |bencher| {
        bencher.iter(|| store.read(&lock, Consistency::Strong, Duration::from_secs(3)));
    });

    // rusoto's own connector refuses http:// in this build, so it gets a plain
    // one; all else is rusoto's HttpClient.
    let (ask, asked) = tokio::sync::mpsc::unbounded_channel::<mpsc::Sender<bool>>();
    let region = Region::Custom {
        name: "us-east-1".into(),
        endpoint: table.endpoint,
    };
    std::thread::spawn(move || {
        let mut asked = asked;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let http = HttpClient::from_connector(hyper::client::HttpConnector::new());
                let keys = StaticProvider::new_minimal("test".into(), "test".into());
                let client = DynamoDbClient::new_with(http, keys, region);
                while let Some(reply) = asked.recv().await {
                    let _ = reply.send(client.get_item(question(&table.table)).await.is_ok());
                }
            });
    });
    c.bench_function("rusoto's client, thread with a runtime", |bencher| {
        bencher.iter(|| {
            let (reply, answer) = mpsc::channel();
            ask.send(reply).unwrap();
            assert!(answer.recv().unwrap());
        });
    });
}

/// The write that every heartbeat is.
fn renewal(c: &mut Criterion) {
    let table = support::table();
    let wires = [
        Wire::Rusoto,
        #[cfg(feature = "aws-sdk")]
        Wire::AwsSdk,
    ];
    for wire in wires {
        let store = wire.store_at(&table.endpoint, &table.table);
        let within = Duration::from_secs(3);
        let lock = LockName::new(&unique("renewed")).unwrap();
        let take = Write::Try {
            holder: Holder {
                id: HolderId::new("me"),
                lease: Duration::from_secs(20),
                owner: "me".into(),
                since_ms: 1,
                renewed_at_ms: 1,
                data: None,
            },
            start: Ticket::new(10),
            grace: Duration::from_secs(1),
        };
        store.write(&lock, &take, within).unwrap();
        let renew = Write::Renew {
            ticket: Ticket::new(11),
            id: HolderId::new("me"),
            wall_ms: 2,
        };
        c.bench_function(&format!("a renewal over {}", wire.name()), |bencher| {
            bencher.iter(|| {
                let renewed = store.write(&lock, &renew, within).unwrap();
                assert!(renewed.applied().is_some());
            });
        });
    }
}

criterion_group!(benches, transport, renewal);
criterion_main!(benches);
