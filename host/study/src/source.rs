//! The text of a study's file: read, overridden key by key, and, when something is wrong with a key, the
//! line that it stands on.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use plugin_host::bounded;
use serde::de::DeserializeOwned;
use toml::{Table, Value};
use trainer::ConfigError;

/// A study is written by hand, or by a script that writes many arms.
const LARGEST_BYTES: u64 = 4 << 20;

/// A file's text and the keys that the command line overrode.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    table: Table,
    overrides: Vec<String>,
}

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    line: Option<usize>,
    overridden: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.overridden, self.line) {
            (Some(key), _) => write!(f, "--set {key}"),
            (None, Some(line)) => write!(f, "{}:{line}", self.path.display()),
            (None, None) => write!(f, "{}", self.path.display()),
        }
    }
}

/// Something wrong with a study's file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What to do.
    pub hint: String,
}

impl Source {
    /// Reads a file and sets keys of it: `key.below=value`, the value as TOML has it, or a bare word.
    ///
    /// # Errors
    /// A file that cannot be read or is no TOML, or an override that makes no sense.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Source, SourceError> {
        let text = bounded::read_text(path, LARGEST_BYTES).map_err(|error| SourceError {
            message: format!("cannot read {}: {error}", path.display()),
            place: Place { path: path.to_path_buf(), line: None, overridden: None },
            hint: "check the path; configs/ holds examples".into(),
        })?;
        Source::of_text(path, text, overrides)
    }

    /// The same of a text that is at hand; errors and relative paths go by `path`.
    ///
    /// # Errors
    /// As for [`read`](Source::read).
    pub fn of_text(path: &Path, text: String, overrides: &[String]) -> Result<Source, SourceError> {
        let at = |line| Place { path: path.to_path_buf(), line, overridden: None };
        let table = text.parse::<Table>().map_err(|error| SourceError {
            message: error.message().trim().to_owned(),
            place: at(error.span().map(|span| line_of(&text, span.start))),
            hint: "this is not TOML; https://toml.io shows how it is written".into(),
        })?;
        let mut source = Source { path: path.to_path_buf(), text, table, overrides: Vec::new() };
        for assignment in overrides {
            source.set(assignment)?;
        }
        Ok(source)
    }

    /// The folder that relative paths start from.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// The file as read, for a frozen copy.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole file with its overrides as a value.
    ///
    /// # Errors
    /// The first key that is unknown, missing or of the wrong type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, SourceError> {
        let value = Value::Table(self.table.clone());
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().message().trim().to_owned();
            self.explained(&path, &message)
        })
    }

    /// Puts a place to an error that names a key.
    pub fn locate(&self, error: ConfigError) -> SourceError {
        let ConfigError { key, message, hint } = error;
        SourceError { place: self.place(&key), message, hint }
    }

    /// Sets one key before the file is read as a value.
    ///
    /// # Errors
    /// An assignment that makes no sense.
    pub fn set(&mut self, assignment: &str) -> Result<(), SourceError> {
        let wrong = |message: String| SourceError {
            message,
            place: Place { path: self.path.clone(), line: None, overridden: Some(assignment.to_owned()) },
            hint: "write --set key=value, such as --set schedule.rate=1e-3".into(),
        };
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(wrong(format!("`{assignment}` sets nothing")));
        };
        let value =
            format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        let mut parts: Vec<&str> = key.trim().split('.').collect();
        let last = parts.pop().unwrap_or_default();
        if last.is_empty() || parts.iter().any(|part| part.is_empty()) {
            return Err(wrong(format!("`{key}` is no key")));
        }
        let mut table = &mut self.table;
        for part in parts {
            let below = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(below) = below else {
                return Err(wrong(format!("`{part}` in `{key}` is a value, not a table")));
            };
            table = below;
        }
        table.insert(last.to_owned(), value);
        self.overrides.push(key.trim().to_owned());
        Ok(())
    }

    /// Puts a value into the file, as if it stood there.
    pub fn put(&mut self, key: &str, value: Value) {
        self.table.insert(key.to_owned(), value);
    }

    /// Puts a value into a table of the file, as if it stood there.
    pub fn put_below(&mut self, table: &str, key: &str, value: Value) {
        let below = self.table.entry(table).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(below) = below {
            below.insert(key.to_owned(), value);
        }
    }

    /// A serde error in the words of a user: the nearest key for one that is unknown.
    fn explained(&self, path: &str, message: &str) -> SourceError {
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        if message.starts_with("unknown field") || message.starts_with("unknown variant") {
            let (wrong, known) =
                (quoted.first().copied().unwrap_or_default(), quoted.get(1..).unwrap_or_default());
            let is_field = message.starts_with("unknown field");
            let key = if is_field && !path.ends_with(wrong) { joined(path, wrong) } else { path.to_owned() };
            let what = if is_field { "key" } else { "value" };
            let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, wrong));
            let all = known.join(", ");
            let hint = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? known here: {all}"),
                None => "no key is known here".into(),
            };
            let shown = if is_field { key.clone() } else { wrong.to_owned() };
            let place = self.place(&key);
            return SourceError { message: format!("unknown {what} `{shown}`"), place, hint };
        }
        if message.starts_with("missing field") {
            let missing = joined(path, quoted.first().copied().unwrap_or_default());
            let hint = "add it; no number that a result depends on has a default".into();
            return SourceError { message: format!("`{missing}` is missing"), place: self.place(path), hint };
        }
        let message = if path == "." { message.to_owned() } else { format!("`{path}`: {message}") };
        let hint = match message.contains("invalid type") || message.contains("invalid value") {
            true => "give a value of that kind",
            false => "compare with the studies in configs/",
        };
        SourceError { message, place: self.place(path), hint: hint.into() }
    }

    fn place(&self, key: &str) -> Place {
        let overridden = self.overrides.iter().find(|set| *set == key || key.starts_with(&format!("{set}.")));
        let line = self.span_of(key).map(|span| line_of(&self.text, span.start));
        Place { path: self.path.clone(), line, overridden: overridden.cloned() }
    }

    /// The place of a key, or of the nearest table above it that stands in the file.
    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let document = toml_edit::Document::parse(self.text.as_str()).ok()?;
        let mut table: &dyn toml_edit::TableLike = document.as_table();
        let mut span = None;
        for part in key.split('.') {
            let (name, index) = match part.split_once('[') {
                Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
                None => (part, None),
            };
            let Some((found, item)) = table.get_key_value(name) else { break };
            span = found.span().or_else(|| item.span()).or(span);
            let below = match index {
                Some(index) => item.as_array_of_tables().and_then(|tables| tables.get(index)).map(|table| {
                    span = table.span().or(span.clone());
                    table as &dyn toml_edit::TableLike
                }),
                None => item.as_table_like(),
            };
            let Some(below) = below else { break };
            table = below;
        }
        span
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() || path == "." { key.to_owned() } else { format!("{path}.{key}") }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}
