//! What every engine refuses in the same words. Not here: what only one of them cannot do.

use std::collections::BTreeMap;

use crate::{EngineError, LayerId, ModelShape, TensorId, TensorSpec, TokenBatch};

impl ModelShape {
    /// Refuses rows that this model cannot read.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a row longer than the context.
    pub fn check_batch(&self, batch: &TokenBatch) -> Result<(), EngineError> {
        if let Some(id) = batch.first_outside(self.vocabulary) {
            return Err(self.outside(id));
        }
        self.check_length(batch.length())
    }

    /// The same for a single row of inputs.
    ///
    /// # Errors
    /// As for [`check_batch`](ModelShape::check_batch).
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(self.outside(id));
        }
        self.check_length(tokens.len())
    }

    fn check_length(&self, length: usize) -> Result<(), EngineError> {
        if length <= self.context {
            return Ok(());
        }
        let context = self.context;
        Err(EngineError::BadBatch(format!(
            "a row of {length} tokens is longer than the context of {context}"
        )))
    }

    fn outside(&self, id: u32) -> EngineError {
        EngineError::BadBatch(format!("token {id} is outside the vocabulary of {} ids", self.vocabulary))
    }
}

impl TensorSpec {
    /// Refuses another number of elements than the tensor has.
    ///
    /// # Errors
    /// That.
    pub fn check_len(&self, id: TensorId, given: usize) -> Result<(), EngineError> {
        if given == self.len() {
            return Ok(());
        }
        Err(EngineError::WrongSize { tensor: id.to_string(), expected: self.len(), given })
    }
}

/// Refuses an order in which not every block of the stack stands once.
///
/// # Errors
/// That.
pub fn check_order(stack: &[LayerId], layers: &[LayerId]) -> Result<(), EngineError> {
    let sorted = |layers: &[LayerId]| {
        let mut sorted = layers.to_vec();
        sorted.sort_unstable();
        sorted
    };
    if sorted(stack) == sorted(layers) {
        return Ok(());
    }
    let list = |layers: &[LayerId]| layers.iter().map(LayerId::to_string).collect::<Vec<_>>().join(" ");
    Err(EngineError::NoSuchTensor(format!(
        "the layers {} are no order of the stack, which has {}",
        list(layers),
        list(stack)
    )))
}

/// The tensors that an edit makes anew, each with its new description and its weights; refuses weights that leave out one
/// whose size changes.
///
/// # Errors
/// A tensor that is missing, not there, or of another size.
pub fn check_resized(
    stack: &[LayerId],
    from: &ModelShape,
    to: &ModelShape,
    weights: Vec<(TensorId, Vec<f32>)>,
) -> Result<Vec<(TensorId, TensorSpec, Vec<f32>)>, EngineError> {
    let mut given: BTreeMap<TensorId, Vec<f32>> = weights.into_iter().collect();
    let mut anew = Vec::new();
    for ((id, spec), (_, old)) in to.tensors(stack).into_iter().zip(from.tensors(stack)) {
        let Some(weights) = given.remove(&id) else {
            if spec.shape != old.shape {
                return Err(EngineError::NoSuchTensor(format!(
                    "the model of another width comes without {id}"
                )));
            }
            continue;
        };
        spec.check_len(id, weights.len())?;
        anew.push((id, spec, weights));
    }
    given.into_keys().next().map_or(Ok(anew), |id| Err(EngineError::missing(id)))
}

impl EngineError {
    /// A tensor that the stack does not have.
    pub fn missing(id: TensorId) -> EngineError {
        EngineError::NoSuchTensor(format!("the stack has no {id}"))
    }
}
