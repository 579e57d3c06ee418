//! Calls of layer norm, forward and backward. Not here: the arithmetic (cu/norm.cu).

use engine::EngineError;
use engine_native::kernels::{Form, Norm, NormGradients, Sink, Write};

use crate::buffer::{Buffer, write_if_any};
use crate::columns::Chunks;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Place};
use crate::launch::{Blocks, count, flag, long};

/// The kernels' `ROWS_OF_A_PARTIAL`.
const ROWS_OF_A_PARTIAL: usize = 64;

/// f32s of the partial sums that a backward pass leaves.
pub(crate) fn partials(form: &Form) -> usize {
    2 * form.width * form.rows().div_ceil(ROWS_OF_A_PARTIAL)
}

impl<D: Driver> Cuda<D> {
    pub(crate) fn norm_forward(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        norm: &Norm<'_, Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
        moments: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let (gain, shift) = (norm.gain.read()?, norm.shift.read()?);
        let (rows, width, epsilon) = (form.rows(), form.width, Argument::F32(form.epsilon as f32));
        let (out, moments) = (out.write_as(self.activations_are())?, moments.write()?);
        let arguments = [x.read()?, gain, shift, out, moments, long(rows), count(width), epsilon];
        self.launch("layer_norm", Blocks::of_warps(rows), &arguments)
    }

    pub(crate) fn norm_backward(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        moments: &Buffer<D::Memory>,
        norm: &Norm<'_, Buffer<D::Memory>>,
        gradient: &Buffer<D::Memory>,
        NormGradients { input, normed, gain, shift }: NormGradients<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        if input.is_some() || normed.is_some() {
            self.norm_input_gradient(form, x, moments, norm, gradient, input, normed)?;
        }
        if gain.is_none() && shift.is_none() {
            return Ok(());
        }
        let (rows, width) = (form.rows(), form.width);
        let chunks = rows.div_ceil(ROWS_OF_A_PARTIAL);
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, size_of::<f32>() * partials(form))?;
        let read = [x.read()?, moments.read()?, gradient.read_as(self.activations_are())?];
        let [x, moments, gradient] = read;
        let arguments = [x, moments, gradient, Argument::Write(sums), long(rows), count(width)];
        self.launch("layer_norm_partials", Blocks::of_matrix(chunks, width), &arguments)?;
        for (first, sink) in [(0, gain), (width, shift)] {
            let Some(sink) = sink else { continue };
            let sums = Place { memory: &*sums, first_byte: 0 };
            self.add_chunks(sums, Chunks { count: chunks, first, stride: 2 * width, columns: width }, sink)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a kernel: what it reads, where it writes")]
    fn norm_input_gradient(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        moments: &Buffer<D::Memory>,
        norm: &Norm<'_, Buffer<D::Memory>>,
        gradient: &Buffer<D::Memory>,
        input: Option<Sink<'_, Buffer<D::Memory>>>,
        normed: Option<&mut Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        let adds = input.as_ref().is_some_and(|sink| sink.write == Write::Add);
        let both = input.map(|sink| sink.buffer.with_copy()).transpose()?;
        let (input, copy) = both.map_or((None, None), |(input, copy)| (Some(input), copy));
        let arguments = [
            x.read()?,
            moments.read()?,
            norm.gain.read()?,
            norm.shift.read()?,
            gradient.read_as(self.activations_are())?,
            input.map_or(Argument::Nothing, Argument::Write),
            flag(adds),
            copy.map_or(Argument::Nothing, Argument::Write),
            write_if_any(normed, self.activations_are())?,
            long(form.rows()),
            count(form.width),
        ];
        self.launch("layer_norm_backward", Blocks::of_warps(form.rows()), &arguments)
    }
}
