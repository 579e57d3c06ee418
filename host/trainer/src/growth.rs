//! Carries out what was requested on the engine: new blocks through their initializers, AdamW states by
//! rule, and the receipt of it all.

use std::collections::BTreeMap;

use engine::{
    BlockTensors, Edit, Engine, LayerId, LayerIndex, ModelShape, Moments, Part, Snapshot, Step, TensorClass,
    TensorId, TensorRole, TensorSpec, Widths,
};
use plugin_host::api::{
    self, Above, Action, BlockView, Claim, GrowthReceipt, InitContext, Insert, Key, LayerInitializer,
    MomentsRule, OptimizerChange, OptimizerRule, Replace, Role, TensorMut, TensorView, Widen, WidenedMoments,
};
use plugin_host::{Loaded, PluginError};

use crate::TrainError;
use crate::course::{Course, engine_widths, is_selected, told_widths};
use crate::initial::{InitialModel, first_of_each, repeated};
use crate::looking::Seen;

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
        engine: &mut dyn Engine,
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
                    self.insert(engine, insert, place, before, &mut grown)?;
                    next.0 += insert.count as u64;
                }
                Action::Remove(layers) => {
                    for layer in layers {
                        let layer = LayerId(layer.0);
                        engine.edit(Edit::Remove { layer })?;
                        grown.removed_layers.push(layer);
                    }
                }
                Action::Permute(layers) => {
                    let layers = layers.iter().map(|layer| LayerId(layer.0)).collect();
                    engine.edit(Edit::Reorder { layers })?;
                }
                Action::Replace(replace) => self.replace(engine, replace, depth_after, before, &mut grown)?,
                Action::Widen(widen) => self.widen(engine, widen, depth_after, before, &mut grown)?,
                Action::Optimizer(rule) => {
                    let shape = self.whole.with_widths(engine.widths());
                    change_optimizer(engine, &shape, rule)?;
                }
                _ => {}
            }
        }
        Ok(grown)
    }

    fn insert(
        &mut self,
        engine: &mut dyn Engine,
        insert: &Insert,
        place: Place,
        before: &Snapshot,
        grown: &mut Grown,
    ) -> Result<(), TrainError> {
        let position = match insert.above {
            Above::Embedding => 0,
            Above::Layer(below) => 1 + position_of(engine, LayerId(below.0))?,
        };
        for index in 0..insert.count {
            let layer = LayerId(place.first.0 + index as u64);
            let source = insert.sources.get(index).map(|source| LayerId(source.0));
            let birth = Birth { layer, position: position + index, source, depth_after: place.depth_after };
            let (weights, claim) = self.values(&insert.slot, birth, engine.widths(), before)?;
            let edit = Edit::Insert { at: LayerIndex(birth.position), layer, weights };
            engine.edit(edit)?;
            let rule = self.settle(&insert.slot, insert.moments, claim, grown)?;
            grown.moments.extend(self.give_moments(engine, rule, birth, before)?);
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
        engine: &mut dyn Engine,
        replace: &Replace,
        depth_after: usize,
        before: &Snapshot,
        grown: &mut Grown,
    ) -> Result<(), TrainError> {
        for (index, layer) in replace.layers.iter().enumerate() {
            let layer = LayerId(layer.0);
            let source = replace.sources.get(index).map(|source| LayerId(source.0));
            let birth = Birth { layer, position: position_of(engine, layer)?, source, depth_after };
            let (weights, claim) = self.values(&replace.slot, birth, engine.widths(), before)?;
            for (class, values) in weights {
                let tensor = TensorId::block(layer, class);
                engine.write(tensor, &values)?;
                engine.set_moments(tensor, &Moments::zero(values.len()))?;
            }
            // What an initializer claims of a new block is not said of one that was there.
            let claim = if claim == Claim::Exact { Claim::None } else { claim };
            let rule = self.settle(&replace.slot, replace.moments, claim, grown)?;
            grown.moments.extend(self.give_moments(engine, rule, birth, before)?);
            grown.replaced_layers.push(layer);
        }
        Ok(())
    }

    /// Asks for each block once more, before that for what all share where the stream becomes wider, and takes the tensors
    /// whose shape has changed.
    fn widen(
        &mut self,
        engine: &mut dyn Engine,
        widen: &Widen,
        depth_after: usize,
        before: &Snapshot,
        grown: &mut Grown,
    ) -> Result<(), TrainError> {
        let (layers, widths) = (engine.layers(), engine_widths(widen.widths));
        let shapes = [engine.widths(), widths].map(|widths| self.whole.with_widths(widths));
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
        let moments = widened_moments(engine, &resized, widen.moments)?;
        engine.edit(Edit::Resize { widths, weights })?;
        for (tensor, moments) in moments {
            engine.set_moments(tensor, &moments)?;
            grown.moments.push((tensor.to_string(), format!("kept after {} updates", moments.updates)));
        }
        grown.widened_layers.extend(layers);
        Ok(())
    }

    /// Asks the initializer for the values of one block, or of what all share, that wide, and checks them.
    fn values(
        &mut self,
        slot: &str,
        birth: Birth,
        widths: Widths,
        before: &Snapshot,
    ) -> Result<(BlockTensors, Claim), TrainError> {
        let old_specs = specs_of(&self.whole.with_widths(before.widths), birth.layer);
        let specs = specs_of(&self.whole.with_widths(widths), birth.layer);
        let [old_shapes, shapes] = [&old_specs, &specs].map(|specs| {
            let shape = |spec: &TensorSpec| spec.shape.iter().map(|&size| size as u64).collect();
            specs.iter().map(shape).collect::<Vec<Vec<u64>>>()
        });
        let shown = if birth.layer == SHARED { &[SHARED] } else { before.layers.as_slice() };
        let blocks: Vec<Vec<TensorView<'_>>> = shown
            .iter()
            .map(|&layer| {
                let states = before.tensors.iter().filter(|(tensor, _)| owner(*tensor) == layer);
                let values = states.map(|(_, state)| state.weights.as_slice());
                views(&old_specs, &old_shapes, values)
            })
            .collect();
        let existing: Vec<BlockView<'_>> = (shown.iter().zip(&blocks))
            .map(|(layer, tensors)| BlockView { id: api::LayerId(layer.0), tensors })
            .collect();
        let original = match birth.layer {
            SHARED => self.initial.shared(widths)?,
            layer => self.initial.block(layer, widths)?.unwrap_or_default(),
        };
        let original = views(&specs, &shapes, original.iter().map(|(_, values)| values.as_slice()));
        let context = InitContext {
            layer: api::LayerId(birth.layer.0),
            position: birth.position,
            depth_before: before.layers.len(),
            depth_after: birth.depth_after,
            final_depth: self.whole.layers,
            init_std: self.whole.init_std,
            key: self.key.named(slot).numbered(birth.layer.0),
            source: birth.source.map(|source| api::LayerId(source.0)),
            existing: &existing,
            original: &original,
        };
        let mut values: Vec<Vec<f32>> = specs.iter().map(|spec| vec![f32::NAN; spec.len()]).collect();
        let mut target: Vec<TensorMut<'_>> = (specs.iter().zip(&shapes).zip(&mut values))
            .map(|((spec, shape), values)| TensorMut {
                class: spec.class.0,
                role: role(spec.role),
                shape,
                values,
            })
            .collect();
        let initializer = self.initializer(slot)?;
        let claim = initializer.ask("init", |initializer| initializer.init(&context, &mut target))?;
        for (spec, values) in specs.iter().zip(&values) {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let whose = if birth.layer == SHARED {
                    "all blocks".into()
                } else {
                    format!("block {}", birth.layer)
                };
                let what = format!("{} of {whose} is not finite or not written at element {at}", spec.class);
                return Err(initializer.fault("init", &api::Error::new(what)).into());
            }
        }
        Ok((specs.iter().map(|spec| spec.class).zip(values).collect(), claim))
    }

    fn initializer(&mut self, slot: &str) -> Result<&mut Loaded<dyn LayerInitializer>, TrainError> {
        let initializer = self.initializers.get_mut(slot);
        initializer
            .ok_or_else(|| TrainError::Internal(format!("the slot `{slot}` passed the rules, but is empty")))
    }

    /// A moment is never copied into a tensor that was zeroed: it would move it at once.
    fn give_moments(
        &self,
        engine: &mut dyn Engine,
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
                && engine.read(tensor, Part::Weights)?.iter().all(|&w| w == 0.0);
            let outcome = match copied {
                Some((_, state)) if !zeroed => {
                    engine.set_moments(tensor, &state.moments)?;
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
    engine: &dyn Engine,
    resized: &BTreeMap<TensorId, [TensorSpec; 2]>,
    rule: WidenedMoments,
) -> Result<Vec<(TensorId, Moments)>, TrainError> {
    let larger = |values: Vec<f32>, from, to| match rule {
        WidenedMoments::Repeat => repeated(&values, from, to),
        WidenedMoments::Zero | WidenedMoments::Keep => first_of_each(values, from, to),
    };
    let mut all = Vec::new();
    for (&tensor, [from, to]) in resized.iter().filter(|_| rule != WidenedMoments::Zero) {
        let Moments { first, second, updates } = engine.moments(tensor)?;
        let [first, second] = [first, second].map(|values| larger(values, from, to));
        all.push((tensor, Moments { first, second, updates }));
    }
    Ok(all)
}

/// Whose a tensor is: a block's, or of all.
fn owner(tensor: TensorId) -> LayerId {
    tensor.layer.unwrap_or(SHARED)
}

fn tensor_of(layer: LayerId, class: TensorClass) -> TensorId {
    if layer == SHARED { TensorId::shared(class) } else { TensorId::block(layer, class) }
}

fn specs_of(shape: &ModelShape, layer: LayerId) -> Vec<TensorSpec> {
    if layer == SHARED { shape.shared_tensors() } else { shape.block_tensors() }
}

#[derive(Clone, Copy)]
struct Place {
    first: LayerId,
    depth_after: usize,
}

#[derive(Clone, Copy)]
struct Birth {
    layer: LayerId,
    position: usize,
    source: Option<LayerId>,
    depth_after: usize,
}

/// What is seen of the model, before and after.
pub(crate) struct Looks {
    /// Right before the requests.
    pub before: Seen,
    /// Right after.
    pub after: Seen,
    /// Tensors of blocks that are new or made anew, and train, but have no gradient.
    pub without_gradient: Vec<TensorId>,
}

/// Makes the receipt, and checks an exact claim against what is seen.
///
/// # Errors
/// A claim that this refutes, or a loss that is not a number.
pub(crate) fn receipt(
    step: Step,
    grown: &Grown,
    before: &Snapshot,
    engine: &dyn Engine,
    looks: &Looks,
) -> Result<GrowthReceipt, TrainError> {
    let Looks { before: seen_before, after: seen_after, without_gradient } = looks;
    let largest = largest_change(&seen_before.losses, &seen_after.losses);
    let largest_logit_change = largest_change(&seen_before.logits, &seen_after.logits);
    let (loss_before, loss_after) = (mean(&seen_before.losses), mean(&seen_after.losses));
    if !loss_after.is_finite() {
        return Err(TrainError::NotFinite {
            what: "loss after the edit",
            step,
            value: loss_after,
            skipped: 0,
        });
    }
    // Rounding of f32 losses of a few nats; what changes the function moves a loss by far more.
    let largest_logit =
        seen_before.logits.iter().fold(0.0, |most: f64, logit| most.max(f64::from(logit.abs())));
    let moved = if largest > 1e-5 * (1.0 + loss_before.abs()) {
        Some(format!("a token's loss moved by {largest:.3e} nats"))
    } else if largest_logit_change > 1e-5 * (1.0 + largest_logit) {
        Some(format!("a logit moved by {largest_logit_change:.3e}"))
    } else {
        None
    };
    if let (Some((Claim::Exact, id)), Some(moved)) = (&grown.claim, moved) {
        let message = format!("it claims to leave the model's function as it is, but {moved}");
        let (kind, call) = (api::Kind::Initializer, "init".to_owned());
        return Err(PluginError::Fault { kind, id: id.clone(), call, message }.into());
    }
    let layers = |layers: &[LayerId]| layers.iter().map(|layer| api::LayerId(layer.0)).collect();
    Ok(GrowthReceipt {
        step: step.0,
        depth_before: before.layers.len(),
        depth_after: engine.layers().len(),
        new_layers: layers(&grown.new_layers),
        removed_layers: layers(&grown.removed_layers),
        replaced_layers: layers(&grown.replaced_layers),
        loss_before,
        loss_after,
        largest_token_loss_change: largest,
        largest_logit_change: Some(largest_logit_change),
        claim: grown.claim.as_ref().map(|(claim, _)| *claim),
        widths: (before.widths != engine.widths()).then(|| [before.widths, engine.widths()].map(told_widths)),
        activation_rms_before: by_layer(&seen_before.activation_rms),
        activation_rms_after: by_layer(&seen_after.activation_rms),
        without_gradient: without_gradient.iter().map(TensorId::to_string).collect(),
        moments: grown.moments.clone(),
        others_bit_identical: others_bit_identical(before, engine, &grown.replaced_layers)?,
    })
}

fn by_layer(numbers: &[(LayerId, f64)]) -> Vec<(api::LayerId, f64)> {
    numbers.iter().map(|&(layer, number)| (api::LayerId(layer.0), number)).collect()
}

fn largest_change(before: &[f32], after: &[f32]) -> f64 {
    before.iter().zip(after).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Mean of losses, summed in f64.
pub(crate) fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
}

fn others_bit_identical(
    before: &Snapshot,
    engine: &dyn Engine,
    replaced: &[LayerId],
) -> Result<bool, TrainError> {
    let layers = engine.layers();
    for (tensor, state) in &before.tensors {
        if tensor.layer.is_some_and(|layer| !layers.contains(&layer) || replaced.contains(&layer)) {
            continue;
        }
        let now = engine.read(*tensor, Part::Weights)?;
        if now.len() != state.weights.len() {
            continue; // It was resized.
        }
        let same = now.iter().zip(&state.weights).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Changes AdamW states as a rule says.
///
/// # Errors
/// What the engine answers.
pub fn change_optimizer(
    engine: &mut dyn Engine,
    shape: &ModelShape,
    rule: &OptimizerRule,
) -> Result<(), TrainError> {
    let layers = engine.layers();
    for (tensor, spec) in shape.tensors(&layers) {
        if !is_selected(tensor, &rule.which) {
            continue;
        }
        let moments = match rule.change {
            OptimizerChange::Reset => Moments::zero(spec.len()),
            OptimizerChange::SetUpdates(updates) => Moments { updates, ..engine.moments(tensor)? },
            OptimizerChange::CopyFrom(source) => {
                engine.moments(TensorId::block(LayerId(source.0), spec.class))?
            }
            OptimizerChange::Scale { first, second } => {
                let mut moments = engine.moments(tensor)?;
                scale(&mut moments.first, first);
                scale(&mut moments.second, second);
                moments
            }
        };
        engine.set_moments(tensor, &moments)?;
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

fn position_of(engine: &dyn Engine, layer: LayerId) -> Result<usize, TrainError> {
    let position = engine.layers().iter().position(|&other| other == layer);
    position.ok_or_else(|| TrainError::Internal(format!("block {layer} passed the rules, but is not there")))
}

fn views<'a>(
    specs: &[TensorSpec],
    shapes: &'a [Vec<u64>],
    values: impl Iterator<Item = &'a [f32]>,
) -> Vec<TensorView<'a>> {
    (specs.iter().zip(shapes).zip(values))
        .map(|((spec, shape), values)| TensorView {
            class: spec.class.0,
            role: role(spec.role),
            shape,
            values,
        })
        .collect()
}

fn role(role: TensorRole) -> Role {
    match role {
        TensorRole::NormGain => Role::NORM_GAIN,
        TensorRole::NormShift => Role::NORM_SHIFT,
        TensorRole::Bias => Role::BIAS,
        TensorRole::BranchOutputWeight => Role::BRANCH_OUTPUT_WEIGHT,
        TensorRole::BranchOutputBias => Role::BRANCH_OUTPUT_BIAS,
        TensorRole::Weight => Role::WEIGHT,
        TensorRole::TokenEmbedding => Role::TOKEN_EMBEDDING,
        TensorRole::PositionEmbedding => Role::POSITION_EMBEDDING,
    }
}

#[cfg(test)]
mod tests {
    use engine::{ScriptedEngine, Weights};

    use super::*;

    /// A model that answers the same but for one logit: losses alone would not show it.
    #[test]
    fn a_logit_that_moved_refutes_an_exact_claim_though_no_loss_did() {
        let shape = engine::contract::tiny_shape();
        let engine = ScriptedEngine::new(&shape, Weights::Kept);
        let before = Snapshot::take(&engine, &shape).expect("a whole model");
        let grown = Grown { claim: Some((Claim::Exact, "test/exact".into())), ..Grown::default() };
        let seen = |logit| Seen { losses: vec![2.0, 3.0], logits: vec![1.0, logit], ..Seen::default() };
        let judged = |after| {
            let looks = Looks { before: seen(0.5), after: seen(after), without_gradient: Vec::new() };
            receipt(Step(4), &grown, &before, &engine, &looks).map_err(|error| error.to_string())
        };
        assert_eq!(judged(0.5).expect("nothing moved").largest_logit_change, Some(0.0));
        assert_eq!(judged(0.5 + 1e-6).map(|receipt| receipt.claim), Ok(Some(Claim::Exact)), "rounding");
        let refuted = judged(0.625).expect_err("a lie");
        assert!(refuted.ends_with("but a logit moved by 1.250e-1"), "{refuted}");
    }
}
