//! Calls of linear maps: a product, then what follows it. Not here: the arithmetic (cu/linear.cu, and the driver's
//! products).

use engine::EngineError;
use engine_native::kernels::{Epilogue, Linear, Sink, Write};

use crate::buffer::{Buffer, write_if_any};
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Number, Then};
use crate::factors::Operand;
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
        let measures = [rows, outputs, inputs];
        let (x, weight) = (self.activation(x)?, self.factor(weight)?);
        let mut epilogue = epilogue;
        if self.linear_at_once(measures, [&x, &weight], bias, &mut epilogue, out)? {
            return Ok(());
        }
        self.multiply(measures, x.all(), weight.all(), (&mut *out, 0), Write::Replace)?;
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

    /// The product together with what follows it, where the driver can; answers whether it did.
    fn linear_at_once(
        &self,
        measures: [usize; 3],
        [x, weight]: [&Operand<'_, D::Memory>; 2],
        bias: &Buffer<D::Memory>,
        epilogue: &mut Epilogue<'_, Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<bool, EngineError> {
        let [_, outputs, _] = measures;
        let (x, weight, activations) = (x.all(), weight.all(), self.activations_are());
        match epilogue {
            Epilogue::Bias => {
                out.check(activations)?;
                let bias = self.factor(bias)?;
                self.multiply_then(measures, x, weight, out, Then::Bias(bias.place()))
            }
            Epilogue::Gelu(before) if self.fuses_gelu(outputs) => {
                out.check(activations)?;
                let bias = self.factor(bias)?;
                let before = before.as_mut().map(|before| before.memory_mut_as(activations)).transpose()?;
                self.multiply_then(measures, x, weight, out, Then::BiasGelu { bias: bias.place(), before })
            }
            Epilogue::Residual { stream, gate } if *gate == 1.0 => {
                out.check(Number::F32)?;
                let (bias, matrix) = (bias.at(0)?, stream.at(0)?);
                self.multiply_then(measures, x, weight, out, Then::BiasAndMatrix { bias, matrix })
            }
            _ => Ok(false),
        }
    }

    /// Whether a GELU of so many columns may be left to a library: its approximation of tanh is good enough for bfloat16 alone, and
    /// columns have to begin at multiples of 16 bytes.
    fn fuses_gelu(&self, columns: usize) -> bool {
        self.activations_are() == Number::Bf16 && columns.is_multiple_of(8)
    }

    /// `out = (dy W^T) gelu'(before)`; `activated` takes what the GELU gave.
    pub(crate) fn gelu_input_gradient(
        &self,
        measures: Linear,
        gradient: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        before: &Buffer<D::Memory>,
        activated: Option<&mut Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let Linear { rows, inputs, outputs } = measures;
        if self.fuses_gelu(inputs) {
            let (dy, weight) = (self.factor(gradient)?, self.factor(weight)?);
            before.check(Number::Bf16)?;
            let (dy, weight, then) = (dy.all(), weight.all().transposed(), Then::GeluSlope(before.at(0)?));
            if self.multiply_then([rows, inputs, outputs], dy, weight, out, then)? {
                let again = activated.map(|activated| self.gelu_forward(rows * inputs, before, activated));
                return again.unwrap_or(Ok(()));
            }
        }
        self.input_gradient(measures, gradient, weight, out)?;
        self.through_gelu(rows * inputs, before, activated, out)
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
    fn through_gelu(
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
