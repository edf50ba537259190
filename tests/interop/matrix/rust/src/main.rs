//! rskafka, which has neither groups nor transactions and always writes with acks=all: rskafka older|newest ADDRESS TOPIC.

use std::collections::BTreeMap;
use std::env::args;

const ROUNDS: i64 = 10;
const TIMEOUT_MS: i32 = 20_000;

/// The same program for a version of the client.
macro_rules! check {
    ($client:ident, $address:expr, $topic:expr) => {{
        use $client::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
        use $client::client::ClientBuilder;
        use $client::record::Record;

        let client = ClientBuilder::new(vec![$address]).build().await.expect("client");
        let controller = client.controller_client().expect("controller");
        controller
            .create_topic($topic.clone(), 1, 1, TIMEOUT_MS)
            .await
            .expect("create");
        let partition = client
            .partition_client($topic.clone(), 0, UnknownTopicHandling::Retry)
            .await
            .expect("partition");
        let mut expected = vec![];
        for compression in [Compression::NoCompression, Compression::Gzip, Compression::Snappy] {
            for round in 0..ROUNDS {
                let value = format!("{compression:?} {round}").into_bytes();
                let headers = BTreeMap::from([("round".to_owned(), vec![round as u8])]);
                let timestamp = chrono::DateTime::from_timestamp(1_795_000_000 + round, 0).expect("time");
                let record = Record {
                    key: Some(b"key".to_vec()),
                    value: Some(value),
                    headers,
                    timestamp,
                };
                let offsets = partition
                    .produce(vec![record.clone()], compression)
                    .await
                    .expect("produce");
                assert_eq!(offsets, vec![expected.len() as i64], "offset of a record");
                expected.push(record);
                let latest = partition.get_offset(OffsetAt::Latest).await.expect("latest offset");
                assert_eq!(latest, expected.len() as i64, "latest offset");
            }
        }
        let mut found = vec![];
        while found.len() < expected.len() {
            let (records, latest) = partition
                .fetch_records(found.len() as i64, 1..1_000_000, TIMEOUT_MS)
                .await
                .expect("fetch");
            assert_eq!(latest, expected.len() as i64, "high watermark");
            found.extend(records.into_iter().map(|record| record.record));
        }
        assert_eq!(found, expected, "records");
        partition.delete_records(5, TIMEOUT_MS).await.expect("delete records");
        assert_eq!(
            partition.get_offset(OffsetAt::Earliest).await.expect("earliest offset"),
            5
        );
        controller
            .delete_topic($topic.clone(), TIMEOUT_MS)
            .await
            .expect("delete");
    }};
}

/// The version that the manifest pins.
fn version(age: &str) -> &str {
    let manifest = include_str!("../Cargo.toml");
    let line = manifest
        .lines()
        .find(|line| line.starts_with(age))
        .expect("a dependency of that name");
    let start = line.find("\"=").expect("a pinned version") + 2;
    line[start..].split('"').next().expect("a version")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let [age, address, topic] = words.try_into().expect("three arguments");
    match age.as_str() {
        "older" => check!(older, address, topic),
        "newest" => check!(newest, address, topic),
        _ => panic!("not an age: {age}"),
    }
    println!("ok {}", version(&age));
}
