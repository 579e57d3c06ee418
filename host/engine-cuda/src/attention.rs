//! Calls of causal attention, forward and backward. Not here: the arithmetic (cu/attention.cu).

use engine::EngineError;
use engine_native::kernels::{Attended, Form};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Place};
use crate::launch::{Blocks, count, long};

/// Queries, or keys, of a tile; the kernels' `TILE`.
const TILE: usize = 32;
/// Columns of a head that a block takes; the kernels' `SLICE`.
const SLICE: usize = 64;

/// Tiles of a sequence, slices of a head, and the blocks that they come to.
struct Tiling {
    tiles: usize,
    slices: usize,
    blocks: usize,
}

impl Tiling {
    fn of(form: &Form) -> Tiling {
        let (tiles, slices) = (form.length.div_ceil(TILE), form.head_width.div_ceil(SLICE));
        Tiling { tiles, slices, blocks: form.sequences * form.heads * tiles * slices }
    }
}

/// f32s of the products of outputs and their gradients, which a backward pass forms first.
pub(crate) fn dots(form: &Form) -> usize {
    form.rows() * form.heads
}

impl<D: Driver> Cuda<D> {
    pub(crate) fn attention_forward(
        &self,
        form: &Form,
        qkv: &Buffer<D::Memory>,
        mixed: &mut Buffer<D::Memory>,
        normalizers: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let of = self.activations_are();
        let buffers = [qkv.read_as(of)?, mixed.write_as(of)?, normalizers.write()?];
        self.launch_tiles("attention", form, &Tiling::of(form), buffers)
    }

    pub(crate) fn attention_gradient(
        &self,
        form: &Form,
        forward: &Attended<'_, Buffer<D::Memory>>,
        gradient: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let len = dots(form);
        let mut numbers = self.numbers.borrow_mut();
        let dots = self.reserve(&mut numbers, size_of::<f32>() * len)?;
        let of = self.activations_are();
        let (mixed, dy, width) = (forward.mixed.read_as(of)?, gradient.read_as(of)?, count(form.head_width));
        let arguments = [mixed, dy, Argument::Write(&mut *dots), long(len), width];
        self.launch("attention_dots", Blocks::of_warps(len), &arguments)?;
        for kernel in ["attention_query_gradient", "attention_key_gradient"] {
            let dots = Argument::Read(Place { memory: &*dots, first_byte: 0 });
            let (qkv, normalizers) = (forward.qkv.read_as(of)?, forward.normalizers.read()?);
            let buffers = [qkv, normalizers, dots, gradient.read_as(of)?, out.write_as(of)?];
            self.launch_tiles(kernel, form, &Tiling::of(form), buffers)?;
        }
        Ok(())
    }

    fn launch_tiles<const N: usize>(
        &self,
        kernel: &'static str,
        form: &Form,
        tiling: &Tiling,
        buffers: [Argument<'_, D::Memory>; N],
    ) -> Result<(), EngineError> {
        let measures = [form.length, form.heads, form.head_width, tiling.tiles, tiling.slices];
        let arguments: Vec<_> = buffers.into_iter().chain(measures.map(count)).collect();
        self.launch(kernel, Blocks::of(tiling.blocks), &arguments)
    }
}
