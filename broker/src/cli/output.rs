//! Tables for people, JSON for programs; colours and progress bars on a terminal only.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

use super::exit::CliError;

/// How a command that lists things prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// The option that every listing command has.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to print: a table for people, or JSON for programs
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: OutputFormat,
}

impl OutputArgs {
    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Text(String),
    Number(i64),
    /// Not known, or does not apply.
    None,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::None => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Number(number) => Value::from(*number),
            Self::None => Value::Null,
        }
    }
}

/// Rows under headings.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells.to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the last column away, where it turned out to say nothing.
    pub(crate) fn drop_last_column(&mut self) {
        self.headings.pop();
        for row in &mut self.rows {
            row.pop();
        }
    }

    /// The rows as JSON objects, with the headings in lower case as names.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let fields = self.headings.iter().zip(row);
            let object: Map<String, Value> = fields
                .map(|(heading, cell)| (heading.to_lowercase().replace('-', "_"), cell.json()))
                .collect();
            Value::Object(object)
        });
        Value::Array(rows.collect())
    }

    /// The table as aligned text: numbers to the right, texts to the left.
    pub(crate) fn text(&self, style: Style) -> String {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect();
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| {
                let longest = cells.iter().map(|row| row[column].chars().count()).max();
                longest.unwrap_or(0).max(self.headings[column].len())
            })
            .collect();
        let is_number: Vec<bool> = (0..self.headings.len())
            .map(|column| {
                let mut numbers = self.rows.iter().map(|row| &row[column]);
                !self.rows.is_empty() && numbers.all(|cell| !matches!(cell, Cell::Text(_)))
            })
            .collect();
        let line = |texts: Vec<&str>| {
            let mut out = String::new();
            for (column, text) in texts.into_iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(text.chars().count()));
                if column > 0 {
                    out.push_str("  ");
                }
                if is_number[column] {
                    out.push_str(&pad);
                    out.push_str(text);
                } else {
                    out.push_str(text);
                    out.push_str(&pad);
                }
            }
            out.trim_end().to_owned()
        };
        let mut out = style.bold(&line(self.headings.clone()));
        for row in &cells {
            out.push('\n');
            out.push_str(&line(row.iter().map(String::as_str).collect()));
        }
        out
    }

    /// Prints it in the form that was asked for.
    pub(crate) fn print(&self, output: &OutputArgs) -> Result<(), CliError> {
        if output.is_json() {
            print_json(&self.json())
        } else {
            print_text(&self.text(Style::of_stdout()))
        }
    }
}

/// Prints a JSON document. A reader that went away is no error.
pub(crate) fn print_json(value: &Value) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(CliError::failed)?;
    print_text(&text)
}

/// Prints text and a line end. A reader that went away is no error.
pub(crate) fn print_text(text: &str) -> Result<(), CliError> {
    quiet_pipe(writeln!(std::io::stdout().lock(), "{text}"))
}

/// Takes a closed pipe, such as that of `| head`, for a wish to end.
pub(crate) fn quiet_pipe(outcome: std::io::Result<()>) -> Result<(), CliError> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::told(0)),
        other => other.map_err(|error| CliError::failed(format!("standard output: {error}"))),
    }
}

/// Asks before something is lost. Without a terminal there is nobody to ask: then exact names are
/// taken for meant, and a `wide` choice such as an expression wants `--yes`.
pub(crate) fn confirm(question: &str, is_confirmed: bool, wide: bool) -> Result<(), CliError> {
    if is_confirmed {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        if wide {
            return Err(CliError::usage(format!("{question} Nobody can be asked here"))
                .help("say --yes where this is meant"));
        }
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::failed("nothing was done"))
}

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    is_coloured: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Self {
        Self { is_coloured: std::io::stdout().is_terminal() && colours_are_wanted() }
    }

    pub(crate) fn of_stderr() -> Self {
        Self { is_coloured: std::io::stderr().is_terminal() && colours_are_wanted() }
    }

    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { is_coloured: false }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `NO_COLOR` (no-color.org) and `TERM=dumb` refuse colours.
fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var("TERM").map_or(true, |term| term != "dumb")
}

/// Progress that shows itself on a terminal once something takes longer than a second.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_shown: AtomicBool,
    may_be_shown: bool,
}

impl Progress {
    /// Progress towards `total` of something; of unknown length where it is none.
    pub(crate) fn new(what: &'static str, total: Option<u64>) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()),
            None => ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
        };
        let template = match total {
            Some(_) => "{msg} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta} left",
            None => "{spinner} {msg} {human_pos} {per_sec} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        let may_be_shown = std::io::stderr().is_terminal();
        Self { bar, is_shown: AtomicBool::new(false), may_be_shown }
    }

    /// `count` more are done.
    pub(crate) fn add(&self, count: u64) {
        self.show_in_time();
        self.bar.inc(count);
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn show_in_time(&self) {
        let is_due = self.may_be_shown && self.bar.elapsed() >= Duration::from_secs(1);
        if is_due && !self.is_shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_numbers_to_the_right() {
        let mut table = Table::new(["NAME", "PARTITIONS", "LAG-TIME"]);
        table.row(["orders".into(), 12.into(), Cell::None]);
        table.row(["a".into(), 3.into(), Cell::Number(5)]);
        assert_eq!(
            table.text(Style::plain()),
            "NAME    PARTITIONS  LAG-TIME\norders          12         -\na                3         5"
        );
        assert_eq!(
            table.json().to_string(),
            r#"[{"lag_time":null,"name":"orders","partitions":12},{"lag_time":5,"name":"a","partitions":3}]"#
        );
    }
}
