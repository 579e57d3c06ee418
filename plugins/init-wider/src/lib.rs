//! Wider models: four ways to make what comes of what is there, each in a file of its own, over one notion of which row or
//! column is made of which.

mod aki;
mod lemon;
mod net2net;
mod staged;

use sapwood_plugin::{Error, InitContext, LayerId, Random, Result, Role, TensorMut, TensorView};

use aki::Aki;
use lemon::Lemon;
use net2net::Net2Net;
use staged::Staged;

/// One measure of the model that becomes wider, or stays: the residual stream's coordinates, the columns of all heads, or the
/// neurons of the hidden layer.
struct Axis {
    /// By place: those that were there are made of themselves.
    sources: Vec<usize>,
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
    fn repeated(before: usize, after: usize) -> Result<Axis> {
        Axis::of((0..after).map(|place| place % before.max(1)).collect(), before)
    }

    /// Those that come are made of any that were there, each as likely as any other.
    ///
    /// # Errors
    /// As for [`Axis::repeated`].
    fn drawn(random: &mut Random, before: usize, after: usize) -> Result<Axis> {
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
    fn averaging_the_rest(mut self) -> Axis {
        self.averaged_from = self.before() * self.times();
        for source in &self.sources[self.averaged_from..] {
            self.counts[*source] -= 1;
        }
        self
    }

    /// How many there were.
    fn before(&self) -> usize {
        self.counts.len()
    }

    /// How many there are.
    fn after(&self) -> usize {
        self.sources.len()
    }

    /// Whole repetitions.
    fn times(&self) -> usize {
        self.after() / self.before()
    }

    /// Whether there are more than there were.
    fn grows(&self) -> bool {
        self.after() > self.before()
    }

    /// Whether all that were there have as many copies, and nothing is left over.
    fn is_whole(&self) -> bool {
        self.after().is_multiple_of(self.before())
    }

    /// Whether that place was there.
    fn was_there(&self, place: usize) -> bool {
        place < self.before()
    }

    /// Whether that place is the average of all, and no copy.
    fn is_average(&self, place: usize) -> bool {
        place >= self.averaged_from
    }

    /// How many are made of the same as that place, itself included.
    fn count(&self, place: usize) -> usize {
        self.counts[self.sources[place]]
    }

    /// How many before that place are made of the same.
    fn rank(&self, place: usize) -> usize {
        self.ranks[place]
    }
}

/// What becomes wider of a block, or of what all blocks share.
struct Axes {
    /// The residual stream.
    stream: Axis,
    /// Queries, keys and values of all heads; for the shared tensors a stand-in that never grows.
    attention: Axis,
    /// The MLP's hidden layer; a stand-in as well.
    hidden: Axis,
}

/// The rows of a tensor and its columns: those of one part, where it has three.
struct Sides<'a> {
    /// `None` where rows are tokens or positions, or there is one row.
    rows: Option<&'a Axis>,
    columns: &'a Axis,
    parts: usize,
}

impl Axes {
    /// The stream and heads repeat in order; neurons are as `hidden` has them.
    fn new(
        context: &InitContext<'_>,
        target: &[TensorMut<'_>],
        hidden: impl Fn(usize, usize) -> Result<Axis>,
    ) -> Result<Axes> {
        let own = context.source_tensors()?;
        let sizes = |class: &str, dimension: usize| {
            let pair = target.iter().zip(own).find(|(new, _)| new.class == class);
            let size = |shape: &[u64]| shape.get(dimension).copied().unwrap_or(0) as usize;
            pair.map_or((0, 0), |(new, old)| (size(old.shape), size(new.shape)))
        };
        if context.layer == LayerId::SHARED {
            let (before, after) = sizes("ln_f.weight", 0);
            let [attention, hidden] = [Axis::repeated(1, 1)?, Axis::repeated(1, 1)?];
            return Ok(Axes { stream: Axis::repeated(before, after)?, attention, hidden });
        }
        let [stream, attention] =
            [("ln_1.weight", 0), ("attn.c_proj.weight", 0)].map(|(class, dimension)| sizes(class, dimension));
        let neurons = sizes("mlp.c_fc.bias", 0);
        Ok(Axes {
            stream: Axis::repeated(stream.0, stream.1)?,
            attention: Axis::repeated(attention.0, attention.1)?,
            hidden: hidden(neurons.0, neurons.1)?,
        })
    }

    /// Neurons that come are made of any that were there, drawn anew for each block.
    fn with_drawn_neurons(context: &InitContext<'_>, target: &[TensorMut<'_>]) -> Result<Axes> {
        Axes::new(context, target, |before, after| {
            Axis::drawn(&mut Random::new(context.key.named("neurons")), before, after)
        })
    }

    /// Whether anything grows.
    fn grow(&self) -> bool {
        [&self.stream, &self.attention, &self.hidden].iter().any(|axis| axis.grows())
    }

    /// What a tensor's rows and columns are.
    fn sides(&self, class: &str) -> Sides<'_> {
        let Axes { stream, attention, hidden } = self;
        let (rows, columns, parts) = match class {
            "attn.c_attn.weight" => (Some(stream), attention, 3),
            "attn.c_attn.bias" => (None, attention, 3),
            "attn.c_proj.weight" => (Some(attention), stream, 1),
            "mlp.c_fc.weight" => (Some(stream), hidden, 1),
            "mlp.c_fc.bias" => (None, hidden, 1),
            "mlp.c_proj.weight" => (Some(hidden), stream, 1),
            _ => (None, stream, 1),
        };
        Sides { rows, columns, parts }
    }
}

/// What a way to make a model wider says of each element.
trait Way {
    /// The share that a place has of what goes out of its source.
    fn share(&self, place: usize, axis: &Axis) -> f64;

    /// The same where the tied head reads the final norm.
    fn head_share(&self, place: usize, axis: &Axis) -> f64 {
        self.share(place, axis)
    }

    /// Whether what comes into a place is that of the block above, not of its own.
    fn is_of_above(&self, _place: usize, _axis: &Axis) -> bool {
        false
    }

    /// Whether a map leads from one place to another at all.
    fn leads(&self, _from: (usize, &Axis), _to: (usize, &Axis)) -> bool {
        true
    }
}

/// Fills in a block, or what all blocks share, whose rows and columns are those of its source.
fn fill(way: &impl Way, axes: &Axes, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<()> {
    let own = context.source_tensors()?;
    let above = above(context).unwrap_or(own);
    for (number, (new, old)) in target.iter_mut().zip(own).enumerate() {
        let sides = axes.sides(new.class);
        let Sides { rows, columns, parts } = sides;
        let (width, old_width) = (parts * columns.after(), parts * columns.before());
        let fits = new.shape.last() == Some(&(width as u64))
            && old.values.len() % old_width == 0
            && rows.is_none_or(|rows| old.values.len() == rows.before() * old_width);
        if !fits {
            return Err(Error::new(format!("`{}` has an unknown shape", new.class)));
        }
        for (row, values) in new.values.chunks_exact_mut(width).enumerate() {
            for (place, value) in values.iter_mut().enumerate() {
                let (part, column) = (place / columns.after(), place % columns.after());
                let from_above = is_linear(new.role) && way.is_of_above(column, columns);
                let from = if from_above { above[number].values } else { old.values };
                let from = &from[rows.map_or(row, |rows| rows.sources[row]) * old_width..][..old_width];
                let from = &from[part * columns.before()..][..columns.before()];
                let factor = factor(way, old, &sides, row, column);
                *value = (factor * taken(from, old.role, columns, column)) as f32;
            }
        }
    }
    Ok(())
}

/// What is taken of a row for a column: that of its source, or where the column is an average, that.
fn taken(from: &[f32], role: Role, columns: &Axis, column: usize) -> f64 {
    if !columns.is_average(column) || role == Role::NORM_GAIN {
        return f64::from(from[columns.sources[column]]);
    }
    // A normalised average is zero, and stays it.
    if role == Role::NORM_SHIFT {
        return 0.0;
    }
    from.iter().map(|&value| f64::from(value)).sum::<f64>() / from.len() as f64
}

/// What an element is multiplied by.
fn factor(way: &impl Way, tensor: &TensorView<'_>, sides: &Sides<'_>, row: usize, column: usize) -> f64 {
    let columns = sides.columns;
    if let Some(rows) = sides.rows {
        // What a normalised average leads to does not matter, since it is zero.
        let share = if rows.is_average(row) { 1.0 } else { way.share(row, rows) };
        return if way.leads((row, rows), (column, columns)) { share } else { 0.0 };
    }
    // The tied head reads the final norm: what goes out of its coordinates is shared there.
    let is_shared = tensor.class.starts_with("ln_f.") && !columns.is_average(column);
    let shared = if is_shared { way.head_share(column, columns) } else { 1.0 };
    if tensor.role != Role::NORM_GAIN || columns.is_whole() || !columns.is_average(columns.after() - 1) {
        return shared;
    }
    // Averages take no part in the variance, which is that much smaller.
    shared * ((columns.times() * columns.before()) as f64 / columns.after() as f64).sqrt()
}

fn is_linear(role: Role) -> bool {
    role == Role::WEIGHT || role == Role::BIAS || role.is_branch_output()
}

/// The block right above the source, as it stood.
fn above<'a>(context: &InitContext<'a>) -> Option<&'a [TensorView<'a>]> {
    let position = context.existing.iter().position(|block| Some(block.id) == context.source)?;
    context.existing.get(position + 1).map(|block| block.tensors)
}

/// Noise on what comes into places that come: a share of the root mean square of the matrix.
fn add_noise(context: &InitContext<'_>, axes: &Axes, target: &mut [TensorMut<'_>], share: f64) {
    for new in target.iter_mut().filter(|new| new.shape.len() == 2) {
        let Sides { columns, .. } = axes.sides(new.class);
        let squares: f64 = new.values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let scale = share * (squares / new.values.len().max(1) as f64).sqrt();
        let mut random = Random::new(context.key.named("noise").named(new.class));
        for (index, value) in new.values.iter_mut().enumerate() {
            if !columns.was_there(index % columns.after()) {
                *value = (f64::from(*value) + scale * random.normal()) as f32;
            }
        }
    }
}

sapwood_plugin::export! {
    initializer Net2Net {
        id: "sapwood/net2net",
        summary: "a wider model: copies, what goes out of them shared in equal parts (arXiv 1511.05641)",
        page: include_str!("net2net.rs"),
    }
    initializer Aki {
        id: "sapwood/aki",
        summary: "a wider model: what comes is of the block above (bert2BERT, arXiv 2110.07143)",
        page: include_str!("aki.rs"),
    }
    initializer Lemon {
        id: "sapwood/lemon",
        summary: "a wider model: copies, what goes out of them shared unevenly (arXiv 2310.07999)",
        page: include_str!("lemon.rs"),
    }
    initializer Staged {
        id: "sapwood/staged",
        summary: "a model several times as wide: as many beside each other, and one head (arXiv 2203.06211)",
        page: include_str!("staged.rs"),
    }
}
