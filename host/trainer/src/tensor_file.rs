//! Tensors in safetensors files, f32 in and out.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::TrainError;

/// Largest tensor file that is read, 64 GiB: a length beyond it is a damaged disk, not a model.
const LARGEST_FILE_BYTES: u64 = 64 << 30;

/// Reads every f32 tensor of a file.
///
/// # Errors
/// A file that is missing, no safetensors file, or holds other than f32.
pub(crate) fn read_tensors(path: &Path) -> Result<HashMap<String, Vec<f32>>, TrainError> {
    let storage = |source| TrainError::Storage { action: "read", path: path.to_path_buf(), source };
    let damaged = |reason: String| TrainError::Damaged { path: path.to_path_buf(), reason };
    let length = std::fs::metadata(path).map_err(storage)?.len();
    if length > LARGEST_FILE_BYTES {
        return Err(damaged(format!("has {length} bytes, more than any model here")));
    }
    let bytes = std::fs::read(path).map_err(storage)?;
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

/// The bytes of a file with these tensors: (name, shape, values).
///
/// # Errors
/// A name twice, or a shape that does not fit: ours.
pub(crate) fn tensor_file(tensors: &[(String, Vec<usize>, &[f32])]) -> Result<Vec<u8>, TrainError> {
    let internal = |error: safetensors::SafeTensorError| TrainError::Internal(error.to_string());
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(internal)?;
        Ok((name.as_str(), view))
    });
    let views: Vec<(&str, TensorView<'_>)> = views.collect::<Result<_, TrainError>>()?;
    safetensors::serialize(views, None).map_err(internal)
}
