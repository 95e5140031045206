//! How a command ends: exit codes, and errors that say what to do.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it was tried and failed, wholly or in part |
//! | 2 | the arguments are wrong; nothing was tried |
//! | 3 | no broker could be reached |
//! | 10 | what was examined is not healthy or not whole |
//! | 78 | the configuration is wrong; nothing was started |
//! | 130 | ended by Ctrl-C before it was done |

use std::fmt;

pub(crate) const EXIT_FAILED: u8 = 1;
pub(crate) const EXIT_USAGE: u8 = 2;
pub(crate) const EXIT_UNREACHABLE: u8 = 3;
pub(crate) const EXIT_UNHEALTHY: u8 = 10;

/// Why a command ended otherwise than well.
#[derive(Debug)]
pub(crate) struct CliError {
    /// The exit code.
    pub(crate) code: u8,
    /// What went wrong, and where; empty where it was told already.
    message: String,
    /// What to do.
    help: Option<String>,
}

impl CliError {
    /// It was tried and failed.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self { code: EXIT_FAILED, message: message.to_string(), help: None }
    }

    /// The arguments are wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { code: EXIT_USAGE, ..Self::failed(message) }
    }

    /// No broker answered.
    pub(crate) fn unreachable(message: impl fmt::Display) -> Self {
        Self { code: EXIT_UNREACHABLE, ..Self::failed(message) }
    }

    /// Something else than an error message was printed that says why.
    pub(crate) fn told(code: u8) -> Self {
        Self { code, message: String::new(), help: None }
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// Prints it to standard error.
    pub(crate) fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        let style = super::output::Style::of_stderr();
        eprintln!("{} {}", style.bad("error:"), self.message);
        if let Some(help) = &self.help {
            eprintln!("  {} {help}", style.dim("do:"));
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}
