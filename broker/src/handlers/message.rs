//! Messages of errors in answers.

use std::fmt::Display;

/// The longest message. Some errors show what a client sent, which can be long.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// The error's text, short enough for every version of every response.
pub(crate) fn message(error: &impl Display) -> Option<String> {
    let mut text = error.to_string();
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    Some(text)
}
