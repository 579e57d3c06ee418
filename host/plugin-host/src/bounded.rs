//! Files that are read whole, up to a size: one that is larger is refused before memory is asked for it, and one that has no
//! end, such as a device, when it has given that much.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// A plugin's library.
pub const LARGEST_LIBRARY_BYTES: u64 = 1 << 30;

/// What does not say how large it is: a pipe, a device.
const MOST_OF_NO_FILE_BYTES: u64 = 64 << 20;

/// A file's bytes.
///
/// # Errors
/// What the system says, or that the file is larger.
pub fn read(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let facts = file.metadata()?;
    let (length, most_bytes) = match facts.is_file() {
        true => (facts.len(), most_bytes),
        false => (0, most_bytes.min(MOST_OF_NO_FILE_BYTES)),
    };
    let mut bytes = Vec::new();
    if length <= most_bytes {
        file.take(most_bytes + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > most_bytes {
        let reason =
            format!("it has more than {most_bytes} bytes, which is the most that is read of such a file");
        return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// A file's text.
///
/// # Errors
/// As for [`read`], and text that is not UTF-8.
pub fn read_text(path: &Path, most_bytes: u64) -> io::Result<String> {
    String::from_utf8(read(path, most_bytes)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// How a text begins that is only to be shown; empty where there is none.
pub(crate) fn beginning(path: &Path, most_bytes: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most_bytes).read_to_end(&mut bytes));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("run.json");
        std::fs::write(&path, "12345").expect("room");
        assert_eq!(read_text(&path, 5).expect("five bytes are in"), "12345");
        let said = read(&path, 4).expect_err("five bytes are too many").to_string();
        assert_eq!(said, "it has more than 4 bytes, which is the most that is read of such a file");
    }

    #[test]
    fn a_size_that_is_only_claimed_takes_no_memory() {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("run.json");
        File::create(&path).and_then(|file| file.set_len(1 << 42)).expect("a file of nothing but holes");
        let refused = read(&path, 1 << 30).expect_err("4 TiB");
        assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_an_end_is_refused() {
        for most_bytes in [1000, 1 << 40] {
            let refused = read(Path::new("/dev/zero"), most_bytes).expect_err("no end");
            assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
        }
    }
}
