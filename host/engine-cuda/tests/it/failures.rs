//! What becomes of a device that runs out of memory: an error from the call that noticed it, and from every later
//! one; no panic, and nothing runs any more.

use std::sync::Mutex;

use engine::{
    Edit, Engine, EngineError, Execution, LayerId, LayerIndex, Model, Part, StepPlan, TensorId, Trainable,
    contract,
};
use engine_cuda::Cuda;
use engine_native::Step;

use crate::recording::{Record, Recording};

fn engine(pieces: usize) -> Result<(Step<Cuda<Recording>>, Record), EngineError> {
    let record = Record::default();
    let driver = Recording { pieces: Mutex::new(pieces), ..Recording::new(&record) };
    Ok((Step::new(&contract::tiny_shape(), Cuda::on(driver))?, record))
}

fn insert(engine: &mut impl Engine) -> Result<(), EngineError> {
    let specs = contract::tiny_shape().block_tensors().into_iter();
    let weights = specs.map(|spec| (spec.class, vec![0.0; spec.len()])).collect();
    engine.edit(Edit::Insert { at: LayerIndex(0), layer: LayerId(0), weights })
}

#[test]
fn a_model_that_does_not_fit_is_not_built() {
    let built = engine(3).map(drop);
    assert!(matches!(built, Err(EngineError::OutOfMemory { .. })), "{built:?}");
}

#[test]
fn a_block_that_does_not_fit_is_told_of() {
    let (mut engine, _) = engine(5 + 11).expect("the shared tensors and a tally fit");
    let inserted = insert(&mut engine);
    assert!(matches!(inserted, Err(EngineError::OutOfMemory { .. })), "{inserted:?}");
}

#[test]
fn a_step_that_does_not_fit_computes_nothing_and_neither_does_what_follows() {
    let (mut engine, record) = engine(5 + 12 + 20).expect("the shared tensors and a tally fit");
    insert(&mut engine).expect("the block fits");
    record.take();
    let all = Trainable::all(&contract::tiny_shape(), &engine.layers());
    let id: TensorId = all.iter().next().expect("something trains");
    let first = engine.step(&contract::tiny_batch(), &StepPlan::new(all, 1));
    assert!(matches!(first, Err(EngineError::OutOfMemory { .. })), "{first:?}");
    assert_eq!(engine.evaluate(&contract::tiny_batch(), &Execution::WholeStack).map(drop), first);
    assert_eq!(engine.read(id, Part::Weights).map(drop), first);
    assert_eq!(record.take(), Vec::<String>::new());
}
