//! Small inputs that become large ones, and inputs that claim to.

use std::io::Write;

use bytes::Bytes;

use super::super::*;
use crate::vocabulary::TimestampMs;

const COMPRESSED: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn limits(output_max: usize, ratio_max: usize, ratio_free_bytes: usize) -> DecompressLimits {
    DecompressLimits { output_max, ratio_max, ratio_free_bytes, ..DecompressLimits::default() }
}

#[test]
fn output_is_stopped_at_the_absolute_limit() {
    let zeros = vec![0; 1 << 20];
    for codec in COMPRESSED {
        let packed = Bytes::from(compress(codec, None, &zeros));
        let most = limits(zeros.len(), usize::MAX, 0);
        assert_eq!(decompress(codec, &packed, &most).unwrap().len(), zeros.len(), "{codec}");
        let less = limits(zeros.len() - 1, usize::MAX, 0);
        let error = decompress(codec, &packed, &less).unwrap_err();
        assert_eq!(error, DecompressError::TooLarge { output_max: zeros.len() - 1 }, "{codec}");
    }
}

#[test]
fn output_is_stopped_at_the_ratio() {
    let zeros = vec![0; 1 << 20];
    for codec in COMPRESSED {
        let packed = Bytes::from(compress(codec, None, &zeros));
        let ratio = zeros.len() / packed.len();
        let ok = limits(usize::MAX, ratio + 1, 0);
        assert!(decompress(codec, &packed, &ok).is_ok(), "{codec}");
        let error = decompress(codec, &packed, &limits(usize::MAX, ratio / 2, 0)).unwrap_err();
        assert!(matches!(error, DecompressError::Ratio { .. }), "{codec}: {error}");
        // What is small is free.
        assert!(decompress(codec, &packed, &limits(usize::MAX, 1, 1 << 20)).is_ok(), "{codec}");
    }
}

/// 1 GiB of zeros in each codec that can say so briefly: refused after the free bytes, with
/// little more memory than that (a debug build does it in well under a second).
#[test]
fn a_gigabyte_in_a_megabyte_is_refused_early() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..64 {
        gzip.write_all(&[0; 1 << 20]).unwrap();
    }
    let bombs = [
        (Compression::Gzip, gzip.finish().unwrap()),
        (Compression::Zstd, zstd_zeros(1 << 30)),
        (Compression::Lz4, lz4_zeros(256)),
    ];
    for (codec, bomb) in bombs {
        assert!(bomb.len() < 5 << 20, "{codec} bomb of {}", bomb.len());
        let limits = limits(8 << 20, 100, 1 << 20);
        let error = decompress(codec, &Bytes::from(bomb), &limits).unwrap_err();
        assert!(!matches!(error, DecompressError::Malformed { .. }), "{codec}: {error}");
    }
}

/// RLE blocks of 128 KiB each, by hand: 4 bytes a block.
fn zstd_zeros(size: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    frame.push(0); // no content size, no checksum, window descriptor follows
    frame.push(13 << 3); // window of 2^23
    let count = size >> 17;
    for index in 0..count {
        let is_last = u32::from(index + 1 == count);
        let header = is_last | 1 << 1 | (1 << 17) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Blocks of 4 MiB that are one match each.
fn lz4_zeros(blocks: usize) -> Vec<u8> {
    let block = lz4_flex::block::compress(&vec![0; 4 << 20]);
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    for _ in 0..blocks {
        frame.extend_from_slice(&(block.len() as u32).to_le_bytes());
        frame.extend_from_slice(&block);
    }
    frame.extend_from_slice(&[0; 4]);
    frame
}

#[test]
fn the_hand_made_frames_are_right() {
    let all = limits(usize::MAX, usize::MAX, 0);
    let zeros = decompress(Compression::Zstd, &Bytes::from(zstd_zeros(1 << 20)), &all).unwrap();
    assert_eq!(zeros.len(), 1 << 20);
    let zeros = decompress(Compression::Lz4, &Bytes::from(lz4_zeros(2)), &all).unwrap();
    assert_eq!(zeros.len(), 8 << 20);
}

#[track_caller]
fn check_malformed(codec: Compression, input: &[u8], expected: &str) {
    let error = decompress(codec, &Bytes::copy_from_slice(input), &DecompressLimits::default());
    assert_eq!(error.unwrap_err().to_string(), format!("not valid {codec}: {expected}"));
}

#[test]
fn lengths_that_lie() {
    // A raw Snappy block that claims 4 GiB.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    check_malformed(Compression::Snappy, &claim, "a block claims more bytes than it can hold");
    // The same in Xerial's framing, and framing that lies.
    let framed = |blocks: &[u8]| [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".as_slice(), blocks].concat();
    let block = [&[0, 0, 0, 7], claim.as_slice()].concat();
    check_malformed(
        Compression::Snappy,
        &framed(&block),
        "a block claims more bytes than it can hold",
    );
    check_malformed(
        Compression::Snappy,
        &framed(&[0x7f, 0xff, 0xff, 0xff]),
        "a block reaches over the end",
    );
    check_malformed(Compression::Snappy, &framed(&[0xff; 4]), "a block's length is negative");
    check_malformed(Compression::Snappy, &framed(&[0; 3]), "a block's length is cut off");
    // LZ4: a block larger than the header allows, one longer than the input, dependent blocks.
    let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    let lz4 = |blocks: &[u8]| [header.as_slice(), blocks].concat();
    check_malformed(
        Compression::Lz4,
        &lz4(&[0, 0, 2, 0]),
        "a block is larger than the frame's header allows",
    );
    check_malformed(Compression::Lz4, &lz4(&[16, 0, 0, 0, 1]), "a block reaches over the end");
    check_malformed(Compression::Lz4, &header, "the frame is cut off");
    let dependent = [0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0];
    check_malformed(
        Compression::Lz4,
        &dependent,
        "dependent blocks, which Kafka's clients cannot read",
    );
    check_malformed(Compression::Lz4, b"hello", "no LZ4 frame magic");
    check_malformed(Compression::Gzip, b"hello, not gzip", "invalid gzip header");
    check_malformed(Compression::Zstd, b"hello", "Unknown frame descriptor");
    // A zstd frame with a window of 2^30, and one that is not finished.
    let mut window = zstd_zeros(1 << 17);
    window[5] = 20 << 3;
    check_malformed(Compression::Zstd, &window, "Frame requires too much memory for decoding");
    check_malformed(Compression::Zstd, &zstd_zeros(1 << 18)[..10], "the frame is cut off");
}

#[test]
fn raw_snappy_is_read_as_kafka_does() {
    let text = b"some text, some text, some text".repeat(2000);
    let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap();
    let all = DecompressLimits::default();
    assert_eq!(decompress(Compression::Snappy, &Bytes::from(raw), &all).unwrap(), text);
    // Joined streams of Xerial's framing too.
    let one = compress(Compression::Snappy, None, &text);
    let both = Bytes::from([one.as_slice(), one.as_slice()].concat());
    assert_eq!(decompress(Compression::Snappy, &both, &all).unwrap().len(), 2 * text.len());
}

/// A batch is judged within the limits too, without keeping what was decompressed.
#[test]
fn a_batch_that_is_a_bomb_is_refused() {
    let value = vec![0; 3 << 20];
    for codec in COMPRESSED {
        let mut builder = BatchBuilder::new(codec);
        for _ in 0..4 {
            builder
                .push(NewRecord {
                    timestamp: TimestampMs(1),
                    value: Some(&value),
                    ..NewRecord::default()
                })
                .unwrap();
        }
        let bytes = builder.build().unwrap();
        let all = ValidationLimits::default();
        let most = ValidationLimits { decompress: limits(13 << 20, usize::MAX, 0), ..all };
        assert!(validate_batch(bytes.clone(), &most).is_ok(), "{codec}");
        let less = ValidationLimits { decompress: limits(12 << 20, usize::MAX, 0), ..all };
        let error = validate_batch(bytes, &less).unwrap_err();
        let expected = BatchError::Decompress(DecompressError::TooLarge { output_max: 12 << 20 });
        assert_eq!(error, expected, "{codec}");
    }
}
