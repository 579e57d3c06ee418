//! Calls of the tied head with its loss, by chunks of rows. Not here: the arithmetic (cu/classifier.cu, and the
//! driver's products).

use engine::EngineError;
use engine_native::kernels::{ClassifierGradients, Form, Sink, Write};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver};
use crate::launch::{Blocks, count, flag, long};
use crate::tokens::{Part, Tokens};

impl<D: Driver> Cuda<D> {
    #[expect(clippy::too_many_arguments, reason = "a kernel: what it reads, where it writes")]
    pub(crate) fn losses(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        table: &Buffer<D::Memory>,
        tokens: &Tokens<D::Memory>,
        scratch: &mut Buffer<D::Memory>,
        losses: &mut Buffer<D::Memory>,
        mut gradients: Option<ClassifierGradients<'_, Buffer<D::Memory>>>,
    ) -> Result<(), EngineError> {
        let rows_at_once = scratch.len() / form.vocabulary;
        for first in (0..form.rows()).step_by(rows_at_once) {
            let rows = rows_at_once.min(form.rows() - first);
            self.logits_of(form, x, first, rows, table, scratch)?;
            let scale = gradients.as_ref().map(|gradients| gradients.scale as f32);
            let arguments = [
                scratch.write_as(self.activations_are())?,
                tokens.read(Part::Targets)?,
                losses.write()?,
                long(first),
                count(form.vocabulary),
                Argument::F32(scale.unwrap_or(0.0)),
                flag(scale.is_some()),
            ];
            self.launch("cross_entropy", Blocks::of(rows), &arguments)?;
            if let Some(gradients) = &mut gradients {
                self.classifier_gradients(form, [first, rows], x, table, scratch, gradients)?;
            }
        }
        Ok(())
    }

    /// What a chunk of `rows` rows from `first` on adds to the gradients; `logits` has become that of the logits.
    fn classifier_gradients(
        &self,
        form: &Form,
        [first, rows]: [usize; 2],
        x: &Buffer<D::Memory>,
        table: &Buffer<D::Memory>,
        logits: &Buffer<D::Memory>,
        gradients: &mut ClassifierGradients<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        let (width, vocabulary) = (form.width, form.vocabulary);
        if let Some(input) = &mut gradients.input {
            let (logits, table) = (self.activation(logits)?, self.factor(table)?);
            let (logits, table, to) = (logits.all(), table.all(), (&mut **input, first * width));
            self.multiply([rows, width, vocabulary], logits, table, to, Write::Replace)?;
        }
        if let Some(Sink { buffer, write }) = &mut gradients.weight {
            let write = if first > 0 { Write::Add } else { *write };
            let (logits, x) = (self.activation(logits)?, self.activation(x)?);
            let (logits, x) = (logits.all().transposed(), x.at(first * width));
            self.multiply([vocabulary, width, rows], logits, x, (&mut **buffer, 0), write)?;
        }
        Ok(())
    }

    /// `[rows, V]`, of the rows from `first` on.
    pub(crate) fn logits_of(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        first: usize,
        rows: usize,
        table: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let (x, table) = (self.activation(x)?, self.factor(table)?);
        let (x, table) = (x.at(first * form.width), table.all().transposed());
        self.multiply([rows, form.vocabulary, form.width], x, table, (out, 0), Write::Replace)
    }
}
