//! Writes the recorded frames, and the files of a data directory, as first inputs of the targets:
//! `seed FOLDER`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use varve_fuzz::disk::{Kind, seeds};

/// Inputs a target takes of each API and version.
const INPUTS_MAX: usize = 2;
const INPUT_BYTES_MAX: usize = 2048;

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    for (target, kind) in [
        ("segment", Kind::Segment),
        ("journal", Kind::Journal),
        ("entry_log", Kind::Entries),
        ("small_files", Kind::Envelope),
    ] {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder).expect("the folder can be made");
        for (number, seed) in seeds(kind).iter().enumerate() {
            fs::write(folder.join(format!("made-{number}")), seed).expect("it can be written");
        }
    }
    let packed = include_bytes!("../../protocol/tests/golden/frames.jsonl.zst");
    let lines = zstd::decode_all(packed.as_slice()).expect("the corpus is whole");
    let mut taken: HashMap<(&str, i64, i64), usize> = HashMap::new();
    for line in String::from_utf8(lines).expect("the corpus is text").lines() {
        let row: Value = serde_json::from_str(line).expect("a row is JSON");
        let number = |name: &str| row[name].as_i64().expect("a number");
        let (api, version) = (number("api"), number("version"));
        let request = unhex(row["request"].as_str().expect("every row has a request"));
        let mut put = |target, input: &[u8]| {
            let count = taken.entry((target, api, version)).or_default();
            if *count < INPUTS_MAX && input.len() <= INPUT_BYTES_MAX {
                *count += 1;
                let folder = Path::new(&folder).join(target);
                fs::create_dir_all(&folder).expect("the folder can be made");
                let name = format!("golden-{api}-{version}-{count}");
                fs::write(folder.join(name), input).expect("the input can be written");
            }
        };
        put("request_decode", &request[4..]);
        if let Some(response) = row["response"].as_str().map(unhex) {
            put("response_decode", &[&request[4..8], &response[4..]].concat());
            if let Some(batch) = batch_in(&response).filter(|_| api == 1) {
                put("record_batch", batch);
            }
        }
        if let Some(batch) = batch_in(&request).filter(|_| api == 0) {
            put("record_batch", batch);
        }
    }
}

/// The first record batch of a frame: found by its magic and its length, which must fit.
fn batch_in(frame: &[u8]) -> Option<&[u8]> {
    (0..frame.len().saturating_sub(61)).find_map(|start| {
        let batch = &frame[start..];
        let length = u32::from_be_bytes(*batch[8..].first_chunk()?) as usize;
        let is_batch = batch[..4] == [0; 4] && batch[16] == 2 && (49..1 << 16).contains(&length);
        batch.get(..12 + length).filter(|_| is_batch)
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes().chunks_exact(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect()
}
