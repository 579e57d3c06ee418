//! Whether a place is one that only the user and the system's administrator can change: a library that somebody
//! else could swap is not loaded. Not here: what is in the library.

use std::path::Path;

use sapwood_plugin::host::Refusal;

/// Refuses a file that others than the user and root can change, by itself or through its folder.
///
/// # Errors
/// What is wrong, and how to mend it. A file that cannot be looked at is not refused here.
#[cfg(unix)]
pub(crate) fn check_place(path: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::MetadataExt;

    let check = |place: &Path, what: &str| {
        let Ok(found) = std::fs::metadata(place) else { return Ok(()) };
        check_owner_and_mode(place, what, found.uid(), found.mode())
    };
    // A link leads to a file in another folder: that is the one that counts.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    check(&path, "can be changed by everybody")?;
    path.parent().map_or(Ok(()), |folder| check(folder, "lies in a folder that everybody can write to"))
}

/// Other systems have other means; none is looked at.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn check_place(_: &Path) -> Result<(), Refusal> {
    Ok(())
}

#[cfg(unix)]
fn check_owner_and_mode(place: &Path, what: &str, owner: u32, mode: u32) -> Result<(), Refusal> {
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    let user = rustix::process::geteuid().as_raw();
    if mode & WRITABLE_BY_OTHERS != 0 {
        let hint = format!("run `chmod o-w {}`, or move the plugin elsewhere", place.display());
        return Err(Refusal { reason: what.into(), hint });
    }
    if owner != user && owner != 0 {
        let reason = format!("is under the control of another user (uid {owner} owns {})", place.display());
        let hint = format!("make it yours (`chown {user}`), or copy the plugin to a folder of yours");
        return Err(Refusal { reason, hint });
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_and_root_may_be_able_to_change_a_library() {
        let user = rustix::process::geteuid().as_raw();
        let refusal = |owner, mode| {
            let checked =
                check_owner_and_mode(Path::new("/x/lib.so"), "can be changed by everybody", owner, mode);
            checked.map_err(|refusal| refusal.reason)
        };
        assert_eq!(refusal(user, 0o100_755), Ok(()));
        assert_eq!(refusal(0, 0o100_775), Ok(()), "a group is chosen by its owner");
        assert_eq!(refusal(user, 0o100_777), Err("can be changed by everybody".into()));
        let other = user + 1;
        let expected = format!("is under the control of another user (uid {other} owns /x/lib.so)");
        assert_eq!(refusal(other, 0o100_755), Err(expected));
    }
}
