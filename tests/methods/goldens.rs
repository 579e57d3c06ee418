//! Every initializer's output, and the grown model's loss, against numbers that NumPy made from the definitions alone
//! (`tests/golden/initializers/make_golden.py`, where the model is described).

use engine::{Edit, Engine, LayerId, LayerIndex, ModelShape, TensorId, TensorRole, TensorSpec};
use engine_native::Device;
use plugin_host::api::{self, BlockView, InitContext, Key, Role, TensorMut, TensorView};
use serde_json::Value;

use super::bed::{Bed, from_library};
use super::function::{batch_of, loss};

/// Digits of NumPy's summaries; weights are f32.
pub(super) const RELATIVE: f64 = 1e-6;
/// Nats: rounding of f64, and of a weight here and there where logarithms of two libraries round differently.
pub(super) const LOSS_NATS: f64 = 1e-8;

pub(super) type Block = Vec<Vec<f32>>;

/// The `number`-th tensor of the golden model.
fn given(spec: &TensorSpec, number: usize) -> Vec<f32> {
    let mean = f64::from(u8::from(spec.role == TensorRole::NormGain));
    let wave = |i: usize| 0.3 * (0.73 * i as f64 + 1.31 * number as f64).sin();
    (0..spec.len()).map(|i| (wave(i) + mean) as f32).collect()
}

pub(super) fn block(shape: &ModelShape, first: usize) -> Block {
    shape.block_tensors().iter().enumerate().map(|(k, spec)| given(spec, first + k)).collect()
}

pub(super) fn role(role: TensorRole) -> Role {
    match role {
        TensorRole::NormGain => Role::NORM_GAIN,
        TensorRole::NormShift => Role::NORM_SHIFT,
        TensorRole::Bias => Role::BIAS,
        TensorRole::BranchOutputWeight => Role::BRANCH_OUTPUT_WEIGHT,
        TensorRole::BranchOutputBias => Role::BRANCH_OUTPUT_BIAS,
        TensorRole::TokenEmbedding => Role::TOKEN_EMBEDDING,
        TensorRole::PositionEmbedding => Role::POSITION_EMBEDDING,
        TensorRole::Weight => Role::WEIGHT,
    }
}

pub(super) fn views<'a>(
    specs: &[TensorSpec],
    shapes: &'a [Vec<u64>],
    block: &'a Block,
) -> Vec<TensorView<'a>> {
    (specs.iter().zip(shapes).zip(block))
        .map(|((spec, shape), values)| TensorView {
            class: spec.class.0,
            role: role(spec.role),
            shape,
            values,
        })
        .collect()
}

/// What an initializer is asked for.
pub(super) struct Asked<'a> {
    /// Whose tensors, where they will stand, and of which they are made.
    pub(super) layer: LayerId,
    pub(super) position: usize,
    pub(super) source: Option<LayerId>,
    /// Blocks after growth; two are there before.
    pub(super) depth_after: usize,
    /// What is there to be read, and its tensors.
    pub(super) existing: Vec<(LayerId, &'a Block)>,
    pub(super) old_specs: Vec<TensorSpec>,
    /// The tensors to fill in, and how the initial model has them.
    pub(super) specs: Vec<TensorSpec>,
    pub(super) original: Option<&'a Block>,
}

impl Asked<'_> {
    /// What the case's initializer makes.
    pub(super) fn made(&self, shape: &ModelShape, case: &Value) -> Block {
        let [old_shapes, shapes] = [&self.old_specs, &self.specs].map(|specs| {
            let of = |spec: &TensorSpec| spec.shape.iter().map(|&n| n as u64).collect::<Vec<u64>>();
            specs.iter().map(of).collect::<Vec<_>>()
        });
        let tensors = self.existing.iter().map(|(_, block)| views(&self.old_specs, &old_shapes, block));
        let tensors: Vec<Vec<TensorView<'_>>> = tensors.collect();
        let existing = self.existing.iter().zip(&tensors);
        let existing: Vec<BlockView<'_>> =
            existing.map(|((id, _), tensors)| BlockView { id: api::LayerId(id.0), tensors }).collect();
        let original = self.original.map(|block| views(&self.specs, &shapes, block)).unwrap_or_default();
        let context = InitContext {
            layer: api::LayerId(self.layer.0),
            position: self.position,
            depth_before: 2,
            depth_after: self.depth_after,
            final_depth: shape.layers,
            init_std: shape.init_std,
            key: Key::of_seed(7).named("new_blocks").numbered(self.layer.0),
            source: self.source.map(|source| api::LayerId(source.0)),
            existing: &existing,
            original: &original,
        };
        let mut values: Block = self.specs.iter().map(|spec| vec![f32::NAN; spec.len()]).collect();
        let mut target: Vec<TensorMut<'_>> = (self.specs.iter().zip(&shapes).zip(&mut values))
            .map(|((spec, shape), values)| TensorMut {
                class: spec.class.0,
                role: role(spec.role),
                shape,
                values,
            })
            .collect();
        let text = |key: &str| case[key].as_str().expect("text");
        let mut initializer = from_library(text("id"), text("config"));
        initializer.init(&context, &mut target).expect("a source if it needs one");
        values
    }
}

/// The new block as an initializer makes it of the two that are there.
pub(super) fn made(shape: &ModelShape, old: &[Block; 2], case: &Value) -> Block {
    let asked = Asked {
        layer: LayerId(2),
        position: 1,
        source: case["source"].as_u64().map(LayerId),
        depth_after: 3,
        existing: vec![(LayerId(0), &old[0]), (LayerId(1), &old[1])],
        old_specs: shape.block_tensors(),
        specs: shape.block_tensors(),
        original: Some(&block(shape, 88)),
    };
    asked.made(shape, case)
}

/// Embeddings and final norm of the golden model.
pub(super) fn shared(shape: &ModelShape) -> Block {
    shape.shared_tensors().iter().enumerate().map(|(k, spec)| given(spec, k)).collect()
}

/// First, last, sum, sum of squares, sum along a ramp.
pub(super) fn summary(values: &[f32]) -> [f64; 5] {
    let n = values.len() as f64;
    let sum = |of: fn(usize, f64) -> f64| -> f64 {
        values.iter().enumerate().map(|(i, &w)| of(i, f64::from(w))).sum()
    };
    let ends = [values[0], values[values.len() - 1]].map(f64::from);
    [ends[0], ends[1], sum(|_, w| w), sum(|_, w| w * w), sum(|i, w| i as f64 * w) / n]
}

/// The golden model with that stack of blocks, on the f64 device.
pub(super) fn model(shape: &ModelShape, stack: &[&Block]) -> Box<dyn Engine> {
    model_of(shape, &shared(shape), stack)
}

/// The same with other embeddings and another final norm.
pub(super) fn model_of(shape: &ModelShape, shared: &Block, stack: &[&Block]) -> Box<dyn Engine> {
    let mut engine = engine_native::build(shape, Device::Reference).expect("a good shape");
    for (spec, values) in shape.shared_tensors().iter().zip(shared) {
        engine.write(TensorId::shared(spec.class), values).expect("a shared tensor");
    }
    for (at, block) in stack.iter().enumerate() {
        let classes = shape.block_tensors().into_iter().map(|spec| spec.class);
        let weights = classes.zip(block.iter().cloned()).collect();
        let edit = Edit::Insert { at: LayerIndex(at), layer: LayerId(at as u64), weights };
        engine.edit(edit).expect("a block of this shape");
    }
    engine
}

/// The mean loss of the golden rows, with the new block at that place.
fn loss_with(shape: &ModelShape, old: &[Block; 2], new: Option<(usize, &Block)>) -> f64 {
    let mut stack: Vec<&Block> = old.iter().collect();
    if let Some((at, block)) = new {
        stack.insert(at, block);
    }
    let rows = batch_of(shape, |i| 5 * i * i + 3 * i);
    loss(shape, &mut *model(shape, &stack), &rows)
}

#[test]
fn blocks_and_losses_are_those_that_numpy_made() {
    let golden: Value =
        serde_json::from_str(include_str!("../golden/initializers/golden.json")).expect("JSON");
    let bed = Bed::small();
    let shape = bed.shape();
    let old = [block(shape, 4), block(shape, 16)];
    let near = |what: &str, ours: f64, theirs: &Value, tolerance: f64| {
        let theirs = theirs.as_f64().expect("a number");
        assert!((ours - theirs).abs() <= tolerance, "{what}: {ours}, NumPy has {theirs}");
    };
    near("before", loss_with(shape, &old, None), &golden["loss_before"], LOSS_NATS);
    for case in golden["cases"].as_array().expect("cases") {
        let what = format!("{} {} from {}", case["id"], case["config"], case["source"]);
        let new = made(shape, &old, case);
        for (spec, values) in shape.block_tensors().iter().zip(&new) {
            for (number, ours) in summary(values).into_iter().enumerate() {
                let theirs = &case["tensors"][spec.class.0][number];
                near(
                    &format!("{what}: {}, {number}", spec.class),
                    ours,
                    theirs,
                    RELATIVE * ours.abs().max(1.0),
                );
            }
        }
        for at in 0..=2 {
            let ours = loss_with(shape, &old, Some((at, &new)));
            near(&format!("{what} at {at}"), ours, &case["losses"][at], LOSS_NATS);
        }
    }
}

/// So that none is forgotten: a new initializer needs a case.
#[test]
fn every_initializer_that_is_shipped_has_a_case() {
    let golden = include_str!("../golden/initializers/golden.json");
    for id in super::bed::shipped_initializers() {
        assert!(golden.contains(&format!("\"{id}\"")), "{id} has no case in make_golden.py");
    }
}
