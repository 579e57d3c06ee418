//! The one error type of a plugin: a sentence, and where it came from.

use std::fmt;

/// What plugin methods return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a plugin cannot go on: a sentence for the user of the plugin.
///
/// Every error of the standard library and of other crates turns into one by `?`. Deliberately not a
/// [`std::error::Error`] itself, since that would forbid the conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    field: Option<String>,
    panicked: Option<Panicked>,
}

/// Where a plugin panicked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panicked {
    /// `file:line:column`, empty where not known.
    pub place: String,
}

impl Error {
    /// An error with that text: lowercase, no full stop, saying what is wrong.
    pub fn new(message: impl fmt::Display) -> Error {
        Error { message: message.to_string(), field: None, panicked: None }
    }

    /// Names the key of the plugin's configuration that is at fault (`stages`, `phases[2].steps`), so
    /// that the host can point at its line.
    pub fn in_field(self, field: impl Into<String>) -> Error {
        Error { field: Some(field.into()), ..self }
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The configuration's key at fault, if one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Where the plugin panicked, if it did.
    pub fn panicked(&self) -> Option<&Panicked> {
        self.panicked.as_ref()
    }

    pub(crate) fn panic(message: String, place: String) -> Error {
        Error { message, field: None, panicked: Some(Panicked { place }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panicked {
            Some(at) if at.place.is_empty() => write!(f, "panicked: {}", self.message),
            Some(at) => write!(f, "panicked at {}: {}", at.place, self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        Error::new(error)
    }
}
