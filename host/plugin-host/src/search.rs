//! Where plugins are looked for. Never in the working directory by accident.

use std::path::{Path, PathBuf};

/// Folders, first come, first served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath(pub Vec<PathBuf>);

impl SearchPath {
    /// Named folders first, then those of `SAPWOOD_PLUGIN_PATH`, the user's data folder, `plugins` beside
    /// the binary, and the binary's own folder (where cargo puts what it builds).
    pub fn standard(named: &[PathBuf]) -> SearchPath {
        let mut folders = named.to_vec();
        if let Some(path) = std::env::var_os("SAPWOOD_PLUGIN_PATH") {
            folders.extend(std::env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty()));
        }
        folders.extend(SearchPath::user_folder());
        let binary = std::env::current_exe().ok();
        if let Some(folder) = binary.as_deref().and_then(Path::parent) {
            folders.extend([folder.join("plugins"), folder.to_path_buf()]);
        }
        SearchPath(folders)
    }

    /// Why the plugins beside the binary are not looked for, where they are not: the system does not say where it lies.
    pub fn own_folder_unknown() -> Option<String> {
        let error = std::env::current_exe().err()?;
        Some(format!(
            "not in this program's own folder, which is not known ({error}): name it with `--plugin-path`"
        ))
    }

    /// The folder of the user's own plugins, whether it is there or not; `None` where nothing says whose.
    pub fn user_folder() -> Option<PathBuf> {
        user_data_folder().map(|data| data.join("sapwood/plugins"))
    }

    /// The shared libraries of each folder that exists, in name order.
    pub(crate) fn libraries(&self) -> impl Iterator<Item = Vec<PathBuf>> + '_ {
        self.0.iter().map(|folder| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries
                .map(|entry| entry.path())
                .filter(|path| {
                    path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION)
                })
                .collect();
            files.sort();
            files
        })
    }
}

/// As the XDG base directory specification has it.
pub(crate) fn user_data_folder() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")))
}
