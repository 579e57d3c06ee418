//! Readers for the fixtures' arrays. They trust the files: a surprise in them should fail the test loudly.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::SafeTensors;

/// The values behind a `.npy` header of version 1.0 with that `descr`, such as `<u2`.
fn npy(path: &Path, descr: &str) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..end]);
    assert!(header.contains(&format!("'descr': '{descr}', 'fortran_order': False")), "{header}");
    bytes[end..].to_vec()
}

pub(crate) fn npy_u16(path: &Path) -> Vec<u16> {
    npy(path, "<u2").chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

pub(crate) fn npy_f32(path: &Path) -> Vec<f32> {
    floats(&npy(path, "<f4"))
}

/// Every tensor of the file by name.
pub(crate) fn safetensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("the fixture is a safetensors file");
    file.tensors().into_iter().map(|(name, tensor)| (name, floats(tensor.data()))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
