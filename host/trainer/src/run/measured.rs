//! What a strategy has measured in steps, between the engine's words and the strategy's.

use engine::{BlockStatistics, LayerId, Statistics, Step, TensorId, TensorStatistics, Wanted};
use plugin_host::api::{self, Measure, Measured, MeasuredBlock, MeasuredTensor};

/// What the engine is to measure in a step.
pub(crate) fn wanted(measure: Option<Measure>, step: Step) -> Wanted {
    match measure.filter(|measure| step.0.is_multiple_of(measure.every_steps)) {
        Some(Measure { tensors, blocks, .. }) => Wanted { tensors, blocks },
        None => Wanted::default(),
    }
}

/// What it has measured.
pub(crate) fn of_step(step: Step, statistics: &Statistics) -> Measured {
    Measured {
        step: step.0,
        tensors: statistics.tensors.iter().map(|(id, tensor)| of_tensor(*id, tensor)).collect(),
        blocks: statistics.blocks.iter().map(of_block).collect(),
    }
}

fn of_tensor(id: TensorId, tensor: &TensorStatistics) -> MeasuredTensor {
    let TensorStatistics { gradient_norm, weight_norm, update_norm, gradient_direction } = *tensor;
    let (layer, class) = (id.layer.map(as_told), id.class.to_string());
    MeasuredTensor { layer, class, gradient_norm, weight_norm, update_norm, gradient_direction }
}

fn of_block(block: &BlockStatistics) -> MeasuredBlock {
    let BlockStatistics { layer, activation_rms, cosine, contribution } = *block;
    MeasuredBlock { layer: as_told(layer), activation_rms, cosine, contribution }
}

fn as_told(layer: LayerId) -> api::LayerId {
    api::LayerId(layer.0)
}
