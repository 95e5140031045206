//! The requests and Kafka's answers, as they were recorded.

use bytes::Bytes;
use serde_json::Value;

/// One request of a case.
pub(super) struct Row {
    /// Requests of a case belong together.
    pub(super) case: u64,
    /// Which request of its case, from 0.
    pub(super) place: usize,
    /// Requests with the same number went over the same connection.
    pub(super) connection: u64,
    /// What is odd about it.
    pub(super) description: String,
    /// Everything that was written; not always a frame.
    pub(super) request: Bytes,
    /// What came back.
    pub(super) answer: Recorded,
}

/// What came back from Kafka.
pub(super) enum Recorded {
    /// One frame, or several when the request was several.
    Frames(Bytes),
    /// The connection was closed.
    Closed,
    /// Nothing within a second and a half.
    Silence,
}

/// All of them, in order.
pub(super) fn rows() -> Vec<Row> {
    let packed = include_bytes!("requests.jsonl.zst");
    let lines = zstd::decode_all(packed.as_slice()).expect("the corpus is whole");
    let lines = String::from_utf8(lines).expect("the corpus is text");
    let mut rows: Vec<Row> = Vec::new();
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).expect("a row is JSON");
        let case = value["case"].as_u64().unwrap();
        let place = match rows.last() {
            Some(last) if last.case == case => last.place + 1,
            _ => 0,
        };
        let answer = match value["response"].as_str().unwrap() {
            "closed" => Recorded::Closed,
            "none" => Recorded::Silence,
            hex => Recorded::Frames(unhex(hex)),
        };
        rows.push(Row {
            case,
            place,
            connection: value["connection"].as_u64().unwrap(),
            description: value["description"].as_str().unwrap().to_owned(),
            request: unhex(value["request"].as_str().unwrap()),
            answer,
        });
    }
    assert!(rows.len() > 600, "only {} rows", rows.len());
    rows
}

/// The frames in `bytes`, without their sizes; `None` when it is anything but whole frames.
pub(super) fn frames(bytes: &Bytes) -> Option<Vec<Bytes>> {
    let mut rest = bytes.clone();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let size = usize::try_from(i32::from_be_bytes(*rest.first_chunk()?)).ok()?;
        let _ = rest.split_to(4);
        if rest.len() < size {
            return None;
        }
        frames.push(rest.split_to(size));
    }
    Some(frames)
}

fn unhex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks_exact(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect()
}
