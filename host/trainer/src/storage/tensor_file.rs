//! Tensors in safetensors files, f32 in and out.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use engine::EngineError;
use plugin_host::bounded;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors};

use crate::TrainError;
use crate::storage::{failing, hash_of_file};

/// Largest tensor file that is read, 64 GiB: a length beyond it is a damaged disk, not a model.
pub(crate) const LARGEST_FILE_BYTES: u64 = 64 << 30;

/// Reads every f32 tensor of a file.
///
/// # Errors
/// A file that is missing, no safetensors file, or holds other than f32.
pub(crate) fn read_tensors(path: &Path) -> Result<HashMap<String, Vec<f32>>, TrainError> {
    let damaged = |reason: String| TrainError::Damaged { path: path.to_path_buf(), reason };
    let length = std::fs::metadata(path).map_err(failing("read", path))?.len();
    if length > LARGEST_FILE_BYTES {
        return Err(damaged(format!("has {length} bytes, more than any model here")));
    }
    let bytes = bounded::read(path, LARGEST_FILE_BYTES).map_err(failing("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| damaged(format!("is no safetensors file: {error}")))?;
    let tensors = file.iter().map(|(name, tensor)| {
        if tensor.dtype() != Dtype::F32 {
            return Err(damaged(format!("has `{name}` as {:?}; f32 is needed", tensor.dtype())));
        }
        let values = tensor.data().chunks_exact(4);
        let values =
            values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
        Ok((name.to_owned(), values))
    });
    tensors.collect()
}

/// A tensor that is read when its turn to be written comes, so that no second model is held in memory.
pub(crate) struct Pending<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) read: Box<dyn Fn() -> Result<Vec<f32>, EngineError> + 'a>,
}

/// Writes a file of these tensors to the disk, with what its header says of it; answers its hash.
///
/// # Errors
/// What the system or a tensor's reading says; the file is then of no use.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &[Pending<'_>],
    metadata: Option<HashMap<String, String>>,
) -> Result<String, TrainError> {
    let unread = RefCell::new(None);
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), Written { tensor, unread: &unread }));
    let written = safetensors::serialize_to_file(views, metadata, path);
    if let Some(error) = unread.into_inner() {
        return Err(TrainError::Engine(error));
    }
    match written {
        Err(SafeTensorError::IoError(error)) => return Err(failing("write", path)(error)),
        Err(error) => return Err(TrainError::Internal(error.to_string())),
        Ok(()) => {}
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(failing("write", path))?;
    hash_of_file(path)
}

struct Written<'a> {
    tensor: &'a Pending<'a>,
    /// The library asks for bytes, not for a result: what went wrong waits here.
    unread: &'a RefCell<Option<EngineError>>,
}

impl safetensors::View for Written<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = (self.tensor.read)().unwrap_or_else(|error| {
            self.unread.borrow_mut().get_or_insert(error);
            Vec::new()
        });
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.tensor.shape.iter().product::<usize>()
    }
}
