//! What the store over the AWS SDK makes of its user's configuration.

#![cfg(feature = "aws-sdk")]

mod common;

use std::io::BufReader;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use crossbeam_channel::{Receiver, bounded, unbounded};
use dynamodb_fifo_lock::protocol::Consistency;
use dynamodb_fifo_lock::{
    AwsSdkStore, Error, LockName, LockStore, StoreError, Written, aws_sdk_dynamodb,
};
use serde_json::json;

use common::proxy::{Fault, Proxy, answer, read_request};
use common::{Table, embedded_table, embedded_tables, quick, sdk_config, tables, unique};

const WITHIN: Duration = Duration::from_secs(10);

/// A store over the SDK, whose configuration is what `change` makes of it.
fn store_with(
    table: &Table,
    change: impl FnOnce(aws_sdk_dynamodb::config::Builder) -> aws_sdk_dynamodb::config::Builder,
) -> AwsSdkStore {
    let config = change(sdk_config(&table.endpoint).to_builder()).build();
    AwsSdkStore::new(&table.table, config).unwrap()
}

/// Finds credentials, in a while.
#[derive(Debug)]
struct Vault {
    asked: Arc<AtomicU32>,
    open: bool,
    /// Answers after this channel has closed.
    shut: Receiver<()>,
}

impl ProvideCredentials for Vault {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.asked.fetch_add(1, Ordering::SeqCst);
        future::ProvideCredentials::new(async {
            while self.shut.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                // Panics where there is no reactor.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            match self.open {
                true => Ok(Credentials::new("test", "test", None, None, "vault")),
                false => Err(CredentialsError::not_loaded("the vault is closed")),
            }
        })
    }
}

fn vault(open: bool) -> (Vault, Arc<AtomicU32>, crossbeam_channel::Sender<()>) {
    let asked = Arc::new(AtomicU32::new(0));
    let (answer, shut) = bounded(0);
    let vault = Vault {
        asked: Arc::clone(&asked),
        open,
        shut,
    };
    (vault, asked, answer)
}

#[test]
fn credentials_are_searched_for_once_and_wherever_the_request_is_made() {
    let table = embedded_table();
    let work = |store: AwsSdkStore| {
        let client = quick().build(store).unwrap();
        client.acquire(&unique("vault")).unwrap().release().unwrap();
    };
    let (found, asked, answer) = vault(true);
    drop(answer);
    let store = store_with(&table, |config| config.credentials_provider(found));
    work(store.clone());
    work(store);
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // The only thread of this runtime is blocked meanwhile.
    let (found, asked, answer) = vault(true);
    drop(answer);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        work(store_with(&table, |config| {
            config.credentials_provider(found)
        }));
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn missing_credentials_are_told_apart() {
    let table = embedded_table();
    let (none, _, answer) = vault(false);
    drop(answer);
    let store = store_with(&table, |config| config.credentials_provider(none));
    let error = quick().build(store).unwrap().acquire("x").unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Store {
                source: StoreError::Denied { .. },
                ..
            }
        ) && error.to_string().contains("the vault is closed"),
        "{error}"
    );
}

#[test]
fn a_search_for_credentials_is_waited_for_until_the_deadline_only() {
    let table = embedded_table();
    let (slow, _, answer) = vault(true);
    let store = store_with(&table, |config| config.credentials_provider(slow));
    let lock = LockName::new("x").unwrap();
    let read = |within| store.read(&lock, Consistency::Strong, within);
    let error = read(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    // It goes on, and is of use later.
    drop(answer);
    common::wait_for("credentials", || read(WITHIN).is_ok());
}

/// The store's parts know each other. They do not keep each other alive.
#[test]
fn nothing_is_left_of_a_store_that_was_dropped() {
    let table = embedded_table();
    let (found, asked, answer) = vault(true);
    drop(answer);
    let store = store_with(&table, |config| config.credentials_provider(found));
    let lock = LockName::new("x").unwrap();
    store.read(&lock, Consistency::Strong, WITHIN).unwrap();
    drop(store);
    common::wait_for("the end of the vault", || Arc::strong_count(&asked) == 1);
}

#[test]
fn retries_and_time_outs_of_the_configuration_do_not_count() {
    let table = embedded_table();
    let proxy = Proxy::before(&table.endpoint, |operation| match operation {
        "UpdateItem" => Fault::DropAnswer,
        _ => Fault::Instead(503, r#"{"__type":"ServiceUnavailable"}"#),
    });
    let eager = |config: aws_sdk_dynamodb::config::Builder| {
        config
            .retry_config(RetryConfig::standard().with_max_attempts(5))
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(Duration::from_nanos(1))
                    .build(),
            )
    };
    let through_proxy = Table {
        endpoint: proxy.endpoint.clone(),
        ..table.clone()
    };
    let store = store_with(&through_proxy, eager);
    let lock = LockName::new(&unique("eager")).unwrap();
    let read = store.read(&lock, Consistency::Strong, WITHIN);
    assert!(
        matches!(read, Err(StoreError::Unreachable { .. })),
        "{read:?}"
    );
    let drawn = store.write(&lock, &enqueue(), WITHIN);
    assert!(
        matches!(drawn, Err(StoreError::Unreachable { .. })),
        "{drawn:?}"
    );
    assert_eq!(proxy.take_operations(), ["GetItem", "UpdateItem"]);

    let store = store_with(&table, eager);
    let record = store.read(&lock, Consistency::Strong, WITHIN).unwrap();
    assert_eq!(record.unwrap().issued.get(), 11);
}

/// Signs as a clock that is two hours ahead would.
#[derive(Debug)]
struct Ahead;

impl Intercept for Ahead {
    fn name(&self) -> &'static str {
        "ahead"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        let signed = headers.get("x-amz-date").map(read_date);
        let ahead = signed.unwrap() + Duration::from_secs(7_200);
        headers.insert("x-amz-date", amz_date(ahead));
        Ok(())
    }
}

/// `20261125T180432Z`.
fn amz_date(at: SystemTime) -> String {
    // Sun, 06 Nov 1994 08:49:37 GMT
    let text = httpdate::fmt_http_date(at);
    let parts: Vec<&str> = text.split(' ').collect();
    let month = MONTHS.iter().position(|name| *name == parts[2]).unwrap() + 1;
    let time = parts[4].replace(':', "");
    format!("{}{month:02}{}T{time}Z", parts[3], parts[1])
}

fn read_date(text: &str) -> SystemTime {
    let month: usize = text[4..6].parse().unwrap();
    let (year, month, day) = (&text[..4], MONTHS[month - 1], &text[6..8]);
    let (hour, minute, second) = (&text[9..11], &text[11..13], &text[13..15]);
    // Which day of the week it was is not in the text.
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
        .iter()
        .find_map(|name| {
            let text = format!("{name}, {day} {month} {year} {hour}:{minute}:{second} GMT");
            httpdate::parse_http_date(&text).ok()
        })
        .unwrap()
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[test]
fn a_request_that_was_signed_by_another_clock_is_not_sent() {
    let table = embedded_table();
    let proxy = Proxy::before(&table.endpoint, |_| Fault::None);
    let through_proxy = Table {
        endpoint: proxy.endpoint.clone(),
        ..table
    };
    let store = store_with(&through_proxy, |config| config.interceptor(Ahead));
    let client = quick().build(store).unwrap();
    let began = Instant::now();
    let error = client.acquire(&unique("ahead")).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Store {
                source: StoreError::WrongClock { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("clock"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "it is final");
    assert!(proxy.take_operations().is_empty());
}

/// A service whose clock is two hours ahead of ours, and which says so. Newer versions of
/// the SDK would sign by its clock from the second request on, and get through with a
/// clock that is not theirs to lock by.
#[test]
fn the_services_clock_is_not_taken_for_ours() {
    const REFUSAL: &str = r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (signed, dates) = unbounded();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            while let Some((headers, _)) = read_request(&mut reader) {
                let mut headers = headers.into_iter();
                let date = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-amz-date"));
                let _ = signed.send(date.map(|(_, date)| date));
                let theirs = SystemTime::now() + Duration::from_secs(7_200);
                let date = format!("Date: {}\r\n", httpdate::fmt_http_date(theirs));
                let _ = answer(reader.get_mut(), 400, &date, REFUSAL.as_bytes());
            }
        }
    });
    for wire in [common::Wire::Rusoto, common::Wire::AwsSdk] {
        let store = wire.store_at(&endpoint, "locks");
        let lock = LockName::new("x").unwrap();
        for _ in 0..3 {
            let error = store.read(&lock, Consistency::Strong, WITHIN).unwrap_err();
            assert!(matches!(error, StoreError::Denied { .. }), "{error}");
            let date = read_date(&dates.recv_timeout(WITHIN).unwrap().unwrap());
            let apart = match SystemTime::now().duration_since(date) {
                Ok(apart) => apart,
                Err(ahead) => ahead.duration(),
            };
            assert!(
                apart < Duration::from_secs(60),
                "{}: {apart:?}",
                wire.name()
            );
        }
    }
}

fn enqueue() -> dynamodb_fifo_lock::protocol::Write {
    dynamodb_fifo_lock::protocol::Write::Enqueue {
        start: dynamodb_fifo_lock::Ticket::new(10),
        grace: Duration::from_secs(1),
        wall_ms: 1,
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_setting() {
    let config = sdk_config("http://127.0.0.1:9");
    let nowhere = config.to_builder().region(None).build();
    for (table, config, named) in [("locks", nowhere, "region"), ("no/name", config, "table")] {
        let refused = AwsSdkStore::new(table, config);
        assert!(
            matches!(&refused, Err(Error::InvalidSetting { setting, .. }) if *setting == named),
            "{refused:?}"
        );
    }
}

/// A write that can never be applied: nobody of that name holds.
fn renewal() -> dynamodb_fifo_lock::protocol::Write {
    dynamodb_fifo_lock::protocol::Write::Renew {
        ticket: dynamodb_fifo_lock::Ticket::new(11),
        id: dynamodb_fifo_lock::HolderId::new("nobody"),
        wall_ms: 1,
    }
}

#[test]
fn a_refusal_shows_the_record_if_it_can_be_read() {
    let table = embedded_table();
    let store = store_with(&table, |config| config);
    let lock = LockName::new(&unique("refused")).unwrap();
    let refused = store.write(&lock, &renewal(), WITHIN).unwrap();
    assert_eq!(refused, Written::Refused(None));
    let record = store.write(&lock, &enqueue(), WITHIN).unwrap().applied();
    assert!(record.is_some());
    let refused = store.write(&lock, &renewal(), WITHIN).unwrap();
    assert_eq!(refused, Written::Refused(record));
    table.put(lock.as_str(), json!({ "schema": { "N": "2" } }));
    let refused = store.write(&lock, &renewal(), WITHIN).unwrap();
    assert_eq!(refused, Written::Refused(None));
}

/// Whatever a server shows is what a read would have shown.
#[test]
fn no_server_shows_another_record_than_the_one_that_is_there() {
    for table in tables() {
        let store = store_with(&table, |config| config);
        let lock = LockName::new(&unique("shown")).unwrap();
        let record = store.write(&lock, &enqueue(), WITHIN).unwrap().applied();
        let Written::Refused(shown) = store.write(&lock, &renewal(), WITHIN).unwrap() else {
            panic!("applied");
        };
        println!("{}: shown {}", table.name, shown.is_some());
        assert!(shown.is_none() || shown == record, "{shown:?}");
    }
}

#[test]
fn clients_over_either_library_share_a_lock() {
    let [rusoto, sdk] = {
        let mut stores = embedded_tables().map(|table| table.wire);
        [stores.next().unwrap(), stores.next().unwrap()]
    };
    let table = embedded_table();
    let client = |wire: common::Wire| {
        let store = wire.store_at(&table.endpoint, &table.table);
        quick().build(store).unwrap()
    };
    let (one, other) = (client(rusoto), client(sdk));
    let lock = unique("shared");
    let mut last = None;
    for _ in 0..2 {
        for (holds, waits) in [(&one, &other), (&other, &one)] {
            let guard = holds.acquire(&lock).unwrap();
            assert!(last < Some(guard.fencing_token()));
            assert!(waits.try_acquire(&lock).unwrap().is_none());
            std::thread::scope(|scope| {
                let next = scope.spawn(|| waits.acquire_timeout(&lock, common::DEADLINE));
                let seen = || waits.inspect(&lock).unwrap();
                common::wait_for("the waiter", || seen().is_some_and(|lock| lock.waiting > 0));
                let token = guard.fencing_token();
                guard.release().unwrap();
                let next = next.join().unwrap().unwrap();
                assert!(next.fencing_token() > token);
                last = Some(next.fencing_token());
            });
        }
    }
}

#[test]
fn the_condition_for_a_transaction_is_the_same_for_either_library() {
    let client = quick().build(embedded_table().store()).unwrap();
    let guard = client.acquire(&unique("fenced")).unwrap();
    let rusoto = guard.condition_check().unwrap();
    let sdk = guard.aws_sdk_condition_check().unwrap();
    assert_eq!(sdk.table_name, rusoto.table_name);
    assert_eq!(sdk.condition_expression, rusoto.condition_expression);
    assert_eq!(
        sdk.expression_attribute_names,
        rusoto.expression_attribute_names
    );
    let plain = |value: &aws_sdk_dynamodb::types::AttributeValue| {
        let text = value.as_s().or_else(|_| value.as_n());
        text.unwrap().clone()
    };
    let rusoto_plain = |value: &dynamodb_fifo_lock::rusoto_dynamodb::AttributeValue| {
        value.s.clone().or(value.n.clone()).unwrap()
    };
    for (of_sdk, of_rusoto) in [
        (Some(&sdk.key), Some(&rusoto.key)),
        (
            sdk.expression_attribute_values.as_ref(),
            rusoto.expression_attribute_values.as_ref(),
        ),
    ] {
        let (of_sdk, of_rusoto) = (of_sdk.unwrap(), of_rusoto.unwrap());
        assert_eq!(of_sdk.len(), of_rusoto.len());
        for (name, value) in of_rusoto {
            assert_eq!(plain(&of_sdk[name]), rusoto_plain(value), "{name}");
        }
    }
}
