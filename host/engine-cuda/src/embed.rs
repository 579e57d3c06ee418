//! Calls of the embeddings, forward and backward. Not here: the arithmetic (cu/embed.cu).

use engine::EngineError;
use engine_native::kernels::{Form, Sink};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::Driver;
use crate::launch::{Blocks, count};
use crate::tokens::{Part, Tokens};

impl<D: Driver> Cuda<D> {
    pub(crate) fn embed_forward(
        &self,
        form: &Form,
        tokens: &Tokens<D::Memory>,
        [token_table, position_table]: [&Buffer<D::Memory>; 2],
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let (ids, tables) = (tokens.read(Part::Inputs)?, [token_table.read()?, position_table.read()?]);
        let [token_table, position_table] = tables;
        let [length, width] = [form.length, form.width].map(count);
        let arguments = [ids, token_table, position_table, out.write()?, length, width];
        self.launch("embed", Blocks::of_matrix(form.rows(), form.width), &arguments)
    }

    pub(crate) fn add_to_tokens(
        &self,
        form: &Form,
        tokens: &Tokens<D::Memory>,
        gradient: &Buffer<D::Memory>,
        Sink { buffer, write }: Sink<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        self.start(buffer, write)?;
        let arguments = [
            gradient.read()?,
            tokens.read(Part::Groups)?,
            tokens.read(Part::Ids)?,
            tokens.read(Part::Starts)?,
            tokens.read(Part::Rows)?,
            buffer.write()?,
            count(form.width),
        ];
        self.launch("add_to_tokens", Blocks::of_matrix(form.rows(), form.width), &arguments)
    }

    pub(crate) fn add_to_positions(
        &self,
        form: &Form,
        gradient: &Buffer<D::Memory>,
        Sink { buffer, write }: Sink<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        self.start(buffer, write)?;
        let [sequences, length, width] = [form.sequences, form.length, form.width].map(count);
        let arguments = [gradient.read()?, buffer.write()?, sequences, length, width];
        self.launch("add_to_positions", Blocks::of_matrix(form.length, form.width), &arguments)
    }
}
