//! What is wrong with a configuration, told so that it can be mended.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The stable code: `VV0102`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where it was read.
    pub place: Place,
    /// What to do instead.
    pub help: Option<String>,
}

/// Where a value came from, as a problem quotes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A line of a file.
    Line {
        /// The file's path.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// How many characters are meant.
        width: usize,
        /// The line itself.
        text: String,
    },
    /// A whole file, an environment variable or an argument.
    Named(String),
}

impl Place {
    /// The place of the bytes `span` of `source`.
    pub(super) fn in_source(file: &str, source: &str, span: &std::ops::Range<usize>) -> Self {
        let start = span.start.min(source.len());
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let end = span.end.clamp(start, line_end);
        Self::Line {
            file: file.to_owned(),
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            width: source[start..end].chars().count().max(1),
            text: source[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.message)?;
        let mut margin = 2;
        match &self.place {
            Place::Line { file, line, column, width, text } => {
                let number = line.to_string();
                margin = number.len();
                writeln!(f, "{:margin$}--> {file}:{line}:{column}", "")?;
                writeln!(f, "{number} | {}", text.replace('\t', " "))?;
                let indent = column - 1;
                write!(f, "{:margin$} | {:indent$}{}", "", "", "^".repeat(*width))?;
            }
            Place::Named(name) => write!(f, "{:margin$}--> {name}", "")?,
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:margin$} = {help}", "")?;
        }
        Ok(())
    }
}

/// A configuration that was refused, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}\n")?;
        }
        match self.problems.len() {
            1 => write!(f, "The configuration has 1 problem; nothing was started."),
            count => write!(f, "The configuration has {count} problems; nothing was started."),
        }
    }
}

impl std::error::Error for ConfigError {}
