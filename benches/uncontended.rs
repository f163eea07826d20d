//! One client, no competition: what the library itself costs, and what a round
//! trip to the server adds.
//!
//! ```text
//! cargo bench --bench uncontended                                    # embedded server
//! DYNAMODB_ENDPOINT=http://localhost:8000 cargo bench --bench uncontended
//! ```

#[path = "../examples/support/embedded.rs"]
mod embedded;

use criterion::{Criterion, criterion_group, criterion_main};
use dynamodb_fifo_lock::{
    AccessKeys, Credentials, DynamoDbStore, LockClient, LockStore, MemoryStore,
};

fn table(endpoint: &str) -> DynamoDbStore {
    let store = DynamoDbStore::builder(format!("bench-{:08x}", rand::random::<u32>()))
        .region("us-east-1")
        .endpoint(endpoint)
        .credentials(Credentials::fixed(AccessKeys::new("test", "test")))
        .build()
        .unwrap();
    store.create_table().unwrap();
    store
}

fn measure(c: &mut Criterion, name: &str, store: impl LockStore + 'static) {
    let client = LockClient::builder().build(store).unwrap();
    c.bench_function(&format!("acquire and release, {name}"), |bencher| {
        bencher.iter(|| client.acquire("bench").unwrap().release().unwrap());
    });
    let guard = client.acquire("held").unwrap();
    c.bench_function(&format!("is_held, {name}"), |bencher| {
        bencher.iter(|| guard.is_held());
    });
}

fn uncontended(c: &mut Criterion) {
    measure(c, "memory", MemoryStore::new());
    match std::env::var("DYNAMODB_ENDPOINT") {
        Ok(endpoint) => measure(c, "named server", table(&endpoint)),
        Err(_) => {
            let server = embedded::Embedded::start().unwrap();
            measure(c, "embedded server", table(server.endpoint()));
        }
    }
}

criterion_group!(benches, uncontended);
criterion_main!(benches);
