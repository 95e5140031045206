//! From a text to a [`Format`].

use super::{
    AttributeForm, Format, FormatError, NumberField, NumberForm, Piece, ReceiptField, TextField,
    TextForm, TimestampForm,
};

impl Format {
    /// Parses a format.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut parser =
            Parser { text, characters: text.chars().collect(), at: 0, in_headers: false };
        let pieces = parser.pieces(false)?;
        Ok(Self { pieces })
    }
}

struct Parser<'a> {
    text: &'a str,
    characters: Vec<char>,
    at: usize,
    in_headers: bool,
}

impl Parser<'_> {
    fn pieces(&mut self, until_brace: bool) -> Result<Vec<Piece>, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        loop {
            let Some(character) = self.next() else {
                if until_brace {
                    return Err(self.error("the `{` of %h has no `}`"));
                }
                break;
            };
            match character {
                '}' if until_brace => break,
                '\\' => literal.push(self.escape()?),
                '%' => match self.peek() {
                    Some(c @ ('%' | '{' | '}')) => {
                        self.at += 1;
                        push_character(&mut literal, c);
                    }
                    _ => {
                        if !literal.is_empty() {
                            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                        }
                        let piece = self.verb()?;
                        pieces.push(piece);
                    }
                },
                other => push_character(&mut literal, other),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(pieces)
    }

    fn escape(&mut self) -> Result<u8, FormatError> {
        match self.next() {
            Some('n') => Ok(b'\n'),
            Some('t') => Ok(b'\t'),
            Some('r') => Ok(b'\r'),
            Some('0') => Ok(0),
            Some('\\') => Ok(b'\\'),
            Some('x') => {
                let digits: String = self.characters.iter().skip(self.at).take(2).collect();
                self.at += digits.len();
                u8::from_str_radix(&digits, 16)
                    .map_err(|_| self.error("`\\x` wants two hexadecimal digits"))
            }
            _ => Err(self.error("`\\` is followed by one of n t r 0 \\ or x and two digits")),
        }
    }

    fn verb(&mut self) -> Result<Piece, FormatError> {
        use NumberField as N;
        let Some(verb) = self.next() else { return Err(self.error("`%` stands at the end")) };
        if self.in_headers && !matches!(verb, 'k' | 'v' | 's' | 'K' | 'V' | 'S') {
            return Err(self.error("inside %h{…} there are only %k, %v, %K and %V"));
        }
        let piece = match verb {
            't' => Piece::Text(TextField::Topic, self.text_form()?),
            'k' => Piece::Text(TextField::Key, self.text_form()?),
            'v' | 's' => Piece::Text(TextField::Value, self.text_form()?),
            'b' => Piece::Receipt(ReceiptField::Brokers),
            'r' => Piece::Receipt(ReceiptField::Racks),
            'T' => self.number(N::TopicLength)?,
            'K' => self.number(N::KeyLength)?,
            'V' | 'S' => self.number(N::ValueLength)?,
            'p' => self.number(N::Partition)?,
            'o' => self.number(N::Offset)?,
            'H' => self.number(N::HeaderCount)?,
            'e' => self.number(N::LeaderEpoch)?,
            'x' => self.number(N::ProducerId)?,
            'y' => self.number(N::ProducerEpoch)?,
            '[' => self.number(N::LogStart)?,
            '|' => self.number(N::LastStable)?,
            ']' => self.number(N::HighWatermark)?,
            'i' => self.number(N::Number)?,
            'd' => Piece::Timestamp(self.timestamp_form()?),
            'a' => Piece::Attributes(self.attribute_form()?),
            'h' => {
                if self.next() != Some('{') {
                    return Err(self.error("%h wants a format in braces, such as %h{%k=%v }"));
                }
                self.in_headers = true;
                let inner = self.pieces(true)?;
                self.in_headers = false;
                Piece::Headers(inner)
            }
            other => {
                let message = format!(
                    "`%{other}` is no verb; there are %t %p %o %k %v %h{{…}} %d %T %K %V %H %e %a %x \
                     %y %[ %| %] %i %%, and %b %r of what varve produce prints"
                );
                return Err(self.error(&message));
            }
        };
        Ok(piece)
    }

    fn text_form(&mut self) -> Result<TextForm, FormatError> {
        let Some(word) = self.braces()? else { return Ok(TextForm::Plain) };
        match word.as_str() {
            "hex" => Ok(TextForm::Hex),
            "base64" => Ok(TextForm::Base64 { padded: true }),
            "base64raw" => Ok(TextForm::Base64 { padded: false }),
            "json" => Ok(TextForm::Json),
            _ => match bracketed(&word, "unpack") {
                Some(layout) => match layout.chars().find(|c| !"xbBhHiIqQcs.<> $".contains(*c)) {
                    None => Ok(TextForm::Unpack(layout.to_owned())),
                    Some(_) => Err(self.error(
                        "unpack[…] takes > < for the byte order, b B h H i I q Q for integers, c s x . $",
                    )),
                },
                None => {
                    Err(self.error("a text takes {hex}, {base64}, {base64raw}, {json}, {unpack[…]}"))
                }
            },
        }
    }

    fn number(&mut self, field: NumberField) -> Result<Piece, FormatError> {
        Ok(Piece::Number(field, self.number_form()?))
    }

    fn number_form(&mut self) -> Result<NumberForm, FormatError> {
        let Some(word) = self.braces()? else { return Ok(NumberForm::Ascii) };
        self.number_word(&word)
    }

    fn number_word(&self, word: &str) -> Result<NumberForm, FormatError> {
        let form = match word {
            "ascii" | "number" => Some(NumberForm::Ascii),
            "byte" => Some(NumberForm::Big(1)),
            _ => {
                let split = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
                let (kind, bits) = word.split_at(split);
                let bits: usize = bits.parse().unwrap_or(0);
                match (kind, bits) {
                    ("hex", 4 | 8 | 16 | 32 | 64) => Some(NumberForm::Hex(bits / 4)),
                    ("big", 8 | 16 | 32 | 64) => Some(NumberForm::Big(bits / 8)),
                    ("little", 8 | 16 | 32 | 64) => Some(NumberForm::Little(bits / 8)),
                    _ => None,
                }
            }
        };
        form.ok_or_else(|| {
            self.error("a number takes {ascii}, {byte}, {hex8}…{hex64}, {big8}…{big64}, {little8}…")
        })
    }

    fn timestamp_form(&mut self) -> Result<TimestampForm, FormatError> {
        let Some(word) = self.braces()? else {
            return Ok(TimestampForm::Milliseconds(NumberForm::Ascii));
        };
        match word.as_str() {
            "unix" => Ok(TimestampForm::Seconds),
            "iso" => Ok(TimestampForm::Iso),
            _ => match bracketed(&word, "strftime") {
                Some(layout) => Ok(TimestampForm::Strftime(layout.to_owned())),
                None => self.number_word(&word).map(TimestampForm::Milliseconds).map_err(|_| {
                    self.error("%d takes {strftime[…]}, {iso}, {unix} or a number's form")
                }),
            },
        }
    }

    fn attribute_form(&mut self) -> Result<AttributeForm, FormatError> {
        match self.braces()?.as_deref() {
            None => Ok(AttributeForm::Number),
            Some("compression") => Ok(AttributeForm::Compression),
            Some("timestamp-type") => Ok(AttributeForm::TimestampType),
            Some(_) => Err(self.error("%a takes {compression} or {timestamp-type}")),
        }
    }

    /// What stands in braces right here; brackets inside may hold anything.
    fn braces(&mut self) -> Result<Option<String>, FormatError> {
        if self.peek() != Some('{') {
            return Ok(None);
        }
        self.at += 1;
        let mut word = String::new();
        let mut depth = 0usize;
        loop {
            match self.next() {
                None => return Err(self.error("a `{` has no `}`")),
                Some('}') if depth == 0 => return Ok(Some(word)),
                Some(c) => {
                    match c {
                        '[' => depth += 1,
                        ']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    word.push(c);
                }
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn error(&self, message: &str) -> FormatError {
        FormatError {
            format: self.text.to_owned(),
            position: self.at.max(1),
            message: message.to_owned(),
        }
    }
}

fn push_character(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The inside of `name[inside]`.
fn bracketed<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    word.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')
}
