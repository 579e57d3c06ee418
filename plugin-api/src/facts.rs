//! What a library says about itself in its link section `.sapwood`, readable without running any of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A plugin's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Decides.
    Strategy,
    /// Fills in new blocks.
    Initializer,
    /// Watches.
    Reporter,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Strategy, Kind::Initializer, Kind::Reporter];

    /// The number that crosses.
    pub const fn number(self) -> u32 {
        match self {
            Kind::Strategy => 1,
            Kind::Initializer => 2,
            Kind::Reporter => 3,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Strategy => "strategy",
            Kind::Initializer => "initializer",
            Kind::Reporter => "reporter",
        })
    }
}

/// A library's facts, as its link section holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryFacts {
    /// Version of this format.
    pub format: u32,
    /// Epoch of the root; another epoch cannot be loaded at all.
    pub abi_epoch: u32,
    /// Version of `sapwood-plugin` that it was built against.
    pub sdk: String,
    /// The compiler.
    pub rustc: String,
    /// The target.
    pub target: String,
    /// `unwind` or `abort`; a host refuses `abort`, since it could not catch a panic.
    pub panic: String,
    /// The interfaces that it offers.
    pub interfaces: Vec<InterfaceFacts>,
    /// Its plugins.
    pub plugins: Vec<Descriptor>,
}

/// One revision of one kind's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFacts {
    /// The kind.
    pub kind: Kind,
    /// The revision.
    pub revision: u32,
    /// Hash of the layout of everything that crosses, 16 hexadecimal digits.
    pub layout: String,
}

/// One plugin of a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The kind.
    pub kind: Kind,
    /// `author/name`.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// SPDX expression.
    pub license: String,
    /// Where it comes from.
    pub homepage: String,
}
