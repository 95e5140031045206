//! Where `consume -o` begins and ends.

use std::str::FromStr;

use super::format::parse_instant;

/// `start`, `end`, `+N`, `-N`, `N`, `a:b`, `:end`, `@ts`, `@ts:ts`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OffsetRange {
    pub(crate) from: Position,
    /// Where to end; without it the command waits for more.
    pub(crate) to: Option<Position>,
}

/// One position of a partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Position {
    /// The first record there is.
    Start,
    /// Behind the last record, as it is when the command begins.
    End,
    /// An offset.
    Exact(i64),
    /// So many records behind the start.
    AfterStart(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record at or after a point in time; the text is read when the clock is.
    Time(String),
}

impl FromStr for OffsetRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(times) = text.strip_prefix('@') {
            return time_range(times);
        }
        let (from, to) = match text.split_once(':') {
            Some((from, to)) => (from, Some(to)),
            None => (text, None),
        };
        let from = if from.is_empty() && to.is_some() { Position::Start } else { position(from)? };
        let to = to.filter(|to| !to.is_empty()).map(position).transpose()?;
        if let (Position::Exact(from), Some(Position::Exact(to))) = (&from, &to)
            && from > to
        {
            return Err(format!("{from}:{to} ends before it begins"));
        }
        Ok(Self { from, to })
    }
}

/// The text behind `@`: a point in time, or two with `:` between them. Clock times contain `:`
/// themselves, so that every `:` is tried.
fn time_range(text: &str) -> Result<OffsetRange, String> {
    let time = |text: &str| Position::Time(text.to_owned());
    // The instant of "now" does not matter for whether a text is one.
    let is_instant = |text: &str| parse_instant(text, 0).is_some();
    if is_instant(text) {
        return Ok(OffsetRange { from: time(text), to: None });
    }
    for (at, _) in text.match_indices(':') {
        let (from, to) = (&text[..at], text[at + 1..].trim_start_matches('@'));
        if from.is_empty() || is_instant(from) {
            let from = if from.is_empty() { Position::Start } else { time(from) };
            if to == "end" {
                return Ok(OffsetRange { from, to: Some(Position::End) });
            }
            if is_instant(to) {
                return Ok(OffsetRange { from, to: Some(time(to)) });
            }
        }
    }
    Err(format!(
        "@{text} is no point in time: write milliseconds or seconds, 2026-01-31, \
         2026-01-31T12:00:00Z, or a span back from now such as -1h30m; two with : between them are \
         a range, and :end ends at the present end"
    ))
}

fn position(text: &str) -> Result<Position, String> {
    let number = |text: &str| {
        text.parse::<i64>().ok().filter(|number| *number >= 0).ok_or_else(|| {
            format!(
                "{text:?} is no position: write start, end, an offset, +N (after the start), \
                 -N (before the end), a:b, :end, @time or @time:time"
            )
        })
    };
    match text {
        "start" | "beginning" | "earliest" | "oldest" => Ok(Position::Start),
        "end" | "latest" | "newest" => Ok(Position::End),
        _ => match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(count), _) => Ok(Position::AfterStart(number(count)?)),
            (_, Some(count)) => Ok(Position::BeforeEnd(number(count)?)),
            _ => Ok(Position::Exact(number(text)?)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, from: Position, to: Option<Position>) {
        assert_eq!(text.parse(), Ok(OffsetRange { from, to }), "{text}");
    }

    #[test]
    fn positions_and_ranges_are_read() {
        let time = |text: &str| Position::Time(text.to_owned());
        check("start", Position::Start, None);
        check("end", Position::End, None);
        check("+10", Position::AfterStart(10), None);
        check("-5", Position::BeforeEnd(5), None);
        check("42", Position::Exact(42), None);
        check("10:20", Position::Exact(10), Some(Position::Exact(20)));
        check(":end", Position::Start, Some(Position::End));
        check("7:end", Position::Exact(7), Some(Position::End));
        check("-5:end", Position::BeforeEnd(5), Some(Position::End));
        check("@1700000000123", time("1700000000123"), None);
        check("@-1h:end", time("-1h"), Some(Position::End));
        check("@-2h:-1h", time("-2h"), Some(time("-1h")));
        check("@2026-01-31T12:00:00Z", time("2026-01-31T12:00:00Z"), None);
        check(
            "@2026-01-31T12:00:00Z:2026-01-31T13:00:00Z",
            time("2026-01-31T12:00:00Z"),
            Some(time("2026-01-31T13:00:00Z")),
        );
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for wrong in ["", "later", "--5", "+", "5:3", "@", "@noon", "@-1x", "1:2:3"] {
            assert!(wrong.parse::<OffsetRange>().is_err(), "{wrong:?}");
        }
    }
}
