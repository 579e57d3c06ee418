//! Calls of the embeddings, and the batch's rows sorted by token, by which their gradient is summed. Not here: the
//! arithmetic (cu/embed.cu).

use engine::EngineError;
use engine_native::kernels::{Form, Sink};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Place};
use crate::launch::{Blocks, count};

/// Rows of a batch by token: tokens rise, and the rows of each keep the order of the batch.
#[derive(Debug, PartialEq, Eq)]
struct Groups {
    /// Ids, then where each one's rows start and the last ones end, then the rows.
    numbers: Vec<u32>,
    groups: usize,
}

impl Groups {
    fn of(tokens: &[u32]) -> Groups {
        let mut rows: Vec<u32> = (0..).take(tokens.len()).collect();
        rows.sort_by_key(|&row| tokens[row as usize]);
        let chunks = || rows.chunk_by(|a, b| tokens[*a as usize] == tokens[*b as usize]);
        let mut numbers: Vec<u32> = chunks().map(|chunk| tokens[chunk[0] as usize]).collect();
        let groups = numbers.len();
        let mut start = 0;
        numbers.push(start);
        numbers.extend(chunks().map(|chunk| {
            start += chunk.len() as u32;
            start
        }));
        numbers.extend(rows);
        Groups { numbers, groups }
    }
}

impl<D: Driver> Cuda<D> {
    pub(crate) fn embed_forward(
        &self,
        form: &Form,
        tokens: &[u32],
        [token_table, position_table]: [&Buffer<D::Memory>; 2],
        out: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let mut indices = self.indices.borrow_mut();
        let tokens_there = Place { memory: self.upload_indices(tokens, &mut indices)?, first_byte: 0 };
        let arguments = [
            Argument::Read(tokens_there),
            token_table.read()?,
            position_table.read()?,
            out.write()?,
            count(form.length),
            count(form.width),
        ];
        self.launch("embed", Blocks::of_matrix(tokens.len(), form.width), &arguments)
    }

    pub(crate) fn add_to_tokens(
        &self,
        form: &Form,
        tokens: &[u32],
        gradient: &Buffer<D::Memory>,
        Sink { buffer, write }: Sink<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        self.start(buffer, write)?;
        let Groups { numbers, groups } = Groups::of(tokens);
        let mut indices = self.indices.borrow_mut();
        let memory = self.upload_indices(&numbers, &mut indices)?;
        let part = |first: usize| Argument::Read(Place { memory, first_byte: first * size_of::<u32>() });
        let (ids, starts, rows) = (part(0), part(groups), part(2 * groups + 1));
        let arguments = [gradient.read()?, ids, starts, rows, buffer.write()?, count(form.width)];
        self.launch("add_to_tokens", Blocks::of_matrix(groups, form.width), &arguments)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_token_in_the_order_of_the_batch() {
        let Groups { numbers, groups } = Groups::of(&[7, 2, 7, 0, 2, 7]);
        assert_eq!(groups, 3);
        assert_eq!(numbers[..3], [0, 2, 7], "ids");
        assert_eq!(numbers[3..7], [0, 1, 3, 6], "starts");
        assert_eq!(numbers[7..], [3, 1, 4, 0, 2, 5], "rows");
    }
}
