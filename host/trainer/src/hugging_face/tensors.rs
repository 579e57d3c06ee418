//! The tensors of a GPT-2 out of safetensors files: names with or without their prefix, sizes checked against the
//! model, half precision widened to f32. Linear weights are `[in, out]` there (Conv1D) as they are here.

use std::collections::HashMap;
use std::path::Path;

use engine::{LayerId, LayerIndex, ModelShape, TensorId, TensorSpec};
use plugin_host::bounded;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::shards::Shards;
use crate::TrainError;
use crate::storage::failing;
use crate::storage::tensor_file::LARGEST_FILE_BYTES;

/// Tensors by their whole names, `transformer.h.3.mlp.c_fc.weight`.
pub type Tensors = HashMap<String, Vec<f32>>;

const PREFIX: &str = "transformer.";
const HEAD: &str = "lm_head.weight";

/// Every name that a model of that shape has, with its size, in the order of the model.
pub(crate) fn names(shape: &ModelShape) -> Vec<(String, TensorSpec)> {
    let layers: Vec<LayerId> = (0..shape.layers as u64).map(LayerId).collect();
    let name = |tensor: TensorId| {
        let position = tensor.layer.map(|layer| LayerIndex(layer.0 as usize));
        tensor.hugging_face_name(position)
    };
    shape.tensors(&layers).into_iter().map(|(tensor, spec)| (name(tensor), spec)).collect()
}

/// Reads all tensors of a model.
///
/// # Errors
/// A file that is missing or damaged, and a tensor that is missing, foreign, twice there, of another size, or holds
/// what is no number.
pub(crate) fn read(shards: &Shards, shape: &ModelShape) -> Result<Tensors, TrainError> {
    check_claim(shards, shape)?;
    let wanted: HashMap<String, TensorSpec> = names(shape).into_iter().collect();
    let mut found = Tensors::new();
    for path in &shards.files {
        read_file(path, shards, &wanted, &mut found)?;
    }
    let last = shards.files.last().map_or_else(Default::default, Clone::clone);
    let lacks = |name: &str| unfit(&last, format!("lacks `{name}`"));
    if let Some(head) = found.remove(HEAD) {
        let table = found.get("transformer.wte.weight").ok_or_else(|| lacks("wte.weight"))?;
        if head.len() != table.len() || head.iter().zip(table).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(unfit(
                &last,
                format!("has a `{HEAD}` that is not `wte.weight`: only a tied head is implemented"),
            ));
        }
    }
    match names(shape).into_iter().find(|(name, _)| !found.contains_key(name)) {
        Some((name, _)) => Err(lacks(&name)),
        None => Ok(found),
    }
}

/// Refuses a config.json that claims more parameters than the files have bytes, before a list of their names is made: a
/// parameter takes two at the least.
fn check_claim(shards: &Shards, shape: &ModelShape) -> Result<(), TrainError> {
    let mut bytes = 0_u64;
    for path in &shards.files {
        bytes = bytes.saturating_add(std::fs::metadata(path).map_err(failing("read", path))?.len());
    }
    let parameters = shape.parameters(shape.layers);
    match shards.files.first() {
        Some(first) if parameters > bytes => {
            let reason = format!(
                "has {bytes} bytes with all that belong to it, but its config.json claims {parameters} parameters"
            );
            Err(unfit(first, reason))
        }
        _ => Ok(()),
    }
}

fn read_file(
    path: &Path,
    shards: &Shards,
    wanted: &HashMap<String, TensorSpec>,
    found: &mut Tensors,
) -> Result<(), TrainError> {
    let length = std::fs::metadata(path).map_err(failing("read", path))?.len();
    if length > LARGEST_FILE_BYTES {
        return Err(unfit(path, format!("has {length} bytes, more than any model here")));
    }
    let bytes = bounded::read(path, LARGEST_FILE_BYTES).map_err(failing("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| unfit(path, format!("is no safetensors file, or not all of one: {error}")))?;
    for (name, view) in file.iter() {
        let Some(whole) = whole_name(name) else { continue };
        let here = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if shards.places.get(name).is_some_and(|place| place != here) {
            return Err(unfit(path, format!("has `{name}`, which its index says is in another file")));
        }
        check(path, name, &whole, &view, wanted)?;
        if found.insert(whole, values(path, name, &view)?).is_some() {
            return Err(unfit(path, format!("has `{name}`, which was there already")));
        }
    }
    Ok(())
}

/// The name as it is used here; `None` for the causal mask, which old files carry as a buffer of each block.
fn whole_name(name: &str) -> Option<String> {
    let bare = name.strip_prefix(PREFIX).unwrap_or(name);
    if bare.ends_with(".attn.bias") || bare.ends_with(".attn.masked_bias") {
        return None;
    }
    Some(if bare == HEAD { HEAD.into() } else { format!("{PREFIX}{bare}") })
}

fn check(
    path: &Path,
    name: &str,
    whole: &str,
    view: &TensorView<'_>,
    wanted: &HashMap<String, TensorSpec>,
) -> Result<(), TrainError> {
    let place = if whole == HEAD { "transformer.wte.weight" } else { whole };
    let Some(spec) = wanted.get(place) else {
        return Err(unfit(path, format!("has `{name}`, which no GPT-2 of its config.json has")));
    };
    if view.shape() == spec.shape {
        return Ok(());
    }
    let (has, needs) = (view.shape(), &spec.shape);
    let turned = has.iter().rev().eq(needs.iter());
    let why =
        if turned { ": it is stored [out, in], GPT-2's linear maps are [in, out] (Conv1D)" } else { "" };
    Err(unfit(path, format!("has `{name}` as {has:?}, where its config.json needs {needs:?}{why}")))
}

fn values(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, TrainError> {
    let bytes = view.data();
    let half = |widen: fn(u16) -> f32| -> Vec<f32> {
        bytes.chunks_exact(2).map(|pair| widen(u16::from_le_bytes([pair[0], pair[1]]))).collect()
    };
    let values = match view.dtype() {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::BF16 => half(widen_bf16),
        Dtype::F16 => half(widen_f16),
        other => return Err(unfit(path, format!("has `{name}` as {other:?}; f32, bf16 or f16 is needed"))),
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(unfit(path, format!("has {} at element {at} of `{name}`", values[at]))),
        None => Ok(values),
    }
}

/// The upper half of an f32.
fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE 754's binary16: every value of it is an f32.
fn widen_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, (bits >> 10) & 31, u32::from(bits & 1023));
    let magnitude = match exponent {
        // Below the smallest normal number, in units of 2^-24.
        0 => fraction as f32 / 16_777_216.0,
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | fraction << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

fn unfit(path: &Path, reason: String) -> TrainError {
    let hint = "check it against the file that was published (its sha256), and download it again".into();
    TrainError::Unfit { path: path.to_path_buf(), reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_what_its_formula_says() {
        for bits in 0..=u16::MAX {
            let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction / 1024.0 * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
            };
            let expected = if sign == 1 { -magnitude } else { magnitude } as f32;
            let widened = widen_f16(bits);
            assert!(
                widened.to_bits() == expected.to_bits() || widened.is_nan() && expected.is_nan(),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn a_bf16_is_the_upper_half_of_an_f32() {
        assert_eq!(widen_bf16(0x3f80), 1.0);
        assert_eq!(widen_bf16(0xc049), -3.140_625);
        assert!(widen_bf16(0x7fc0).is_nan());
    }

    #[test]
    fn names_come_with_a_prefix_or_without_and_masks_do_not_come() {
        assert_eq!(whole_name("h.0.ln_1.bias").as_deref(), Some("transformer.h.0.ln_1.bias"));
        assert_eq!(whole_name("transformer.wte.weight").as_deref(), Some("transformer.wte.weight"));
        assert_eq!(whole_name("lm_head.weight").as_deref(), Some("lm_head.weight"));
        assert_eq!(whole_name("transformer.h.11.attn.bias"), None);
        assert_eq!(whole_name("h.0.attn.masked_bias"), None);
        assert_eq!(whole_name("h.0.attn.c_attn.bias").as_deref(), Some("transformer.h.0.attn.c_attn.bias"));
    }
}
