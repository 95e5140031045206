//! Which names a command means: exact ones, or those that an expression matches.

use regex::Regex;
use varve_client::Admin;

use super::exit::CliError;
use super::topic::failed;

/// Which names are meant: exact ones, or those that an expression matches.
pub(crate) struct NameFilter {
    names: Vec<String>,
    expressions: Vec<Regex>,
}

impl NameFilter {
    /// Every name where `words` is empty.
    pub(crate) fn new(words: &[String], are_expressions: bool) -> Result<Self, CliError> {
        if !are_expressions {
            return Ok(Self { names: words.to_vec(), expressions: Vec::new() });
        }
        let expressions = words
            .iter()
            .map(|word| {
                Regex::new(&format!("^(?:{word})$"))
                    .map_err(|error| CliError::usage(format!("{word:?} is no expression: {error}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { names: Vec::new(), expressions })
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        let says_nothing = self.names.is_empty() && self.expressions.is_empty();
        says_nothing
            || self.names.iter().any(|known| known == name)
            || self.expressions.iter().any(|expression| expression.is_match(name))
    }
}

/// The topics that are meant; exact names are taken as they are.
pub(crate) async fn matching(
    admin: &Admin,
    words: &[String],
    are_expressions: bool,
) -> Result<Vec<String>, CliError> {
    if !are_expressions {
        return Ok(words.to_vec());
    }
    let filter = NameFilter::new(words, true)?;
    let topics = admin.list_topics().await.map_err(failed)?;
    let names: Vec<String> =
        topics.into_iter().map(|topic| topic.name).filter(|name| filter.takes(name)).collect();
    if names.is_empty() {
        return Err(CliError::failed(format!("no topic matches {}", words.join(", "))).help(
            "varve topic list shows what there is; an expression must match the whole name",
        ));
    }
    Ok(names)
}
