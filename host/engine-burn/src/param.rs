//! One tensor that can train: weights, gradient and AdamW state on the device.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use engine::{EngineError, Moments, TensorId, TensorSpec};

/// Vectors are held as one row, `[1, n]`, so that a bias is added to every row as it stands.
#[derive(Clone)]
pub(crate) struct Param<B: Backend> {
    pub(crate) spec: TensorSpec,
    pub(crate) weights: Tensor<B, 2>,
    pub(crate) first_moment: Tensor<B, 2>,
    pub(crate) second_moment: Tensor<B, 2>,
    pub(crate) updates: u64,
    /// What the last step left, unclipped; `None` where the tensor did not train.
    pub(crate) gradient: Option<Tensor<B, 2>>,
}

impl<B: Backend> Param<B> {
    /// Zero weights, never updated.
    pub(crate) fn zero(spec: TensorSpec, device: &B::Device) -> Param<B> {
        let zero = || Tensor::zeros(rows_and_columns(&spec), device);
        let (weights, first_moment, second_moment) = (zero(), zero(), zero());
        Param { spec, weights, first_moment, second_moment, updates: 0, gradient: None }
    }

    pub(crate) fn set_weights(&mut self, id: TensorId, weights: &[f32]) -> Result<(), EngineError> {
        self.weights = self.upload(id, weights)?;
        Ok(())
    }

    pub(crate) fn set_moments(&mut self, id: TensorId, moments: &Moments) -> Result<(), EngineError> {
        let (first, second) = (self.upload(id, &moments.first)?, self.upload(id, &moments.second)?);
        (self.first_moment, self.second_moment, self.updates) = (first, second, moments.updates);
        Ok(())
    }

    pub(crate) fn moments(&self) -> Result<Moments, EngineError> {
        let (first, second) = (to_host(&self.first_moment)?, to_host(&self.second_moment)?);
        Ok(Moments { first, second, updates: self.updates })
    }

    pub(crate) fn gradient(&self) -> Result<Vec<f32>, EngineError> {
        self.gradient.as_ref().map_or_else(|| Ok(vec![0.0; self.spec.len()]), to_host)
    }

    fn upload(&self, id: TensorId, values: &[f32]) -> Result<Tensor<B, 2>, EngineError> {
        self.spec.check_len(id, values.len())?;
        let data = TensorData::new(values.to_vec(), rows_and_columns(&self.spec));
        Ok(Tensor::from_data(data, &self.weights.device()))
    }
}

/// A device tensor's values, row-major.
pub(crate) fn to_host<B: Backend>(tensor: &Tensor<B, 2>) -> Result<Vec<f32>, EngineError> {
    let data = tensor.clone().try_into_data().map_err(|error| EngineError::Device(error.to_string()))?;
    data.into_vec().map_err(|error| EngineError::Device(format!("{error:?}")))
}

fn rows_and_columns(spec: &TensorSpec) -> [usize; 2] {
    match spec.shape.as_slice() {
        [rows, columns] => [*rows, *columns],
        _ => [1, spec.len()],
    }
}
