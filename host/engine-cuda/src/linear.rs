//! Calls of linear maps: a product, then what follows it. Not here: the arithmetic (cu/linear.cu, and the driver's
//! products).

use engine::EngineError;
use engine_native::kernels::{Epilogue, Linear, Sink, Write};

use crate::buffer::{Buffer, write_if_any};
use crate::device::Cuda;
use crate::driver::{Argument, Driver};
use crate::launch::{Blocks, Factor, count, long};

impl<D: Driver> Cuda<D> {
    pub(crate) fn linear_forward(
        &self,
        Linear { rows, inputs, outputs }: Linear,
        x: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        bias: &Buffer<D::Memory>,
        epilogue: Epilogue<'_, Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let (x, weight) = (Factor::of(x)?, Factor::of(weight)?);
        self.multiply([rows, outputs, inputs], x, weight, out.at_mut(0)?, Write::Replace)?;
        let (y, bias, columns) = (out.write()?, bias.read()?, count(outputs));
        let blocks = Blocks::of_matrix(rows, outputs);
        match epilogue {
            Epilogue::Bias => self.launch("add_bias", blocks, &[y, bias, columns]),
            Epilogue::Gelu(before) => {
                self.launch("add_bias_gelu", blocks, &[y, bias, write_if_any(before)?, columns])
            }
            Epilogue::Residual { stream, gate } => {
                let arguments = [y, bias, stream.read()?, Argument::F32(gate), columns];
                self.launch("add_bias_residual", blocks, &arguments)
            }
        }
    }

    /// `out = dy W^T`.
    pub(crate) fn input_gradient(
        &self,
        Linear { rows, inputs, outputs }: Linear,
        gradient: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let (gradient, weight) = (Factor::of(gradient)?, Factor::of(weight)?.transposed());
        self.multiply([rows, inputs, outputs], gradient, weight, out.at_mut(0)?, Write::Replace)
    }

    /// `dx *= gelu'(before)`; `activated` takes what the GELU gave.
    pub(crate) fn through_gelu(
        &self,
        len: usize,
        before: &Buffer<D::Memory>,
        activated: Option<&mut Buffer<D::Memory>>,
        dx: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let arguments = [dx.write()?, before.read()?, write_if_any(activated)?, long(len)];
        self.launch("gelu_backward", Blocks::of_elements(len), &arguments)
    }

    pub(crate) fn parameter_gradients(
        &self,
        Linear { rows, inputs, outputs }: Linear,
        x: &Buffer<D::Memory>,
        gradient: &Buffer<D::Memory>,
        weight: Option<Sink<'_, Buffer<D::Memory>>>,
        bias: Option<Sink<'_, Buffer<D::Memory>>>,
    ) -> Result<(), EngineError> {
        if let Some(Sink { buffer, write }) = weight {
            let (x, dy) = (Factor::of(x)?.transposed(), Factor::of(gradient)?);
            self.multiply([inputs, outputs, rows], x, dy, buffer.at_mut(0)?, write)?;
        }
        bias.map_or(Ok(()), |sink| self.sum_of_rows(gradient, [rows, outputs], sink))
    }

    pub(crate) fn gelu_forward(
        &self,
        len: usize,
        before: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        self.launch("gelu", Blocks::of_elements(len), &[before.read()?, out.write()?, long(len)])
    }
}
