//! Writes records in a [`Format`].

use super::{
    AttributeForm, Format, NumberField, NumberForm, Piece, ReceiptField, TextField, TextForm,
    TimestampForm, base64, strftime,
};

/// A record as a format sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordView<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
    pub(crate) log_start: i64,
    pub(crate) last_stable: i64,
    pub(crate) high_watermark: i64,
    pub(crate) number: u64,
    /// The brokers that hold it on disk, and their racks, where that is known.
    pub(crate) receipt: Option<&'a Receipt>,
}

/// Who holds an acknowledged record on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The brokers, divided by commas.
    pub(crate) brokers: String,
    /// The racks of these brokers, each once, divided by commas.
    pub(crate) racks: String,
}

/// Bytes that a format made of a record.
pub(crate) type Printed = Vec<u8>;

impl Format {
    /// Appends `record` in this format to `out`.
    pub(crate) fn print(&self, record: &RecordView<'_>, out: &mut Printed) {
        for piece in &self.pieces {
            print_piece(piece, record, out);
        }
    }
}

fn print_piece(piece: &Piece, record: &RecordView<'_>, out: &mut Printed) {
    match piece {
        Piece::Literal(bytes) => out.extend_from_slice(bytes),
        Piece::Text(field, form) => {
            let text = match field {
                TextField::Topic => Some(record.topic.as_bytes()),
                TextField::Key => record.key,
                TextField::Value => record.value,
            };
            print_text(text, form, out);
        }
        Piece::Number(field, form) => print_number(number_of(*field, record), *form, out),
        Piece::Timestamp(form) => print_timestamp(record.timestamp_ms, form, out),
        Piece::Attributes(form) => print_attributes(record.attributes, *form, out),
        Piece::Receipt(field) => {
            let text = record.receipt.map_or("-", |receipt| match field {
                ReceiptField::Brokers => &receipt.brokers,
                ReceiptField::Racks => &receipt.racks,
            });
            out.extend_from_slice(text.as_bytes());
        }
        Piece::Headers(inner) => {
            for (key, value) in &record.headers {
                let header = RecordView { key: Some(key), value: *value, ..RecordView::default() };
                for piece in inner {
                    print_piece(piece, &header, out);
                }
            }
        }
    }
}

fn number_of(field: NumberField, record: &RecordView<'_>) -> i64 {
    let length =
        |text: Option<&[u8]>| text.map_or(0, |text| i64::try_from(text.len()).unwrap_or(i64::MAX));
    match field {
        NumberField::Partition => record.partition.into(),
        NumberField::Offset => record.offset,
        NumberField::TopicLength => length(Some(record.topic.as_bytes())),
        NumberField::KeyLength => length(record.key),
        NumberField::ValueLength => length(record.value),
        NumberField::HeaderCount => i64::try_from(record.headers.len()).unwrap_or(i64::MAX),
        NumberField::LeaderEpoch => record.leader_epoch.into(),
        NumberField::ProducerId => record.producer_id,
        NumberField::ProducerEpoch => record.producer_epoch.into(),
        NumberField::LogStart => record.log_start,
        NumberField::LastStable => record.last_stable,
        NumberField::HighWatermark => record.high_watermark,
        NumberField::Number => i64::try_from(record.number).unwrap_or(i64::MAX),
    }
}

fn print_text(text: Option<&[u8]>, form: &TextForm, out: &mut Printed) {
    let bytes = text.unwrap_or_default();
    match form {
        TextForm::Plain => out.extend_from_slice(bytes),
        TextForm::Hex => {
            for byte in bytes {
                out.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
        }
        TextForm::Base64 { padded } => {
            out.extend_from_slice(base64::encode(bytes, *padded).as_bytes())
        }
        TextForm::Json => {
            let json = match text {
                None => serde_json::Value::Null,
                Some(bytes) => serde_json::from_slice(bytes).unwrap_or_else(|_| {
                    serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned())
                }),
            };
            out.extend_from_slice(json.to_string().as_bytes());
        }
        TextForm::Unpack(layout) => out.extend_from_slice(unpack(bytes, layout).as_bytes()),
    }
}

/// Python's `struct` in small: integers by letter, `>` and `<` set the byte order (`>` at first),
/// `c` a character, `s` the rest as text, `x` passes over a byte, `.` over the rest, `$` demands
/// the end. Values are separated by spaces; what does not fit ends the text with `(…)`.
fn unpack(mut bytes: &[u8], layout: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut big = true;
    for letter in layout.chars() {
        let width = match letter {
            '>' | '<' => {
                big = letter == '>';
                continue;
            }
            ' ' => continue,
            's' => {
                out.push(String::from_utf8_lossy(bytes).into_owned());
                bytes = &[];
                continue;
            }
            '.' => {
                bytes = &[];
                continue;
            }
            '$' if bytes.is_empty() => continue,
            '$' => {
                out.push(format!("({} bytes more)", bytes.len()));
                break;
            }
            'h' | 'H' => 2,
            'i' | 'I' => 4,
            'q' | 'Q' => 8,
            _ => 1,
        };
        let Some((taken, rest)) = bytes.split_at_checked(width) else {
            out.push(format!("({} bytes too few)", width - bytes.len()));
            break;
        };
        bytes = rest;
        let mut wide = [0u8; 8];
        for (index, byte) in taken.iter().enumerate() {
            wide[if big { width - 1 - index } else { index }] = *byte;
        }
        let unsigned = u64::from_le_bytes(wide);
        let shift = 64 - 8 * width;
        let signed = (unsigned << shift).cast_signed() >> shift;
        match letter {
            'x' => {}
            'c' => out.push(char::from(taken[0]).to_string()),
            'b' | 'h' | 'i' | 'q' => out.push(signed.to_string()),
            _ => out.push(unsigned.to_string()),
        }
    }
    out.join(" ")
}

fn print_number(number: i64, form: NumberForm, out: &mut Printed) {
    let bytes = number.to_be_bytes();
    match form {
        NumberForm::Ascii => out.extend_from_slice(number.to_string().as_bytes()),
        NumberForm::Hex(digits) => {
            let text = format!("{number:016x}");
            out.extend_from_slice(&text.as_bytes()[16 - digits..]);
        }
        NumberForm::Big(width) => out.extend_from_slice(&bytes[8 - width..]),
        NumberForm::Little(width) => out.extend(bytes.iter().rev().take(width)),
    }
}

fn print_timestamp(milliseconds: i64, form: &TimestampForm, out: &mut Printed) {
    match form {
        TimestampForm::Milliseconds(form) => print_number(milliseconds, *form, out),
        TimestampForm::Seconds => {
            print_number(milliseconds.div_euclid(1_000), NumberForm::Ascii, out)
        }
        TimestampForm::Iso => {
            out.extend_from_slice(strftime("%Y-%m-%dT%H:%M:%S.%LZ", milliseconds).as_bytes());
        }
        TimestampForm::Strftime(layout) => {
            out.extend_from_slice(strftime(layout, milliseconds).as_bytes());
        }
    }
}

fn print_attributes(attributes: i16, form: AttributeForm, out: &mut Printed) {
    let text = match form {
        AttributeForm::Number => attributes.to_string(),
        AttributeForm::Compression => compression_name(attributes).to_owned(),
        AttributeForm::TimestampType if attributes & 0b1000 != 0 => "LogAppendTime".to_owned(),
        AttributeForm::TimestampType => "CreateTime".to_owned(),
    };
    out.extend_from_slice(text.as_bytes());
}

fn compression_name(attributes: i16) -> &'static str {
    match attributes & 0b111 {
        0 => "none",
        1 => "gzip",
        2 => "snappy",
        3 => "lz4",
        4 => "zstd",
        _ => "unknown",
    }
}
