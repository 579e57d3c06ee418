//! What every plugin has: a configuration and, between checkpoints, a state.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A type that can be made from a configuration.
pub trait Plugin: Sized {
    /// The table under `config =` in the study's file. Derive `Deserialize` with
    /// `deny_unknown_fields`, and `JsonSchema`: doc comments become the documentation that
    /// `sapwood plugin inspect` prints.
    type Config: DeserializeOwned + JsonSchema;

    /// [once, before anything else] Makes the plugin.
    ///
    /// # Errors
    /// A value that makes no sense; name the key with [`Error::in_field`].
    fn new(config: Self::Config) -> Result<Self>;
}

/// A plugin's state between two calls, as bytes with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Version of the layout, the plugin's own.
    pub version: u32,
    /// The state.
    pub bytes: Vec<u8>,
}

impl Saved {
    /// Serialises a state (as JSON).
    ///
    /// # Errors
    /// A state that JSON cannot hold, such as a map with keys that are no strings.
    pub fn new(version: u32, state: &impl Serialize) -> Result<Saved> {
        Ok(Saved { version, bytes: serde_json::to_vec(state)? })
    }

    /// Reads back what [`new`](Saved::new) wrote.
    ///
    /// # Errors
    /// Another version, or bytes that do not fit.
    pub fn read<T: DeserializeOwned>(&self, version: u32) -> Result<T> {
        if self.version != version {
            let newer = self.version;
            return Err(Error::new(format!(
                "the saved state has version {newer}, this plugin reads {version}"
            )));
        }
        Ok(serde_json::from_slice(&self.bytes)?)
    }
}

/// The `save` and `restore` of a plugin that keeps no state between calls but its configuration and what
/// it learned in `plan` or `start`.
#[macro_export]
macro_rules! stateless {
    () => {
        fn save(&self) -> $crate::Result<$crate::Saved> {
            $crate::Saved::new(0, &())
        }

        fn restore(&mut self, saved: &$crate::Saved) -> $crate::Result<()> {
            saved.read::<()>(0)
        }
    };
}
