//! The headers of requests and responses.

use super::{ApiKey, DecodeError, EncodeError, Field, Reader, Writer};

/// What every request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API; a number, since it may be one that we do not know.
    pub api_key: i16,
    /// The version of request and response.
    pub api_version: i16,
    /// Returned in the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Reads a header. The part up to the client id is the same in all versions, so a request of
    /// an API or version that we do not know still has its correlation id.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn decode(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
        let api_key = i16::decode(reader, 0, false)?;
        let api_version = i16::decode(reader, 0, false)?;
        let correlation_id = i32::decode(reader, 0, false)?;
        // The client id keeps its old encoding in flexible versions (KIP-482). It is a label only,
        // so a long one of replacement characters is taken, unlike such text in a body.
        let client_id = match reader.string_length(false)? {
            Some(length) => Some(String::from_utf8_lossy(reader.take(length)?).into_owned()),
            None => None,
        };
        let known = ApiKey::from_code(api_key);
        if known.is_some_and(|api| api.request_header_version(api_version) >= 2) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }

    /// Writes the header.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for the client id.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        self.api_key.encode(writer, 0, false)?;
        self.api_version.encode(writer, 0, false)?;
        self.correlation_id.encode(writer, 0, false)?;
        self.client_id.encode(writer, 0, false)?;
        let known = ApiKey::from_code(self.api_key);
        if known.is_some_and(|api| api.request_header_version(self.api_version) >= 2) {
            writer.unsigned_varint(0);
        }
        Ok(())
    }
}

/// What every response begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The request's.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a response to a request of `api` and `version`.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn decode(
        reader: &mut Reader,
        api: ApiKey,
        version: i16,
    ) -> Result<ResponseHeader, DecodeError> {
        let correlation_id = i32::decode(reader, 0, false)?;
        if api.response_header_version(version) >= 1 {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(ResponseHeader { correlation_id })
    }

    /// Writes the header.
    pub fn encode(self, writer: &mut Writer, api: ApiKey, version: i16) {
        writer.put(&self.correlation_id.to_be_bytes());
        if api.response_header_version(version) >= 1 {
            writer.unsigned_varint(0);
        }
    }
}
