//! Reads records in a [`Format`] from a stream of bytes.

use std::io::BufRead;

use super::{Format, NumberField, NumberForm, Piece, TextField, TextForm, TimestampForm, base64};

/// A record as a format read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct InputRecord {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Why input is no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the input cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("record {number} of the input: {message}")]
    Malformed { number: u64, message: String },
    #[error("the format cannot be read: {0}")]
    Format(String),
}

/// The most bytes that one field may have; a record of more could not be produced.
const FIELD_BYTES_MAX: usize = 100 << 20;

/// Reads records one after another.
#[derive(Debug)]
pub(crate) struct RecordReader<R> {
    input: R,
    format: Format,
    number: u64,
    /// The literal that comes next was consumed together with the field that it ends.
    literal_is_consumed: bool,
}

#[derive(Debug, Default)]
struct Sizes {
    topic: Option<usize>,
    key: Option<usize>,
    value: Option<usize>,
    headers: Option<usize>,
}

impl<R: BufRead> RecordReader<R> {
    /// Reads records in `format` from `input`.
    pub(crate) fn new(format: Format, input: R) -> Result<Self, ReadError> {
        check_readable(&format.pieces)?;
        Ok(Self { input, format, number: 0, literal_is_consumed: false })
    }

    /// The next record, or none where the input ends.
    pub(crate) fn next(&mut self) -> Result<Option<InputRecord>, ReadError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let pieces = std::mem::take(&mut self.format.pieces);
        let mut record = InputRecord::default();
        let outcome = self.pieces(&pieces, &mut record);
        self.format.pieces = pieces;
        outcome.map(|()| Some(record))
    }

    fn pieces(&mut self, pieces: &[Piece], record: &mut InputRecord) -> Result<(), ReadError> {
        let mut sizes = Sizes::default();
        for (index, piece) in pieces.iter().enumerate() {
            let delimiter = match pieces.get(index + 1) {
                Some(Piece::Literal(bytes)) => Some(bytes.as_slice()),
                _ => None,
            };
            match piece {
                Piece::Literal(bytes) => self.literal(bytes)?,
                Piece::Text(field, form) => {
                    let size = match field {
                        TextField::Topic => sizes.topic.take(),
                        TextField::Key => sizes.key.take(),
                        TextField::Value => sizes.value.take(),
                    };
                    let bytes = self.text(form, size, delimiter)?;
                    match field {
                        TextField::Topic => {
                            let name = String::from_utf8(bytes)
                                .map_err(|_| self.malformed("the topic's name is not UTF-8"))?;
                            record.topic = Some(name);
                        }
                        TextField::Key => record.key = Some(bytes),
                        TextField::Value => record.value = Some(bytes),
                    }
                }
                Piece::Number(field, form) => {
                    let number = self.number(*form, delimiter)?;
                    self.place_number(*field, number, &mut sizes, record)?;
                }
                Piece::Timestamp(form) => {
                    let number = match form {
                        TimestampForm::Milliseconds(form) => self.number(*form, delimiter)?,
                        _ => self.number(NumberForm::Ascii, delimiter)?.saturating_mul(1_000),
                    };
                    record.timestamp_ms = Some(number);
                }
                Piece::Headers(inner) => {
                    for _ in 0..sizes.headers.take().unwrap_or(1) {
                        let mut header = InputRecord::default();
                        self.pieces(inner, &mut header)?;
                        let key = String::from_utf8(header.key.unwrap_or_default())
                            .map_err(|_| self.malformed("a header's key is not UTF-8"))?;
                        record.headers.push((key, header.value));
                    }
                }
                Piece::Attributes(_) | Piece::Receipt(_) => {}
            }
        }
        Ok(())
    }

    fn place_number(
        &self,
        field: NumberField,
        number: i64,
        sizes: &mut Sizes,
        record: &mut InputRecord,
    ) -> Result<(), ReadError> {
        let size = || {
            usize::try_from(number)
                .ok()
                .filter(|size| *size <= FIELD_BYTES_MAX)
                .ok_or_else(|| self.malformed(&format!("{number} is no size of a field")))
        };
        match field {
            NumberField::TopicLength => sizes.topic = Some(size()?),
            NumberField::KeyLength => sizes.key = Some(size()?),
            NumberField::ValueLength => sizes.value = Some(size()?),
            NumberField::HeaderCount => sizes.headers = Some(size()?),
            NumberField::Partition => {
                let partition = i32::try_from(number)
                    .map_err(|_| self.malformed(&format!("{number} is no partition")))?;
                record.partition = Some(partition);
            }
            _ => {}
        }
        Ok(())
    }

    fn text(
        &mut self,
        form: &TextForm,
        size: Option<usize>,
        delimiter: Option<&[u8]>,
    ) -> Result<Vec<u8>, ReadError> {
        if *form == TextForm::Json && size.is_none() {
            return self.json();
        }
        let bytes = match size {
            Some(size) => self.exactly(size)?,
            None => self.until(delimiter)?,
        };
        match form {
            TextForm::Hex => {
                decode_hex(&bytes).ok_or_else(|| self.malformed("it is not hexadecimal"))
            }
            TextForm::Base64 { .. } => {
                base64::decode(&bytes).ok_or_else(|| self.malformed("it is not base64"))
            }
            _ => Ok(bytes),
        }
    }

    fn number(&mut self, form: NumberForm, delimiter: Option<&[u8]>) -> Result<i64, ReadError> {
        match form {
            NumberForm::Ascii => {
                let bytes = match delimiter {
                    Some(_) => self.until(delimiter)?,
                    None => self.digits()?,
                };
                let text = String::from_utf8_lossy(&bytes).into_owned();
                text.trim().parse().map_err(|_| self.malformed(&format!("{text:?} is no number")))
            }
            NumberForm::Hex(digits) => {
                let bytes = self.exactly(digits)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                u64::from_str_radix(&text, 16)
                    .map(u64::cast_signed)
                    .map_err(|_| self.malformed(&format!("{text:?} is not hexadecimal")))
            }
            NumberForm::Big(width) => {
                let bytes = self.exactly(width)?;
                Ok(bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte)))
            }
            NumberForm::Little(width) => {
                let bytes = self.exactly(width)?;
                Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | i64::from(*byte)))
            }
        }
    }

    fn literal(&mut self, expected: &[u8]) -> Result<(), ReadError> {
        if std::mem::take(&mut self.literal_is_consumed) {
            return Ok(());
        }
        for byte in expected {
            let found = self.input.fill_buf()?.first().copied();
            match found {
                Some(found) if found == *byte => self.input.consume(1),
                // The last record of a file need not end with the separator.
                None => return Ok(()),
                Some(found) => {
                    let message = format!(
                        "found {:?} where the format has {:?}",
                        char::from(found),
                        char::from(*byte)
                    );
                    return Err(self.malformed(&message));
                }
            }
        }
        Ok(())
    }

    fn exactly(&mut self, size: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::with_capacity(size.min(1 << 16));
        while bytes.len() < size {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                let message = format!("the input ends {} bytes too early", size - bytes.len());
                return Err(self.malformed(&message));
            }
            let taken = available.len().min(size - bytes.len());
            bytes.extend_from_slice(&available[..taken]);
            self.input.consume(taken);
        }
        Ok(bytes)
    }

    /// Everything before `delimiter`; the rest of the input without one.
    fn until(&mut self, delimiter: Option<&[u8]>) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(bytes);
            }
            let Some(delimiter) = delimiter else {
                let taken = available.len();
                bytes.extend_from_slice(available);
                self.input.consume(taken);
                self.check_size(&bytes)?;
                continue;
            };
            if delimiter.len() == 1 {
                let found = available.iter().position(|byte| *byte == delimiter[0]);
                let taken = found.unwrap_or(available.len());
                bytes.extend_from_slice(&available[..taken]);
                self.input.consume(taken);
                if found.is_some() {
                    return Ok(bytes);
                }
            } else {
                bytes.push(available[0]);
                self.input.consume(1);
                if bytes.ends_with(delimiter) {
                    bytes.truncate(bytes.len() - delimiter.len());
                    self.literal_is_consumed = true;
                    return Ok(bytes);
                }
            }
            self.check_size(&bytes)?;
        }
    }

    fn check_size(&self, bytes: &[u8]) -> Result<(), ReadError> {
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(self.malformed("a field has more than 100 MiB; is the separator right?"));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        while let Some(byte) = self.input.fill_buf()?.first().copied() {
            let is_sign = byte == b'-' && bytes.is_empty();
            if !byte.is_ascii_digit() && !is_sign {
                break;
            }
            bytes.push(byte);
            self.input.consume(1);
        }
        Ok(bytes)
    }

    /// One JSON value, by its brackets and quotes.
    fn json(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
        while let Some(byte) = self.input.fill_buf()?.first().copied() {
            let is_blank = byte.is_ascii_whitespace();
            if bytes.is_empty() && is_blank {
                self.input.consume(1);
                continue;
            }
            if depth == 0 && !in_text && !bytes.is_empty() && (is_blank || b",]}".contains(&byte)) {
                break;
            }
            bytes.push(byte);
            self.input.consume(1);
            self.check_size(&bytes)?;
            if in_text {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_text = false,
                    _ => {}
                }
                if in_text || depth > 0 {
                    continue;
                }
                break;
            }
            match byte {
                b'"' => in_text = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        match serde_json::from_slice::<serde_json::Value>(&bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.malformed(&format!("it is not JSON: {error}"))),
        }
    }

    fn malformed(&self, message: &str) -> ReadError {
        ReadError::Malformed { number: self.number, message: message.to_owned() }
    }
}

fn decode_hex(bytes: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()).collect()
}

/// Refuses what can be printed but not read.
fn check_readable(pieces: &[Piece]) -> Result<(), ReadError> {
    let refuse = |message: &str| Err(ReadError::Format(message.to_owned()));
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Number(
                NumberField::Offset
                | NumberField::LeaderEpoch
                | NumberField::ProducerId
                | NumberField::ProducerEpoch
                | NumberField::LogStart
                | NumberField::LastStable
                | NumberField::HighWatermark
                | NumberField::Number,
                _,
            ) => {
                return refuse(
                    "the broker gives offsets, epochs and ids; only %t %T %p %k %K %v %V %h %H %d are read",
                );
            }
            Piece::Attributes(_) => return refuse("%a is chosen with -z, and cannot be read"),
            Piece::Receipt(_) => return refuse("%b and %r are told, and cannot be read"),
            Piece::Timestamp(TimestampForm::Iso | TimestampForm::Strftime(_)) => {
                return refuse("a timestamp is read as %d in milliseconds or as %d{unix}");
            }
            Piece::Text(_, TextForm::Unpack(_)) => return refuse("{unpack[…]} cannot be read"),
            Piece::Text(field, form) if *form != TextForm::Json => {
                let sized = pieces[..index].iter().any(|before| {
                    matches!(
                        (field, before),
                        (TextField::Topic, Piece::Number(NumberField::TopicLength, _))
                            | (TextField::Key, Piece::Number(NumberField::KeyLength, _))
                            | (TextField::Value, Piece::Number(NumberField::ValueLength, _))
                    )
                });
                let next = pieces.get(index + 1);
                if !sized && next.is_some() && !matches!(next, Some(Piece::Literal(_))) {
                    return refuse(
                        "a text without its length before it must be followed by a separator",
                    );
                }
            }
            Piece::Headers(inner) => check_readable(inner)?,
            _ => {}
        }
    }
    Ok(())
}
