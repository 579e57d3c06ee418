//! Which files a folder's tensors stand in: one, or those of an index. An index is somebody else's: no name in it
//! may lead out of the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use plugin_host::bounded;
use serde::Deserialize;

use super::{INDEX_FILE, MODEL_FILE};
use crate::TrainError;
use crate::storage::failing;

/// Largest index that is read, 64 MiB: some hundred bytes a tensor, of half a million tensors.
const LARGEST_INDEX_BYTES: u64 = 64 << 20;

/// The files of a folder.
pub(crate) struct Shards {
    /// In order of their names.
    pub(crate) files: Vec<PathBuf>,
    /// Which file the index says that a tensor stands in; empty without an index.
    pub(crate) places: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Finds them.
///
/// # Errors
/// None of both there, or an index that cannot be followed.
pub(crate) fn find(folder: &Path) -> Result<Shards, TrainError> {
    let (single, index) = (folder.join(MODEL_FILE), folder.join(INDEX_FILE));
    if single.is_file() {
        return Ok(Shards { files: vec![single], places: BTreeMap::new() });
    }
    if !index.is_file() {
        return Err(TrainError::Unfit {
            path: folder.to_path_buf(),
            reason: format!("has neither {MODEL_FILE} nor {INDEX_FILE}"),
            hint: "name a folder that `save_pretrained` wrote; other formats, such as pytorch_model.bin, are not read".into(),
        });
    }
    let unfit = |reason: String| TrainError::Unfit {
        path: index.clone(),
        reason,
        hint: "download the index again, or join its files into model.safetensors".into(),
    };
    let bytes = fs::metadata(&index).map_err(failing("read", &index))?.len();
    if bytes > LARGEST_INDEX_BYTES {
        return Err(unfit(format!("has {bytes} bytes, too many for an index")));
    }
    let text = bounded::read(&index, LARGEST_INDEX_BYTES).map_err(failing("read", &index))?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|error| unfit(format!("is no index: {error}")))?;
    let names: BTreeSet<&String> = weight_map.values().collect();
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(unfit(format!("names the file `{}`, which is none of its folder", name.escape_debug())));
    }
    if names.is_empty() {
        return Err(unfit("names no file".into()));
    }
    let files = names.into_iter().map(|name| folder.join(name)).collect();
    Ok(Shards { files, places: weight_map })
}

/// Whether it names a safetensors file right in the folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    is_one && !name.contains(['/', '\\', ':', '\0']) && name.ends_with(".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_stays_in_its_folder() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        for name in [
            "../model.safetensors",
            "/etc/model.safetensors",
            "a/model.safetensors",
            "..",
            "",
            "c:model.safetensors",
            "..\\model.safetensors",
            "model.bin",
            "./model.safetensors",
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
