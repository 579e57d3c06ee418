//! Files that are there whole or not at all, for whoever may read what the user writes.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Has a file written under a temporary name beside it, synced, and renamed.
///
/// # Errors
/// What the system says, or `write`; what was there before stays.
pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files are their owner's alone; these are made to be handed on. The umask still takes its share.
    let open_to_all = Permissions::from_mode(0o666);
    let mut temporary = tempfile::Builder::new().permissions(open_to_all).tempfile_in(folder)?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("a.lock");
        write_whole(&path, |file| file.write_all(b"one")).expect("room");
        let failed = write_whole(&path, |file| {
            file.write_all(b"tw")?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(failed.expect_err("it failed").to_string(), "the disk is full");
        assert_eq!(fs::read(&path).expect("it is there"), b"one");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn others_may_read_what_an_ordinary_file_lets_them() {
        let folder = tempfile::tempdir().expect("room");
        let (path, ordinary) = (folder.path().join("mine.pack"), folder.path().join("ordinary"));
        write_whole(&path, |file| file.write_all(b"one")).expect("room");
        fs::write(&ordinary, "one").expect("room");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }
}
