//! Wider hidden layers: three ways to make the neurons that come of those that are there, each in a file of its own, over
//! one notion of which neuron is made of which.

mod aki;
mod lemon;
mod net2net;

use sapwood_plugin::{Error, InitContext, Random, Result, Role, TensorMut, TensorView};

use aki::Aki;
use lemon::Lemon;
use net2net::Net2Net;

/// Which neuron each neuron of the wider layer is made of, and how many are made of it.
struct Neurons {
    /// By neuron: those that were there are made of themselves.
    sources: Vec<usize>,
    /// By neuron: how many before it are made of the same.
    ranks: Vec<usize>,
    /// By neuron that was there, itself included.
    counts: Vec<usize>,
}

impl Neurons {
    /// Those that come are made of any that were there, each as likely as any other, and drawn anew for each block.
    fn drawn(context: &InitContext<'_>, before: usize, after: usize) -> Neurons {
        let mut random = Random::new(context.key.named("neurons"));
        let drawn = |neuron: usize| {
            if neuron < before { neuron } else { random.below(before as u64) as usize }
        };
        let sources: Vec<usize> = (0..after).map(drawn).collect();
        let mut counts = vec![0; before];
        let rank = |&source: &usize| {
            counts[source] += 1;
            counts[source] - 1
        };
        let ranks = sources.iter().map(rank).collect();
        Neurons { sources, ranks, counts }
    }

    /// How many are made of the same neuron as that one.
    fn count(&self, neuron: usize) -> usize {
        self.counts[self.sources[neuron]]
    }

    /// Whether that neuron was there.
    fn was_there(&self, neuron: usize) -> bool {
        neuron < self.counts.len()
    }
}

/// What a way to make neurons says of each of them.
trait Way {
    /// Whether what comes into a neuron is that of the block above, not of its own.
    fn is_of_above(&self, _neuron: usize, _neurons: &Neurons) -> bool {
        false
    }

    /// The share of its source's outgoing weights that a neuron has.
    fn share(&self, neuron: usize, neurons: &Neurons) -> f64;
}

/// Fills in a block whose hidden layer is wider than its source's; answers whether it is. One that is not, is a copy.
fn fill(way: &impl Way, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<bool> {
    let own = context.source_tensors()?;
    let above = above(context).unwrap_or(own);
    let hidden = |shape: &[u64]| shape.last().copied().unwrap_or(0) as usize;
    let neurons = target.iter().zip(own).find(|(new, _)| new.class == "mlp.c_fc.bias");
    let neurons = neurons.map(|(new, old)| Neurons::drawn(context, hidden(old.shape), hidden(new.shape)));
    let neurons = neurons.filter(|neurons| !neurons.counts.is_empty());
    let Some(neurons) = neurons else { return Err(Error::new("the block has no MLP that could be wider")) };
    if neurons.sources.len() < neurons.counts.len() {
        return Err(Error::new("this initializer makes hidden layers wider, never narrower"));
    }
    for (number, (new, old)) in target.iter_mut().zip(own).enumerate() {
        match new.class {
            "mlp.c_fc.weight" | "mlp.c_fc.bias" => {
                let width = neurons.sources.len();
                for (index, value) in new.values.iter_mut().enumerate() {
                    let neuron = index % width;
                    let from = if way.is_of_above(neuron, &neurons) { &above[number] } else { old };
                    *value = from.values[index / width * neurons.counts.len() + neurons.sources[neuron]];
                }
            }
            "mlp.c_proj.weight" => {
                let width = hidden(old.shape);
                for (neuron, row) in new.values.chunks_exact_mut(width).enumerate() {
                    let from = neurons.sources[neuron] * width;
                    let share = way.share(neuron, &neurons);
                    for (value, old) in row.iter_mut().zip(&old.values[from..from + width]) {
                        *value = (share * f64::from(*old)) as f32;
                    }
                }
            }
            _ if new.shape == old.shape => new.values.copy_from_slice(old.values),
            other => return Err(Error::new(format!("`{other}` has another shape than its source's"))),
        }
    }
    Ok(neurons.sources.len() > neurons.counts.len())
}

/// The block right above the source, as it stood.
fn above<'a>(context: &InitContext<'a>) -> Option<&'a [TensorView<'a>]> {
    let position = context.existing.iter().position(|block| Some(block.id) == context.source)?;
    context.existing.get(position + 1).map(|block| block.tensors)
}

/// Noise on what comes into neurons that come: a share of the root mean square of the matrix.
fn add_noise(context: &InitContext<'_>, target: &mut [TensorMut<'_>], before: usize, share: f64) {
    for new in target.iter_mut().filter(|new| new.class == "mlp.c_fc.weight" && new.role == Role::WEIGHT) {
        let squares: f64 = new.values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let scale = share * (squares / new.values.len().max(1) as f64).sqrt();
        let width = new.shape.last().copied().unwrap_or(1) as usize;
        let mut random = Random::new(context.key.named("noise"));
        for (index, value) in new.values.iter_mut().enumerate() {
            if index % width >= before {
                *value = (f64::from(*value) + scale * random.normal()) as f32;
            }
        }
    }
}

sapwood_plugin::export! {
    initializer Net2Net {
        id: "sapwood/net2net",
        summary: "wider hidden layers: copies of neurons, what goes out of them shared (arXiv 1511.05641)",
        page: include_str!("net2net.rs"),
    }
    initializer Aki {
        id: "sapwood/aki",
        summary: "wider hidden layers: neurons of the block above (bert2BERT, arXiv 2110.07143)",
        page: include_str!("aki.rs"),
    }
    initializer Lemon {
        id: "sapwood/lemon",
        summary: "wider hidden layers: copies of neurons, what goes out of them shared unevenly (arXiv 2310.07999)",
        page: include_str!("lemon.rs"),
    }
}
