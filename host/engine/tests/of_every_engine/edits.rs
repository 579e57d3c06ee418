//! What an edit leaves alone, and how each bad call is refused: with its own error, without a change.

use engine::{
    BlockKind, Edit, Engine, EngineError, Execution, LayerId, LayerIndex, Mlp, ModelShape, Moments, Part,
    Snapshot, StepPlan, TensorClass, TensorId, TokenBatch, Trainable,
};

use super::reference::{Reference, adamw, train};
use crate::build;

fn trained(reference: &Reference) -> Box<dyn Engine> {
    let mut engine = reference.engine(2);
    let all = Trainable::all(&reference.shape, &engine.layers());
    train(&mut *engine, &reference.batch(0), &all, &adamw(1e-3, None));
    engine
}

fn snapshot(engine: &dyn Engine, reference: &Reference) -> Snapshot {
    Snapshot::take(engine, &reference.shape).expect("all can be read")
}

fn block(reference: &Reference) -> Vec<(TensorClass, Vec<f32>)> {
    let specs = reference.shape.block_tensors().into_iter();
    specs.map(|spec| (spec.class, vec![0.01; spec.len()])).collect()
}

#[test]
fn insertion_and_removal_leave_every_other_bit() {
    let reference = Reference::load();
    let mut engine = trained(&reference);
    let before = snapshot(&*engine, &reference);
    let edit = Edit::Insert { at: LayerIndex(1), layer: LayerId(7), weights: block(&reference) };
    engine.edit(edit).expect("the layer is new");
    let kept = |snapshot: Snapshot| -> Vec<_> {
        snapshot.tensors.into_iter().filter(|(id, _)| id.layer != Some(LayerId(7))).collect()
    };
    assert_eq!(before.tensors, kept(snapshot(&*engine, &reference)));
    engine.edit(Edit::Remove { layer: LayerId(7) }).expect("the layer is there");
    assert_eq!(before, snapshot(&*engine, &reference));
}

#[test]
fn refused_edits_change_nothing() {
    let reference = Reference::load();
    let mut engine = trained(&reference);
    let before = snapshot(&*engine, &reference);
    let whole = block(&reference);
    let insert = |at, layer, weights: &[_]| Edit::Insert {
        at: LayerIndex(at),
        layer: LayerId(layer),
        weights: weights.to_vec(),
    };
    let mut short = whole.clone();
    short[11].1.pop();
    let mut foreign = whole.clone();
    foreign.push((TensorClass("wte.weight"), vec![0.0; 4]));
    let cases = [
        (insert(0, 1, &whole), "layer 1 is in the stack already"),
        (insert(3, 7, &whole), "layer 7 cannot stand at 3: the stack has 2 layers"),
        (insert(0, 7, &whole[1..]), "the new block comes without layer 7: ln_1.weight"),
        (insert(0, 7, &short), "layer 7: mlp.c_proj.bias has 64 elements, not 63"),
        (insert(0, 7, &foreign), "a block has no wte.weight"),
        (Edit::Remove { layer: LayerId(7) }, "the stack has no layer 7"),
    ];
    for (edit, message) in cases {
        assert_eq!(engine.edit(edit).expect_err("a bad edit").to_string(), message);
        assert_eq!(before, snapshot(&*engine, &reference));
    }
}

#[test]
fn bad_batches_are_refused() {
    let reference = Reference::load();
    let mut engine = trained(&reference);
    let all = Trainable::all(&reference.shape, &engine.layers());
    let plan = StepPlan::new(all.clone(), 1);
    let bad = |message: &str| Err(EngineError::BadBatch(message.into()));
    let outside = TokenBatch::new(vec![1, 2, 256], 1, 2);
    let message = "token 256 is outside the vocabulary of 256 ids";
    assert_eq!(engine.step(&outside, &plan), bad(message));
    assert_eq!(engine.evaluate(&outside, &Execution::WholeStack).map(drop), bad(message));
    assert_eq!(engine.logits(&[256], &Execution::WholeStack).map(drop), bad(message));

    let long = TokenBatch::new(vec![1; 66], 1, 65);
    let message = "a row of 65 tokens is longer than the context of 64";
    assert_eq!(engine.step(&long, &plan), bad(message));
    assert_eq!(engine.evaluate(&long, &Execution::WholeStack).map(drop), bad(message));
    assert_eq!(engine.logits(&[1; 65], &Execution::WholeStack).map(drop), bad(message));

    let empty = TokenBatch::new(Vec::new(), 0, 4);
    let message = "a step needs at least one row, and so does a micro-batch";
    assert_eq!(engine.step(&empty, &plan), bad(message));
    let nothing = StepPlan::new(all, 0);
    assert_eq!(engine.step(&reference.batch(0), &nothing), bad(message));
    assert_eq!(engine.evaluate(&empty, &Execution::WholeStack), Ok(Vec::new()));
    assert_eq!(engine.logits(&[], &Execution::WholeStack), Ok(Vec::new()));
}

#[test]
fn unknown_tensors_and_wrong_sizes_are_refused() {
    let reference = Reference::load();
    let mut engine = trained(&reference);
    let missing = TensorId::block(LayerId(5), TensorClass("ln_1.weight"));
    let message = || EngineError::NoSuchTensor("the stack has no layer 5: ln_1.weight".into());
    assert_eq!(engine.read(missing, Part::Weights), Err(message()));
    assert_eq!(engine.read(missing, Part::Gradient), Err(message()));
    assert_eq!(engine.write(missing, &[0.0; 64]), Err(message()));
    assert_eq!(engine.moments(missing), Err(message()));
    assert_eq!(engine.set_moments(missing, &Moments::zero(64)), Err(message()));
    let plan = StepPlan::new([missing].into_iter().collect(), 4);
    assert_eq!(engine.step(&reference.batch(0), &plan), Err(message()));

    let known = TensorId::block(LayerId(1), TensorClass("ln_1.weight"));
    let wrong = |given| EngineError::WrongSize { tensor: known.to_string(), expected: 64, given };
    assert_eq!(engine.write(known, &[0.0; 65]), Err(wrong(65)));
    assert_eq!(engine.set_moments(known, &Moments::zero(63)), Err(wrong(63)));
    let uneven = Moments { second: Vec::new(), ..Moments::zero(64) };
    assert_eq!(engine.set_moments(known, &uneven), Err(wrong(0)));
}

#[test]
fn other_models_are_refused() {
    let shape = Reference::load().shape;
    let refusal = |shape: &ModelShape| build(shape).err().map(|error| error.to_string());
    let swiglu = ModelShape { block: BlockKind { mlp: Mlp::SwiGlu, ..BlockKind::GPT2 }, ..shape.clone() };
    let message = refusal(&swiglu).expect("it knows GPT-2 only");
    assert!(message.contains("does not implement the block"), "{message}");
    let uneven = ModelShape { heads: 5, ..shape.clone() };
    let message = refusal(&uneven).expect("5 heads do not divide 64");
    assert!(message.contains("5 heads do not divide a width of 64"), "{message}");
}

#[test]
fn optimize_without_a_step_does_nothing() {
    let reference = Reference::load();
    let mut engine = trained(&reference);
    let before = snapshot(&*engine, &reference);
    engine.optimize(&adamw(1e-3, None)).expect("a healthy device");
    assert_eq!(before, snapshot(&*engine, &reference));
}
