//! Whole frames: size, header, body.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{
    ApiKey, DecodeError, EncodeError, Field, FramePiece, Reader, RequestHeader, ResponseHeader,
    Writer,
};

/// A struct of the protocol, with the versions in which it exists.
pub trait Message: Field {
    /// Its name in Kafka's schemas.
    const NAME: &'static str;
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;
    /// The first flexible version (KIP-482); above all versions when there is none.
    const FLEXIBLE: i16;

    /// Reads a message of `version`. Bytes may be left: Kafka accepts what librdkafka sends
    /// after the last field of some requests, and so do we.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(DecodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        Field::decode(reader, version, version >= Self::FLEXIBLE)
    }

    /// Writes a message of `version`.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`], [`EncodeError::UnsupportedVersion`].
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(EncodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        Field::encode(self, writer, version, version >= Self::FLEXIBLE)
    }
}

/// [`Message::FLEXIBLE`] of a message without flexible versions.
pub(crate) const NEVER: i16 = i16::MAX;

/// A request, with what answers it.
pub trait Request: Message {
    /// Its API.
    const API: ApiKey;
    /// What answers it.
    type Response: Message;
}

/// A frame ready to be sent, its size field included.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    /// In the order of the bytes.
    pub pieces: Vec<FramePiece>,
    /// Bytes in all pieces.
    pub len: usize,
}

impl EncodedFrame {
    /// All bytes in one piece, copied.
    ///
    /// # Errors
    /// When a record source cannot be read.
    pub fn to_bytes(&self) -> std::io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(self.len);
        for piece in &self.pieces {
            bytes.extend_from_slice(&piece.to_bytes()?);
        }
        Ok(bytes.into())
    }
}

/// Encodes a request, its size and header before it.
///
/// # Errors
/// As [`Message::encode`].
pub fn encode_request<R: Request>(
    header: &RequestHeader,
    request: &R,
) -> Result<EncodedFrame, EncodeError> {
    let mut writer = Writer::new_frame();
    header.encode(&mut writer)?;
    Message::encode(request, &mut writer, header.api_version)?;
    writer.finish_frame()
}

/// Encodes the response to a request of `api` and `version`, its size and header before it.
///
/// # Errors
/// As [`Message::encode`].
pub fn encode_response<M: Message>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<EncodedFrame, EncodeError> {
    let mut writer = Writer::new_frame();
    ResponseHeader { correlation_id }.encode(&mut writer, api, version);
    Message::encode(response, &mut writer, version)?;
    writer.finish_frame()
}

/// Reads a message that stands alone in `body`.
///
/// # Errors
/// As [`Message::decode`].
pub fn decode_body<M: Message>(body: Bytes, version: i16) -> Result<M, DecodeError> {
    Message::decode(&mut Reader::new(body), version)
}

/// Bytes that `message` takes in `version`.
///
/// # Errors
/// As [`Message::encode`].
pub fn encoded_size<M: Message>(message: &M, version: i16) -> Result<usize, EncodeError> {
    let mut writer = Writer::new();
    Message::encode(message, &mut writer, version)?;
    Ok(writer.len())
}
