//! An engine without arithmetic: its losses are a stated function of what it was asked, so that a wrong
//! decision of the trainer shows in a number, and it fails on demand. Tests and dry runs use it.
//!
//! With `updates` = the mean step counter over the tensors of the stack:
//!
//! ```text
//! loss = ln(vocabulary) (1/4 + 3/4 / (1 + updates / 100)) + 1 / (20 (1 + depth)) + h / 1000
//! gradient norm = loss * (tensors that train / tensors of the stack)
//! ```
//!
//! where `h` in [0, 1) is a hash of the weights, of the tokens and of gates that are not 1; where a weight is no number the loss
//! is none. AdamW runs for real, on a pseudo-random
//! gradient drawn from the tensor's name and its step counter. A gradient's norm is measured as `1 / (1 + updates)`.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use crate::{
    AdamW, BlockStatistics, Edit, Energy, Engine, EngineError, EngineInfo, Entry, Execution, LayerId, Model,
    ModelShape, Moments, Part, Statistics, Step, StepMemory, StepOutcome, StepPlan, TensorId, TensorSpec,
    TensorStatistics, TokenBatch, Wait, Wanted, Widths, check_order, check_resized,
};

/// The engine's name in messages.
const NAME: &str = "scripted";

/// Whether a [`ScriptedEngine`] holds weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// It does; tests want this.
    Kept,
    /// It answers zeros and forgets what is written: pricing a model needs no memory for it.
    Forgotten,
}

/// A failure on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The step at which it happens, counted from 0 since the engine was built.
    pub at: Step,
    /// What happens.
    pub kind: FaultKind,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The device fails.
    Device,
    /// The device has no memory left.
    OutOfMemory,
    /// The loss is not a number.
    NotANumber,
    /// The engine panics, as a library beneath it might.
    Panic,
}

/// See the module's text.
pub struct ScriptedEngine {
    shape: ModelShape,
    weights: Weights,
    layers: Vec<LayerId>,
    tensors: BTreeMap<TensorId, Tensor>,
    steps: u64,
    in_flight: Option<(StepPlan, StepOutcome)>,
    outcomes: VecDeque<StepOutcome>,
    faults: Vec<Fault>,
    meter: Option<Meter>,
}

/// Of an engine that works on its own time: half of what a step takes is used once `optimize` has returned and it was asked.
#[derive(Default)]
struct Meter {
    used_millijoules: Cell<u64>,
    coming_millijoules: Cell<u64>,
}

/// Of a step, where energy is told of.
pub const MILLIJOULES_OF_A_STEP: u64 = 2000;
/// Of an evaluation.
const MILLIJOULES_OF_AN_EVALUATION: u64 = 7000;

impl Meter {
    fn add(&self, now: u64, later: u64) {
        self.used_millijoules.set(self.used_millijoules.get() + now);
        self.coming_millijoules.set(self.coming_millijoules.get() + later);
    }

    fn read(&self) -> u64 {
        let now = self.used_millijoules.get();
        self.used_millijoules.set(now + self.coming_millijoules.take());
        now
    }
}

struct Tensor {
    spec: TensorSpec,
    weights: Vec<f32>,
    moments: Moments,
}

impl ScriptedEngine {
    /// No block yet, shared tensors at zero.
    pub fn new(shape: &ModelShape, weights: Weights) -> ScriptedEngine {
        let mut engine = ScriptedEngine {
            shape: shape.clone(),
            weights,
            layers: Vec::new(),
            tensors: BTreeMap::new(),
            steps: 0,
            in_flight: None,
            outcomes: VecDeque::new(),
            faults: Vec::new(),
            meter: None,
        };
        for spec in shape.shared_tensors() {
            engine.add(TensorId::shared(spec.class), spec);
        }
        engine
    }

    /// The same, failing at these steps.
    pub fn failing(shape: &ModelShape, faults: &[Fault]) -> ScriptedEngine {
        ScriptedEngine { faults: faults.to_vec(), ..ScriptedEngine::new(shape, Weights::Kept) }
    }

    /// The same, telling of its energy: [`MILLIJOULES_OF_A_STEP`] for each step.
    pub fn metered(shape: &ModelShape) -> ScriptedEngine {
        ScriptedEngine { meter: Some(Meter::default()), ..ScriptedEngine::new(shape, Weights::Kept) }
    }

    fn add(&mut self, tensor: TensorId, spec: TensorSpec) {
        let len = if self.weights == Weights::Kept { spec.len() } else { 0 };
        let moments = Moments::zero(len);
        self.tensors.insert(tensor, Tensor { spec, weights: vec![0.0; len], moments });
    }

    fn get(&self, tensor: TensorId) -> Result<&Tensor, EngineError> {
        self.tensors.get(&tensor).ok_or_else(|| EngineError::missing(tensor))
    }

    fn get_mut(&mut self, tensor: TensorId) -> Result<&mut Tensor, EngineError> {
        self.tensors.get_mut(&tensor).ok_or_else(|| EngineError::missing(tensor))
    }

    /// The stated function.
    fn loss(&self, rows: &[u32], execution: &Execution) -> f64 {
        let vocabulary = self.shape.vocabulary as f64;
        let updates: u64 = self.tensors.values().map(|tensor| tensor.moments.updates).sum();
        let updates = updates as f64 / self.tensors.len() as f64;
        let learned = 0.25 + 0.75 / (1.0 + updates / 100.0);
        let depth = 1.0 / (20.0 * (1.0 + self.layers.len() as f64));
        if self.tensors.values().any(|tensor| tensor.weights.iter().any(|weight| weight.is_nan())) {
            return f64::NAN;
        }
        vocabulary.ln() * learned + depth + self.hash(rows, execution) / 1000.0
    }

    /// In [0, 1), from the bits of all weights in the order of the stack, of the tokens, and of gates that are not 1.
    fn hash(&self, rows: &[u32], execution: &Execution) -> f64 {
        let ordered = self.shape.tensors(&self.layers);
        let weights = ordered.iter().flat_map(|(tensor, _)| self.tensors[tensor].weights.iter());
        let entries = if let Execution::Entries(entries) = execution { entries.as_slice() } else { &[] };
        let gates = entries.iter().flat_map(|entry| [entry.attention_gate, entry.mlp_gate]);
        let gates = gates.filter(|&gate| gate != 1.0).map(f32::to_bits);
        let bits = weights.map(|w| w.to_bits()).chain(rows.iter().copied()).chain(gates);
        let hash = bits.fold(0xcbf2_9ce4_8422_2325_u64, |hash, bits| mix(hash ^ u64::from(bits)));
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }

    fn share_that_trains(&self, plan: &StepPlan) -> f64 {
        let trained = plan.trained(&self.shape, &self.layers);
        let trains = self.tensors.keys().filter(|tensor| trained.contains(**tensor)).count();
        trains as f64 / self.tensors.len() as f64
    }

    /// As the module's text has it.
    fn statistics(&self, plan: &StepPlan) -> Statistics {
        let trained = plan.trained(&self.shape, &self.layers);
        let tensors = self.shape.tensors(&self.layers).into_iter().map(|(tensor, _)| tensor);
        let of_tensor = |tensor: TensorId| {
            let gradient_norm = 1.0 / (1.0 + self.tensors[&tensor].moments.updates as f64);
            let none = TensorStatistics {
                gradient_norm,
                weight_norm: 0.0,
                update_norm: 0.0,
                gradient_direction: 0.0,
            };
            (tensor, none)
        };
        let of_pass = |pass: &Entry| BlockStatistics {
            layer: pass.layer,
            activation_rms: 1.0,
            cosine: 1.0,
            contribution: 0.0,
        };
        let tensors = tensors.filter(|tensor| plan.statistics.tensors && trained.contains(*tensor));
        let passes = plan.execution.running(&self.layers);
        Statistics {
            tensors: tensors.map(of_tensor).collect(),
            blocks: passes.iter().filter(|_| plan.statistics.blocks).map(of_pass).collect(),
        }
    }

    fn strike(&self) -> Result<bool, EngineError> {
        match self.faults.iter().find(|fault| fault.at.0 == self.steps).map(|fault| fault.kind) {
            None => Ok(false),
            Some(FaultKind::NotANumber) => Ok(true),
            Some(FaultKind::Device) => Err(EngineError::Device("the script says so".into())),
            Some(FaultKind::OutOfMemory) => Err(EngineError::OutOfMemory {
                device: "scripted".into(),
                what: "activations of one micro-batch".into(),
            }),
            Some(FaultKind::Panic) => panic!("the script says so"),
        }
    }
}

impl Model for ScriptedEngine {
    fn layers(&self) -> Vec<LayerId> {
        self.layers.clone()
    }

    fn widths(&self) -> Widths {
        self.shape.widths()
    }

    fn edit(&mut self, edit: Edit) -> Result<(), EngineError> {
        match edit {
            Edit::Insert { at, layer, weights } => {
                if self.layers.contains(&layer) || at.0 > self.layers.len() {
                    return Err(EngineError::NoSuchTensor(format!("layer {layer} cannot stand at {at}")));
                }
                self.layers.insert(at.0, layer);
                for spec in self.shape.block_tensors() {
                    self.add(TensorId::block(layer, spec.class), spec);
                }
                for (class, weights) in weights {
                    self.write(TensorId::block(layer, class), &weights)?;
                }
            }
            Edit::Remove { layer } => {
                let Some(position) = self.layers.iter().position(|&other| other == layer) else {
                    return Err(EngineError::NoSuchTensor(format!("there is no layer {layer}")));
                };
                self.layers.remove(position);
                self.tensors.retain(|tensor, _| tensor.layer != Some(layer));
            }
            Edit::Resize { widths, weights } => {
                let to = self.shape.with_widths(widths);
                if self.weights == Weights::Kept {
                    for (id, spec, weights) in check_resized(&self.layers, &self.shape, &to, weights)? {
                        self.add(id, spec);
                        self.write(id, &weights)?;
                    }
                } else {
                    // One without weights is told of none.
                    for (id, spec) in to.tensors(&self.layers) {
                        self.get_mut(id)?.spec = spec;
                    }
                }
                self.shape = to;
            }
            Edit::Reorder { layers } => {
                check_order(&self.layers, &layers)?;
                self.layers = layers;
            }
        }
        Ok(())
    }

    fn read(&self, tensor: TensorId, part: Part) -> Result<Vec<f32>, EngineError> {
        let held = self.get(tensor)?;
        Ok(match (self.weights, part) {
            (Weights::Kept, Part::Weights) => held.weights.clone(),
            _ => vec![0.0; held.spec.len()],
        })
    }

    fn write(&mut self, tensor: TensorId, weights: &[f32]) -> Result<(), EngineError> {
        let kept = self.weights == Weights::Kept;
        let held = self.get_mut(tensor)?;
        held.spec.check_len(tensor, weights.len())?;
        if kept {
            held.weights.copy_from_slice(weights);
        }
        Ok(())
    }

    fn moments(&self, tensor: TensorId) -> Result<Moments, EngineError> {
        let held = self.get(tensor)?;
        Ok(match self.weights {
            Weights::Kept => held.moments.clone(),
            Weights::Forgotten => Moments { updates: held.moments.updates, ..Moments::zero(held.spec.len()) },
        })
    }

    fn set_moments(&mut self, tensor: TensorId, moments: &Moments) -> Result<(), EngineError> {
        let kept = self.weights == Weights::Kept;
        let held = self.get_mut(tensor)?;
        held.spec.check_len(tensor, moments.first.len())?;
        held.spec.check_len(tensor, moments.second.len())?;
        held.moments =
            if kept { moments.clone() } else { Moments { updates: moments.updates, ..Moments::zero(0) } };
        Ok(())
    }
}

impl Engine for ScriptedEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: NAME,
            device: "none".into(),
            device_memory_peak_bytes: None,
            clocks: None,
            graphs: None,
            plain_steps_only: false,
        }
    }

    fn energy(&self) -> Energy {
        self.meter.as_ref().map_or(Energy::OfHost, |meter| Energy::Millijoules(meter.read()))
    }

    fn memory(&self, _: &ModelShape, _: &[LayerId], _: &StepPlan, _: usize, _: usize) -> Option<StepMemory> {
        None
    }

    fn step(&mut self, batch: &TokenBatch, plan: &StepPlan) -> Result<(), EngineError> {
        let followed =
            StepPlan { execution: Execution::WholeStack, statistics: Wanted::default(), ..plan.clone() };
        followed.check_plain(NAME)?;
        self.shape.check_batch(batch)?;
        plan.execution.check(&self.layers, batch.sequences())?;
        for tensor in plan.trainable.iter() {
            self.get(tensor)?;
        }
        let loss = if self.strike()? { f64::NAN } else { self.loss(batch.rows(), &plan.execution) };
        let gradient_norm = loss * self.share_that_trains(plan);
        let statistics = (plan.statistics != Wanted::default()).then(|| Box::new(self.statistics(plan)));
        let outcome = StepOutcome { loss_nats_per_token: loss, gradient_norm, statistics };
        self.in_flight = Some((plan.clone(), outcome));
        self.steps += 1;
        Ok(())
    }

    fn optimize(&mut self, update: &AdamW) -> Result<(), EngineError> {
        let Some((plan, outcome)) = self.in_flight.take() else { return Ok(()) };
        let is_finite = StepOutcome::is_finite(outcome.loss_nats_per_token, outcome.gradient_norm);
        self.outcomes.push_back(outcome);
        if let Some(meter) = &self.meter {
            meter.add(MILLIJOULES_OF_A_STEP / 2, MILLIJOULES_OF_A_STEP / 2);
        }
        if !is_finite {
            return Ok(());
        }
        for id in plan.trained(&self.shape, &self.layers).iter() {
            let kept = self.weights == Weights::Kept;
            let tensor = self.get_mut(id)?;
            tensor.moments.updates += 1;
            if kept {
                tensor.adamw(id, update);
            }
        }
        Ok(())
    }

    fn outcome(&mut self, wait: Wait) -> Result<Option<StepOutcome>, EngineError> {
        // Holds the newest back, as a device may: the trainer has to live with that.
        let held_back = usize::from(wait == Wait::ForOlder);
        Ok(if self.outcomes.len() > held_back { self.outcomes.pop_front() } else { None })
    }

    fn evaluate(&mut self, batch: &TokenBatch, execution: &Execution) -> Result<Vec<f32>, EngineError> {
        self.shape.check_batch(batch)?;
        execution.check(&self.layers, batch.sequences())?;
        if let Some(meter) = &self.meter {
            meter.add(MILLIJOULES_OF_AN_EVALUATION, 0);
        }
        let rows = batch.rows().chunks_exact(batch.length() + 1);
        Ok(rows.flat_map(|row| vec![self.loss(row, execution) as f32; batch.length()]).collect())
    }

    fn logits(&mut self, tokens: &[u32], execution: &Execution) -> Result<Vec<f32>, EngineError> {
        execution.check(&self.layers, 1)?;
        // The next id is always expected to be the present one plus 1.
        let expected = |token: u32| (token as usize + 1) % self.shape.vocabulary;
        let row = |token| (0..self.shape.vocabulary).map(move |id| f32::from(id == expected(token)));
        Ok(tokens.iter().flat_map(|&token| row(token)).collect())
    }
}

impl Tensor {
    /// The update that the module's text states; `updates` counts this one already.
    fn adamw(&mut self, id: TensorId, with: &AdamW) {
        let seed =
            id.to_string().bytes().fold(self.moments.updates, |seed, byte| mix(seed ^ u64::from(byte)));
        let rate = with.rate * with.rate_factor(id);
        let decay = if self.spec.decays() { 1.0 - rate * with.weight_decay } else { 1.0 };
        let updates = i32::try_from(self.moments.updates).unwrap_or(i32::MAX);
        let (bias1, bias2) = (1.0 - with.beta1.powi(updates), 1.0 - with.beta2.powi(updates));
        let moments = self.moments.first.iter_mut().zip(&mut self.moments.second);
        for (index, (weight, (first, second))) in self.weights.iter_mut().zip(moments).enumerate() {
            let gradient = (mix(seed ^ index as u64) >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
            let m = with.beta1 * f64::from(*first) + (1.0 - with.beta1) * gradient;
            let v = with.beta2 * f64::from(*second) + (1.0 - with.beta2) * gradient * gradient;
            let delta = rate * (m / bias1) / ((v / bias2).sqrt() + with.epsilon);
            *weight = (f64::from(*weight) * decay - delta) as f32;
            (*first, *second) = (m as f32, v as f32);
        }
    }
}

/// SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(&|shape| Box::new(ScriptedEngine::new(shape, Weights::Kept)));
    }

    #[test]
    fn fails_when_told_to() {
        let shape = contract::tiny_shape();
        let fault = Fault { at: Step(1), kind: FaultKind::OutOfMemory };
        let mut engine = ScriptedEngine::failing(&shape, &[fault]);
        let batch = TokenBatch::new(vec![1, 2, 3], 1, 2);
        let plan = StepPlan::new(crate::Trainable::all(&shape, &[]), 1);
        assert_eq!(engine.step(&batch, &plan), Ok(()));
        assert!(matches!(engine.step(&batch, &plan), Err(EngineError::OutOfMemory { .. })));
    }
}
