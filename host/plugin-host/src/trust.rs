//! Whose files a library may come from: the user's own, or root's, where nobody else can put or change one.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sapwood_plugin::host::Refusal;

const WORLD_WRITABLE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Refuses a file that somebody else could have put there, or could change. One that is not there is none of this
/// question's.
///
/// # Errors
/// What is wrong with it or with a folder above it, and how to mend that.
pub(crate) fn check(path: &Path) -> Result<(), Refusal> {
    let Ok(real) = path.canonicalize() else { return Ok(()) };
    check_one(&real, "is", Folder::No)?;
    let named = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    // The folder that the name stands in, and, where that is a link, the one that it leads to.
    let mut folders = vec![named.parent()];
    if real.parent() != named.parent() {
        folders.push(real.parent());
    }
    folders.into_iter().flatten().try_for_each(check_folder)
}

/// The same of a folder that a file is to be put into.
///
/// # Errors
/// As for [`check`].
pub(crate) fn check_folder(folder: &Path) -> Result<(), Refusal> {
    check_one(folder, &format!("lies in {}, which is", folder.display()), Folder::OfTheFile)?;
    for above in folder.ancestors().skip(1) {
        check_one(above, &format!("lies below {}, which is", above.display()), Folder::Above)?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Folder {
    No,
    OfTheFile,
    /// There a sticky bit is enough: nobody can rename what is another's.
    Above,
}

fn check_one(path: &Path, what: &str, folder: Folder) -> Result<(), Refusal> {
    let Ok(facts) = path.metadata() else { return Ok(()) };
    let sticky = folder == Folder::Above && facts.mode() & STICKY != 0;
    if facts.mode() & WORLD_WRITABLE != 0 && !sticky {
        return Err(Refusal {
            reason: format!("{what} writable by everybody"),
            hint: format!("chmod o-w '{}', if you trust what is there", path.display()),
        });
    }
    if folder != Folder::Above && !is_ours(&facts) {
        return Err(Refusal {
            reason: format!("{what} owned by user {}, neither by you nor by root", facts.uid()),
            hint: "copy the library into a folder of your own, if you trust it".into(),
        });
    }
    Ok(())
}

fn is_ours(facts: &Metadata) -> bool {
    facts.uid() == 0 || facts.uid() == rustix::process::geteuid().as_raw()
}
