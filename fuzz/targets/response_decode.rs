//! A response as a client reads it: API and version of the request (two bytes each, as in a
//! request's header), then header and body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use varve_fuzz::{Side, check};
use varve_protocol::wire::{ApiKey, Reader, ResponseHeader};

fuzz_target!(|input: &[u8]| {
    let Some((&[high, low, version_high, version_low], frame)) = input.split_first_chunk() else {
        return;
    };
    let Some(api) = ApiKey::from_code(i16::from_be_bytes([high, low])) else { return };
    let version = i16::from_be_bytes([version_high, version_low]);
    let mut reader = Reader::new(Bytes::copy_from_slice(frame));
    if ResponseHeader::decode(&mut reader, api, version).is_ok() {
        check(api, Side::Response, version, &mut reader);
    }
});
