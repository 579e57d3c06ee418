//! The gradient of a step: whatever the micro-batch, it is the same, and it exists exactly where the scope
//! says so.

use engine::{Edit, Execution, LayerId, LayerIndex, Part, StepPlan, TensorId, TokenBatch, Trainable, Wait};

use super::reference::{Reference, adamw, train};

type Gradients = Vec<(TensorId, Vec<f32>)>;

fn gradients(reference: &Reference, trainable: &Trainable, micro_batch_sequences: usize) -> (f64, Gradients) {
    let mut engine = reference.engine(3);
    let plan = StepPlan::new(trainable.clone(), micro_batch_sequences);
    engine.step(&reference.batch(0), &plan).expect("a good batch and a good scope");
    engine.optimize(&adamw(1e-3, None)).expect("a healthy device");
    let outcome = engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made");
    let tensors = reference.shape.tensors(&engine.layers()).into_iter();
    let read = |id| (id, engine.read(id, Part::Gradient).expect("it is there"));
    (outcome.loss_nats_per_token, tensors.map(|(id, _)| read(id)).collect())
}

fn layers(ids: &[u64]) -> Vec<LayerId> {
    ids.iter().copied().map(LayerId).collect()
}

/// Of the largest element of the tensor.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = a.iter().fold(0f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest.max(1e-6)
}

#[test]
fn micro_batches_give_the_same_gradient() {
    let reference = Reference::load();
    let all = Trainable::all(&reference.shape, &layers(&[0, 1, 2]));
    let (loss, whole) = gradients(&reference, &all, 4);
    // 3 leaves an uneven last micro-batch of one row; 9 is more than there are.
    for cut in [1, 2, 3, 9] {
        let (loss_cut, cut_gradients) = gradients(&reference, &all, cut);
        assert!((loss - loss_cut).abs() < 1e-6, "micro-batches of {cut}: loss {loss_cut}, not {loss}");
        for ((id, a), (_, b)) in whole.iter().zip(&cut_gradients) {
            let off = difference(a, b);
            assert!(off < 1e-5, "micro-batches of {cut}: {id} is off by {off:e}");
        }
    }
}

/// Freezing must not change what the others get: the same tensors, whatever else trains.
#[test]
fn any_scope_gives_its_tensors_the_whole_gradient() {
    let reference = Reference::load();
    let everything = Trainable::all(&reference.shape, &layers(&[0, 1, 2]));
    let (_, whole) = gradients(&reference, &everything, 4);
    let named = |names: &[&str]| -> Trainable {
        everything.iter().filter(|id| names.contains(&id.to_string().as_str())).collect()
    };
    let scopes = [
        Trainable::all(&reference.shape, &layers(&[2])),
        Trainable::all(&reference.shape, &layers(&[])),
        everything.iter().filter(|id| id.layer == Some(LayerId(1))).collect(),
        everything.iter().filter(|id| id.layer.is_some()).collect(),
        named(&["ln_f.weight"]),
        named(&["wte.weight"]),
        named(&["wpe.weight"]),
        named(&["layer 1: ln_2.bias", "layer 0: attn.c_attn.weight"]),
        named(&["layer 2: mlp.c_proj.bias", "wpe.weight"]),
        Trainable::default(),
    ];
    for scope in scopes {
        let (_, scoped) = gradients(&reference, &scope, 4);
        for ((id, whole), (_, scoped)) in whole.iter().zip(&scoped) {
            if scope.contains(*id) {
                let off = difference(whole, scoped);
                assert!(off < 1e-6, "{id} is off by {off:e} where {} tensors train", scope.len());
            } else {
                assert!(scoped.iter().all(|&g| g == 0.0), "{id} is frozen");
            }
        }
    }
}

#[test]
fn a_model_without_blocks_trains() {
    let reference = Reference::load();
    let mut engine = reference.engine(0);
    let all = Trainable::all(&reference.shape, &[]);
    let first = train(&mut *engine, &reference.batch(0), &all, &adamw(1e-2, None)).loss_nats_per_token;
    let second = train(&mut *engine, &reference.batch(0), &all, &adamw(1e-2, None)).loss_nats_per_token;
    assert!(second < first, "{second} is no less than {first}");
}

#[test]
fn shorter_rows_use_the_first_positions_only() {
    let reference = Reference::load();
    let mut engine = reference.engine(1);
    let short = TokenBatch::new((0..10).collect(), 2, 4);
    let all = Trainable::all(&reference.shape, &engine.layers());
    train(&mut *engine, &short, &all, &adamw(1e-3, None));
    let positions = TensorId::shared(reference.shape.class("wpe.weight").expect("GPT-2 has it"));
    let gradient = engine.read(positions, Part::Gradient).expect("it is there");
    let (used, unused) = gradient.split_at(4 * reference.shape.width);
    assert!(used.iter().any(|&g| g != 0.0) && unused.iter().all(|&g| g == 0.0));
}

#[test]
fn a_block_in_the_middle_trains_where_it_stands() {
    let reference = Reference::load();
    let mut engine = reference.engine(2);
    let (shape, batch) = (&reference.shape, reference.batch(0));
    // A branch whose output weights are zero adds nothing: the loss cannot change.
    let weights = shape.block_tensors().into_iter().map(|spec| {
        let fill = if spec.class.0.contains("c_proj") { 0.0 } else { 0.02 };
        (spec.class, vec![fill; spec.len()])
    });
    let before = engine.evaluate(&batch, &Execution::WholeStack).expect("a good batch");
    let edit = Edit::Insert { at: LayerIndex(1), layer: LayerId(9), weights: weights.collect() };
    engine.edit(edit).expect("the layer is new");
    assert_eq!(engine.layers(), layers(&[0, 9, 1]));
    assert_eq!(before, engine.evaluate(&batch, &Execution::WholeStack).expect("a good batch"));
    let new = Trainable::all(shape, &layers(&[9])).iter().filter(|id| id.layer.is_some()).collect();
    let mut loss = || train(&mut *engine, &batch, &new, &adamw(1e-3, None)).loss_nats_per_token;
    let (first, second) = (loss(), loss());
    assert!(second < first, "{second} is no less than {first}");
}
