//! One tensor that can train: weights, gradient and AdamW state on the device.
//!
//! Not here: which tensor it is in its block.

use engine::{EngineError, Moments, TensorId, TensorSpec};

use crate::kernels::{Kernels, Sink, Update, Write};

pub(crate) struct Param<B> {
    pub(crate) spec: TensorSpec,
    pub(crate) weights: B,
    /// What the last step left; `None` where the tensor does not train.
    pub(crate) gradient: Option<Gradient<B>>,
    /// Both moments; `None` stands for zeros, so that what never trains takes no memory for them.
    moments: Option<(B, B)>,
    /// The last one included, though it may be in doubt.
    updates: u64,
    /// Whether the last update is made only if its step, which nobody has read yet, came to numbers.
    in_doubt: bool,
}

/// A gradient, unclipped.
pub(crate) struct Gradient<B> {
    buffer: B,
    /// Whether the last step has written to it: what did not run is not updated.
    written: bool,
}

impl<B> Param<B> {
    /// Zero weights, never updated.
    pub(crate) fn zero<K: Kernels<Buffer = B>>(spec: TensorSpec, kernels: &K) -> Param<B> {
        let weights = kernels.zeros(spec.len());
        Param { spec, weights, gradient: None, moments: None, updates: 0, in_doubt: false }
    }

    /// Makes a gradient buffer where the tensor trains, and drops it where it does not.
    pub(crate) fn train<K: Kernels<Buffer = B>>(&mut self, trains: bool, kernels: &K) {
        match (trains, &self.gradient) {
            (true, None) => {
                self.gradient = Some(Gradient { buffer: kernels.zeros(self.spec.len()), written: false });
            }
            (false, Some(_)) => self.gradient = None,
            _ => {}
        }
    }

    /// A new step begins: its first micro-batch replaces what the last one left.
    pub(crate) fn forget_gradient(&mut self) {
        if let Some(gradient) = &mut self.gradient {
            gradient.written = false;
        }
    }

    /// What the last step left, if the tensor trained in it.
    pub(crate) fn last_gradient(&self) -> Option<&B> {
        self.gradient.as_ref().filter(|gradient| gradient.written).map(|gradient| &gradient.buffer)
    }

    /// Its part in an update that is about to be made, if it trained; counts that update, until [`settle`](Param::settle)
    /// tells whether it was.
    pub(crate) fn update<K: Kernels<Buffer = B>>(
        &mut self,
        rate_factor: f64,
        kernels: &K,
    ) -> Option<Update<'_, B>> {
        let gradient = self.gradient.as_ref().filter(|gradient| gradient.written).map(|g| &g.buffer)?;
        self.updates += 1;
        self.in_doubt = true;
        let len = self.spec.len();
        let (first, second) = self.moments.get_or_insert_with(|| (kernels.zeros(len), kernels.zeros(len)));
        let (updates, decays) = (self.updates, self.spec.decays());
        let weights = &mut self.weights;
        Some(Update { len, weights, gradient, first, second, updates, decays, rate_factor })
    }

    /// The last step was read: its update was made, or was not.
    pub(crate) fn settle(&mut self, was_made: bool) {
        self.updates = self.updates_if(was_made);
        self.in_doubt = false;
    }

    /// Updates that were made, if the one in doubt was, or was not.
    fn updates_if(&self, was_made: bool) -> u64 {
        self.updates - u64::from(self.in_doubt && !was_made)
    }

    pub(crate) fn set_weights<K: Kernels<Buffer = B>>(
        &mut self,
        id: TensorId,
        weights: &[f32],
        kernels: &K,
    ) -> Result<(), EngineError> {
        self.spec.check_len(id, weights.len())?;
        kernels.upload(weights, &mut self.weights);
        Ok(())
    }

    pub(crate) fn set_moments<K: Kernels<Buffer = B>>(
        &mut self,
        id: TensorId,
        moments: &Moments,
        kernels: &K,
    ) -> Result<(), EngineError> {
        self.spec.check_len(id, moments.first.len())?;
        self.spec.check_len(id, moments.second.len())?;
        self.updates = moments.updates;
        let zero = moments.first.iter().chain(&moments.second).all(|&m| m.to_bits() == 0);
        self.moments = (!zero).then(|| {
            let (mut first, mut second) = (kernels.zeros(self.spec.len()), kernels.zeros(self.spec.len()));
            kernels.upload(&moments.first, &mut first);
            kernels.upload(&moments.second, &mut second);
            (first, second)
        });
        Ok(())
    }

    /// `was_made` tells of an update in doubt.
    pub(crate) fn moments<K: Kernels<Buffer = B>>(&self, was_made: bool, kernels: &K) -> Moments {
        let (len, updates) = (self.spec.len(), self.updates_if(was_made));
        let Some((first, second)) = &self.moments else {
            return Moments { updates, ..Moments::zero(len) };
        };
        let (first, second) = (kernels.download(first, len), kernels.download(second, len));
        Moments { first, second, updates }
    }

    /// Weights and AdamW state, bit for bit in the device's own numbers.
    pub(crate) fn duplicate<K: Kernels<Buffer = B>>(&self, kernels: &K) -> Param<B> {
        let copy = |from: &B| {
            let mut to = kernels.zeros(self.spec.len());
            kernels.copy(from, &mut to);
            to
        };
        Param {
            spec: self.spec.clone(),
            weights: copy(&self.weights),
            gradient: None,
            moments: self.moments.as_ref().map(|(first, second)| (copy(first), copy(second))),
            updates: self.updates,
            in_doubt: self.in_doubt,
        }
    }
}

/// Where a kernel is to leave that gradient, if it is wanted: in place of the last step's, or added to what this
/// step has left there.
pub(crate) fn sink<B>(gradient: &mut Option<Gradient<B>>) -> Option<Sink<'_, B>> {
    gradient.as_mut().map(|Gradient { buffer, written }| {
        let write = if std::mem::replace(written, true) { Write::Add } else { Write::Replace };
        Sink { buffer, write }
    })
}
