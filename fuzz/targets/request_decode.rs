//! A request as a connection hands it over: header and body, without the size before them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use varve_fuzz::{Side, check};
use varve_protocol::wire::{ApiKey, Reader, RequestHeader, Writer};

fuzz_target!(|frame: &[u8]| {
    let mut reader = Reader::new(Bytes::copy_from_slice(frame));
    let Ok(header) = RequestHeader::decode(&mut reader) else { return };
    // A client id of replacement characters can be longer than what they replace.
    let _ = header.encode(&mut Writer::new());
    if let Some(api) = ApiKey::from_code(header.api_key) {
        check(api, Side::Request, header.api_version, &mut reader);
    }
});
