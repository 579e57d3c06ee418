//! Tensors in memory that host and child share, a memory for each block: what stands there already is not written
//! again, and the child reads and fills in its mapping, so that no tensor is copied twice.
//!
//! The host never maps the memory: it writes and reads it like a file, so that a child that tampers with it can
//! spoil what it sees and fills in (which the host checks), and nothing else.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, memfd_create};
use sapwood_plugin::{InitContext, Result, Role, TensorMut, TensorView};
use xxhash_rust::xxh3::xxh3_128;

use super::message::{BlockInMemory, Init, Tensor};

/// Bytes of an element.
const ELEMENT: usize = size_of::<f32>();

/// The host's end.
pub(super) struct SharedTensors {
    target: SharedBlock,
    original: SharedBlock,
    /// By identity; those that stood at the last call.
    existing: BTreeMap<u64, SharedBlock>,
}

impl SharedTensors {
    pub(super) fn new() -> io::Result<SharedTensors> {
        let (target, original) = (SharedBlock::new()?, SharedBlock::new()?);
        Ok(SharedTensors { target, original, existing: BTreeMap::new() })
    }

    /// Makes room for the tensors of a call, and writes those that are to be read and are not there yet.
    pub(super) fn lay_out(&mut self, context: &InitContext<'_>, target: &[TensorMut<'_>]) -> Result<Init> {
        self.target.make_room(target.iter().map(described_target).collect())?;
        self.original.share(context.original)?;
        let mut before = std::mem::take(&mut self.existing);
        for block in context.existing {
            let mut shared = before.remove(&block.id.0).map_or_else(SharedBlock::new, Ok)?;
            shared.share(block.tensors)?;
            self.existing.insert(block.id.0, shared);
        }
        let existing = context.existing.iter().map(|block| (block.id.0, self.existing[&block.id.0].told()));
        Ok(Init {
            layer: context.layer.0,
            position: context.position,
            depth_before: context.depth_before,
            depth_after: context.depth_after,
            final_depth: context.final_depth,
            init_std: context.init_std,
            key: context.key.0,
            source: context.source.map(|layer| layer.0),
            target: self.target.told(),
            existing: existing.collect(),
            original: self.original.told(),
        })
    }

    /// Reads what the child has filled in.
    pub(super) fn read_back(&self, target: &mut [TensorMut<'_>]) -> Result<()> {
        let mut at = 0;
        for tensor in target {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(tensor.values);
            self.target.file.read_exact_at(bytes, at)?;
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

/// A block's memory, and what stands in it.
struct SharedBlock {
    file: File,
    tensors: Vec<Tensor>,
    /// Of the bytes that were written for each tensor; `None` before that.
    digests: Vec<Option<u128>>,
}

impl SharedBlock {
    fn new() -> io::Result<SharedBlock> {
        let file = File::from(memfd_create("sapwood-block", MemfdFlags::CLOEXEC)?);
        Ok(SharedBlock { file, tensors: Vec::new(), digests: Vec::new() })
    }

    fn make_room(&mut self, tensors: Vec<Tensor>) -> io::Result<()> {
        if self.tensors == tensors {
            return Ok(());
        }
        let elements: usize = tensors.iter().map(|tensor| tensor.len).sum();
        self.file.set_len((elements * ELEMENT) as u64)?;
        self.digests = vec![None; tensors.len()];
        self.tensors = tensors;
        Ok(())
    }

    /// Writes what is not there yet; answers how many tensors that were.
    fn share(&mut self, tensors: &[TensorView<'_>]) -> io::Result<usize> {
        self.make_room(tensors.iter().map(described).collect())?;
        let (mut at, mut written) = (0, 0);
        for (tensor, known) in tensors.iter().zip(&mut self.digests) {
            let bytes: &[u8] = bytemuck::cast_slice(tensor.values);
            let digest = Some(xxh3_128(bytes));
            if *known != digest {
                self.file.write_all_at(bytes, at)?;
                *known = digest;
                written += 1;
            }
            at += bytes.len() as u64;
        }
        Ok(written)
    }

    fn told(&self) -> BlockInMemory {
        // The descriptor is not inherited, so that no other child has it; the one that is told finds it here.
        let file = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()));
        BlockInMemory { file, tensors: self.tensors.clone() }
    }
}

fn described(tensor: &TensorView<'_>) -> Tensor {
    let (class, shape) = (tensor.class.to_owned(), tensor.shape.to_vec());
    Tensor { class, role: tensor.role.0, shape, len: tensor.values.len() }
}

fn described_target(tensor: &TensorMut<'_>) -> Tensor {
    let TensorMut { class, role, shape, values } = tensor;
    described(&TensorView { class, role: *role, shape, values })
}

/// The child's end of a block to read, mapped for one call.
pub(super) struct ToRead<'a> {
    memory: Option<Mmap>,
    tensors: &'a [Tensor],
}

impl<'a> ToRead<'a> {
    pub(super) fn map(block: &'a BlockInMemory) -> io::Result<ToRead<'a>> {
        let elements = block.elements();
        let map = |file: File| {
            // SAFETY: the memory is the host's, which neither writes nor shortens it while it waits for this
            // call's reply; the mapping is gone before the reply is sent.
            unsafe { MmapOptions::new().len(elements * ELEMENT).map(&file) }
        };
        // Nothing cannot be mapped.
        let memory = (elements > 0).then(|| File::open(&block.file).and_then(map)).transpose()?;
        Ok(ToRead { memory, tensors: &block.tensors })
    }

    pub(super) fn views(&self) -> Vec<TensorView<'_>> {
        let mut rest: &[f32] = self.memory.as_deref().map(bytemuck::cast_slice).unwrap_or_default();
        let view = |tensor: &'a Tensor| {
            let (values, after) = rest.split_at(tensor.len);
            rest = after;
            TensorView { class: &tensor.class, role: Role(tensor.role), shape: &tensor.shape, values }
        };
        self.tensors.iter().map(view).collect()
    }
}

/// The child's end of the block to fill in, every element NaN at first.
pub(super) struct ToFill<'a> {
    memory: MmapMut,
    tensors: &'a [Tensor],
}

impl<'a> ToFill<'a> {
    pub(super) fn map(block: &'a BlockInMemory) -> io::Result<ToFill<'a>> {
        let file = File::options().read(true).write(true).open(&block.file)?;
        // SAFETY: as in `ToRead::map`; the host reads it only after the reply.
        let mut memory = unsafe { MmapOptions::new().len(block.elements() * ELEMENT).map_mut(&file)? };
        bytemuck::cast_slice_mut::<u8, f32>(&mut memory).fill(f32::NAN);
        Ok(ToFill { memory, tensors: &block.tensors })
    }

    pub(super) fn tensors(&mut self) -> Vec<TensorMut<'_>> {
        let mut rest: &mut [f32] = bytemuck::cast_slice_mut(&mut self.memory);
        let mut views = Vec::new();
        for Tensor { class, role, shape, len } in self.tensors {
            let (values, after) = rest.split_at_mut(*len);
            rest = after;
            views.push(TensorMut { class, role: Role(*role), shape, values });
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(class: &'a str, values: &'a [f32]) -> TensorView<'a> {
        TensorView { class, role: Role::WEIGHT, shape: &[], values }
    }

    #[test]
    fn what_stands_there_is_not_written_again() {
        let mut block = SharedBlock::new().expect("memory");
        let (gain, weight) = (vec![1.0; 8], vec![2.0; 64]);
        let mut changed = weight.clone();
        changed[63] = f32::from_bits(2.0f32.to_bits() + 1);
        assert_eq!(block.share(&[view("gain", &gain), view("weight", &weight)]).expect("memory"), 2);
        assert_eq!(block.share(&[view("gain", &gain), view("weight", &weight)]).expect("memory"), 0);
        assert_eq!(block.share(&[view("gain", &gain), view("weight", &changed)]).expect("memory"), 1);
        // Another layout: nothing stands where it did.
        assert_eq!(block.share(&[view("weight", &changed), view("gain", &gain)]).expect("memory"), 2);
    }

    #[test]
    fn the_child_sees_what_was_shared_and_the_host_what_was_filled_in() {
        let mut block = SharedBlock::new().expect("memory");
        let (gain, weight) = (vec![1.0, 2.0], vec![3.0; 6]);
        let shared = [view("gain", &gain), view("weight", &weight)];
        block.share(&shared).expect("memory");
        let told = block.told();
        let mapped = ToRead::map(&told).expect("it is this process's own");
        let seen: Vec<(&str, &[f32])> =
            mapped.views().iter().map(|tensor| (tensor.class, tensor.values)).collect();
        assert_eq!(seen, [("gain", &gain[..]), ("weight", &weight[..])]);
        let mut filled = ToFill::map(&told).expect("it is this process's own");
        assert!(filled.tensors().iter().all(|tensor| tensor.values.iter().all(|value| value.is_nan())));
        filled.tensors()[1].values.fill(4.0);
        assert_eq!(mapped.views()[1].values, [4.0; 6], "one memory");
    }

    #[test]
    fn a_block_without_tensors_has_no_views() {
        let mut block = SharedBlock::new().expect("memory");
        block.share(&[]).expect("nothing to write");
        assert!(ToRead::map(&block.told()).expect("nothing to map").views().is_empty());
    }
}
