//! A batch of metadata records, as an entry of the metadata log holds it. What can be read returns
//! as it is from its own bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use varve_broker::metadata::{decode_batch, encode_batch};

fuzz_target!(|input: &[u8]| {
    let Ok(records) = decode_batch(input) else { return };
    let bytes = encode_batch(&records);
    assert!(decode_batch(&bytes).expect("own bytes can be read") == records);
});
