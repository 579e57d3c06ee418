//! The C library that a shared library needs, by the version names in its string table: told before the dynamic
//! linker is asked. Not here: architecture and operating system, which the facts name.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use object::{Object, ObjectSection};
use sapwood_plugin::host::Refusal;
use serde::{Deserialize, Serialize};

use crate::bounded::{self, LARGEST_LIBRARY_BYTES};

/// A version of the GNU C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Glibc(pub u32, pub u32);

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The newest version that a library names: what one needs, or what the C library itself has.
pub(crate) fn newest_named(library: &[u8]) -> Option<Glibc> {
    let file = object::File::parse(library).ok()?;
    let names = file.section_by_name(".dynstr")?.data().ok()?;
    names.split(|&byte| byte == 0).filter_map(version).max()
}

/// `GLIBC_2.34`, and `GLIBC_2.2.5` as 2.2.
fn version(name: &[u8]) -> Option<Glibc> {
    let text = std::str::from_utf8(name.strip_prefix(b"GLIBC_")?).ok()?;
    let mut numbers = text.split('.').map(str::parse::<u32>);
    Some(Glibc(numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// This process's C library; `None` where it is another one.
pub(crate) fn here() -> Option<Glibc> {
    static HERE: OnceLock<Option<Glibc>> = OnceLock::new();
    *HERE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| {
            Path::new(path).file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc.so"))
        })?;
        newest_named(&bounded::read(Path::new(path), LARGEST_LIBRARY_BYTES).ok()?)
    })
}

/// Refuses a library that needs a newer C library than this process has.
///
/// # Errors
/// That, with both versions.
pub(crate) fn check(library: &[u8]) -> Result<(), Refusal> {
    match (newest_named(library), here()) {
        (Some(needed), Some(here)) if needed > here => Err(Refusal {
            reason: format!("needs glibc {needed}, and this machine has {here}"),
            hint: "get a library that was built on an older system, or build it on this one".into(),
        }),
        _ => Ok(()),
    }
}

/// The same of a file; one that cannot be read is none of this question's.
///
/// # Errors
/// As for [`check`].
pub(crate) fn check_file(path: &Path) -> Result<(), Refusal> {
    bounded::read(path, LARGEST_LIBRARY_BYTES).map_or(Ok(()), |library| check(&library))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_their_names_and_compared_as_numbers() {
        assert_eq!(version(b"GLIBC_2.34"), Some(Glibc(2, 34)));
        assert_eq!(version(b"GLIBC_2.2.5"), Some(Glibc(2, 2)));
        assert_eq!(version(b"GLIBC_PRIVATE"), None);
        assert_eq!(version(b"malloc"), None);
        assert!(Glibc(2, 4) < Glibc(2, 34));
    }
}
