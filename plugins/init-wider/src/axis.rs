//! Which row or column of a wider tensor is made of which that was there.

use sapwood_plugin::{Error, Random, Result};

/// One measure of the model that becomes wider, or stays: the residual stream's coordinates, the columns of all heads, or the
/// neurons of the hidden layer.
pub(crate) struct Axis {
    /// By place: those that were there are made of themselves.
    pub(crate) sources: Vec<usize>,
    /// By place: how many before it are made of the same.
    ranks: Vec<usize>,
    /// By place that was there: how many are made of it, itself included.
    counts: Vec<usize>,
    /// From this place on no place is a copy, but the average of all that were there.
    averaged_from: usize,
}

impl Axis {
    /// Those that come repeat those that were there, in order. Heads are whole ones: their number times their width is repeated
    /// at a multiple of that width. All blocks agree, as they have to in the stream that they share.
    ///
    /// # Errors
    /// Fewer than there were, or none that were there.
    pub(crate) fn repeated(before: usize, after: usize) -> Result<Axis> {
        Axis::of((0..after).map(|place| place % before.max(1)).collect(), before)
    }

    /// Those that come are made of any that were there, each as likely as any other.
    ///
    /// # Errors
    /// As for [`Axis::repeated`].
    pub(crate) fn drawn(random: &mut Random, before: usize, after: usize) -> Result<Axis> {
        let mut source = |place: usize| {
            if place < before { place } else { random.below(before.max(1) as u64) as usize }
        };
        Axis::of((0..after).map(&mut source).collect(), before)
    }

    fn of(sources: Vec<usize>, before: usize) -> Result<Axis> {
        if before == 0 {
            return Err(Error::new("there is nothing that could be wider"));
        }
        if sources.len() < before {
            return Err(Error::new("this initializer makes a model wider, never narrower"));
        }
        let mut counts = vec![0; before];
        let rank = |&source: &usize| {
            counts[source] += 1;
            counts[source] - 1
        };
        let ranks = sources.iter().map(rank).collect();
        let averaged_from = sources.len();
        Ok(Axis { sources, ranks, counts, averaged_from })
    }

    /// The same, but what is left after whole repetitions is the average of all: mean and variance of a layer norm then stand in
    /// a fixed proportion to what they were.
    pub(crate) fn averaging_the_rest(mut self) -> Axis {
        self.averaged_from = self.before() * self.times();
        for source in &self.sources[self.averaged_from..] {
            self.counts[*source] -= 1;
        }
        self
    }

    /// How many there were.
    pub(crate) fn before(&self) -> usize {
        self.counts.len()
    }

    /// How many there are.
    pub(crate) fn after(&self) -> usize {
        self.sources.len()
    }

    /// Whole repetitions.
    pub(crate) fn times(&self) -> usize {
        self.after() / self.before()
    }

    /// Whether there are more than there were.
    pub(crate) fn grows(&self) -> bool {
        self.after() > self.before()
    }

    /// Whether all that were there have as many copies, and nothing is left over.
    pub(crate) fn is_whole(&self) -> bool {
        self.after().is_multiple_of(self.before())
    }

    /// Whether that place was there.
    pub(crate) fn was_there(&self, place: usize) -> bool {
        place < self.before()
    }

    /// Whether that place is the average of all, and no copy.
    pub(crate) fn is_average(&self, place: usize) -> bool {
        place >= self.averaged_from
    }

    /// How many are made of the same as that place, itself included.
    pub(crate) fn count(&self, place: usize) -> usize {
        self.counts[self.sources[place]]
    }

    /// How many before that place are made of the same.
    pub(crate) fn rank(&self, place: usize) -> usize {
        self.ranks[place]
    }
}
