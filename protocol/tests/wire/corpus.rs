//! The recorded frames: eight client libraries and Apache Kafka 4.3.1 on loopback.

use bytes::Bytes;
use serde_json::Value;

/// A request as it was recorded, and what answered it.
pub(crate) struct Pair {
    /// The client library.
    pub(crate) client: String,
    /// API key.
    pub(crate) api: i16,
    /// The version of both.
    pub(crate) version: i16,
    /// The frame, its size field included.
    pub(crate) request: Bytes,
    /// `None` when the broker sent nothing, or closed the connection.
    pub(crate) response: Option<Bytes>,
}

/// All of them, by API, version and client.
pub(crate) fn pairs() -> Vec<Pair> {
    let packed = include_bytes!("../golden/frames.jsonl.zst");
    let lines = zstd::decode_all(packed.as_slice()).expect("the corpus is whole");
    let mut lines = String::from_utf8(lines).expect("the corpus is text");
    lines.push_str(include_str!("../golden/voters.jsonl"));
    let pairs: Vec<Pair> = lines.lines().map(pair).collect();
    assert!(pairs.len() > 3000, "only {} pairs", pairs.len());
    pairs
}

fn pair(line: &str) -> Pair {
    let row: Value = serde_json::from_str(line).unwrap();
    let number = |name: &str| i16::try_from(row[name].as_i64().unwrap()).unwrap();
    Pair {
        client: row["client"].as_str().unwrap().to_owned(),
        api: number("api"),
        version: number("version"),
        request: unhex(row["request"].as_str().unwrap()),
        response: row["response"].as_str().map(unhex),
    }
}

fn unhex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks_exact(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect()
}
