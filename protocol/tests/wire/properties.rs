//! Messages made from random bytes: what can be read is written and read again as the same.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use varve_protocol::wire::{Reader, RequestHeader, Writer};

use crate::codec::{ALL, Codec};
use crate::differential;

/// A message of the crate, one of its versions, and bytes of which many can be read as such:
/// small numbers are short strings, short arrays and known tags.
fn body() -> impl Strategy<Value = (Codec, i16, Bytes)> {
    let byte = prop_oneof![
        4 => Just(0_u8),
        3 => Just(1),
        3 => Just(2),
        1 => Just(3),
        1 => 4..20_u8,
        1 => b'a'..=b'z',
        1 => Just(0xff),
        1 => any::<u8>(),
    ];
    (0..ALL.len(), any::<prop::sample::Index>(), vec(byte, 0..200)).prop_map(
        |(index, version, bytes)| {
            let versions: Vec<i16> = ALL[index].api.codec_versions().collect();
            (ALL[index], *version.get(&versions), Bytes::from(bytes))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// `recode` itself asserts that own bytes are read as the same message.
    #[test]
    fn what_can_be_read_is_written_and_read_again((codec, version, bytes) in body()) {
        if let Ok(recoded) = (codec.recode)(bytes.clone(), version) {
            differential::check(&codec, version, &recoded.bytes, &*recoded.shown);
            let again = (codec.recode)(recoded.bytes.clone(), version).unwrap();
            prop_assert_eq!(again.bytes, recoded.bytes);
            prop_assert_eq!(again.unread, 0);
        }
    }

    #[test]
    fn request_headers_return(
        api_key in 0..100_i16,
        api_version in 0..20_i16,
        correlation_id: i32,
        client_id in prop::option::of(".{0,20}"),
    ) {
        let header = RequestHeader { api_key, api_version, correlation_id, client_id };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        let bytes: Vec<u8> =
            writer.finish().iter().flat_map(|piece| piece.to_bytes().unwrap()).collect();
        let mut reader = Reader::new(bytes.into());
        prop_assert_eq!(RequestHeader::decode(&mut reader).unwrap(), header);
        prop_assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn any_bytes_as_a_header(bytes in vec(any::<u8>(), 0..40)) {
        drop(RequestHeader::decode(&mut Reader::new(bytes.into())));
    }
}
