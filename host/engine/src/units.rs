//! Counts, indices and points in time, each a type of its own, so that a call cannot swap them.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// Number of optimizer steps, or the step with that number (counted from 0).
    Step(u64)
}
unit! {
    /// Number of training tokens (targets of the loss).
    Tokens(u64)
}
unit! {
    /// A block's identity: its birth ordinal within the run, never reused, independent of position.
    LayerId(u64)
}
unit! {
    /// A position in the stack of blocks, 0 = next to the embeddings.
    LayerIndex(usize)
}

impl Step {
    /// The step after this one.
    pub fn next(self) -> Step {
        Step(self.0 + 1)
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, more: Tokens) {
        self.0 += more.0;
    }
}

/// Exact number of floating-point operations; a fused multiply-add counts as two.
///
/// A `u64` would overflow at 1.8e19, which a 350M-parameter study reaches. In files: a JSON number
/// where it fits a `u64`, a decimal string above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flops(pub u128);

impl Flops {
    /// As a float, for ratios and plots; exact below 2^53.
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }
}

impl Add for Flops {
    type Output = Flops;
    fn add(self, other: Flops) -> Flops {
        Flops(self.0 + other.0)
    }
}

impl Sub for Flops {
    type Output = Flops;
    fn sub(self, other: Flops) -> Flops {
        Flops(self.0 - other.0)
    }
}

impl AddAssign for Flops {
    fn add_assign(&mut self, other: Flops) {
        self.0 += other.0;
    }
}

impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3e}", self.as_f64())
    }
}

impl Serialize for Flops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(small) => serializer.serialize_u64(small),
            Err(_) => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Flops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flops, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(small) => Ok(Flops(small.into())),
            Written::Text(text) => text.parse().map(Flops).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_survive_json_on_both_sides_of_u64() {
        for flops in [Flops(0), Flops(u64::MAX.into()), Flops(u128::from(u64::MAX) + 1)] {
            let text = serde_json::to_string(&flops).expect("a number or a string");
            assert_eq!(serde_json::from_str::<Flops>(&text).expect("what was written"), flops);
        }
    }
}
