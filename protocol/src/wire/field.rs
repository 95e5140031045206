//! The types that fields can have.

use bytes::Bytes;

use super::reader::STRING_BYTES_MAX;
use super::{DecodeError, EncodeError, Message, Reader, RecordSet, Writer};
use crate::vocabulary::TopicId;

/// A type of the protocol. `flexible` says which of the two encodings of lengths is in use
/// (KIP-482); `version` is the message's.
pub trait Field: Sized {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    fn decode(reader: &mut Reader, version: i16, flexible: bool) -> Result<Self, DecodeError>;

    /// Writes one.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    fn encode(&self, writer: &mut Writer, version: i16, flexible: bool) -> Result<(), EncodeError>;
}

/// A type that has a null.
pub(crate) trait Nullable: Sized {
    fn decode_nullable(
        reader: &mut Reader,
        version: i16,
        flexible: bool,
    ) -> Result<Option<Self>, DecodeError>;

    fn encode_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: i16,
        flexible: bool,
    ) -> Result<(), EncodeError>;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn decode(reader: &mut Reader, _: i16, _: bool) -> Result<Self, DecodeError> {
                Ok(<$type>::from_be_bytes(reader.array()?))
            }

            fn encode(&self, writer: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
                writer.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}

numbers!(i8, i16, u16, i32, i64);

/// A floating-point number of 64 bits. Equal are numbers of the same bits, so that what is no
/// number equals itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Float64 {
    bits: u64,
}

impl Float64 {
    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

impl From<f64> for Float64 {
    fn from(number: f64) -> Float64 {
        Float64 { bits: number.to_bits() }
    }
}

impl Field for Float64 {
    fn decode(reader: &mut Reader, _: i16, _: bool) -> Result<Self, DecodeError> {
        Ok(Float64 { bits: u64::from_be_bytes(reader.array()?) })
    }

    fn encode(&self, writer: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
        writer.put(&self.bits.to_be_bytes());
        Ok(())
    }
}

impl Field for bool {
    fn decode(reader: &mut Reader, _: i16, _: bool) -> Result<bool, DecodeError> {
        Ok(reader.array()? != [0])
    }

    fn encode(&self, writer: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
        writer.put(&[u8::from(*self)]);
        Ok(())
    }
}

impl Field for TopicId {
    fn decode(reader: &mut Reader, _: i16, _: bool) -> Result<TopicId, DecodeError> {
        Ok(TopicId(u128::from_be_bytes(reader.array()?)))
    }

    fn encode(&self, writer: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
        writer.put(&self.0.to_be_bytes());
        Ok(())
    }
}

impl Nullable for String {
    fn decode_nullable(
        reader: &mut Reader,
        _: i16,
        flexible: bool,
    ) -> Result<Option<String>, DecodeError> {
        let Some(length) = reader.string_length(flexible)? else { return Ok(None) };
        let position = reader.position();
        // As in Kafka, what is no UTF-8 becomes replacement characters: longer than what they
        // replace, but never longer than any other string.
        let text = String::from_utf8_lossy(reader.take(length)?).into_owned();
        match text.len() {
            length if length > STRING_BYTES_MAX => {
                Err(DecodeError::StringTooLong { position, length, max: STRING_BYTES_MAX })
            }
            _ => Ok(Some(text)),
        }
    }

    fn encode_nullable(
        value: Option<&String>,
        writer: &mut Writer,
        _: i16,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        writer.length("a string", value.map(String::len), flexible, true)?;
        writer.put(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

impl Nullable for Bytes {
    fn decode_nullable(
        reader: &mut Reader,
        _: i16,
        flexible: bool,
    ) -> Result<Option<Bytes>, DecodeError> {
        match reader.length(flexible)? {
            Some(length) => reader.take_bytes(length).map(Some),
            None => Ok(None),
        }
    }

    fn encode_nullable(
        value: Option<&Bytes>,
        writer: &mut Writer,
        _: i16,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        writer.length("bytes", value.map(Bytes::len), flexible, false)?;
        if let Some(bytes) = value {
            writer.put_bytes(bytes);
        }
        Ok(())
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn decode_nullable(
        reader: &mut Reader,
        version: i16,
        flexible: bool,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = reader.count(flexible, size_of::<T>())? else { return Ok(None) };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode(reader, version, flexible)?);
        }
        Ok(Some(elements))
    }

    fn encode_nullable(
        value: Option<&Vec<T>>,
        writer: &mut Writer,
        version: i16,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        writer.length("an array", value.map(Vec::len), flexible, false)?;
        value.into_iter().flatten().try_for_each(|e| e.encode(writer, version, flexible))
    }
}

impl<T: Nullable> Field for Option<T> {
    fn decode(reader: &mut Reader, version: i16, flexible: bool) -> Result<Self, DecodeError> {
        T::decode_nullable(reader, version, flexible)
    }

    fn encode(&self, writer: &mut Writer, version: i16, flexible: bool) -> Result<(), EncodeError> {
        T::encode_nullable(self.as_ref(), writer, version, flexible)
    }
}

/// A struct that may be null has a byte before it: below zero for null.
impl<T: Message> Nullable for T {
    fn decode_nullable(
        reader: &mut Reader,
        version: i16,
        flexible: bool,
    ) -> Result<Option<T>, DecodeError> {
        match i8::decode(reader, version, flexible)? {
            ..0 => Ok(None),
            _ => <T as Field>::decode(reader, version, flexible).map(Some),
        }
    }

    fn encode_nullable(
        value: Option<&T>,
        writer: &mut Writer,
        version: i16,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match value {
            None => (-1_i8).encode(writer, version, flexible),
            Some(value) => {
                1_i8.encode(writer, version, flexible)?;
                Field::encode(value, writer, version, flexible)
            }
        }
    }
}

macro_rules! never_null {
    ($([$($parameter:ident)?] $type:ty),*) => {$(
        impl$(<$parameter: Field>)? Field for $type {
            fn decode(
                reader: &mut Reader,
                version: i16,
                flexible: bool,
            ) -> Result<Self, DecodeError> {
                let position = reader.position();
                <$type>::decode_nullable(reader, version, flexible)?
                    .ok_or(DecodeError::UnexpectedNull { position })
            }

            fn encode(
                &self,
                writer: &mut Writer,
                version: i16,
                flexible: bool,
            ) -> Result<(), EncodeError> {
                <$type>::encode_nullable(Some(self), writer, version, flexible)
            }
        }
    )*};
}

never_null!([] String, [] Bytes, [T] Vec<T>);

impl Field for RecordSet {
    fn decode(reader: &mut Reader, version: i16, flexible: bool) -> Result<Self, DecodeError> {
        let bytes = Bytes::decode_nullable(reader, version, flexible)?;
        Ok(bytes.filter(|bytes| !bytes.is_empty()).map(RecordSet::from).unwrap_or_default())
    }

    fn encode(&self, writer: &mut Writer, _: i16, flexible: bool) -> Result<(), EncodeError> {
        writer.length("records", Some(self.len()), flexible, false)?;
        writer.record_set(self);
        Ok(())
    }
}
