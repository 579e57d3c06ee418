//! What a step takes in memory, told before it is made. Not here: who limits it.

use engine::{Execution, LayerId, ModelShape, StepMemory, StepPlan, TensorRole};

use crate::{
    arena::{Elements, Layout},
    evaluate,
    kernels::{Form, Kernels},
    plan::Plan,
};

/// Of a step with micro-batches of `form`, and an evaluation of as many sequences beside it.
pub(crate) fn of_step<K: Kernels>(
    kernels: &K,
    shape: &ModelShape,
    stack: &[LayerId],
    plan: &StepPlan,
    form: Form,
) -> StepMemory {
    let bytes = |elements: usize| kernels.bytes(elements);
    let of_arena = |Elements { whole, activations }| bytes(whole) + kernels.activation_bytes(activations);
    let tensors = shape.tensors(stack);
    let weights: usize = tensors.iter().map(|(_, spec)| spec.len()).sum();
    let factors = tensors.iter().filter(|(_, spec)| is_factor(spec.role));
    let factors: u64 = factors.map(|(_, spec)| kernels.factor_bytes(spec.len())).sum();
    let trains = tensors.iter().filter(|(tensor, _)| plan.trainable.contains(*tensor));
    let trains: usize = trains.map(|(_, spec)| spec.len()).sum();
    let activations = Layout::new(&Plan::new(shape, stack, plan)).elements(&form, kernels);
    let evaluated = evaluate::at_once(form, kernels);
    let evaluation =
        Layout::new(&Plan::forward_only(shape, stack, &Execution::WholeStack)).elements(&evaluated, kernels);
    StepMemory {
        weights: bytes(weights) + factors,
        gradients: bytes(trains),
        moments: 2 * bytes(trains),
        activations: of_arena(activations) + kernels.scratch_bytes(&form),
        evaluation: of_arena(evaluation),
    }
}

/// Whether products read it, or add it to what they write.
fn is_factor(role: TensorRole) -> bool {
    use TensorRole::{Bias, BranchOutputWeight, TokenEmbedding, Weight};
    matches!(role, Weight | Bias | BranchOutputWeight | TokenEmbedding)
}
