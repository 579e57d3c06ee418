//! Tensors in memory that host and child share: each is written once by whoever has it, and never copied on the
//! child's side.
//!
//! The host never maps the memory: it writes and reads it like a file, so that a child that tampers with it can
//! spoil numbers (which the host checks) and nothing else. The child maps it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, memfd_create};
use sapwood_plugin::{BlockView, InitContext, Result, Role, TensorMut, TensorView};

use super::message::{Init, Tensor};

/// Bytes of an element.
const ELEMENT: usize = size_of::<f32>();

/// The host's end.
pub(super) struct SharedTensors {
    file: File,
}

impl SharedTensors {
    pub(super) fn new() -> io::Result<SharedTensors> {
        let file = memfd_create("sapwood-tensors", MemfdFlags::CLOEXEC)?;
        Ok(SharedTensors { file: File::from(file) })
    }

    /// Lays out the tensors of a call, and writes those that are to be read.
    pub(super) fn lay_out(&self, context: &InitContext<'_>, target: &[TensorMut<'_>]) -> Result<Init> {
        let mut layout = Layout { file: &self.file, elements: 0 };
        let target = target.iter().map(|tensor| layout.reserve(tensor)).collect();
        let existing = context.existing.iter().map(|block| {
            let tensors = block.tensors.iter().map(|tensor| layout.write(tensor));
            Ok((block.id.0, tensors.collect::<Result<Vec<Tensor>>>()?))
        });
        let existing = existing.collect::<Result<Vec<_>>>()?;
        let original = context.original.iter().map(|tensor| layout.write(tensor)).collect::<Result<_>>()?;
        let elements = layout.elements;
        self.file.set_len((elements * ELEMENT) as u64)?;
        Ok(Init {
            layer: context.layer.0,
            position: context.position,
            depth_before: context.depth_before,
            depth_after: context.depth_after,
            final_depth: context.final_depth,
            init_std: context.init_std,
            key: context.key.0,
            source: context.source.map(|layer| layer.0),
            memory: self.path(),
            elements,
            target,
            existing,
            original,
        })
    }

    /// Reads what the child has filled in.
    pub(super) fn read_back(&self, init: &Init, target: &mut [TensorMut<'_>]) -> Result<()> {
        for (place, tensor) in init.target.iter().zip(target) {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(tensor.values);
            self.file.read_exact_at(bytes, (place.at * ELEMENT) as u64)?;
        }
        Ok(())
    }

    /// The descriptor is not inherited, so that no other child has it; the one that is told finds it here.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

struct Layout<'a> {
    file: &'a File,
    elements: usize,
}

impl Layout<'_> {
    fn reserve(&mut self, tensor: &TensorMut<'_>) -> Tensor {
        self.place(tensor.class, tensor.role, tensor.shape, tensor.values.len())
    }

    fn write(&mut self, tensor: &TensorView<'_>) -> Result<Tensor> {
        let placed = self.place(tensor.class, tensor.role, tensor.shape, tensor.values.len());
        self.file.write_all_at(bytemuck::cast_slice(tensor.values), (placed.at * ELEMENT) as u64)?;
        Ok(placed)
    }

    fn place(&mut self, class: &str, role: Role, shape: &[u64], len: usize) -> Tensor {
        let at = self.elements;
        self.elements += len;
        Tensor { class: class.into(), role: role.0, shape: shape.to_vec(), at, len }
    }
}

/// The child's end: maps the memory for one call.
pub(super) fn map(path: &Path, elements: usize) -> io::Result<MmapMut> {
    let file = File::options().read(true).write(true).open(path)?;
    // SAFETY: the memory is the host's, which neither writes nor shortens it while it waits for this call's
    // reply; the mapping is gone before the reply is sent.
    unsafe { MmapOptions::new().len(elements * ELEMENT).map_mut(&file) }
}

/// Splits mapped memory into the tensors to fill in, NaN at first, and those to read.
pub(super) fn split<'m>(memory: &'m mut MmapMut, init: &Init) -> (Vec<&'m mut [f32]>, &'m [f32], usize) {
    let floats: &mut [f32] = bytemuck::cast_slice_mut(memory);
    let target_len = init.target.iter().map(|tensor| tensor.len).sum();
    let (mut rest, inputs) = floats.split_at_mut(target_len);
    rest.fill(f32::NAN);
    let mut target = Vec::new();
    for tensor in &init.target {
        let (values, after) = rest.split_at_mut(tensor.len);
        target.push(values);
        rest = after;
    }
    (target, inputs, target_len)
}

/// Views of tensors in the inputs, which begin at that element.
pub(super) fn views<'a>(tensors: &'a [Tensor], inputs: &'a [f32], begin: usize) -> Vec<TensorView<'a>> {
    let view = |tensor: &'a Tensor| TensorView {
        class: &tensor.class,
        role: Role(tensor.role),
        shape: &tensor.shape,
        values: &inputs[tensor.at - begin..tensor.at - begin + tensor.len],
    };
    tensors.iter().map(view).collect()
}

/// Blocks of views.
pub(super) fn blocks<'a>(
    existing: &'a [(u64, Vec<Tensor>)],
    tensors: &'a [Vec<TensorView<'a>>],
) -> Vec<BlockView<'a>> {
    let blocks = existing.iter().zip(tensors);
    blocks.map(|((id, _), tensors)| BlockView { id: sapwood_plugin::LayerId(*id), tensors }).collect()
}
