//! A scale that moves from a branch's last map into its gate leaves the function as it was, and AdamW's state follows by a
//! rule: gradients grow by that factor, so first moments do, and second ones by its square (methods with multipliers
//! by depth, as CompleteP, Dey et al., arXiv 2505.01618, fold them).

use engine::{
    AdamW, Entry, Execution, LayerId, LayerIndex, ModelShape, Moments, StepPlan, TensorId, Trainable, Wait,
};
use engine_native::Device;
use plugin_host::api::{OptimizerChange, OptimizerRule, Which};

use super::bed::Bed;
use super::function::batch_of;
use super::goldens::{block, model};

/// A power of two, so that folding rounds nothing.
const RHO: f32 = 0.25;

/// Moments after one step without decays: the gradient, and its square.
fn moments(shape: &ModelShape, gate: f32, scale: f32) -> (f64, Vec<(TensorId, Moments)>) {
    let mut blocks = [block(shape, 4), block(shape, 16)];
    for (spec, values) in shape.block_tensors().iter().zip(&mut blocks[1]) {
        if spec.class.0.starts_with("mlp.c_proj") {
            values.iter_mut().for_each(|value| *value *= scale);
        }
    }
    let mut engine = model(shape, &blocks.each_ref());
    let entries = vec![Entry::whole(LayerId(0)), Entry { mlp_gate: gate, ..Entry::whole(LayerId(1)) }];
    let trainable = Trainable::all(shape, &engine.layers());
    let plan = StepPlan { execution: Execution::Entries(entries), ..StepPlan::new(trainable.clone(), 2) };
    engine.step(&batch_of(shape, |i| 5 * i * i + 3 * i), &plan).expect("a good batch");
    engine.optimize(&AdamW { beta1: 0.0, beta2: 0.0, ..AdamW::NOTHING }).expect("a step was taken");
    let loss =
        engine.outcome(Wait::ForAll).expect("a good device").expect("it was optimized").loss_nats_per_token;
    let moments = trainable.iter().map(|id| (id, engine.moments(id).expect("it is there")));
    (loss, moments.collect())
}

#[test]
fn folded_weights_have_the_moments_that_the_rule_gives_them() {
    let bed = Bed::small();
    let shape = bed.shape();
    let (loss, plain) = moments(shape, 1.0, 1.0);
    let (folded_loss, folded) = moments(shape, RHO, 1.0 / RHO);
    assert_eq!(loss, folded_loss, "the same function");
    let rule = OptimizerChange::Scale { first: f64::from(RHO), second: f64::from(RHO * RHO) };
    for ((id, plain), (_, folded)) in plain.iter().zip(&folded) {
        let is_folded = id.layer == Some(LayerId(1)) && id.class.0.starts_with("mlp.c_proj");
        let expected = if is_folded { scaled(shape, *id, plain, &rule) } else { plain.clone() };
        let near = |ours: &[f32], theirs: &[f32]| {
            let largest = theirs.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
            ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= 1e-6 * largest)
        };
        assert!(near(&folded.first, &expected.first) && near(&folded.second, &expected.second), "{id}");
        assert_eq!(
            near(&folded.first, &plain.first),
            !is_folded,
            "{id}: the rule is needed, and there alone"
        );
    }
}

/// As the host carries the rule out.
fn scaled(shape: &ModelShape, id: TensorId, moments: &Moments, change: &OptimizerChange) -> Moments {
    let mut engine = engine_native::build(shape, Device::Reference).expect("a good shape");
    let layer = id.layer.expect("of a block");
    let weights = shape.block_tensors().into_iter().map(|spec| (spec.class, vec![0.0; spec.len()])).collect();
    engine.edit(engine::Edit::Insert { at: LayerIndex(0), layer, weights }).expect("a new block");
    engine.set_moments(id, moments).expect("of its size");
    let rule = OptimizerRule { which: Which::Class(id.class.0.into()), change: change.clone() };
    trainer::change_optimizer(&mut *engine, shape, &rule).expect("a tensor of the stack");
    engine.moments(id).expect("it is there")
}
