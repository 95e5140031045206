//! One record batch: its length and CRC are put right first, so that what lies behind them is
//! reached. A batch that passes validation must be one whose records can all be read.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use varve_protocol::records::{
    BatchHeader, BatchOrigin, Batches, DecompressLimits, HEADER_BYTES, ValidationLimits,
    validate_batch,
};

const LIMITS: DecompressLimits = DecompressLimits {
    output_max: 4 << 20,
    ratio_max: 512,
    ratio_free_bytes: 1 << 20,
    zstd_window_log_max: 20,
};

fuzz_target!(|input: &[u8]| {
    // As it came: cut, doubled, of an old format.
    for batch in Batches::new(Bytes::copy_from_slice(input)).flatten() {
        let _ = batch.check_crc();
    }
    if input.len() < HEADER_BYTES {
        return;
    }
    let mut bytes = input.to_vec();
    let length = u32::try_from(bytes.len() - 12).expect("inputs are small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());

    let header = BatchHeader::parse(&bytes).expect("magic and length are right");
    assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
    let bytes = Bytes::from(bytes);
    for origin in [BatchOrigin::Client, BatchOrigin::Coordinator, BatchOrigin::Leader] {
        let limits = ValidationLimits { decompress: LIMITS, origin };
        let Ok(validated) = validate_batch(bytes.clone(), &limits) else { continue };
        let records = validated.batch().records(&LIMITS).expect("validation has decompressed it");
        let mut count = 0;
        for record in records {
            let record = record.expect("validation has seen every record");
            let has_key = record.key.is_some();
            assert!(has_key || validated.has_keyless);
            count += 1;
        }
        assert_eq!(count, header.record_count);
    }
});
