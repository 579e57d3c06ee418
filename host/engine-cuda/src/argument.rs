//! What a kernel is given: pointers and numbers, one by one or many in a row, and the bits that they come to. Not here: who
//! launches it.

use engine::EngineError;

use crate::driver::Place;

/// Most tensors that a launch takes at once; the kernels' `MANY`. With five pointers and some numbers for each, the arguments stay
/// below the 4 KiB that every GPU takes.
pub const MANY: usize = 32;

/// What a kernel is given.
#[derive(Debug)]
pub enum Argument<'a, M> {
    /// A pointer to what it reads.
    Read(Place<'a, M>),
    /// A pointer to what it writes.
    Write(&'a mut M),
    /// A null pointer.
    Nothing,
    /// A `u32`.
    U32(u32),
    /// A `u64`.
    U64(u64),
    /// A `float`.
    F32(f32),
    /// A `double`.
    F64(f64),
    /// A `Many` of pointers to what it reads, at most [`MANY`].
    ReadEach(Vec<Place<'a, M>>),
    /// A `Many` of pointers to what it writes; null where there is none.
    WriteEach(Vec<Option<&'a mut M>>),
    /// A `Many` of `u32`s.
    U32Each(Vec<u32>),
    /// A `Many` of `u64`s.
    U64Each(Vec<u64>),
    /// A `Many` of `float`s.
    F32Each(Vec<f32>),
}

/// The bits of all arguments of a launch, each from the beginning of a word on: CUDA runs on little-endian machines alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Words {
    words: Vec<u64>,
    /// Where each argument begins.
    starts: Vec<usize>,
}

impl Words {
    /// `address` says where a piece's byte lies.
    ///
    /// # Errors
    /// What `address` says; more than [`MANY`] in a row.
    pub fn of<M>(
        arguments: &[Argument<'_, M>],
        address: impl Fn(&M, usize) -> Result<u64, EngineError>,
    ) -> Result<Words, EngineError> {
        let mut all = Words::default();
        arguments.iter().try_for_each(|argument| all.add(argument, &address))?;
        Ok(all)
    }

    fn add<M>(
        &mut self,
        argument: &Argument<'_, M>,
        address: impl Fn(&M, usize) -> Result<u64, EngineError>,
    ) -> Result<(), EngineError> {
        self.starts.push(self.words.len());
        match argument {
            Argument::Read(place) => self.words.push(address(place.memory, place.first_byte)?),
            Argument::Write(memory) => self.words.push(address(memory, 0)?),
            Argument::Nothing => self.words.push(0),
            Argument::U32(value) => self.words.push((*value).into()),
            Argument::U64(value) => self.words.push(*value),
            Argument::F32(value) => self.words.push(value.to_bits().into()),
            Argument::F64(value) => self.words.push(value.to_bits()),
            Argument::ReadEach(places) => {
                self.each(places, |place| address(place.memory, place.first_byte))?;
            }
            Argument::WriteEach(pieces) => {
                self.each(pieces, |piece| piece.as_deref().map_or(Ok(0), |memory| address(memory, 0)))?;
            }
            Argument::U64Each(values) => self.each(values, |value| Ok(*value))?,
            Argument::U32Each(values) => self.each_half(values, |value| *value)?,
            Argument::F32Each(values) => self.each_half(values, |value| value.to_bits())?,
        }
        Ok(())
    }

    /// A row of words.
    fn each<T>(
        &mut self,
        row: &[T],
        word: impl Fn(&T) -> Result<u64, EngineError>,
    ) -> Result<(), EngineError> {
        let end = self.words.len() + MANY;
        fits(row.len())?;
        for item in row {
            self.words.push(word(item)?);
        }
        self.words.resize(end, 0);
        Ok(())
    }

    /// A row of halves of words.
    fn each_half<T>(&mut self, row: &[T], half: impl Fn(&T) -> u32) -> Result<(), EngineError> {
        let end = self.words.len() + MANY.div_ceil(2);
        fits(row.len())?;
        let both = |pair: &[T]| pair.iter().rev().fold(0, |word, item| word << 32 | u64::from(half(item)));
        self.words.extend(row.chunks(2).map(both));
        self.words.resize(end, 0);
        Ok(())
    }

    /// Where each argument lies, as a launch wants it.
    pub fn pointers(&self) -> Vec<*mut std::ffi::c_void> {
        self.starts.iter().map(|&start| (&raw const self.words[start]).cast_mut().cast()).collect()
    }
}

fn fits(len: usize) -> Result<(), EngineError> {
    let too_many = || EngineError::Device(format!("a launch takes {MANY} tensors at once, not {len}"));
    (len <= MANY).then_some(()).ok_or_else(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_room_for_the_most_and_halves_lie_in_order() {
        let all: [Argument<'_, u64>; 3] =
            [Argument::U32(7), Argument::U32Each(vec![1, 2, 3]), Argument::U64Each(vec![9])];
        let words = Words::of(&all, |memory, _| Ok(*memory)).expect("there is room");
        assert_eq!(words.starts, [0, 1, 1 + MANY / 2]);
        assert_eq!(words.words[..4], [7, 1 | 2 << 32, 3, 0]);
        assert_eq!(words.words[1 + MANY / 2], 9);
        assert_eq!(words.words.len(), 1 + MANY / 2 + MANY);
        let too_many: [Argument<'_, u64>; 1] = [Argument::F32Each(vec![0.0; MANY + 1])];
        assert!(Words::of(&too_many, |memory, _| Ok(*memory)).is_err());
    }
}
