//! Reads the layers: defaults, files, environment, `--set`, flags; later ones win.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::problem::{ConfigError, Place, Problem};
use super::schema::{BrokerConfig, Section, SetError};
use super::value::Raw;
use super::{foreign, nearest};

/// The file that every broker of a machine reads first, where it exists.
const SYSTEM_FILE: &str = "/etc/varve/varve.toml";

/// Environment variables that begin with `VARVE_` and are no configuration keys.
const ENV_ALLOWED: [&str; 8] = [
    "VARVE_BROKERS",
    "VARVE_PROFILE",
    "VARVE_LOG",
    "VARVE_CONFIG",
    "VARVE_HOME",
    "VARVE_BIN",
    "VARVE_REVISION",
    "VARVE_SEED",
];

/// What the tests' own variables begin with: a broker may run in the shell where they are set.
const ENV_OF_TESTS: &str = "VARVE_TEST_";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file, with the line.
    File {
        /// The file's path.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// `--set`.
    Set,
    /// A flag of the command.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Set => write!(f, "--set"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// A configuration together with where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: BrokerConfig,
    /// The origin of every key that somebody set.
    pub origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// The effective configuration as a TOML file; with `origins`, each value's source behind it.
    #[must_use]
    pub fn dump(&self, origins: bool) -> String {
        let mut out = String::new();
        for (key, value) in self.config.values() {
            out.push_str(&key);
            out.push_str(" = ");
            out.push_str(&value);
            if origins {
                let origin = self.origins.get(&key).unwrap_or(&Origin::Default);
                out.push_str(&format!("  # {origin}"));
            }
            out.push('\n');
        }
        out
    }
}

/// What the configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
    env: Vec<(String, String)>,
    sets: Vec<String>,
    flags: Vec<(String, String, String)>,
    problems: Vec<Problem>,
}

/// Gathers [`Sources`] from the machine.
#[derive(Clone, Debug, Default)]
pub struct SourcesBuilder {
    sources: Sources,
}

impl SourcesBuilder {
    /// Adds `/etc/varve/varve.toml` where it exists.
    #[must_use]
    pub fn system_file(mut self) -> Self {
        if Path::new(SYSTEM_FILE).exists() {
            self = self.one_file(Path::new(SYSTEM_FILE));
        }
        self
    }

    /// Adds `path`, and the `*.toml` of `conf.d` beside it in the order of their names.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        self = self.one_file(path);
        let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
        let Ok(entries) = std::fs::read_dir(&directory) else { return self };
        let mut parts: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        parts.sort();
        parts.iter().fold(self, |builder, part| builder.one_file(part))
    }

    fn one_file(mut self, path: &Path) -> Self {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.sources.files.push((name, text)),
            Err(error) => self.sources.problems.push(Problem {
                code: "VV0106",
                message: format!("the configuration file cannot be read: {error}"),
                place: Place::Named(name),
                help: Some("give the path of a readable file with -c".to_owned()),
            }),
        }
        self
    }

    /// Adds a file's text, as if it had been read from `name`.
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.sources.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Adds environment variables; those that do not begin with `VARVE_` are passed over.
    #[must_use]
    pub fn env(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.sources
            .env
            .extend(variables.into_iter().filter(|(name, _)| name.starts_with("VARVE_")));
        self.sources.env.sort();
        self
    }

    /// Adds the arguments of `--set`.
    #[must_use]
    pub fn sets(mut self, sets: impl IntoIterator<Item = String>) -> Self {
        self.sources.sets.extend(sets);
        self
    }

    /// Adds what a flag of the command stands for.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: impl fmt::Display) -> Self {
        self.sources.flags.push((flag.to_owned(), key.to_owned(), value.to_string()));
        self
    }

    /// The gathered sources.
    #[must_use]
    pub fn build(self) -> Sources {
        self.sources
    }
}

impl Sources {
    /// Starts with nothing but the defaults.
    #[must_use]
    pub fn builder() -> SourcesBuilder {
        SourcesBuilder::default()
    }

    /// Reads every layer.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of every layer, in the order in which they were read.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let mut loader = Loader::new(self.problems);
        for (file, text) in &self.files {
            loader.file(file, text);
        }
        for (name, value) in &self.env {
            loader.env(name, value);
        }
        for set in &self.sets {
            loader.set_argument(set);
        }
        for (flag, key, value) in &self.flags {
            let place = Place::Named(flag.clone());
            loader.assign(
                key,
                &Raw::Word(value.clone()),
                Origin::Flag(flag.clone()),
                (place.clone(), place),
            );
        }
        loader.finish()
    }
}

struct Loader {
    config: BrokerConfig,
    origins: BTreeMap<String, Origin>,
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
    names: Vec<String>,
}

impl Loader {
    fn new(problems: Vec<Problem>) -> Self {
        Self {
            config: BrokerConfig::default(),
            origins: BTreeMap::new(),
            places: BTreeMap::new(),
            problems,
            names: BrokerConfig::keys().into_iter().map(|key| key.name).collect(),
        }
    }

    fn file(&mut self, file: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.problems.push(Problem {
                code: "VV0101",
                message: format!("this is not TOML: {}", error.message()),
                place: Place::in_source(file, text, &span),
                help: None,
            });
        }
        let mut found = Vec::new();
        flatten("", table.get_ref(), &mut found);
        // The table is ordered by name; people expect their file's order.
        found.sort_by_key(|assignment| assignment.key_span.start);
        for Found { key, raw, key_span, value_span } in found {
            let key_place = Place::in_source(file, text, &key_span);
            let value_place = Place::in_source(file, text, &value_span);
            let line = match &key_place {
                Place::Line { line, .. } => *line,
                Place::Named(_) => 0,
            };
            let origin = Origin::File { file: file.to_owned(), line };
            self.assign(&key, &raw, origin, (key_place, value_place));
        }
    }

    fn env(&mut self, name: &str, value: &str) {
        if ENV_ALLOWED.contains(&name) || name.starts_with(ENV_OF_TESTS) {
            return;
        }
        let place = Place::Named(format!("environment variable {name}"));
        let stem = name.trim_start_matches("VARVE_");
        let key = |stem: &str| stem.to_ascii_lowercase().replace("__", ".");
        let by_file = stem.strip_suffix("_FILE").filter(|_| !self.names.contains(&key(stem)));
        let (key, value) = match by_file {
            Some(stem) => match std::fs::read_to_string(value) {
                Ok(text) => (key(stem), text.trim_end().to_owned()),
                Err(error) => {
                    self.problems.push(Problem {
                        code: "VV0106",
                        message: format!("the file {value:?} cannot be read: {error}"),
                        place,
                        help: None,
                    });
                    return;
                }
            },
            None => (key(stem), value.to_owned()),
        };
        let origin = Origin::Env(name.to_owned());
        self.assign(&key, &Raw::Word(value), origin, (place.clone(), place));
    }

    fn set_argument(&mut self, set: &str) {
        let place = Place::Named(format!("--set {set}"));
        match set.split_once('=') {
            Some((key, value)) => {
                let value = value.trim().trim_matches('"').to_owned();
                self.assign(key.trim(), &Raw::Word(value), Origin::Set, (place.clone(), place));
            }
            None => self.problems.push(Problem {
                code: "VV0101",
                message: "this is not of the form key=value".to_owned(),
                place,
                help: Some("for example --set listeners.kafka.bind=127.0.0.1:9093".to_owned()),
            }),
        }
    }

    fn assign(
        &mut self,
        key: &str,
        raw: &Raw,
        origin: Origin,
        (key_place, value_place): (Place, Place),
    ) {
        let path: Vec<&str> = key.split('.').collect();
        match self.config.set(&path, raw) {
            Ok(()) => {
                self.origins.insert(key.to_owned(), origin);
                self.places.insert(key.to_owned(), value_place);
            }
            Err(SetError::Unknown) => {
                let problem = self.unknown(key, raw, key_place);
                self.problems.push(problem);
            }
            Err(SetError::IsSection) => self.problems.push(Problem {
                code: "VV0103",
                message: format!("`{key}` is a section, not a key"),
                place: key_place,
                help: Some(format!("its keys are {}", self.keys_below(key).join(", "))),
            }),
            Err(SetError::Expected(expected)) => self.problems.push(Problem {
                code: "VV0103",
                message: format!("`{key}` wants {expected}, and found {raw}"),
                place: value_place,
                help: None,
            }),
        }
    }

    fn unknown(&self, key: &str, raw: &Raw, place: Place) -> Problem {
        let value = match raw {
            Raw::Text(text) | Raw::Word(text) => text.clone(),
            other => other.to_string(),
        };
        if let Some(advice) = foreign::advice(key, &value) {
            let message = format!("`{key}` is no key of a node's configuration");
            return Problem { code: "VV0104", message, place, help: Some(advice) };
        }
        let candidates = self.names.iter().map(String::as_str).chain(foreign::topic_keys());
        let help = match nearest(key, candidates) {
            Some(near) if self.names.iter().any(|name| name == near) => {
                format!("did you mean `{near}`?")
            }
            Some(near) => format!(
                "did you mean `{near}`? it is a setting of a topic: varve topic alter-config TOPIC \
                 --set {near}={value}"
            ),
            None => "varve broker --dump-config prints every key".to_owned(),
        };
        Problem { code: "VV0102", message: format!("unknown key `{key}`"), place, help: Some(help) }
    }

    fn keys_below(&self, section: &str) -> Vec<&str> {
        let prefix = format!("{section}.");
        self.names.iter().map(String::as_str).filter(|name| name.starts_with(&prefix)).collect()
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        for (key, message) in self.config.contradictions() {
            let place = self
                .places
                .get(key)
                .cloned()
                .unwrap_or_else(|| Place::Named(format!("the default of {key}")));
            self.problems.push(Problem {
                code: "VV0105",
                message: format!("`{key}` {message}"),
                place,
                help: None,
            });
        }
        if self.problems.is_empty() {
            Ok(Loaded { config: self.config, origins: self.origins })
        } else {
            Err(ConfigError { problems: self.problems })
        }
    }
}

struct Found {
    key: String,
    raw: Raw,
    key_span: Range<usize>,
    value_span: Range<usize>,
}

fn flatten(prefix: &str, table: &DeTable<'_>, out: &mut Vec<Found>) {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(&format!("{key}."), inner, out),
            // An empty section header says nothing, and is no mistake unless its name is.
            DeValue::Table(_) if is_section(&key) => {}
            other => out.push(Found {
                key,
                raw: raw_of(other),
                key_span: name.span(),
                value_span: value.span(),
            }),
        }
    }
}

fn is_section(key: &str) -> bool {
    let prefix = format!("{key}.");
    BrokerConfig::keys().iter().any(|info| info.name.starts_with(&prefix))
}

fn raw_of(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix())
                .map_or_else(|_| Raw::Other(number.to_string()), Raw::Integer)
        }
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Raw::Other(number.to_string()), Raw::Float)
        }
        DeValue::Boolean(flag) => Raw::Boolean(*flag),
        DeValue::Array(items) => {
            Raw::Array(items.iter().map(|item| raw_of(item.get_ref())).collect())
        }
        DeValue::Datetime(date) => Raw::Other(date.to_string()),
        DeValue::Table(_) => Raw::Other("a table".to_owned()),
    }
}
