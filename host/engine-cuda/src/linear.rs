//! Calls of linear maps: a product, then what follows it. Not here: the arithmetic (cu/linear.cu, and the driver's
//! products).

use engine::EngineError;
use engine_native::kernels::{Epilogue, Linear, Sink, Write};

use crate::buffer::{Buffer, write_if_any};
use crate::device::Cuda;
use crate::driver::{Argument, Driver};
use crate::launch::{Blocks, count, long};

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
        let (x, weight) = (self.activation(x)?, self.factor(weight)?);
        self.multiply([rows, outputs, inputs], x.all(), weight.all(), (&mut *out, 0), Write::Replace)?;
        let (bias, columns, activations) = (bias.read()?, count(outputs), self.activations_are());
        let blocks = Blocks::of_matrix(rows, outputs);
        match epilogue {
            Epilogue::Bias => self.launch("add_bias", blocks, &[out.write_as(activations)?, bias, columns]),
            Epilogue::Gelu(before) => {
                let (y, before) = (out.write_as(activations)?, write_if_any(before, activations)?);
                self.launch("add_bias_gelu", blocks, &[y, bias, before, columns])
            }
            Epilogue::Residual { stream, gate } => {
                let arguments = [out.write()?, bias, stream.read()?, Argument::F32(gate), columns];
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
        let (gradient, weight) = (self.factor(gradient)?, self.factor(weight)?);
        let (gradient, weight) = (gradient.all(), weight.all().transposed());
        self.multiply([rows, inputs, outputs], gradient, weight, (out, 0), Write::Replace)
    }

    /// `dx *= gelu'(before)`; `activated` takes what the GELU gave.
    pub(crate) fn through_gelu(
        &self,
        len: usize,
        before: &Buffer<D::Memory>,
        activated: Option<&mut Buffer<D::Memory>>,
        dx: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let of = self.activations_are();
        let arguments = [dx.write_as(of)?, before.read_as(of)?, write_if_any(activated, of)?, long(len)];
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
            let (x, dy) = (self.activation(x)?, self.factor(gradient)?);
            let (x, dy) = (x.all().transposed(), dy.all());
            self.multiply([inputs, outputs, rows], x, dy, (buffer, 0), write)?;
        }
        bias.map_or(Ok(()), |sink| self.sum_of_rows(gradient, [rows, outputs], sink))
    }

    pub(crate) fn gelu_forward(
        &self,
        len: usize,
        before: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let of = self.activations_are();
        self.launch("gelu", Blocks::of_elements(len), &[before.read_as(of)?, out.write_as(of)?, long(len)])
    }
}
