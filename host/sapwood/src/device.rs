//! `--device`: what it may say, and what `auto` comes to on this machine. Not here: who computes there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use engine_cuda::nvidia::{self, Cache, Library};

/// What the command line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// The first GPU where there is one that can be used, else the processor.
    Auto,
    /// This machine's processor.
    Cpu,
    /// The NVIDIA GPU of that number.
    Cuda(u32),
}

/// Where it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This machine's processor.
    Cpu,
    /// The NVIDIA GPU of that number.
    Cuda(u32),
}

impl FromStr for DeviceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<DeviceName, &'static str> {
        match text {
            "auto" => Ok(DeviceName::Auto),
            "cpu" => Ok(DeviceName::Cpu),
            "cuda" => Ok(DeviceName::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(DeviceName::Cuda).ok_or("it is `auto`, `cpu`, `cuda` or `cuda:N`")
            }
        }
    }
}

/// A device in a list of them, where a number is that GPU's.
pub(crate) fn in_list(text: &str) -> Result<Place, &'static str> {
    let named = match text.parse() {
        Ok(ordinal) => Ok(DeviceName::Cuda(ordinal)),
        Err(_) => text.parse(),
    };
    match named {
        Ok(DeviceName::Cpu) => Ok(Place::Cpu),
        Ok(DeviceName::Cuda(ordinal)) => Ok(Place::Cuda(ordinal)),
        Ok(DeviceName::Auto) | Err(_) => Err("a list of a GPU's number, `cuda:N` or `cpu`"),
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Auto => f.write_str("auto"),
            DeviceName::Cpu => Place::Cpu.fmt(f),
            DeviceName::Cuda(ordinal) => Place::Cuda(*ordinal).fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu => f.write_str("cpu"),
            Place::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl DeviceName {
    /// What it comes to, and why where the machine has decided.
    pub(crate) fn resolve(self) -> (Place, Option<String>) {
        match self {
            DeviceName::Cpu => (Place::Cpu, None),
            DeviceName::Cuda(ordinal) => (Place::Cuda(ordinal), None),
            DeviceName::Auto => match why_not_cuda() {
                None => (Place::Cuda(0), Some("there is a GPU".into())),
                Some(reason) => (Place::Cpu, Some(reason)),
            },
        }
    }
}

/// How much memory that GPU has, where there is such a one.
pub(crate) fn memory_bytes(ordinal: u32) -> Option<u64> {
    let found = nvidia::devices().ok()?;
    Some(found.get(usize::try_from(ordinal).ok()?)?.memory_bytes as u64)
}

/// `None` where a GPU can be used.
fn why_not_cuda() -> Option<String> {
    let missing = Library::ALL.into_iter().find(|library| !library.is_there());
    match (missing, nvidia::devices()) {
        (Some(library), _) => Some(format!("{library} cannot be loaded")),
        (None, Err(reason)) => Some(reason),
        (None, Ok(found)) => found.is_empty().then(|| "the driver knows no GPU".into()),
    }
}

/// Where compiled kernels are kept: below `XDG_CACHE_HOME`, as its specification has it.
pub(crate) fn kernel_cache() -> Cache {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.map_or_else(Cache::default, |cache| Cache::at(cache.join("sapwood/kernels")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_in_four_ways() {
        let named = |text: &str| text.parse::<DeviceName>().ok();
        assert_eq!(named("auto"), Some(DeviceName::Auto));
        assert_eq!(named("cpu"), Some(DeviceName::Cpu));
        assert_eq!(named("cuda"), Some(DeviceName::Cuda(0)));
        assert_eq!(named("cuda:3"), Some(DeviceName::Cuda(3)));
        for wrong in ["", "tpu", "cuda:", "cuda:-1", "cuda3", "CPU"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn in_a_list_a_number_is_a_gpus() {
        assert_eq!(
            ["0", "cuda:3", "cpu", "cuda"].map(in_list),
            [Place::Cuda(0), Place::Cuda(3), Place::Cpu, Place::Cuda(0)].map(Ok)
        );
        for wrong in ["", "auto", "-1", "gpu0"] {
            assert!(in_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_auto_leaves_the_choice_to_the_machine() {
        assert_eq!(DeviceName::Cpu.resolve(), (Place::Cpu, None));
        assert_eq!(DeviceName::Cuda(1).resolve(), (Place::Cuda(1), None));
        let (place, reason) = DeviceName::Auto.resolve();
        assert!(reason.is_some(), "{place} was chosen without a reason");
    }
}
