//! Initializers that are wrong on purpose: a proof that lets one of these pass proves nothing.

use plugin_host::api::{self, Claim, InitContext, LayerInitializer, Role, TensorMut};

/// What is wrong.
pub(super) enum Wrong {
    /// The last map of each branch is zero, but not its bias: exact where a block has no biases, as with LLaMA's, and
    /// not in GPT-2.
    KeepsOutputBias,
    /// Every element is zero: it adds nothing, and nothing but the last biases ever gets a gradient.
    AllZero,
}

impl LayerInitializer for Wrong {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> api::Result<Claim> {
        for (new, source) in target.iter_mut().zip(context.source_tensors()?) {
            let zero = match self {
                Wrong::KeepsOutputBias => new.role == Role::BRANCH_OUTPUT_WEIGHT,
                Wrong::AllZero => true,
            };
            if zero { new.values.fill(0.0) } else { new.values.copy_from_slice(source.values) }
        }
        Ok(Claim::None)
    }

    api::stateless!();
}
