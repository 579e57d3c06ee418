//! A GPT-2 of a few thousand weights that grows by an initializer, with a forward pass in f64: enough to see
//! whether every element is written, and whether a claim about the model's function holds.

mod forward;

use crate::{
    BlockView, Claim, InitContext, Key, LayerId, LayerInitializer, Random, Result, Role, TensorMut,
    TensorView, Widths,
};

/// A block's tensors in order: class and role. Shapes follow from the width.
pub(super) const BLOCK_CLASSES: [(&str, Role); 12] = [
    ("ln_1.weight", Role::NORM_GAIN),
    ("ln_1.bias", Role::NORM_SHIFT),
    ("attn.c_attn.weight", Role::WEIGHT),
    ("attn.c_attn.bias", Role::BIAS),
    ("attn.c_proj.weight", Role::BRANCH_OUTPUT_WEIGHT),
    ("attn.c_proj.bias", Role::BRANCH_OUTPUT_BIAS),
    ("ln_2.weight", Role::NORM_GAIN),
    ("ln_2.bias", Role::NORM_SHIFT),
    ("mlp.c_fc.weight", Role::WEIGHT),
    ("mlp.c_fc.bias", Role::BIAS),
    ("mlp.c_proj.weight", Role::BRANCH_OUTPUT_WEIGHT),
    ("mlp.c_proj.bias", Role::BRANCH_OUTPUT_BIAS),
];

/// The tensors beside the blocks.
pub(super) const SHARED_CLASSES: [(&str, Role); 4] = [
    ("wte.weight", Role::TOKEN_EMBEDDING),
    ("wpe.weight", Role::POSITION_EMBEDDING),
    ("ln_f.weight", Role::NORM_GAIN),
    ("ln_f.bias", Role::NORM_SHIFT),
];

/// Where new blocks go in a [`SmallModel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The lowest new block's position, 0 = next to the embeddings.
    pub position: usize,
    /// How many.
    pub count: usize,
    /// For each new block the block that it is made from; empty where none is named.
    pub sources: Vec<LayerId>,
}

/// What an initializer did.
#[derive(Clone, Debug, PartialEq)]
pub struct Grown {
    /// Its claim for each new block, and for the shared tensors where it was asked for them.
    pub claims: Vec<Claim>,
    /// Elements that are not finite or were not written, as `class of block, element`.
    pub not_finite: Vec<String>,
    /// Largest change of a single token's loss, in nats.
    pub largest_token_loss_change: f64,
    /// The largest absolute value that it wrote.
    pub largest_value: f64,
}

impl Grown {
    /// Whether a host would let every claim of exactness stand.
    pub fn exact_claims_hold(&self) -> bool {
        let claimed = self.claims.contains(&Claim::Exact);
        // Rounding of f32 weights; what changes the function moves a loss by far more.
        !claimed || self.largest_token_loss_change <= 1e-5
    }
}

/// A small GPT-2: tied head, learned positions, pre-norm blocks with biases, no tensor of them zero, as after
/// some training.
///
/// ```
/// # use sapwood_plugin::*;
/// # struct ZeroOut;
/// # impl LayerInitializer for ZeroOut {
/// #     fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
/// #         for (new, from) in target.iter_mut().zip(context.original_tensors()?) {
/// #             if new.role.is_branch_output() { new.values.fill(0.0) } else { new.values.copy_from_slice(from.values) }
/// #         }
/// #         Ok(Claim::Exact)
/// #     }
/// #     sapwood_plugin::stateless!();
/// # }
/// use sapwood_plugin::testing::{Growth, SmallModel};
///
/// let mut model = SmallModel::new(2);
/// let grown = model.grow(&mut ZeroOut, &Growth { position: 1, count: 2, sources: vec![] })?;
/// assert_eq!(model.depth(), 4);
/// assert!(grown.not_finite.is_empty() && grown.exact_claims_hold());
/// # sapwood_plugin::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct SmallModel {
    widths: Widths,
    head_width: usize,
    vocabulary: usize,
    context: usize,
    key: Key,
    next_layer: u64,
    has_original: bool,
    /// In the order of [`SHARED_CLASSES`].
    shared: Vec<Vec<f32>>,
    blocks: Vec<(LayerId, Vec<Vec<f32>>)>,
}

/// What an initializer is asked for.
struct Asked {
    layer: LayerId,
    position: usize,
    depth_after: usize,
    source: Option<LayerId>,
    widths: Widths,
}

/// The classes of what has that identity.
fn classes(layer: LayerId) -> &'static [(&'static str, Role)] {
    if layer == LayerId::SHARED { &SHARED_CLASSES } else { &BLOCK_CLASSES }
}

fn first_not_finite(layer: LayerId, tensors: &[Vec<f32>]) -> Vec<String> {
    let of = |((class, _), values): (&(&str, Role), &Vec<f32>)| {
        let at = values.iter().position(|value| !value.is_finite())?;
        let whose = if layer == LayerId::SHARED { "all blocks".into() } else { format!("block {layer}") };
        Some(format!("{class} of {whose}, element {at}"))
    };
    classes(layer).iter().zip(tensors).filter_map(of).collect()
}

/// Standard deviation of the initial weights.
const INIT_STD: f64 = 0.02;

impl SmallModel {
    /// That many blocks, 8 wide.
    pub fn new(depth: usize) -> SmallModel {
        SmallModel::with_width(depth, 8)
    }

    /// That many blocks, and that wide: an even number.
    pub fn with_width(depth: usize, width: usize) -> SmallModel {
        let heads = if width % 2 == 0 { 2 } else { 1 };
        SmallModel::with_widths(depth, Widths { width, heads, mlp_width: 4 * width }, width / heads)
    }

    /// That many blocks, that wide, with heads of `head_width` columns each.
    pub fn with_widths(depth: usize, widths: Widths, head_width: usize) -> SmallModel {
        let (vocabulary, context, width) = (23, 6, widths.width);
        let key = Key::of_seed(1).named("small model");
        let draw = |name: &str, len: usize, mean: f64| {
            let mut random = Random::new(key.named(name));
            (0..len).map(|_| (mean + 0.2 * random.normal()) as f32).collect::<Vec<f32>>()
        };
        let mut model = SmallModel {
            widths,
            head_width,
            vocabulary,
            context,
            key,
            next_layer: depth as u64,
            has_original: true,
            shared: vec![
                draw("wte.weight", vocabulary * width, 0.0),
                draw("wpe.weight", context * width, 0.0),
                draw("ln_f.weight", width, 1.0),
                draw("ln_f.bias", width, 0.0),
            ],
            blocks: Vec::new(),
        };
        let trained = |id| (LayerId(id), model.drawn("trained", LayerId(id), 0.15, widths));
        model.blocks = (0..depth as u64).map(trained).collect();
        model
    }

    /// The same model of a run that starts from a checkpoint without further blocks: an initializer finds no
    /// `original`.
    #[must_use]
    pub fn without_originals(self) -> SmallModel {
        SmallModel { has_original: false, ..self }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// How wide it is.
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// Embeddings and final norm, in the order of GPT-2's state.
    pub fn shared(&self) -> &[Vec<f32>] {
        &self.shared
    }

    /// The blocks' identities, from the embeddings up.
    pub fn layers(&self) -> Vec<LayerId> {
        self.blocks.iter().map(|(layer, _)| *layer).collect()
    }

    /// The weights of a block, tensor by tensor, in the order of GPT-2's state.
    pub fn block(&self, layer: LayerId) -> Option<&[Vec<f32>]> {
        self.blocks.iter().find(|(id, _)| *id == layer).map(|(_, tensors)| tensors.as_slice())
    }

    /// Multiplies every weight of every block, for a look at extreme values.
    pub fn scale_blocks(&mut self, factor: f32) {
        let tensors = self.blocks.iter_mut().flat_map(|(_, tensors)| tensors);
        tensors.flatten().for_each(|value| *value *= factor);
    }

    /// Has an initializer fill in new blocks, and looks at what it did.
    ///
    /// # Errors
    /// What the initializer answers.
    pub fn grow(&mut self, initializer: &mut dyn LayerInitializer, growth: &Growth) -> Result<Grown> {
        let before = self.token_losses();
        let mut new = Vec::new();
        let (mut claims, mut not_finite) = (Vec::new(), Vec::new());
        for index in 0..growth.count {
            let layer = LayerId(self.next_layer + index as u64);
            let asked = Asked {
                layer,
                position: growth.position + index,
                depth_after: self.depth() + growth.count,
                source: growth.sources.get(index).copied(),
                widths: self.widths,
            };
            let (tensors, claim) = self.ask(initializer, &asked)?;
            not_finite.extend(first_not_finite(layer, &tensors));
            claims.push(claim);
            new.push((layer, tensors));
        }
        let values = new.iter().flat_map(|(_, tensors)| tensors).flatten();
        let largest_value = values.fold(0.0, |most: f64, value| most.max(f64::from(value.abs())));
        self.next_layer += growth.count as u64;
        let position = growth.position.min(self.blocks.len());
        self.blocks.splice(position..position, new);
        let changes = before.iter().zip(self.token_losses()).map(|(before, after)| (before - after).abs());
        let largest_token_loss_change = changes.fold(0.0, f64::max);
        Ok(Grown { claims, not_finite, largest_token_loss_change, largest_value })
    }

    /// Has an initializer make the model wider, as a host does for [`Actions::widen`](crate::Actions::widen), and looks at
    /// what it did.
    ///
    /// # Errors
    /// What the initializer answers.
    pub fn widen(&mut self, initializer: &mut dyn LayerInitializer, widths: Widths) -> Result<Grown> {
        let before = self.token_losses();
        let (mut claims, mut not_finite, mut largest_value) = (Vec::new(), Vec::new(), 0.0f64);
        let mut wider = Vec::new();
        let shared = (widths.width != self.widths.width).then_some((0, LayerId::SHARED));
        for (position, layer) in shared.into_iter().chain(self.layers().into_iter().enumerate()) {
            let (depth_after, source) = (self.depth(), Some(layer));
            let asked = Asked { layer, position, depth_after, source, widths };
            let (tensors, claim) = self.ask(initializer, &asked)?;
            not_finite.extend(first_not_finite(layer, &tensors));
            claims.push(claim);
            wider.push((layer, tensors));
        }
        for (layer, tensors) in wider {
            let resized = self.shapes(layer, self.widths).into_iter().zip(self.shapes(layer, widths));
            let resized: Vec<bool> = resized.map(|(old, new)| old != new).collect();
            let held = match self.blocks.iter_mut().find(|(id, _)| *id == layer) {
                Some((_, held)) => held,
                None => &mut self.shared,
            };
            for ((held, values), _) in
                held.iter_mut().zip(tensors).zip(resized).filter(|(_, resized)| *resized)
            {
                largest_value =
                    values.iter().fold(largest_value, |most, value| most.max(f64::from(value.abs())));
                *held = values;
            }
        }
        self.widths = widths;
        let changes = before.iter().zip(self.token_losses()).map(|(before, after)| (before - after).abs());
        let largest_token_loss_change = changes.fold(0.0, f64::max);
        Ok(Grown { claims, not_finite, largest_token_loss_change, largest_value })
    }

    fn ask(&self, initializer: &mut dyn LayerInitializer, asked: &Asked) -> Result<(Vec<Vec<f32>>, Claim)> {
        let Asked { layer, .. } = *asked;
        let (shapes, wanted) = (self.shapes(layer, self.widths), self.shapes(layer, asked.widths));
        let shown: Vec<(LayerId, &Vec<Vec<f32>>)> = if layer == LayerId::SHARED {
            vec![(layer, &self.shared)]
        } else {
            self.blocks.iter().map(|(id, tensors)| (*id, tensors)).collect()
        };
        let tensors: Vec<Vec<TensorView<'_>>> =
            shown.iter().map(|(_, tensors)| views(layer, &shapes, tensors)).collect();
        let existing: Vec<BlockView<'_>> =
            shown.iter().zip(&tensors).map(|((id, _), tensors)| BlockView { id: *id, tensors }).collect();
        let original = self.has_original.then(|| self.drawn("original", layer, INIT_STD, asked.widths));
        let original = original.unwrap_or_default();
        let original = views(layer, &wanted, &original);
        let context = InitContext {
            layer,
            position: asked.position,
            depth_before: self.depth(),
            depth_after: asked.depth_after,
            final_depth: 2 * asked.depth_after,
            init_std: INIT_STD,
            key: self.key.named("new_blocks").numbered(layer.0),
            source: asked.source,
            existing: &existing,
            original: &original,
        };
        let len = |shape: &Vec<u64>| shape.iter().product::<u64>() as usize;
        let mut values: Vec<Vec<f32>> = wanted.iter().map(|shape| vec![f32::NAN; len(shape)]).collect();
        let mut target: Vec<TensorMut<'_>> = (classes(layer).iter().zip(&wanted).zip(&mut values))
            .map(|((&(class, role), shape), values)| TensorMut { class, role, shape, values })
            .collect();
        let claim = initializer.init(&context, &mut target)?;
        Ok((values, claim))
    }

    fn shapes(&self, layer: LayerId, widths: Widths) -> Vec<Vec<u64>> {
        let (vocabulary, context) = (self.vocabulary as u64, self.context as u64);
        let [width, heads, hidden] = widths.all().map(|size| size as u64);
        let attention = heads * self.head_width as u64;
        let of = |class: &str| match class {
            "attn.c_attn.weight" => vec![width, 3 * attention],
            "attn.c_attn.bias" => vec![3 * attention],
            "attn.c_proj.weight" => vec![attention, width],
            "mlp.c_fc.weight" => vec![width, hidden],
            "mlp.c_fc.bias" => vec![hidden],
            "mlp.c_proj.weight" => vec![hidden, width],
            "wte.weight" => vec![vocabulary, width],
            "wpe.weight" => vec![context, width],
            _ => vec![width],
        };
        classes(layer).iter().map(|(class, _)| of(class)).collect()
    }

    /// The tensors of what has that identity, from the stream of that name.
    fn drawn(&self, name: &str, layer: LayerId, std: f64, widths: Widths) -> Vec<Vec<f32>> {
        let key = self.key.named(name).numbered(layer.0);
        let shapes = self.shapes(layer, widths);
        let draw = |((class, role), shape): (&(&str, Role), &Vec<u64>)| {
            let mut random = Random::new(key.named(class));
            let mean = if *role == Role::NORM_GAIN { 1.0 } else { 0.0 };
            let len = shape.iter().product::<u64>();
            (0..len).map(|_| (mean + std * random.normal()) as f32).collect()
        };
        classes(layer).iter().zip(&shapes).map(draw).collect()
    }
}

fn views<'a>(layer: LayerId, shapes: &'a [Vec<u64>], tensors: &'a [Vec<f32>]) -> Vec<TensorView<'a>> {
    (classes(layer).iter().zip(shapes).zip(tensors))
        .map(|((&(class, role), shape), values)| TensorView { class, role, shape, values })
        .collect()
}
