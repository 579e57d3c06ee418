//! Calls of causal attention, forward and backward, and which form of its kernels a head takes. Not here: the arithmetic
//! (cu/attention.cu, cu/attention_tensor.cu).

use engine::EngineError;
use engine_native::kernels::{Attended, Form};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Number, Place};
use crate::launch::{Blocks, count, long};

/// Kernels that cut heads up in the same way.
struct Kernels {
    forward: Kernel,
    query_gradient: Kernel,
    key_gradient: Kernel,
    /// Columns of a head that a block takes, where it does not take all.
    slice: Option<usize>,
}

/// A block takes a tile of queries, or of keys.
struct Kernel {
    name: &'static str,
    tile: usize,
    threads: usize,
}

/// In plain multiplications: `TILE`, `SIDE` and `SLICE` of attention.cu.
const PLAIN: Kernels = Kernels {
    forward: Kernel { name: "attention", tile: 32, threads: 256 },
    query_gradient: Kernel { name: "attention_query_gradient", tile: 32, threads: 256 },
    key_gradient: Kernel { name: "attention_key_gradient", tile: 32, threads: 256 },
    slice: Some(64),
};

/// On tensor cores, for heads of up to 64 columns and of up to 128.
const TENSOR: [Kernels; 2] = [
    Kernels {
        forward: forward("attention_tensor_64"),
        query_gradient: backward("attention_query_gradient_tensor_64"),
        key_gradient: backward("attention_key_gradient_tensor_64"),
        slice: None,
    },
    Kernels {
        forward: forward("attention_tensor_128"),
        query_gradient: backward("attention_query_gradient_tensor_128"),
        key_gradient: backward("attention_key_gradient_tensor_128"),
        slice: None,
    },
];

/// `FORWARD_THREADS` of attention_tensor.cu: a warp has 16 rows of a tile.
const fn forward(name: &'static str) -> Kernel {
    Kernel { name, tile: 128, threads: 256 }
}

/// `BACKWARD_THREADS`.
const fn backward(name: &'static str) -> Kernel {
    Kernel { name, tile: 64, threads: 128 }
}

impl Kernels {
    /// Those on tensor cores, where they take heads of so many columns.
    fn on_tensor_cores(head_width: usize) -> Option<&'static Kernels> {
        match head_width {
            width if !width.is_multiple_of(16) => None,
            ..=64 => Some(&TENSOR[0]),
            65..=128 => Some(&TENSOR[1]),
            _ => None,
        }
    }
}

/// f32s of the products of outputs and their gradients, which a backward pass forms first.
pub(crate) fn dots(form: &Form) -> usize {
    form.rows() * form.heads
}

impl<D: Driver> Cuda<D> {
    fn attention_kernels(&self, form: &Form) -> &'static Kernels {
        let in_bf16 = self.activations_are() == Number::Bf16;
        let tensor = Kernels::on_tensor_cores(form.head_width).filter(|_| in_bf16 && !self.plain_attention);
        tensor.unwrap_or(&PLAIN)
    }

    pub(crate) fn attention_forward(
        &self,
        form: &Form,
        qkv: &Buffer<D::Memory>,
        mixed: &mut Buffer<D::Memory>,
        normalizers: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let of = self.activations_are();
        let Kernels { forward, slice, .. } = self.attention_kernels(form);
        let buffers = [qkv.read_as(of)?, mixed.write_as(of)?, normalizers.write()?];
        self.launch_tiles(forward, form, *slice, buffers)
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
        let Kernels { query_gradient, key_gradient, slice, .. } = self.attention_kernels(form);
        for kernel in [query_gradient, key_gradient] {
            let dots = Argument::Read(Place { memory: &*dots, first_byte: 0 });
            let (qkv, normalizers) = (forward.qkv.read_as(of)?, forward.normalizers.read()?);
            let buffers = [qkv, normalizers, dots, gradient.read_as(of)?, out.write_as(of)?];
            self.launch_tiles(kernel, form, *slice, buffers)?;
        }
        Ok(())
    }

    fn launch_tiles<const N: usize>(
        &self,
        kernel: &Kernel,
        form: &Form,
        slice: Option<usize>,
        buffers: [Argument<'_, D::Memory>; N],
    ) -> Result<(), EngineError> {
        let tiles = form.length.div_ceil(kernel.tile);
        let slices = slice.map(|slice| form.head_width.div_ceil(slice));
        let measures = [form.length, form.heads, form.head_width, tiles].into_iter().chain(slices);
        let arguments: Vec<_> = buffers.into_iter().chain(measures.map(count)).collect();
        let blocks = form.sequences * form.heads * tiles * slices.unwrap_or(1);
        self.launch(kernel.name, Blocks::of(blocks).with_threads(kernel.threads), &arguments)
    }
}
