//! What a simulated run measures, by the rule that `SimulatedRun` states.

use super::SimulatedRun;
use super::small_model::{BLOCK_CLASSES, SHARED_CLASSES};
use super::stack::Stack;
use crate::{LayerId, Measure, Measured, MeasuredBlock, MeasuredTensor};

impl SimulatedRun {
    /// What is measured in a step on that stack.
    pub(super) fn measured(&self, step: u64, measure: Measure, stack: &Stack) -> Measured {
        let fallen = 1.0 / (1.0 + step as f64 / 20.0);
        let mut measured = Measured { step, tensors: Vec::new(), blocks: Vec::new() };
        if measure.tensors {
            let shared = SHARED_CLASSES.iter().filter(|_| stack.shared_train);
            measured.tensors.extend(shared.map(|(class, _)| tensor(None, class, fallen)));
            for (position, block) in stack.blocks.iter().enumerate().filter(|(_, block)| block.trains == 1) {
                let norm = self.gradient_norms.get(position).copied().unwrap_or(1.0) * fallen;
                // Each of a block's tensors has an equal part in its norm.
                let part = norm / (BLOCK_CLASSES.len() as f64).sqrt();
                measured
                    .tensors
                    .extend(BLOCK_CLASSES.iter().map(|(class, _)| tensor(Some(block.id), class, part)));
            }
        }
        if measure.blocks {
            let blocks = stack.blocks.iter().map(|block| block.id);
            let block = |layer| MeasuredBlock { layer, activation_rms: 1.0, cosine: 0.9, contribution: 0.1 };
            measured.blocks.extend(blocks.map(block));
        }
        measured
    }
}

fn tensor(layer: Option<LayerId>, class: &str, gradient_norm: f64) -> MeasuredTensor {
    let class = class.to_owned();
    MeasuredTensor {
        layer,
        class,
        gradient_norm,
        weight_norm: 1.0,
        update_norm: 1e-3,
        gradient_direction: 0.5,
    }
}
