//! The ids of a micro-batch on the device, and its rows sorted by token, by which the token table's gradient is summed: all in one
//! piece of memory that is written at once. Not here: who reads them.

use engine::EngineError;

use crate::buffer::Held;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Place};

/// Ids of up to so many rows.
#[derive(Debug)]
pub struct Tokens<M> {
    /// `None` of a device that has failed.
    memory: Option<M>,
    /// Rows that there is room for.
    most: usize,
    /// Whether rows are sorted by token.
    sorts: bool,
    _held: Held,
}

/// What stands in the memory, one after another, each with room for the most rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The id of each row.
    Inputs,
    /// What each row is followed by.
    Targets,
    /// How many groups there are.
    Groups,
    /// The id of each group.
    Ids,
    /// Where the rows of each group start, and where the last ones end.
    Starts,
    /// The rows by token: tokens rise, and the rows of each keep the order of the batch.
    Rows,
}

impl Part {
    /// The number that it begins with.
    fn first(self, most: usize) -> usize {
        match self {
            Part::Inputs => 0,
            Part::Targets => most,
            Part::Groups => 2 * most,
            Part::Ids => 2 * most + 1,
            Part::Starts => 3 * most + 1,
            Part::Rows => 4 * most + 2,
        }
    }
}

impl<M> Tokens<M> {
    pub(crate) fn read(&self, part: Part) -> Result<Argument<'_, M>, EngineError> {
        let memory = self.memory.as_ref().ok_or_else(absent)?;
        let sorted = matches!(part, Part::Inputs | Part::Targets) || self.sorts;
        let unsorted = || EngineError::Device("the gradient of embeddings that were not to train".into());
        sorted.then_some(()).ok_or_else(unsorted)?;
        Ok(Argument::Read(Place { memory, first_byte: part.first(self.most) * size_of::<u32>() }))
    }
}

impl<D: Driver> Cuda<D> {
    pub(crate) fn new_tokens(&self, most: usize, sorts: bool) -> Tokens<D::Memory> {
        let numbers = if sorts { 5 * most + 2 } else { 2 * most };
        let bytes = (numbers * size_of::<u32>()).max(1);
        let memory = self.attempt(|| self.driver.allocate(bytes).map(Some));
        Tokens { memory, most, sorts, _held: Held::new(&self.ledger, bytes as u64) }
    }

    pub(crate) fn load_tokens(
        &self,
        inputs: &[u32],
        targets: &[u32],
        to: &mut Tokens<D::Memory>,
    ) -> Result<(), EngineError> {
        let numbers = numbers(inputs, targets, to.most, to.sorts);
        let memory = to.memory.as_mut().ok_or_else(absent)?;
        self.driver.upload(bytemuck::cast_slice(&numbers), memory)
    }
}

/// All parts.
fn numbers(inputs: &[u32], targets: &[u32], most: usize, sorts: bool) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(5 * most + 2);
    numbers.extend(inputs);
    numbers.resize(Part::Targets.first(most), 0);
    numbers.extend(targets);
    numbers.resize(Part::Groups.first(most), 0);
    if !sorts {
        return numbers;
    }
    let mut rows: Vec<u32> = (0..).take(inputs.len()).collect();
    rows.sort_by_key(|&row| inputs[row as usize]);
    let groups: Vec<&[u32]> = rows.chunk_by(|a, b| inputs[*a as usize] == inputs[*b as usize]).collect();
    numbers.push(groups.len() as u32);
    numbers.extend(groups.iter().map(|rows| inputs[rows[0] as usize]));
    numbers.resize(Part::Starts.first(most), 0);
    let mut end = 0;
    numbers.push(end);
    numbers.extend(groups.iter().map(|rows| {
        end += rows.len() as u32;
        end
    }));
    numbers.resize(Part::Rows.first(most), 0);
    numbers.extend(&rows);
    numbers
}

fn absent() -> EngineError {
    EngineError::Device("there was no memory for a batch's ids".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_token_in_the_order_of_the_batch() {
        let most = 8;
        let numbers = numbers(&[7, 2, 7, 0, 2, 7], &[2, 7, 0, 2, 7, 1], most, true);
        let part = |part: Part, len: usize| &numbers[part.first(most)..][..len];
        assert_eq!(part(Part::Inputs, 7), [7, 2, 7, 0, 2, 7, 0]);
        assert_eq!(part(Part::Targets, 6), [2, 7, 0, 2, 7, 1]);
        assert_eq!(part(Part::Groups, 1), [3]);
        assert_eq!(part(Part::Ids, 3), [0, 2, 7]);
        assert_eq!(part(Part::Starts, 4), [0, 1, 3, 6]);
        assert_eq!(part(Part::Rows, 6), [3, 1, 4, 0, 2, 5]);
        assert!(numbers.len() <= 5 * most + 2);
    }
}
