//! Carries out what was requested on the model: new blocks through their initializers (`values.rs`), AdamW states by
//! rule, and the receipt of it all (`receipt.rs`).

pub(crate) mod audit;
pub(crate) mod looking;
mod receipt;
mod values;

use std::collections::BTreeMap;

use engine::{
    Edit, LayerId, LayerIndex, Model, ModelShape, Moments, Part, Snapshot, TensorClass, TensorId, TensorSpec,
};
use plugin_host::Loaded;
use plugin_host::api::{
    self, Above, Action, Claim, Insert, Key, LayerInitializer, MomentsRule, OptimizerChange, OptimizerRule,
    Replace, Widen, WidenedMoments,
};

use crate::TrainError;
use crate::course::{Course, engine_widths, is_selected};
use crate::initial::{InitialModel, first_of_each, repeated};

pub(crate) use receipt::{Looks, mean, receipt};
use values::Birth;

/// In place of a block's identity: what all blocks share.
const SHARED: LayerId = LayerId(api::LayerId::SHARED.0);

/// The initializers of a run, by slot.
pub type Initializers = BTreeMap<String, Loaded<dyn LayerInitializer>>;

/// What carries out requests.
pub(crate) struct Gardener<'a> {
    /// The model at its final depth and width.
    pub whole: &'a ModelShape,
    /// The run's initial model.
    pub initial: &'a InitialModel,
    /// The run's initializers.
    pub initializers: &'a mut Initializers,
    /// Keys of the initializers' own random streams.
    pub key: Key,
}

/// What came of the edits of one boundary.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    /// New blocks, in the order of their birth.
    pub new_layers: Vec<LayerId>,
    /// Blocks that left.
    pub removed_layers: Vec<LayerId>,
    /// Blocks that were made anew.
    pub replaced_layers: Vec<LayerId>,
    /// Blocks that are wider now.
    pub widened_layers: Vec<LayerId>,
    /// The weakest claim, and who made it.
    pub claim: Option<(Claim, String)>,
    /// AdamW state of the new blocks by tensor.
    pub moments: Vec<(String, String)>,
}

impl Grown {
    /// The blocks that an initializer has filled in.
    pub(crate) fn made(&self) -> Vec<LayerId> {
        let all = [&self.new_layers, &self.replaced_layers, &self.widened_layers];
        all.into_iter().flatten().copied().collect()
    }
}

/// Whether any of these requests changes the stack or makes blocks anew, so that it is audited.
pub(crate) fn edits_stack(requests: &[Action]) -> bool {
    requests.iter().any(|request| {
        let moves_blocks = matches!(request, Action::Insert(_) | Action::Remove(_) | Action::Permute(_));
        moves_blocks || matches!(request, Action::Replace(_) | Action::Widen(_))
    })
}

/// Whether any of them changes weights or AdamW states.
pub(crate) fn changes_tensors(requests: &[Action]) -> bool {
    edits_stack(requests) || requests.iter().any(|request| matches!(request, Action::Optimizer(_)))
}

impl Gardener<'_> {
    /// Carries out the requests that concern tensors, in order. `before` is the state before the first of
    /// them, `course` that before them.
    ///
    /// # Errors
    /// An initializer or the engine fails; the caller restores `before`.
    pub(crate) fn carry_out(
        &mut self,
        model: &mut dyn Model,
        requests: &[Action],
        course: &Course,
        before: &Snapshot,
    ) -> Result<Grown, TrainError> {
        let mut grown = Grown::default();
        let mut next = course.next_layer;
        let depth_after = depth_after(course.depth(), requests);
        for request in requests {
            match request {
                Action::Insert(insert) => {
                    let place = Place { first: next, depth_after };
                    self.insert(model, insert, place, before, &mut grown)?;
                    next.0 += insert.count as u64;
                }
                Action::Remove(layers) => {
                    for layer in layers {
                        let layer = LayerId(layer.0);
                        model.edit(Edit::Remove { layer })?;
                        grown.removed_layers.push(layer);
                    }
                }
                Action::Permute(layers) => {
                    let layers = layers.iter().map(|layer| LayerId(layer.0)).collect();
                    model.edit(Edit::Reorder { layers })?;
                }
                Action::Replace(replace) => self.replace(model, replace, depth_after, before, &mut grown)?,
                Action::Widen(widen) => self.widen(model, widen, depth_after, before, &mut grown)?,
                Action::Optimizer(rule) => {
                    let shape = self.whole.with_widths(model.widths());
                    change_optimizer(model, &shape, rule)?;
                }
                _ => {}
            }
        }
        Ok(grown)
    }

    fn insert(
        &mut self,
        model: &mut dyn Model,
        insert: &Insert,
        place: Place,
        before: &Snapshot,
        grown: &mut Grown,
    ) -> Result<(), TrainError> {
        let position = match insert.above {
            Above::Embedding => 0,
            Above::Layer(below) => 1 + position_of(model, LayerId(below.0))?,
        };
        for index in 0..insert.count {
            let layer = LayerId(place.first.0 + index as u64);
            let source = insert.sources.get(index).map(|source| LayerId(source.0));
            let birth = Birth { layer, position: position + index, source, depth_after: place.depth_after };
            let (weights, claim) = self.values(&insert.slot, birth, model.widths(), before)?;
            let edit = Edit::Insert { at: LayerIndex(birth.position), layer, weights };
            model.edit(edit)?;
            let rule = self.settle(&insert.slot, insert.moments, claim, grown)?;
            grown.moments.extend(self.give_moments(model, rule, birth, before)?);
            grown.new_layers.push(layer);
        }
        Ok(())
    }

    /// Enters the claim, and answers whose rule is for the moments.
    fn settle(
        &mut self,
        slot: &str,
        rule: MomentsRule,
        claim: Claim,
        grown: &mut Grown,
    ) -> Result<MomentsRule, TrainError> {
        self.claimed(slot, claim, grown)?;
        Ok(match rule {
            MomentsRule::FromInitializer => self.initializer(slot)?.call(|initializer| initializer.moments()),
            named => named,
        })
    }

    /// Enters the claim.
    fn claimed(&mut self, slot: &str, claim: Claim, grown: &mut Grown) -> Result<(), TrainError> {
        let initializer = self.initializer(slot)?;
        if grown.claim.as_ref().is_none_or(|(weakest, _)| claim < *weakest) {
            grown.claim = Some((claim, initializer.provenance.id.clone()));
        }
        Ok(())
    }

    fn replace(
        &mut self,
        model: &mut dyn Model,
        replace: &Replace,
        depth_after: usize,
        before: &Snapshot,
        grown: &mut Grown,
    ) -> Result<(), TrainError> {
        for (index, layer) in replace.layers.iter().enumerate() {
            let layer = LayerId(layer.0);
            let source = replace.sources.get(index).map(|source| LayerId(source.0));
            let birth = Birth { layer, position: position_of(model, layer)?, source, depth_after };
            let (weights, claim) = self.values(&replace.slot, birth, model.widths(), before)?;
            for (class, values) in weights {
                let tensor = TensorId::block(layer, class);
                model.write(tensor, &values)?;
                model.set_moments(tensor, &Moments::zero(values.len()))?;
            }
            // What an initializer claims of a new block is not said of one that was there.
            let claim = if claim == Claim::Exact { Claim::None } else { claim };
            let rule = self.settle(&replace.slot, replace.moments, claim, grown)?;
            grown.moments.extend(self.give_moments(model, rule, birth, before)?);
            grown.replaced_layers.push(layer);
        }
        Ok(())
    }

    /// Asks for each block once more, before that for what all share where the stream becomes wider, and takes the tensors
    /// whose shape has changed.
    fn widen(
        &mut self,
        model: &mut dyn Model,
        widen: &Widen,
        depth_after: usize,
        before: &Snapshot,
        grown: &mut Grown,
    ) -> Result<(), TrainError> {
        let (layers, widths) = (model.layers(), engine_widths(widen.widths));
        let shapes = [model.widths(), widths].map(|widths| self.whole.with_widths(widths));
        let pairs = shapes[0].tensors(&layers).into_iter().zip(shapes[1].tensors(&layers));
        let resized: BTreeMap<TensorId, [TensorSpec; 2]> = pairs
            .filter(|((_, from), (_, to))| from.shape != to.shape)
            .map(|((tensor, from), (_, to))| (tensor, [from, to]))
            .collect();
        let shared = resized.keys().any(|tensor| tensor.layer.is_none()).then_some((0, SHARED));
        let mut weights = Vec::new();
        for (position, layer) in shared.into_iter().chain(layers.iter().copied().enumerate()) {
            // A block that is younger than this boundary is no source: it is made by another request of it.
            let stood = layer == SHARED || before.layers.contains(&layer);
            let birth = Birth { layer, position, source: stood.then_some(layer), depth_after };
            let (values, claim) = self.values(&widen.slot, birth, widths, before)?;
            self.claimed(&widen.slot, claim, grown)?;
            let values = values.into_iter().map(|(class, values)| (tensor_of(layer, class), values));
            weights.extend(values.filter(|(tensor, _)| resized.contains_key(tensor)));
        }
        let moments = widened_moments(model, &resized, widen.moments)?;
        model.edit(Edit::Resize { widths, weights })?;
        for (tensor, moments) in moments {
            model.set_moments(tensor, &moments)?;
            grown.moments.push((tensor.to_string(), format!("kept after {} updates", moments.updates)));
        }
        grown.widened_layers.extend(layers);
        Ok(())
    }

    fn initializer(&mut self, slot: &str) -> Result<&mut Loaded<dyn LayerInitializer>, TrainError> {
        let initializer = self.initializers.get_mut(slot);
        initializer
            .ok_or_else(|| TrainError::Internal(format!("the slot `{slot}` passed the rules, but is empty")))
    }

    /// A moment is never copied into a tensor that was zeroed: it would move it at once.
    fn give_moments(
        &self,
        model: &mut dyn Model,
        rule: MomentsRule,
        birth: Birth,
        before: &Snapshot,
    ) -> Result<Vec<(String, String)>, TrainError> {
        let mut outcomes = Vec::new();
        for spec in self.whole.block_tensors() {
            let tensor = TensorId::block(birth.layer, spec.class);
            let source = birth.source.filter(|_| rule == MomentsRule::CopyFromSource);
            let source = source.map(|layer| TensorId::block(layer, spec.class));
            let copied = source.and_then(|source| before.tensors.iter().find(|(other, _)| *other == source));
            let zeroed = copied.is_some_and(|(_, state)| state.weights.iter().any(|&w| w != 0.0))
                && model.read(tensor, Part::Weights)?.iter().all(|&w| w == 0.0);
            let outcome = match copied {
                Some((_, state)) if !zeroed => {
                    model.set_moments(tensor, &state.moments)?;
                    format!("copied after {} updates", state.moments.updates)
                }
                _ => "zero".into(),
            };
            outcomes.push((tensor.to_string(), outcome));
        }
        Ok(outcomes)
    }
}

/// The AdamW states of tensors that become larger, by the rule.
fn widened_moments(
    model: &dyn Model,
    resized: &BTreeMap<TensorId, [TensorSpec; 2]>,
    rule: WidenedMoments,
) -> Result<Vec<(TensorId, Moments)>, TrainError> {
    let larger = |values: Vec<f32>, from, to| match rule {
        WidenedMoments::Repeat => repeated(&values, from, to),
        WidenedMoments::Zero | WidenedMoments::Keep => first_of_each(values, from, to),
    };
    let mut all = Vec::new();
    for (&tensor, [from, to]) in resized.iter().filter(|_| rule != WidenedMoments::Zero) {
        let Moments { first, second, updates } = model.moments(tensor)?;
        let [first, second] = [first, second].map(|values| larger(values, from, to));
        all.push((tensor, Moments { first, second, updates }));
    }
    Ok(all)
}

fn tensor_of(layer: LayerId, class: TensorClass) -> TensorId {
    if layer == SHARED { TensorId::shared(class) } else { TensorId::block(layer, class) }
}

#[derive(Clone, Copy)]
struct Place {
    first: LayerId,
    depth_after: usize,
}

/// Changes AdamW states as a rule says.
///
/// # Errors
/// What the engine answers.
pub fn change_optimizer(
    model: &mut dyn Model,
    shape: &ModelShape,
    rule: &OptimizerRule,
) -> Result<(), TrainError> {
    let layers = model.layers();
    for (tensor, spec) in shape.tensors(&layers) {
        if !is_selected(tensor, &rule.which) {
            continue;
        }
        let moments = match rule.change {
            OptimizerChange::Reset => Moments::zero(spec.len()),
            OptimizerChange::SetUpdates(updates) => Moments { updates, ..model.moments(tensor)? },
            OptimizerChange::CopyFrom(source) => {
                model.moments(TensorId::block(LayerId(source.0), spec.class))?
            }
            OptimizerChange::Scale { first, second } => {
                let mut moments = model.moments(tensor)?;
                scale(&mut moments.first, first);
                scale(&mut moments.second, second);
                moments
            }
        };
        model.set_moments(tensor, &moments)?;
    }
    Ok(())
}

fn scale(values: &mut [f32], factor: f64) {
    for value in values {
        *value = (f64::from(*value) * factor) as f32;
    }
}

fn depth_after(depth: usize, requests: &[Action]) -> usize {
    requests.iter().fold(depth, |depth, request| match request {
        Action::Insert(insert) => depth + insert.count,
        Action::Remove(layers) => depth - layers.len(),
        _ => depth,
    })
}

fn position_of(model: &dyn Model, layer: LayerId) -> Result<usize, TrainError> {
    let position = model.layers().iter().position(|&other| other == layer);
    position.ok_or_else(|| TrainError::Internal(format!("block {layer} passed the rules, but is not there")))
}
