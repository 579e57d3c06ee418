//! The golden runs of `tests/golden/torch_reference` (its README states model, optimizer and tolerances),
//! and an engine filled from them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use engine::{
    AdamW, BlockKind, Edit, Engine, LayerId, LayerIndex, ModelShape, Part, StepOutcome, StepPlan, TensorId,
    TokenBatch, Trainable, Wait,
};
use serde_json::Value;

use super::arrays;
use crate::build;

pub(crate) const SEQUENCES: usize = 4;
pub(crate) const LENGTH: usize = 64;

/// The README's AdamW at that rate.
pub(crate) fn adamw(rate: f64, clip_norm: Option<f64>) -> AdamW {
    AdamW { rate, weight_decay: 0.1, clip_norm, ..AdamW::NOTHING }
}

pub(crate) struct Reference {
    pub(crate) shape: ModelShape,
    pub(crate) expected: Value,
    weights: BTreeMap<String, Vec<f32>>,
    batches: Vec<u16>,
    held_out: Vec<u16>,
}

impl Reference {
    pub(crate) fn load() -> Reference {
        let folder =
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/torch_reference"));
        let expected = fs::read(folder.join("expected.json")).expect("the golden runs are in the repository");
        Reference {
            shape: ModelShape {
                layers: 6,
                width: 64,
                heads: 4,
                context: 64,
                vocabulary: 256,
                init_std: 0.02,
                norm_epsilon: 1e-5,
                mlp_width: None,
                head_width: None,
                block: BlockKind::GPT2,
            },
            expected: serde_json::from_slice(&expected).expect("it is JSON"),
            weights: arrays::safetensors(&folder.join("model.safetensors")),
            batches: arrays::npy_u16(&folder.join("batches.npy")),
            held_out: arrays::npy_u16(&folder.join("eval.npy")),
        }
    }

    pub(crate) fn batch(&self, step: usize) -> TokenBatch {
        let size = SEQUENCES * (LENGTH + 1);
        rows(&self.batches[step * size..(step + 1) * size])
    }

    pub(crate) fn held_out(&self) -> TokenBatch {
        rows(&self.held_out)
    }

    /// Embeddings, final norm and the first `depth` blocks of the saved init; layer k is saved block k.
    pub(crate) fn engine(&self, depth: usize) -> Box<dyn Engine> {
        let mut engine = build(&self.shape).expect("the CPU is there");
        self.fill(&mut *engine, depth);
        engine
    }

    /// The same in an engine that has nothing yet.
    pub(crate) fn fill(&self, engine: &mut dyn Engine, depth: usize) {
        fill_shared(engine, &self.shape, &self.weights);
        for block in 0..depth {
            self.append(engine, block);
        }
    }

    /// Puts saved block `block` on top.
    pub(crate) fn append(&self, engine: &mut dyn Engine, block: usize) {
        let at = engine.layers().len();
        append(engine, &self.shape, &self.weights, block, at);
    }
}

pub(crate) fn fill_shared(engine: &mut dyn Engine, shape: &ModelShape, weights: &BTreeMap<String, Vec<f32>>) {
    for spec in shape.shared_tensors() {
        let id = TensorId::shared(spec.class);
        engine.write(id, &weights[&id.hugging_face_name(None)]).expect("it has this size");
    }
}

/// Inserts saved block `block` as layer `block` at that position.
pub(crate) fn append(
    engine: &mut dyn Engine,
    shape: &ModelShape,
    weights: &BTreeMap<String, Vec<f32>>,
    block: usize,
    at: usize,
) {
    let layer = LayerId(block as u64);
    let saved = shape.block_tensors().into_iter().map(|spec| {
        let name = TensorId::block(layer, spec.class).hugging_face_name(Some(LayerIndex(block)));
        (spec.class, weights[&name].clone())
    });
    let edit = Edit::Insert { at: LayerIndex(at), layer, weights: saved.collect() };
    engine.edit(edit).expect("the layer is new");
}

pub(crate) fn train(
    engine: &mut dyn Engine,
    batch: &TokenBatch,
    trainable: &Trainable,
    update: &AdamW,
) -> StepOutcome {
    let plan = StepPlan::new(trainable.clone(), batch.sequences());
    engine.step(batch, &plan).expect("a good batch and a good scope");
    engine.optimize(update).expect("a healthy device");
    engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made")
}

/// Tensors by the name the record uses, `c_attn.bias` also as its q, k and v.
pub(crate) fn by_name(engine: &dyn Engine, shape: &ModelShape, part: Part) -> BTreeMap<String, Vec<f32>> {
    let layers = engine.layers();
    let mut named = BTreeMap::new();
    for (id, _) in shape.tensors(&layers) {
        let position = layers.iter().position(|&layer| Some(layer) == id.layer).map(LayerIndex);
        let name = id.hugging_face_name(position);
        let values = engine.read(id, part).expect("it is in the stack");
        if id.class.0 == "attn.c_attn.bias" {
            for (third, values) in ["q", "k", "v"].iter().zip(values.chunks_exact(shape.width)) {
                named.insert(format!("{name}[{third}]"), values.to_vec());
            }
        }
        named.insert(name, values);
    }
    named
}

pub(crate) fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64
}

pub(crate) fn l2(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

fn rows(ids: &[u16]) -> TokenBatch {
    TokenBatch::new(ids.iter().map(|&id| id.into()).collect(), SEQUENCES, LENGTH)
}
