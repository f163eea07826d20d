//! `https://` endpoints: who is trusted, and who is not.

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dynamodb_fifo_lock::{DynamoDbStore, DynamoDbStoreBuilder, Error, StoreError};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use common::proxy::Proxy;
use common::{Table, embedded_table, quick, test_keys, unique};

/// A server for `localhost`, and the file of the certificate that vouches for it.
fn server(table: &Table) -> (Proxy, PathBuf) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let file = std::env::temp_dir().join(unique("fifolock-ca"));
    std::fs::write(&file, issued.cert.pem()).unwrap();
    (Proxy::with_tls(&table.endpoint, Arc::new(config)), file)
}

fn builder(proxy: &Proxy, table: &Table) -> DynamoDbStoreBuilder {
    DynamoDbStore::builder(&table.table)
        .region("us-east-1")
        .endpoint(&proxy.endpoint)
        .credentials(test_keys())
}

#[test]
fn a_server_with_a_trusted_certificate_serves() {
    let table = embedded_table();
    let (proxy, ca) = server(&table);
    let store = builder(&proxy, &table).ca_bundle(&ca).build().unwrap();
    std::fs::remove_file(ca).unwrap();
    let client = quick().build(store).unwrap();
    client.acquire(&unique("tls")).unwrap().release().unwrap();
    assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
}

/// The file of certificates that the store over the AWS SDK trusts is named in the
/// environment, which only a process of its own can have.
#[cfg(feature = "aws-sdk")]
mod over_the_aws_sdk {
    use std::process::Command;

    use super::*;
    use common::Wire;
    use dynamodb_fifo_lock::LockClient;

    const ENDPOINT: &str = "FIFOLOCK_TLS_ENDPOINT";
    const TABLE: &str = "FIFOLOCK_TLS_TABLE";

    fn client(endpoint: &str, table: &str) -> LockClient {
        quick()
            .outage_limit(Duration::from_millis(100))
            .build(Wire::AwsSdk.store_at(endpoint, table))
            .unwrap()
    }

    /// Not a test of its own: what the process does that the next one starts.
    #[test]
    fn a_trusting_client() {
        if let (Ok(endpoint), Ok(table)) = (std::env::var(ENDPOINT), std::env::var(TABLE)) {
            let client = client(&endpoint, &table);
            client.acquire(&unique("tls")).unwrap().release().unwrap();
        }
    }

    #[test]
    fn a_server_is_sent_something_if_somebody_vouches_for_it() {
        let table = embedded_table();
        let (proxy, ca) = server(&table);
        let error = client(&proxy.endpoint, &table.table)
            .acquire("x")
            .unwrap_err();
        assert!(
            error.to_string().to_lowercase().contains("certificate"),
            "{error}"
        );
        assert!(proxy.take_operations().is_empty());

        let trusting = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "over_the_aws_sdk::a_trusting_client"])
            .env("AWS_CA_BUNDLE", &ca)
            .env(ENDPOINT, &proxy.endpoint)
            .env(TABLE, &table.table)
            .output()
            .unwrap();
        std::fs::remove_file(ca).unwrap();
        assert!(trusting.status.success(), "{trusting:?}");
        assert_eq!(proxy.take_operations(), ["UpdateItem", "UpdateItem"]);
    }
}

#[test]
fn a_server_that_nobody_vouches_for_is_sent_nothing() {
    let table = embedded_table();
    let (proxy, ca) = server(&table);
    std::fs::remove_file(ca).unwrap();
    let store = builder(&proxy, &table).build().unwrap();
    let client = quick()
        .outage_limit(Duration::from_millis(100))
        .build(store)
        .unwrap();
    let error = client.acquire("x").unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Store {
                source: StoreError::Unreachable { .. },
                ..
            }
        ) && error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    assert!(proxy.take_operations().is_empty());
}
