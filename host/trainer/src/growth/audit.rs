//! The host's own checks that frozen means frozen: fingerprints of every tensor at a phase's start, looked
//! at again at its end.

use std::collections::BTreeMap;

use engine::{EngineError, Model, ModelShape, Part, Step, TensorId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::course::Course;
use crate::folder::records::PhaseAudit;

/// The state of all tensors at the start of a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseStart {
    /// The phase's label.
    pub label: String,
    /// Its first step.
    pub first_step: Step,
    fingerprints: BTreeMap<String, Fingerprint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    weights: String,
    moments: String,
    trains: bool,
}

impl PhaseStart {
    /// Looks at every tensor.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn take(
        model: &dyn Model,
        shape: &ModelShape,
        course: &Course,
        first_step: Step,
    ) -> Result<PhaseStart, EngineError> {
        let tensors = shape.tensors(&course.layers()).into_iter();
        let fingerprints = tensors
            .map(|(tensor, _)| {
                let trains = course.trainable.contains(tensor);
                Ok((tensor.to_string(), Fingerprint::take(model, tensor, trains)?))
            })
            .collect::<Result<_, EngineError>>()?;
        Ok(PhaseStart { label: course.phase.clone(), first_step, fingerprints })
    }

    /// Looks again, at the end of the phase.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn audit(
        &self,
        model: &dyn Model,
        shape: &ModelShape,
        end_step: Step,
    ) -> Result<PhaseAudit, EngineError> {
        let mut audit = PhaseAudit {
            label: self.label.clone(),
            first_step: self.first_step,
            end_step,
            moved: 0,
            trained_but_unmoved: Vec::new(),
            frozen: 0,
            frozen_bit_identical: true,
        };
        for (tensor, _) in shape.tensors(&model.layers()) {
            let name = tensor.to_string();
            let Some(before) = self.fingerprints.get(&name) else { continue };
            let now = Fingerprint::take(model, tensor, before.trains)?;
            if !before.trains {
                audit.frozen += 1;
                audit.frozen_bit_identical &= now == *before;
            } else if now.weights == before.weights {
                audit.trained_but_unmoved.push(name);
            } else {
                audit.moved += 1;
            }
        }
        Ok(audit)
    }

    /// One hash of all tensors and their moments, as they were when they were looked at last.
    pub(crate) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for (name, fingerprint) in &self.fingerprints {
            let Fingerprint { weights, moments, .. } = fingerprint;
            hash.update([name.as_str(), weights, moments].join(" "));
        }
        format!("{:x}", hash.finalize())
    }
}

impl PhaseStart {
    /// Looks at what is frozen once more: its AdamW state was changed on request, and counts from here on.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn look_again(&mut self, model: &dyn Model, shape: &ModelShape) -> Result<(), EngineError> {
        for (tensor, _) in shape.tensors(&model.layers()) {
            if let Some(before) =
                self.fingerprints.get_mut(&tensor.to_string()).filter(|before| !before.trains)
            {
                *before = Fingerprint::take(model, tensor, false)?;
            }
        }
        Ok(())
    }
}

impl Fingerprint {
    fn take(model: &dyn Model, tensor: TensorId, trains: bool) -> Result<Fingerprint, EngineError> {
        let moments = model.moments(tensor)?;
        let mut hash = Sha256::new();
        absorb(&mut hash, &moments.first);
        absorb(&mut hash, &moments.second);
        hash.update(moments.updates.to_le_bytes());
        let mut weights = Sha256::new();
        absorb(&mut weights, &model.read(tensor, Part::Weights)?);
        let [weights, moments] = [weights, hash].map(|hash| format!("{:x}", hash.finalize()));
        Ok(Fingerprint { weights, moments, trains })
    }
}

fn absorb(hash: &mut Sha256, values: &[f32]) {
    // In pieces, so that the bytes of a large tensor are not held a second time.
    let mut bytes = Vec::with_capacity(4 * 4096);
    for piece in values.chunks(4096) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
        hash.update(&bytes);
    }
}
